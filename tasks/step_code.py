"""The code identity of one step: its function, the helpers of its module that it uses, and all of models/ it reaches."""

import ast
import functools
import hashlib
import inspect
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tasks.code_closure import code_digest, is_module

# Which cache, which tracker: editing these changes no result, so they enter no identity.
INFRASTRUCTURE = frozenset(
    {
        "tasks",
        "tasks.caching",
        "tasks.artifact",
        "tasks.manifest",
        "tasks.tracking",
        "tasks.database_file",
        "tasks.tracking_log",
        "tasks.tracking_store",
        "tasks.model_logging",
        "tasks.locking",
        "tasks.workspace",
        "tasks.code_closure",
        "tasks.code_memo",
        "tasks.step_code",
        "tasks.loaded_models",
        "tasks.secrets",
        # Execution choices and where metrics go: they decide no result either.
        "models.params.runtime",
        "models.metrics_sink",
        "models.memory",
        # How files are put on the disk, and what is kept out of messages.
        "models.files",
        "models.redaction",
    }
)


# CPython 3.11 can fail when two threads build syntax trees at once ("AST constructor recursion depth mismatch").
_ONE_AT_A_TIME = threading.Lock()


def step_code_digest(function: Any) -> str:
    """Digest the step's text, the helpers of its module it uses, and the import closure of both.

    Docstrings and comments do not count. Neighbours in the same tasks/ file do not count unless they are used.

    Raises:
        TypeError: The function is not defined in a module file of the three packages.
    """
    with _ONE_AT_A_TIME:
        return _digest(function)


@functools.cache
def _digest(function: Any) -> str:
    nodes, roots = _reached(function)
    text = "\n".join(ast.dump(without_docstrings(node)) for node in nodes)
    return hashlib.sha256(f"{text}\n{code_digest(roots, without=INFRASTRUCTURE)}".encode()).hexdigest()


def _reached(function: Any) -> tuple[list[ast.stmt], tuple[str, ...]]:
    path = inspect.getsourcefile(function)
    if path is None:
        raise TypeError(f"{function!r} must be defined in a module file, so that its code has an identity.")
    body = ast.parse(Path(path).read_text(encoding="utf-8")).body
    definitions = {name: node for node in body for name in _defined(node)}
    imports = {name: node for node in body if isinstance(node, ast.Import | ast.ImportFrom) for name in _bound(node)}
    if function.__name__ not in definitions:
        raise TypeError(f"{function.__name__} must stand at the top level of {path}, so that its code has an identity.")
    seen: dict[str, ast.stmt] = {}
    roots: set[str] = set()
    waiting = [function.__name__]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen[name] = definitions[name]
        roots |= set(_project_imports([definitions[name]]))
        used = {n.id for n in ast.walk(definitions[name]) if isinstance(n, ast.Name)}
        roots |= set(_project_imports(imports[n] for n in used if n in imports))
        waiting += sorted(n for n in used if n in definitions)
    nodes = [seen[name] for name in sorted(seen)]
    return nodes, tuple(sorted(roots - INFRASTRUCTURE))


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [t.id for t in node.targets if isinstance(t, ast.Name)]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    return []


def _bound(node: ast.Import | ast.ImportFrom) -> list[str]:
    return [(alias.asname or alias.name.split(".")[0]) for alias in node.names]


def _project_imports(nodes: Iterable[ast.AST]) -> list[str]:
    found = []
    for top in nodes:
        for node in ast.walk(top):
            if isinstance(node, ast.ImportFrom) and node.module:
                found.append(node.module)
                # `from package import module` imports the module as well as the package.
                found += [name for a in node.names if is_module(name := f"{node.module}.{a.name}")]
            elif isinstance(node, ast.Import):
                found += [alias.name for alias in node.names]
    return [name for name in found if name.split(".")[0] in ("models", "tasks")]


def without_docstrings(tree: ast.AST) -> ast.AST:
    """Return the tree with docstrings removed (in place)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
                node.body = node.body[1:] or [ast.Pass()]
    return tree
