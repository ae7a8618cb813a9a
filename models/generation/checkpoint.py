"""What the headers of a model folder's safetensors say, against what its config gives: no weight is read."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import PreTrainedModel

from models.errors import SourceError
from models.generation.config_file import ConfigFile
from models.generation.weights import weight_files

Shape = tuple[int, ...]
_LAYER = re.compile(r"\.(\d+)\.")


def check_checkpoint(folder: Path, skeleton: PreTrainedModel, config: ConfigFile, *, where: str, quantised: bool = False) -> None:
    """Compare names and shapes of the stored tensors with those of the model that the config describes.

    Pickled weights are left to the loading, and so are names that transformers converts.

    Args:
        folder: Model folder.
        skeleton: The model that the config describes, on the meta device.
        config: The config, for errors.
        where: What to call the model in errors.
        quantised: Whether the weights are stored quantised: then their names and shapes are left to the loading, too.

    Raises:
        SourceError: A file is torn, a tensor has another shape, or tensors or layers are on one side only.
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
    """Return how many tokens a model has an embedding for."""
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
    """Leave out buffers, and what the model itself says it ignores."""
    buffers = {name for name, _ in skeleton.named_buffers()}
    ignored = [re.compile(pattern) for pattern in skeleton._keys_to_ignore_on_load_unexpected or ()]
    return [name for name in names if name not in buffers and not any(pattern.search(name) for pattern in ignored)]


def _refuse_missing(folder: Path, skeleton: PreTrainedModel, present: Collection[int], *, where: str) -> None:
    """All names agree, so what is missing is really missing; transformers would fill it with random numbers."""
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
    """Whether a tensor belongs to a layer behind the last one that the config counts."""
    number = _LAYER.search(name)
    return number is not None and int(number[1]) >= layers and _LAYER.sub(".0.", name, count=1) in named


def _guess(skeleton: PreTrainedModel, parameter: Tensor, shape: Shape) -> str:
    rows = embedding_rows(skeleton)
    own = tuple(parameter.shape)
    return f" (`vocab_size` is {rows})" if own[0] == rows != shape[0] and own[1:] == shape[1:] else ""
