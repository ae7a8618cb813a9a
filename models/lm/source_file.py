"""`source.json`: the record of a resolved source, stored with or without its model files."""

import hashlib
import json
from dataclasses import asdict, fields, replace
from pathlib import Path

from models.errors import SourceError
from models.files import write_atomic
from models.records import from_row
from models.schema import ResolvedSource

SOURCE_FILE = "source.json"
_PROJECT = "project:"


def write_source(folder: Path, source: ResolvedSource, *, root: Path | None = None) -> Path:
    """Write `source.json` into a folder and return its path.

    A source whose files are in this folder is recorded with location `.`, so that the folder may be moved or linked;
    one whose files are below `root` (the project) is recorded relative to it, so that the record is the same in every clone.
    """
    row = asdict(replace(source, location=_portable(source, folder, root)))
    path = folder / SOURCE_FILE
    write_atomic(path, json.dumps(row, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    return path


def source_identity(source: ResolvedSource) -> str:
    """Return a sha256 over a source's record, independent of where local files are; a hub name is part of it."""
    row = asdict(source if source.revision is not None else replace(source, location=""))
    return hashlib.sha256(json.dumps(row, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _portable(source: ResolvedSource, folder: Path, root: Path | None) -> str:
    if source.revision is not None:
        return source.location
    place = Path(source.location).absolute()
    if place == folder.absolute():
        return "."
    if root is not None and place.is_relative_to(root.absolute()):
        return _PROJECT + place.relative_to(root.absolute()).as_posix()
    return source.location


def read_source(folder: Path, *, root: Path | None = None) -> ResolvedSource:
    """Read `source.json` of a folder; the location of local files comes back absolute (`root` is the project).

    Raises:
        SourceError: The file is missing, is not JSON, or has other fields than this version writes.
    """
    path = folder / SOURCE_FILE
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise SourceError(
            f"{path} must hold a resolved source, but cannot be read ({err}). Run the `sources` stage again."
        ) from err
    names = {f.name for f in fields(ResolvedSource)}
    if not isinstance(row, dict) or set(row) != names:
        seen = sorted(row) if isinstance(row, dict) else type(row).__name__
        raise SourceError(f"{path} must have the fields {sorted(names)}, but has {seen}. Run the `sources` stage again.")
    try:
        source = from_row(ResolvedSource, row)
    except ValueError as err:
        raise SourceError(f"{path} is not a resolved source ({err}). Run the `sources` stage again.") from err
    if source.revision is not None:
        return source
    if source.location.startswith(_PROJECT):
        if root is None:
            raise SourceError(f"{path} records a path relative to the project ({source.location}), but no project root is given.")
        return replace(source, location=str((root / source.location.removeprefix(_PROJECT)).absolute()))
    return replace(source, location=str((folder / source.location).absolute()))
