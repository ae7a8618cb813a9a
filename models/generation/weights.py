"""Which files of a model folder define the model, and their digest."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from models.errors import SourceError
from models.schema import ResolvedSource

_CONFIGS = ("config.json", "generation_config.json")
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLES = ("model.safetensors", "pytorch_model.bin")


def weight_files(folder: Path, *, where: str) -> list[Path]:
    """Return the weight files that transformers loads from a folder: safetensors if there are any, else `*.bin` pickles.

    An index counts as a weight file, and so do all the shards it names.

    Args:
        folder: Model folder.
        where: What to call the folder's owner in errors, such as `` `sources.models[scholar]` ``.

    Raises:
        SourceError: No weights, or the index names shards that are not there.
    """
    for index_name, single_name in zip(_INDEXES, _SINGLES, strict=True):
        if (folder / single_name).is_file():
            return [folder / single_name]
        if (folder / index_name).is_file():
            return [folder / index_name, *_shards(folder / index_name, where=where)]
    raise SourceError(
        f"{where}: the folder {folder} must hold {' or '.join(_SINGLES)} (or their index with shards), but holds neither. "
        "Copy the weights into it, or name another folder."
    )


def folder_digest(folder: Path, *, where: str, digest_of: Callable[[Path], str] | None = None) -> str:
    """Hash what the model is: config, generation config, weights, index, and code beside them.

    The digest is the sha256 over the lines `<file name> <sha256 of the file>`, sorted by name; tokenizer files have a digest
    of their own. Files are streamed: memory does not grow with the model.

    Args:
        folder: Model folder.
        where: What to call the folder's owner in errors.
        digest_of: Returns the sha256 of a file, such as one that remembers it; None reads every file.

    Raises:
        SourceError: As `weight_files`, or `config.json` is missing.
    """
    if not (folder / "config.json").is_file():
        raise SourceError(f"{where}: the folder {folder} must hold config.json, but does not. Name a model folder.")
    files = {path.name: path for path in weight_files(folder, where=where)}
    files |= {name: folder / name for name in _CONFIGS if (folder / name).is_file()}
    files |= {path.name: path for path in folder.glob("*.py")}
    hashed = digest_of or _file_digest
    lines = (f"{name} {hashed(files[name])}\n" for name in sorted(files))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def refuse_changed(source: ResolvedSource, *, digest_of: Callable[[Path], str] | None = None) -> None:
    """Compare the files of a source in a folder with the digest of its record; a hub name is pinned by its commit.

    Raises:
        SourceError: Weights, config or code were replaced after the source was resolved, or are gone.
    """
    if source.revision is not None:
        return
    found = folder_digest(Path(source.location), where=f"source `{source.name}`", digest_of=digest_of)
    if found != source.digest:
        raise SourceError(
            f"The files of source `{source.name}` in {source.location} must have the digest {source.digest[:12]}…, but have "
            f"{found[:12]}…: they changed after the source was resolved. Put them back, or run the `sources` stage again."
        )


def _shards(index: Path, *, where: str) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as err:
        raise SourceError(f"{where}: {index} must map weights to shards, but cannot be read ({err}). Copy it again.") from err
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise SourceError(
            f"{where}: {index} names {len(names)} shards, but {len(missing)} are missing: {', '.join(missing[:5])}. "
            "Copy the rest of the weights."
        )
    return [index.parent / name for name in names]


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
