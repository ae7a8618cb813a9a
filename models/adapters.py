"""Adapters (LoRA and the like) among a model's files: refused, because they apply only where peft is installed."""

from pathlib import Path

from transformers.utils.peft_utils import find_adapter_config_file

from models.errors import SourceError

_CONFIG = "adapter_config.json"
_WEIGHTS = ("adapter_model*.safetensors", "adapter_model*.bin", "adapter_model*.json", "adapter_model*.pt")


def refuse_adapter(location: str, *, revision: str | None, where: str) -> None:
    """Refuse a model that comes with an adapter, alone or beside full weights.

    transformers puts an adapter on the weights where peft is installed, and leaves it out without a word where it is not.

    Args:
        location: Folder or hub name.
        revision: Hub revision.
        where: What to call the model's owner, such as `` `sources.models[scholar]` ``.

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
            f"{where} must name a model whose weights are whole, but {found} is part of an adapter. Merge it first "
            "(peft's `merge_and_unload`, then `save_pretrained`), and name the merged model; or take the adapter's files away."
        )
