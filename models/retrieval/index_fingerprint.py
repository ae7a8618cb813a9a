"""What an index was built from, stored beside it: no index is ever searched with another encoder or knowledge base."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.params.index import IndexParams
from models.retrieval.errors import RetrievalError
from models.retrieval.index_body import Kind

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

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        plain = {name: getattr(self, name) for name in ("kind", "count", "dim", "encoder_digest", "kb_digest")}
        files = {name: asdict(file) for name, file in self.files.items()}
        return {**plain, "params": self.params.model_dump(mode="json"), "files": files}

    @classmethod
    def read(cls, folder: Path) -> "IndexRecord":
        """Read the record of an index folder.

        Raises:
            RetrievalError: There is none (the folder is incomplete), or it cannot be read.
        """
        path = folder / RECORD_FILE
        try:
            row = json.loads(path.read_text(encoding="utf-8"))
            files = {name: StoredFile(**file) for name, file in row.pop("files").items()}
            return cls(**{**row, "params": IndexParams.model_validate(row["params"]), "files": files})
        except FileNotFoundError as err:
            raise RetrievalError(
                f"`{folder}` holds no complete index: `{RECORD_FILE}` is missing. Build the index again."
            ) from err
        except (KeyError, TypeError, ValueError, AttributeError) as err:
            raise RetrievalError(f"`{path}` is no record of an index ({err!r}). Build the index again.") from err

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
