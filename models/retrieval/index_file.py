"""An index in a folder: written aside and renamed, checked when read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import faiss

from models.data.dialogue_files import file_digest
from models.files import replacing, write_atomic
from models.retrieval.errors import RetrievalError
from models.retrieval.index_fingerprint import RECORD_FILE, IndexRecord, StoredFile
from models.retrieval.index_kinds import file_names

# Smaller files are read into memory, where they can be changed.
MAPPED_FROM_BYTES = 256 * 2**20


def write_files(folder: Path, indexes: Mapping[str, Any]) -> dict[str, StoredFile]:
    """Write FAISS indexes; the folder is incomplete until `write_record`.

    Raises:
        RetrievalError: A file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Killed between the files, the folder must not look like the old index.
    (folder / RECORD_FILE).unlink(missing_ok=True)
    return {name: _write(folder / name, index) for name, index in indexes.items()}


def write_record(folder: Path, record: IndexRecord) -> None:
    """Write the record, last: it makes the folder complete."""
    write_atomic(folder / RECORD_FILE, json.dumps(record.to_json(), indent=2) + "\n")


def read_files(folder: Path, record: IndexRecord, *, mmap: bool, verified: bool = False) -> tuple[dict[str, Any], bool]:
    """Return the FAISS indexes of a folder, and whether they are mapped (and so must not be changed).

    Args:
        folder: The folder.
        record: Its record.
        mmap: Map large files.
        verified: The files' digests have been checked already; sizes are compared in any case.

    Raises:
        RetrievalError: A file is missing, cut short, altered, or not an index.
    """
    names = file_names(record.kind)
    for name in names:
        _verify(folder / name, record.files.get(name), digest=not verified)
    mapped = mmap and sum(record.files[name].num_bytes for name in names) >= MAPPED_FROM_BYTES
    return {name: _read(folder / name, mapped=mapped) for name in names}, mapped


def _write(path: Path, index: Any) -> StoredFile:
    try:
        with replacing(path) as aside:
            faiss.write_index(index, str(aside))
            return StoredFile(file_digest(aside), aside.stat().st_size)
    except RuntimeError as err:
        raise RetrievalError(f"`{path}` cannot be written ({err}). Make room or choose another folder.") from err


def _verify(path: Path, stored: StoredFile | None, *, digest: bool) -> None:
    if stored is None or not path.is_file():
        raise RetrievalError(f"`{path}` is missing or not in `{RECORD_FILE}`. Build the index again.")
    size = path.stat().st_size
    if size != stored.num_bytes:
        raise RetrievalError(f"`{path}` must have {stored.num_bytes} bytes, but has {size}. Build the index again.")
    if digest and (found := file_digest(path)) != stored.sha256:
        raise RetrievalError(f"`{path}` must have sha256 {stored.sha256}, but has {found}. Build the index again.")


def _read(path: Path, *, mapped: bool) -> Any:
    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC if mapped else 0)
    except RuntimeError as err:
        raise RetrievalError(f"`{path}` is no FAISS index ({err}). Build the index again.") from err
