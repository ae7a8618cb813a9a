"""The shape of the code in numbers: modules, their sizes, imports between folders. `python -m benchmarks.structure [ROOT]`."""

import ast
import sys
from collections import Counter, defaultdict
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

PACKAGES = ("flows", "tasks", "models")


def modules(root: Path) -> dict[str, Path]:
    """Return the modules of the three packages, package files left out."""
    files = (path for name in PACKAGES for path in sorted((root / name).rglob("*.py")) if path.name != "__init__.py")
    return {".".join(path.relative_to(root).with_suffix("").parts): path for path in files}


def imports(tree: ast.AST, known: dict[str, Path]) -> set[str]:
    """Return the modules of the project that a syntax tree imports, at any depth."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            found |= {name for name in names if name in known}
    return found


def folder(module: str) -> str:
    """Return where a module lies: `flows`, `tasks`, `models`, or the part of models/."""
    parts = module.split(".")
    return "/".join(parts[:2]) if parts[0] == "models" and len(parts) > 2 else parts[0]


def main(root: Path) -> None:
    """Print sizes by folder, imports between folders, and totals."""
    known = modules(root)
    trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in known.items()}
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in known.items()}
    reached = {name: imports(tree, known) - {name} for name, tree in trees.items()}
    importers = Counter(target for targets in reached.values() for target in targets)
    functions = [
        n.end_lineno - n.lineno + 1  # type: ignore[operator]
        for tree in trees.values()
        for n in ast.walk(tree)
        if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
    ]

    rows = defaultdict(list)
    for name in known:
        rows[folder(name)].append(name)
    table = Table("folder", "modules", "lines", "median", "largest", "under 60", "one importer", "imports from")
    for place, names in sorted(rows.items()):
        sizes = [lines[n] for n in names]
        outside = Counter(folder(target) for n in names for target in reached[n] if folder(target) != place)
        table.add_row(
            place,
            *(str(len(names)), f"{sum(sizes):,}", f"{median(sizes):.0f}", str(max(sizes))),
            str(sum(s < 60 for s in sizes)),
            str(sum(importers[n] == 1 for n in names)),
            ", ".join(f"{target.removeprefix('models/')} {count}" for target, count in outside.most_common()),
        )
    console = Console(width=200)
    console.print(table)
    sizes = list(lines.values())
    inside = [name for name in known if name.startswith("models.")]
    console.print(
        f"{len(known)} modules ({len(inside)} in models/), {sum(sizes):,} lines, median {median(sizes):.0f}, "
        f"{sum(s < 40 for s in sizes)} under 40, {sum(s > 350 for s in sizes)} over 350; "
        f"{sum(len(t) for t in reached.values()):,} imports; functions: median {median(functions):.0f} lines, "
        f"longest {max(functions)}, {sum(f > 60 for f in functions)} over 60"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1])
