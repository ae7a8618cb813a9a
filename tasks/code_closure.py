"""Which modules of this project a module can reach by imports, and a digest of their code.

The closure is read from the source text (AST), nothing is imported. Counted: imports at any depth (in functions, classes,
branches, `try`), the `__init__` of every package on the way, and `from models.x import name` where `name` is a module.
Not counted: imports under `if TYPE_CHECKING:` (they never run, so no result depends on them) and imports by a computed
name (`importlib.import_module(...)`), which this project does not use for code that decides results.
"""

import ast
import functools
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.code_memo import CodeMemo, stamp_of

PACKAGES = ("flows", "tasks", "models")
PROJECT_ROOT = Path(__file__).resolve().parent.parent
_MEMO = CodeMemo(PROJECT_ROOT / ".cache" / "code.json", filled_by=Path(__file__))


@dataclass(frozen=True, slots=True)
class _Import:
    """One import statement: `module` (absolute) and, for `from` imports, the name that may be a submodule of it."""

    module: str
    name: str | None
    line: int


@dataclass(frozen=True, slots=True)
class _Source:
    """What is kept of a parsed file: its project imports, and the digest of its normalised AST."""

    imports: tuple[_Import, ...]
    digest: str


def module_path(name: str, *, root: Path = PROJECT_ROOT) -> Path:
    """Return the file of a module of the three packages (a package's is its `__init__.py`).

    Raises:
        ModuleNotFoundError: `name` is not a module of flows, tasks or models below `root`.
    """
    path = _find(name, root)
    if path is None:
        raise ModuleNotFoundError(f"{name!r} must be a module of {', '.join(PACKAGES)} below {root}", name=name)
    return path


def is_module(name: str, *, root: Path = PROJECT_ROOT) -> bool:
    """Say whether `name` is a module of the three packages."""
    return _find(name, root) is not None


def closure(roots: Sequence[str], *, without: frozenset[str] = frozenset(), root: Path = PROJECT_ROOT) -> tuple[str, ...]:
    """Return the names of all modules of the three packages that `roots` reach, themselves included, sorted.

    Modules in `without` are left out, with what only they reach.

    Raises:
        ModuleNotFoundError: A root, or an import of one of the three packages, names no module.
        SyntaxError: A file on the way is not Python.
    """
    seen: set[str] = set()
    waiting = [(name, "") for name in roots]
    while waiting:
        name, importer = waiting.pop()
        if name in seen or name in without:
            continue
        path = _find(name, root)
        if path is None:
            by = f" (imported at {importer})" if importer else ""
            raise ModuleNotFoundError(f"{name!r} must be a module of {', '.join(PACKAGES)} below {root}{by}", name=name)
        seen.add(name)
        if parent := name.rpartition(".")[0]:
            waiting.append((parent, importer))
        for found in _source(path, name).imports:
            waiting.append((found.module, f"{path}:{found.line}"))
            if found.name is not None and _find(f"{found.module}.{found.name}", root) is not None:
                waiting.append((f"{found.module}.{found.name}", f"{path}:{found.line}"))
    _MEMO.save()
    return tuple(sorted(seen))


def module_digest(name: str, *, root: Path = PROJECT_ROOT) -> str:
    """Return the sha256 of one module's code: its AST without docstrings; comments and layout do not count."""
    return _source(module_path(name, root=root), name).digest


def code_digest(roots: Sequence[str], *, without: frozenset[str] = frozenset(), root: Path = PROJECT_ROOT) -> str:
    """Return the sha256 over name and code of every module in the closure of `roots`.

    An edit of a comment, a docstring or the layout leaves it as it is; any other edit in the closure changes it.
    """
    lines = [f"{name} {module_digest(name, root=root)}\n" for name in closure(roots, without=without, root=root)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _find(name: str, root: Path) -> Path | None:
    parts = name.split(".")
    if parts[0] not in PACKAGES:
        return None
    module = root.joinpath(*parts)
    for path in (module / "__init__.py", module.with_name(f"{parts[-1]}.py")):
        if path.is_file():
            return path
    return None


def _source(path: Path, name: str) -> _Source:
    return _parse(path, stamp_of(path), name)


@functools.lru_cache(maxsize=4096)
def _parse(path: Path, stamp: tuple[int, int, int], name: str) -> _Source:
    ours = path.is_relative_to(PROJECT_ROOT)
    known = _MEMO.get(path, stamp) if ours else None
    if known is not None:
        return _Source(tuple(_Import(*row) for row in known[0]), known[1])
    source = _read(path, name)
    if ours:
        _MEMO.put(path, stamp, [[[i.module, i.name, i.line] for i in source.imports], source.digest])
    return source


def _read(path: Path, name: str) -> _Source:
    tree = ast.parse(path.read_bytes(), filename=str(path))
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    imports = tuple(_imports(tree.body, package))
    _strip_docstrings(tree)
    return _Source(imports, hashlib.sha256(ast.dump(tree).encode()).hexdigest())


def _imports(body: Iterable[ast.stmt], package: str) -> Iterator[_Import]:
    """Project imports in a list of statements and all blocks below them (expressions hold no imports)."""
    for node in body:
        if isinstance(node, ast.Import):
            names = (alias.name for alias in node.names)
            yield from (_Import(name, None, node.lineno) for name in names if name.split(".")[0] in PACKAGES)
        elif isinstance(node, ast.ImportFrom):
            module = _absolute(node, package)
            if module.split(".")[0] in PACKAGES:
                yield from (_Import(module, alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.If) and _is_type_checking(node.test):
            yield from _imports(node.orelse, package)
        else:
            for block in _blocks(node):
                yield from _imports(block, package)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    base = parts[: len(parts) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else test.id if isinstance(test, ast.Name) else ""
    return name == "TYPE_CHECKING"


def _blocks(node: ast.stmt) -> Iterator[list[ast.stmt]]:
    for field in ("body", "orelse", "finalbody"):
        yield getattr(node, field, [])
    for part in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
        yield part.body


def _strip_docstrings(node: ast.Module | ast.stmt) -> None:
    """Remove docstrings of modules, classes and functions, in place."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            node.body[:1] = [] if len(node.body) > 1 else [ast.Pass()]
    for block in [node.body] if isinstance(node, ast.Module) else _blocks(node):
        for below in block:
            _strip_docstrings(below)
