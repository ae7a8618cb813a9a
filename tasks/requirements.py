"""What a model that is logged with its code needs of others: read from the code, with the versions that are installed."""

import ast
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import packages_distributions, version
from typing import TypeGuard

from tasks.code_closure import PACKAGES, closure, module_path


def requirements(module: str, *, besides: Iterable[str] = ()) -> list[str]:
    """Return `distribution==version` of all that a module and its closure import, sorted; local version labels are left out.

    Imports inside functions count, those for type checking do not; nor do packages that are not installed here.

    Args:
        module: Of this project, such as `tasks.dialogue_serving`.
        besides: Distributions that are needed without an import of ours.
    """
    found = {name for reached in closure([module]) for name in _foreign(module_path(reached).read_text(encoding="utf-8"))}
    wanted = {_distributions()[name][0] for name in found if name in _distributions()} | set(besides)
    return [f"{name}=={version(name).partition('+')[0]}" for name in sorted(wanted, key=str.lower)]


@cache
def _distributions() -> dict[str, list[str]]:
    """Return import name → distributions that bring it."""
    return {name: sorted(set(owners)) for name, owners in packages_distributions().items()}


def _foreign(text: str) -> set[str]:
    """Return the top-level names that a source text imports, without the standard library and this project."""
    tree = ast.parse(text)
    unread = {id(node) for block in ast.walk(tree) if _for_types(block) for part in block.body for node in ast.walk(part)}
    names = {name for node in ast.walk(tree) if id(node) not in unread for name in _names(node)}
    return {top for name in names if (top := name.partition(".")[0]) not in sys.stdlib_module_names and top not in PACKAGES}


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
        yield node.module


def _for_types(node: ast.AST) -> TypeGuard[ast.If]:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
