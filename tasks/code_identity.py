"""The identity of code: which definitions and modules a step or a stage reaches, and a digest of each.

Read from the source text, nothing is imported. `flows` and `tasks` hold several steps a file, so they are read name by name: a
definition reaches the definitions it names, wherever they are imported from. A module of `models` counts as a whole.

- What never runs does not count: docstrings, comments, layout, and the body of `if TYPE_CHECKING:`.
- A name counts wherever it is used: in bodies, decorators, defaults, base classes, annotations (text ones too), `global`.
- All definitions of a name count. So does, as soon as anything of its module is reached, each statement that does more than
  bind names: calls, assignments to attributes and items (patches), `if`, `try`, `with`, loops, star imports.
- Imports count at any depth, with the packages on the way. Files of a package that are not modules (templates) belong to it.

Not seen: names computed at run time (`getattr`, `importlib`), and what a definition does to others by being made (a decorator
that registers it). No code that decides results may rely on either.
"""

import ast
import contextlib
import functools
import hashlib
import inspect
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tasks.code_memo import CodeMemo, stamp_of

PACKAGES = ("flows", "tasks", "models")
PROJECT_ROOT = Path(__file__).resolve().parent.parent

# Which cache, which tracker, where metrics and files go, what is kept out of messages: editing these changes no result.
INFRASTRUCTURE = frozenset(
    [f"tasks.{name}" for name in "caching artifact manifest locking workspace secrets code_identity code_memo".split()]
    + [f"tasks.{name}" for name in "tracking tracking_log tracking_store database_file model_logging".split()]
    + [f"models.{name}" for name in "params.runtime metrics_sink memory files redaction".split()]
)

_BY_NAME = ("flows", "tasks")
_MEMO = CodeMemo(PROJECT_ROOT / ".cache" / "code.json", filled_by=Path(__file__))
# CPython 3.11 can fail when two threads build syntax trees at once ("AST constructor recursion depth mismatch").
_ONE_AT_A_TIME = threading.Lock()


class _Import(NamedTuple):
    """`import module`, or `from module import name`; relative ones are made absolute."""

    module: str
    name: str | None
    line: int


class _Part(NamedTuple):
    """A top-level statement. One that binds nothing counts as soon as its module is reached."""

    binds: list[str]
    uses: list[str]
    imports: list[_Import]
    digest: str


@dataclass(frozen=True, slots=True)
class Reached:
    """What some code reaches.

    Attributes:
        code: Module of this project → sha256 of what is reached in it, sorted by name; modules without code are left out.
        packages: Top-level names of everything else that is imported there.
    """

    code: dict[str, str]
    packages: frozenset[str]

    @property
    def digest(self) -> str:
        """The sha256 over names and digests of the modules."""
        return _sha256(f"{name} {digest}" for name, digest in self.code.items())


def module_path(name: str, *, root: Path = PROJECT_ROOT) -> Path:
    """Return the file of a module of the three packages (a package's is its `__init__.py`).

    Raises:
        ModuleNotFoundError: `name` is not a module of flows, tasks or models below `root`.
    """
    return _Walk(root=root).path(name)


def package_files(name: str, *, root: Path = PROJECT_ROOT) -> list[Path]:
    """Return the files of a package that are not modules, such as templates; nothing for a module that is not a package."""
    path = module_path(name, root=root)
    files = path.parent.iterdir() if path.name == "__init__.py" else ()
    return sorted(p for p in files if p.is_file() and p.suffix not in (".py", ".pyc"))


def reach(start: str, *, without: frozenset[str] = frozenset(), by_name: bool = True, root: Path = PROJECT_ROOT) -> Reached:
    """Return what a module, or one definition in it, reaches, itself included.

    Args:
        start: `module` or, in `flows` and `tasks`, `module:name`.
        without: Modules that are left out, with what only they reach.
        by_name: False = read `flows` and `tasks` as whole modules too: all that importing may load.
        root: Folder of the three packages.

    Raises:
        ModuleNotFoundError: The start, or an import of one of the three packages, names no module.
        NameError: The module of the start does not bind the name.
        SyntaxError: A file on the way is not Python.
    """
    module, _, name = start.partition(":")
    return _Walk(root=root, without=without, by_name=_BY_NAME if by_name else ()).run(module, name or None)


