"""Keeps the model in use loaded between the shards of a stage: one per process, so memory holds one source at a time."""

from pathlib import Path
from typing import TYPE_CHECKING

from models.params.runtime import Runtime
from tasks.workspace import project_root

if TYPE_CHECKING:
    from models.generation.loading import LoadedSource
    from models.schema import ResolvedSource

_resident: dict[tuple[str, str], "LoadedSource"] = {}


def resident_source(folder: Path, *, runtime: Runtime) -> "LoadedSource":
    """Return the source described in `folder`, loading it unless it is the one loaded last."""
    from models.generation.loading import load_source, pick_device

    source = source_record(folder)
    device = pick_device(runtime.device)
    key = (source.digest + source.location, device)
    if key not in _resident:
        _resident.clear()
        use_threads(runtime)
        _resident[key] = load_source(source, device=device)
    return _resident[key]


def source_record(folder: Path) -> "ResolvedSource":
    """Return the record of a source; places inside the project are resolved against it."""
    from models.generation.source_file import read_source

    return read_source(folder, root=project_root())


def use_threads(runtime: Runtime) -> None:
    """Apply `runtime.threads` to torch in this process."""
    import torch

    if runtime.threads:
        torch.set_num_threads(runtime.threads)
