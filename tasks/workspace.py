"""Where a project keeps its disposable state: one place that knows the folder layout of `.cache/`."""

import hashlib
import os
import threading
from functools import lru_cache
from pathlib import Path

from models.errors import FusedialError

ROOT_VARIABLE = "FUSEDIAL_ROOT"
_ADDRESS_SIGNS = frozenset("%?")  # of a path, these alone mean something else in the address of a database


@lru_cache
def project_root() -> Path:
    """Return the project folder: FUSEDIAL_ROOT, else the nearest parent of the working directory with params.yaml and profiles/.

    Raises:
        FusedialError: Neither leads to a project.
    """
    named = os.environ.get(ROOT_VARIABLE)
    if named:
        return Path(named).resolve()
    here = Path.cwd().resolve()
    for folder in (here, *here.parents):
        if (folder / "params.yaml").is_file() and (folder / "profiles").is_dir():
            return folder
    raise FusedialError(
        f"{here} is not inside a fusedial project (no params.yaml next to profiles/); change there, or set {ROOT_VARIABLE}."
    )


def address_root(root: Path) -> Path:
    """Return a project folder as the addresses of databases name it: itself, or a link to it where its path has `%` or `?`.

    In `sqlite:///…` both are signs of the address: MLflow and Prefect would open another file. The link is in the user's cache
    folder (XDG_CACHE_HOME, else ~/.cache), is named after the path, and is made where it is not there or leads elsewhere.

    Raises:
        FusedialError: The link cannot be made, or its own path has such signs.
    """
    if not _ADDRESS_SIGNS & set(str(root)):
        return root
    places = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "fusedial" / "projects"
    link = places / hashlib.sha256(os.fsencode(root)).hexdigest()[:32]
    if _ADDRESS_SIGNS & set(str(link)):
        raise _no_link(root, link, "it has these signs too")
    try:
        if not (link.is_symlink() and link.readlink() == root):
            places.mkdir(parents=True, exist_ok=True)
            fresh = link.with_name(f"{link.name}.{os.getpid()}.{threading.get_ident()}")
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(root, target_is_directory=True)
            fresh.replace(link)
    except OSError as error:
        raise _no_link(root, link, error.strerror or type(error).__name__) from error
    return link


def _no_link(root: Path, link: Path, why: str) -> FusedialError:
    return FusedialError(
        f"A project folder with `%` or `?` in its path must have a plain link for the databases of Prefect and MLflow, "
        f"but {link} cannot be one: {why} (project {root}). "
        "Set XDG_CACHE_HOME to a folder you may write to, or rename the project."
    )


def cache_dir() -> Path:
    """Return the folder of disposable state; deleting it loses time, never results."""
    return project_root() / ".cache"


def store_dir() -> Path:
    """Return the content-addressed artifact store."""
    return cache_dir() / "artifacts"


def work_dir(key: str) -> Path:
    """Return the scratch folder of the step with this cache key; a killed step finds its finished shards there."""
    return cache_dir() / "work" / key