@functools.cache
def step_code_digest(function: Any, *, root: Path = PROJECT_ROOT) -> str:
    """Return the digest of what a step's function reaches, without the infrastructure.

    Raises:
        TypeError: The function is not defined at the top level of a file.
    """
    module, name, file = function.__module__, function.__name__, inspect.getsourcefile(function)
    if file is None:
        raise TypeError(f"`{name}` must be defined in a file, so that its code has an identity.")
    try:
        return _Walk(root=root, without=INFRASTRUCTURE, own=(module, Path(file))).run(module, name).digest
    except NameError as error:
        raise TypeError(f"`{name}` must be defined at the top level of {file}, so that its code has an identity.") from error


@dataclass(slots=True, kw_only=True)
class _Walk:
    """One search. `own` is a module, and its file, that may lie outside of the three packages."""

    root: Path
    without: frozenset[str] = frozenset()
    by_name: tuple[str, ...] = _BY_NAME
    own: tuple[str, Path | None] = ("", None)
    _chosen: dict[str, set[int]] = field(default_factory=dict)
    _packages: set[str] = field(default_factory=set)
    _waiting: list[tuple[str, str | None, str]] = field(default_factory=list)

    def run(self, module: str, name: str | None) -> Reached:
        if name is not None and not any(name in part.binds for part in self._parts(module)):
            raise NameError(f"`{name}` must be bound at the top level of {self.path(module)}", name=name)
        self._waiting.append((module, name, ""))
        seen: set[tuple[str, str | None]] = set()
        while self._waiting:
            module, name, importer = self._waiting.pop()
            if (module, name) not in seen and module not in self.without:
                seen.add((module, name))
                self._visit(module, name, importer)
        _MEMO.save()
        digests = {name: self._digest(name) for name in sorted(self._chosen)}
        return Reached({name: digest for name, digest in digests.items() if digest}, frozenset(self._packages))

    def path(self, module: str, importer: str = "") -> Path:
        path = self.own[1] if module == self.own[0] else _find(module, self.root)
        if path is None:
            rule = f"must be a module of {', '.join(PACKAGES)} below {self.root}"
            raise ModuleNotFoundError(f"{module!r} {rule}" + (f" (imported at {importer})" if importer else ""), name=module)
        return path

    def _parts(self, module: str, importer: str = "") -> list[_Part]:
        path = self.path(module, importer)
        return _read(path, stamp_of(path), module)

    def _visit(self, module: str, name: str | None, importer: str) -> None:
        """Choose the parts of a module that a name needs (None = all), and queue what they lead to."""
        top, _, _ = module.partition(".")
        name = name if top in self.by_name or module == self.own[0] else None
        if module not in self._chosen and top in PACKAGES and "." in module:
            self._waiting.append((module.rpartition(".")[0], "", importer))
        chosen = self._chosen.setdefault(module, set())
        for index, part in enumerate(self._parts(module, importer)):
            if index not in chosen and (name is None or not part.binds or name in part.binds):
                chosen.add(index)
                self._waiting += [(module, used, importer) for used in part.uses if name is not None]
                for found in part.imports:
                    self._import(*found, module)

    def _import(self, module: str, name: str | None, line: int, importer: str) -> None:
        top, _, _ = module.partition(".")
        if top not in PACKAGES:
            self._packages.add(top)
            return
        place = f"{self.path(importer)}:{line}"
        if name is not None and _find(f"{module}.{name}", self.root) is not None:
            module, name = f"{module}.{name}", None
        self._waiting.append((module, None if name == "*" else name, place))

    def _digest(self, module: str) -> str:
        parts = self._parts(module)
        files = package_files(module, root=self.root) if module != self.own[0] else []
        lines = [parts[index].digest for index in sorted(self._chosen[module])]
        lines += [f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in files]
        return _sha256(lines) if lines else ""


