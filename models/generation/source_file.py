"""`source.json`: the record of a resolved source beside (or instead of) its model files."""

import json
from dataclasses import asdict, fields, replace
from pathlib import Path

from models.errors import SourceError
from models.schema import ResolvedSource

SOURCE_FILE = "source.json"


def write_source(folder: Path, source: ResolvedSource) -> Path:
    """Write `source.json` into a folder and return its path.

    A source whose files lie in this very folder is recorded with location `.`, so that the folder may be moved or linked.
    """
    inside = source.revision is None and Path(source.location).absolute() == folder.absolute()
    row = asdict(replace(source, location=".") if inside else source)
    path = folder / SOURCE_FILE
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(row, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)
    return path


def read_source(folder: Path) -> ResolvedSource:
    """Read `source.json` of a folder; the location of local files comes back absolute.

    Raises:
        SourceError: The file is missing, is no JSON, or has other fields than this version writes.
    """
    path = folder / SOURCE_FILE
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise SourceError(f"{path} must hold a resolved source, but cannot be read ({err}). Run the `sources` stage again.") from err
    names = {f.name for f in fields(ResolvedSource)}
    if not isinstance(row, dict) or set(row) != names:
        seen = sorted(row) if isinstance(row, dict) else type(row).__name__
        raise SourceError(f"{path} must have the fields {sorted(names)}, but has {seen}. Run the `sources` stage again.")
    source = ResolvedSource(**row)
    if source.revision is not None:
        return source
    return replace(source, location=str((folder / source.location).absolute()))
