"""Keeps the model in use loaded between the shards of a stage: one per process, so memory holds one source at a time."""

import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

from models.params.runtime import Runtime
from tasks.workspace import project_root

if TYPE_CHECKING:
    from models.generation.loading import LoadedSource
    from models.schema import ResolvedSource

# Loading swaps global state in transformers, so threads take turns; the models in use may then run side by side.
_loading = threading.Lock()
_resident: OrderedDict[tuple[str, str], "LoadedSource"] = OrderedDict()


def resident_source(folder: Path, *, runtime: Runtime) -> "LoadedSource":
    """Return the source described in `folder`, loading it unless it is among those in use (one for each worker)."""
    from models.generation.loading import load_source, pick_device

    source = source_record(folder)
    device = pick_device(runtime.device)
    key = (source.digest + source.location, device)
    with _loading:
        if key not in _resident:
            while len(_resident) >= runtime.workers:
                _resident.popitem(last=False)
            use_threads(runtime)
            _resident[key] = load_source(source, device=device)
        _resident.move_to_end(key)
        return _resident[key]


def loading() -> threading.Lock:
    """Return the lock to hold while a model is loaded."""
    return _loading


def source_record(folder: Path) -> "ResolvedSource":
    """Return the record of a source; places inside the project are resolved against it."""
    from models.generation.source_file import read_source

    return read_source(folder, root=project_root())


def use_threads(runtime: Runtime) -> None:
    """Apply `runtime.threads` to torch in this process."""
    import torch

    if runtime.threads:
        torch.set_num_threads(runtime.threads)