def _sha256(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _find(name: str, root: Path) -> Path | None:
    module = root.joinpath(*name.split("."))
    files = (module / "__init__.py", module.with_name(f"{module.name}.py"))
    return next((path for path in files if path.is_file()), None) if name.partition(".")[0] in PACKAGES else None


@functools.lru_cache(maxsize=4096)
def _read(path: Path, stamp: tuple[int, int, int], module: str) -> list[_Part]:
    """Return the statements of a file, from the memo where it is unchanged."""
    ours = path.is_relative_to(PROJECT_ROOT)
    known = _MEMO.get(path, stamp) if ours else None
    if known is not None:
        return [_Part(*row) for row in known]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    with _ONE_AT_A_TIME:
        tree = _Executed().visit(ast.parse(path.read_bytes(), filename=str(path)))
        by_name = module.partition(".")[0] != "models"
        statements = [one for node in tree.body for one in _single(node)] if by_name else [tree][: len(tree.body)]
        parts = [
            _Part(_bound(s), _used(s) if by_name else [], [*_imported(s, package)], _sha256([ast.dump(s)])) for s in statements
        ]
    if ours:
        _MEMO.put(path, stamp, parts)
    return parts


class _Executed(ast.NodeTransformer):
    """Leaves what is executed: no docstrings, and nothing that only type checkers read."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, _Documented) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
        super().generic_visit(node)
        if getattr(node, "body", None) == [] and not isinstance(node, ast.Module):
            node.body = [ast.Pass()]  # type: ignore[attr-defined]
        return node

    def visit_If(self, node: ast.If) -> Any:
        test = node.test.attr if isinstance(node.test, ast.Attribute) else getattr(node.test, "id", "")
        kept = self.generic_visit(node)
        return node.orelse if test == "TYPE_CHECKING" else kept


_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _single(node: ast.stmt) -> list[ast.stmt]:
    """Split an import of several names: each is reached on its own."""
    if not isinstance(node, ast.Import | ast.ImportFrom):
        return [node]
    return [type(node)(**vars(node) | {"names": [alias]}) for alias in node.names]


def _bound(node: ast.stmt) -> list[str]:
    """Return the names that a statement binds, if that is all it does."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [a.asname or a.name.partition(".")[0] for a in node.names if a.name != "*"]
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name, *(name for n in ast.walk(node) if isinstance(n, ast.Global) for name in n.names)]
    if not isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        return []
    targets = [*node.targets] if isinstance(node, ast.Assign) else [node.target]
    targets += [n.target for n in ast.walk(node) if isinstance(n, ast.NamedExpr)]
    stored = [n for target in targets for n in ast.walk(target) if isinstance(n, ast.Name | ast.Attribute | ast.Subscript)]
    return [n.id for n in stored if isinstance(n, ast.Name)] if all(isinstance(n, ast.Name) for n in stored) else []


def _used(node: ast.AST) -> list[str]:
    """Return the names in a statement, those in annotations that are text included."""
    found = set()
    for below in ast.walk(node):
        if isinstance(below, ast.Name):
            found.add(below.id)
        for annotation in filter(None, (getattr(below, "annotation", None), getattr(below, "returns", None))):
            for text in ast.walk(annotation):
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    with contextlib.suppress(SyntaxError):
                        found.update(_used(ast.parse(text.value, mode="eval")))
    return sorted(found)


def _imported(node: ast.AST, package: str) -> Iterator[_Import]:
    for below in ast.walk(node):
        if isinstance(below, ast.Import):
            yield from (_Import(alias.name, None, below.lineno) for alias in below.names)
        elif isinstance(below, ast.ImportFrom):
            base = package.split(".")[: 1 - below.level or None] if below.level else []
            module = ".".join([*base, *([below.module] if below.module else [])])
            yield from (_Import(module, alias.name, below.lineno) for alias in below.names)
