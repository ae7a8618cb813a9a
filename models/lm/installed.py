"""Installed packages that carry model files: found by name, never imported."""

import importlib.util
from pathlib import Path

PACKAGE = "package:"


def find_package(module: str) -> Path | None:
    """Return the folder of an installed package (or of one inside it, `a.b`); None where it is not installed.

    Nothing is imported: packages of weights may need libraries that only their own code uses.
    """
    top, *below = module.split(".")
    # Only the top name is looked up: for a dotted one, importlib would import its parents.
    spec = importlib.util.find_spec(top) if top.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations))).joinpath(*below).absolute()
    return folder if folder.is_dir() else None
