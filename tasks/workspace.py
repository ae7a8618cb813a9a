"""Where a project keeps its disposable state: one place that knows the folder layout of `.cache/`."""

import os
from functools import lru_cache
from pathlib import Path

from models.errors import FusedialError

ROOT_VARIABLE = "FUSEDIAL_ROOT"


@lru_cache
def project_root() -> Path:
    """Return the project folder: FUSEDIAL_ROOT, else the nearest parent of the working directory with params.yaml and profiles/.

    Raises:
        FusedialError: Neither leads to a project, or its path cannot be part of a database's address.
    """
    named = os.environ.get(ROOT_VARIABLE)
    if named:
        return _usable(Path(named).resolve())
    here = Path.cwd().resolve()
    for folder in (here, *here.parents):
        if (folder / "params.yaml").is_file() and (folder / "profiles").is_dir():
            return _usable(folder)
    raise FusedialError(
        f"{here} is not inside a fusedial project (no params.yaml beside profiles/); change there, or set {ROOT_VARIABLE}."
    )


def _usable(root: Path) -> Path:
    found = [sign for sign in "%?" if sign in str(root)]
    if found:
        raise FusedialError(
            f"The project folder must have a path without {' and '.join(f'`{sign}`' for sign in found)}, which the databases of "
            f"Prefect and MLflow read as signs of their own, but is `{root}`. Rename the folder, or move the project."
        )
    return root


def cache_dir() -> Path:
    """Return the folder of disposable state; deleting it loses time, never results."""
    return project_root() / ".cache"


def store_dir() -> Path:
    """Return the content-addressed artifact store."""
    return cache_dir() / "artifacts"


def work_dir(key: str) -> Path:
    """Return the scratch folder of the step with this cache key; a killed step finds its finished shards there."""
    return cache_dir() / "work" / key


def results_dir() -> Path:
    """Return the folder of Prefect's cache records."""
    return cache_dir() / "results"
