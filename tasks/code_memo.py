"""What was found in source files, kept across processes until they change: parsing the whole project takes a second."""

import contextlib
import json
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.files import read_record, write_atomic


class CodeMemo:
    """A JSON file {head, files: {path: [stamp, found]}}; its head is the Python and the state of the module that fills it."""

    def __init__(self, path: Path, *, filled_by: Path) -> None:
        self._path, self._filled_by = path, filled_by
        self._files: dict[str, list[Any]] | None = None
        self._new = False
        self._guard = threading.Lock()

    def get(self, path: Path, stamp: Sequence[int]) -> Any | None:
        """Return what was put for this state of the file, or None."""
        row = self._read().get(str(path))
        return row[1] if row is not None and row[0] == [*stamp] else None

    def put(self, path: Path, stamp: Sequence[int], found: Any) -> None:
        """Keep `found`, which must be JSON-ready, for this state of the file."""
        self._read()[str(path)] = [[*stamp], found]
        self._new = True

    def save(self) -> None:
        """Write what is new; where the place cannot be written, the next process parses again."""
        with self._guard:
            if self._new:
                self._new = False
                with contextlib.suppress(OSError):
                    write_atomic(self._path, json.dumps({"head": self._head(), "files": dict(self._read())}))

    def _read(self) -> dict[str, list[Any]]:
        if self._files is None:
            content = read_record(self._path) or {}
            files = content.get("files") if content.get("head") == self._head() else None
            rows = files.items() if isinstance(files, dict) else ()
            self._files = {path: row for path, row in rows if isinstance(row, list) and len(row) == 2}
        return self._files

    def _head(self) -> list[Any]:
        return [*sys.version_info[:3], *stamp_of(self._filled_by)]


def stamp_of(path: Path) -> tuple[int, int, int]:
    """Return size, time of the last write and time of the last change of any kind (both in ns)."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
