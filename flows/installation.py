"""`check`: is this installation whole, and are these three packages the ones of one project?"""

import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from models.errors import FusedialError

# venv and pip put the path between double quotes of a shell.
_NOT_IN_SCRIPTS = frozenset('"$`')
_FAISS = ("faiss-cpu", "faiss-gpu")


def faiss_provider() -> str:
    """Return `faiss-cpu` or `faiss-gpu`.

    Raises:
        FusedialError: None or both are installed: they own the same folder and overwrite each other.
    """
    found = [name for name in _FAISS if _installed(name)]
    if len(found) != 1:
        state = "both are" if found else "none is"
        raise FusedialError(
            f"exactly one of faiss-cpu and faiss-gpu must be installed, but {state}. Uninstall both, then install one: "
            'pip install -c constraints.txt -e ".[cpu]"   (or ".[gpu]").'
        )
    return found[0]


def _installed(name: str) -> bool:
    # Asking for the two names: a list of all packages and what they contain takes a quarter of a second.
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


def package_roots() -> dict[str, Path]:
    """Return the folder each of the three packages is imported from.

    Raises:
        FusedialError: They come from different places: another project's `tasks` or `models` is in the way.
    """
    roots: dict[str, Path] = {}
    for name in ("flows", "tasks", "models"):
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            raise FusedialError(f"package `{name}` cannot be imported; install the project: pip install -e .")
        roots[name] = Path(spec.origin).parent.parent
    if len(set(roots.values())) > 1:
        places = ", ".join(f"{name} from {place}" for name, place in roots.items())
        raise FusedialError(f"flows, tasks and models must come from one project, but come {places}. Remove the intruder.")
    return roots


def check_installation() -> list[str]:
    """Return lines that describe the installation; raises on what cannot work."""
    packages = ", ".join(f"{p} {version(p)}" for p in ("torch", "transformers", "prefect", "mlflow", "dvc"))
    roots = package_roots()
    lines = [f"installation: {packages}, {faiss_provider()}", f"packages: flows, tasks, models from {roots['flows']}"]
    return lines + script_warnings(Path(sys.prefix))


def script_warnings(environment: Path) -> list[str]:
    """Return a line where the path of a virtual environment has signs that the scripts of pip and venv do not survive."""
    harmful = sorted(_NOT_IN_SCRIPTS & set(str(environment)))
    if not harmful:
        return []
    return [
        f"warning: the scripts of {environment} (activate, dvc, prefect) do not start, as its path has {' '.join(harmful)}: "
        'put it elsewhere (make setup VENV=/a/plain/path), or use PATH="$PWD/.venv/bin:$PATH" and `python -m dvc`.'
    ]
