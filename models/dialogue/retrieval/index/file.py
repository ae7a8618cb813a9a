"""Index files: written atomically, verified when read, with a fingerprint of their encoder and knowledge base."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss

from models.dialogue.retrieval.index.backend import Kind
from models.dialogue.retrieval.index.kinds import file_names
from models.errors import RetrievalError
from models.files import file_digest, replacing, write_atomic
from models.params.index import IndexParams
from models.records import from_row, to_row

RECORD_FILE = "index.json"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of an index: sha256 and size in bytes."""

    sha256: str
    num_bytes: int


@dataclass(frozen=True, slots=True)
class IndexRecord:
    """The record of a stored index.

    Attributes:
        kind: Kind it was built as.
        count: Entities.
        dim: Width of an embedding.
        encoder_digest: `Retriever.digest()` of the encoder that made the embeddings.
        kb_digest: sha256 of the knowledge base.
        params: The `index` section.
        files: Its files.
    """

    kind: Kind
    count: int
    dim: int
    encoder_digest: str
    kb_digest: str
    params: IndexParams
    files: Mapping[str, StoredFile]

    @classmethod
    def read(cls, folder: Path) -> "IndexRecord":
        """Read the record of an index folder.

        Raises:
            RetrievalError: There is none (the folder is incomplete), or it cannot be read.
        """
        path = folder / RECORD_FILE
        try:
            row = json.loads(path.read_text(encoding="utf-8"))
            return from_row(cls, row)
        except FileNotFoundError as err:
            raise RetrievalError(
                f"`{folder}` holds no complete index: `{RECORD_FILE}` is missing. Build the index again."
            ) from err
        except ValueError as err:
            raise RetrievalError(f"`{path}` is not an index record ({err}). Build the index again.") from err

    def require(self, *, encoder: str, kb: str, where: str) -> None:
        """Check that the index belongs to an encoder and a knowledge base.

        Raises:
            RetrievalError: It does not; names what was expected and found.
        """
        self._same("encoder", found=self.encoder_digest, expected=encoder, where=where)
        self._same("knowledge base", found=self.kb_digest, expected=kb, where=where)

    def _same(self, what: str, *, found: str, expected: str, where: str) -> None:
        if found != expected:
            raise RetrievalError(
                f"`{where}` must be the index of the {what} {_short(expected)}, but was built with {_short(found)}. "
                f"Build the index again with this {what}, or load the {what} it was built with."
            )


def _short(digest: str) -> str:
    return f"`{digest[:16]}…`" if len(digest) > 16 else f"`{digest}`"


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
    """Write the record last, which marks the folder as complete."""
    write_atomic(folder / RECORD_FILE, json.dumps(to_row(record), indent=2) + "\n")


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
        raise RetrievalError(f"`{path}` is not a FAISS index ({err}). Build the index again.") from err
