"""The weight files of a model folder: which ones define the model, their digest, and checks of their tensors and adapters."""

import json
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils.peft_utils import find_adapter_config_file

from models.errors import SourceError
from models.files import file_digest, lines_digest
from models.lm.config import ConfigFile
from models.schema import ResolvedSource

_CONFIGS = ("config.json", "generation_config.json")
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLES = ("model.safetensors", "pytorch_model.bin")


def weight_files(folder: Path, *, where: str) -> list[Path]:
    """Return the weight files that transformers loads from a folder: safetensors if there are any, else `*.bin` pickles.

    An index counts as a weight file, and so do all the shards it names.

    Args:
        folder: Model folder.
        where: Name of the folder's owner for errors, such as `` `sources.models[scholar]` ``.

    Raises:
        SourceError: There are no weights, or shards named in the index are missing.
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
    """Hash the files that define a model: config, generation config, weights, index, and code.

    The digest is the sha256 over the lines `<file name> <sha256 of the file>`, sorted by name; tokenizer files have their
    own digest. Files are streamed: memory does not grow with the model.

    Args:
        folder: Model folder.
        where: Name of the folder's owner for errors.
        digest_of: Returns the sha256 of a file, for example from a cache; None hashes every file.

    Raises:
        SourceError: As `weight_files`, or `config.json` is missing.
    """
    if not (folder / "config.json").is_file():
        raise SourceError(f"{where}: the folder {folder} must hold config.json, but does not. Name a model folder.")
    files = {path.name: path for path in weight_files(folder, where=where)}
    files |= {name: folder / name for name in _CONFIGS if (folder / name).is_file()}
    files |= {path.name: path for path in folder.glob("*.py")}
    hashed = digest_of or file_digest
    return lines_digest((name, hashed(files[name])) for name in sorted(files))


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


_CONFIG = "adapter_config.json"
_WEIGHTS = ("adapter_model*.safetensors", "adapter_model*.bin", "adapter_model*.json", "adapter_model*.pt")


def refuse_adapter(location: str, *, revision: str | None, where: str) -> None:
    """Refuse a model folder with an adapter, alone or together with full weights.

    transformers applies an adapter if peft is installed, and silently ignores it if not.

    Args:
        location: Folder or hub name.
        revision: Hub revision.
        where: Name of the model's owner for errors, such as `` `sources.models[scholar]` ``.

    Raises:
        SourceError: Naming the adapter's file.
    """
    folder = Path(location)
    if folder.is_dir():
        names = [*folder.glob(_CONFIG), *(path for pattern in _WEIGHTS for path in sorted(folder.glob(pattern)))]
        found = str(names[0]) if names else None
    else:
        found = f"{location}/{_CONFIG}" if find_adapter_config_file(location, revision=revision) else None
    if found is not None:
        raise SourceError(
            f"{where} must name a model with merged weights, but {found} belongs to an adapter. Merge it first "
            "(peft's `merge_and_unload`, then `save_pretrained`), and name the merged model; or remove the adapter's files."
        )


Shape = tuple[int, ...]
_LAYER = re.compile(r"\.(\d+)\.")


def check_checkpoint(folder: Path, skeleton: PreTrainedModel, config: ConfigFile, *, where: str, quantised: bool = False) -> None:
    """Compare names and shapes of the stored tensors with those of the model that the config describes.

    Pickled weights and names that transformers converts are checked only when they are loaded.

    Args:
        folder: Model folder.
        skeleton: The model that the config describes, on the meta device.
        config: The config, for errors.
        where: Name of the model for errors.
        quantised: Whether the weights are stored quantised: then names and shapes, too, are checked only when loading.

    Raises:
        SourceError: A file is damaged, a tensor has another shape, or tensors or layers are missing on one side.
    """
    stored = _stored(folder, where=where)
    if quantised:
        return
    named = dict(skeleton.named_parameters(remove_duplicate=False))
    prefix = f"{skeleton.base_model_prefix}."
    found = {name: next((n for n in (name, prefix + name) if n in named), None) for name in stored}
    for name, own in found.items():
        if own is not None and tuple(named[own].shape) != stored[name]:
            raise SourceError(
                f"{where}: the weights in {folder} must be of the sizes that its config.json gives, but {name} has the shape "
                f"{list(stored[name])} instead of {list(named[own].shape)}{_guess(skeleton, named[own], stored[name])}. "
                "Copy config.json and the weights from the same model."
            )
    unknown = _unexpected(skeleton, [name for name, own in found.items() if own is None])
    layers = skeleton.config.get_text_config().num_hidden_layers
    for name in unknown:
        if _beyond(name, named, layers):
            config.refuse("num_hidden_layers", f"must count every layer of the weights, which have {name}", layers)
    if stored and not unknown:
        _refuse_missing(folder, skeleton, {id(named[own]) for own in found.values() if own is not None}, where=where)


def embedding_rows(model: PreTrainedModel) -> int:
    """Return the number of rows of a model's input embedding."""
    weight = model.get_input_embeddings().weight
    assert isinstance(weight, Tensor)
    return len(weight)


def _stored(folder: Path, *, where: str) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    for path in weight_files(folder, where=where):
        if path.suffix != ".safetensors":
            continue
        try:
            with safe_open(path, framework="pt") as file:
                shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
        except (SafetensorError, OSError) as err:
            raise SourceError(f"{where}: {path} must be whole safetensors, but cannot be read ({err}). Copy it again.") from err
    return shapes


def _unexpected(skeleton: PreTrainedModel, names: Collection[str]) -> list[str]:
    """Return the names that are neither buffers nor declared by the model as ignored."""
    buffers = {name for name, _ in skeleton.named_buffers()}
    ignored = [re.compile(pattern) for pattern in skeleton._keys_to_ignore_on_load_unexpected or ()]
    return [name for name in names if name not in buffers and not any(pattern.search(name) for pattern in ignored)]


def _refuse_missing(folder: Path, skeleton: PreTrainedModel, present: Collection[int], *, where: str) -> None:
    """Refuse missing weights, which transformers would initialise at random; all stored names are known at this point."""
    ignored = [re.compile(pattern) for pattern in skeleton._keys_to_ignore_on_load_missing or ()]
    missing = [
        name
        for name, parameter in skeleton.named_parameters()
        if id(parameter) not in present and not any(pattern.search(name) for pattern in ignored)
    ]
    if missing:
        shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        raise SourceError(
            f"{where}: the weights in {folder} must hold every weight of {type(skeleton).__name__} as config.json describes it, "
            f"but lacks {len(missing)}: {shown}. Copy config.json and the weights from the same model."
        )


def _beyond(name: str, named: Mapping[str, object], layers: int) -> bool:
    """Whether a tensor belongs to a layer beyond the config's number of layers."""
    number = _LAYER.search(name)
    return number is not None and int(number[1]) >= layers and _LAYER.sub(".0.", name, count=1) in named


def _guess(skeleton: PreTrainedModel, parameter: Tensor, shape: Shape) -> str:
    rows = embedding_rows(skeleton)
    own = tuple(parameter.shape)
    return f" (`vocab_size` is {rows})" if own[0] == rows != shape[0] and own[1:] == shape[1:] else ""
