"""Where the peer's code lies: a checkout of github.com/fanqiwan/FuseAI, given as `python -m benchmarks --peer FOLDER`.

Nothing of it is part of this repository. Without the folder, measurements leave the rows that need it out and say so.
"""

import importlib.util
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

_folder: list[Path] = []


def set_peer_folder(folder: Path) -> None:
    """Remember the folder for this process.

    Raises:
        SystemExit: It is no folder.
    """
    if not folder.is_dir():
        raise SystemExit(f"`--peer` must name a folder, but is {folder}")
    _folder[:] = [folder.resolve()]


def peer_folder() -> Path | None:
    """Return the folder given as `--peer`, or None where none was given."""
    return _folder[0] if _folder else None


def peer_module(package: str, name: str) -> ModuleType | None:
    """Import a module of the peer's code; None (with a message) without `--peer`.

    Args:
        package: Folder of the module relative to the peer's, as `FuseLLM/src/utils`; imports between its files work.
        name: Name of the module in it, as `others`.

    Raises:
        SystemExit: The file is not there.
    """
    folder = peer_folder()
    if folder is None:
        print(f"rows that need the peer's {package}/{name}.py are left out: give its code as --peer FOLDER")
        return None
    if not (folder / package / f"{name}.py").is_file():
        raise SystemExit(f"the peer's folder must hold {package}/{name}.py, but {folder} does not")
    alias = "peer_" + package.replace("/", "_")
    parent = sys.modules.setdefault(alias, ModuleType(alias))
    parent.__path__ = [str(folder / package)]
    _lend_edit_distance()
    with _own_logging():
        return importlib.import_module(f"{alias}.{name}")


def _lend_edit_distance() -> None:
    # The peer takes `editdistance`, which is no dependency here: RapidFuzz gives the same numbers, compiled as well.
    if "editdistance" not in sys.modules and importlib.util.find_spec("editdistance") is None:
        from rapidfuzz.distance import Levenshtein

        sys.modules["editdistance"] = module = ModuleType("editdistance")
        module.eval = Levenshtein.distance  # type: ignore[attr-defined]


@contextmanager
def _own_logging() -> Iterator[None]:
    """Undo what the peer's modules do to the root logger when imported."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
