"""The manifest of an artifact: which files it has, with their sizes and digests; nothing else belongs to it."""

import json
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from models.errors import ArtifactError

MANIFEST = "manifest.json"


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path:
        raise ValueError("must be a path inside the artifact")
    return path


class ListedFile(BaseModel):
    """One file: path relative to the folder, digest, size in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    path: Annotated[str, AfterValidator(_inside)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    bytes: Annotated[int, Field(ge=0)]


class Manifest(BaseModel):
    """What `manifest.json` holds."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: Annotated[int, Field(alias="schema")]
    kind: str
    files: list[ListedFile]
    meta: dict[str, Any]

    @property
    def num_bytes(self) -> int:
        """Size of all files."""
        return sum(file.bytes for file in self.files)


def read_manifest(folder: Path, *, cure: str) -> bytes:
    """Return the bytes of a folder's manifest.

    Raises:
        ArtifactError: There is none, or it cannot be read.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ArtifactError(f"{folder} has no {MANIFEST}: the artifact is missing or incomplete. {cure}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path} must be readable, but is not: {error.strerror}. {cure}") from error


def parse_manifest(text: bytes, path: Path, *, cure: str) -> Manifest:
    """Parse a manifest.

    Raises:
        ArtifactError: It is torn, or something else; `path` says where.
    """
    try:
        return Manifest.model_validate(json.loads(text))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ArtifactError(f"{path} must be a manifest, but `{place}` is wrong: {first['msg']}. {cure}") from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} must be a manifest, but is not JSON: it was truncated or edited. {cure}") from error


def unlisted(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Yield the files below a folder that its manifest does not list; a sub-folder with a manifest is another artifact."""
    listed = {file.path for file in manifest.files} | {MANIFEST}
    for place, folders, names in os.walk(folder):
        here = Path(place)
        folders[:] = sorted(f for f in folders if not (here / f / MANIFEST).is_file())
        links = [f for f in folders if (here / f).is_symlink()]
        for name in sorted([*names, *links]):
            relative = (here / name).relative_to(folder).as_posix()
            if relative not in listed:
                yield relative
