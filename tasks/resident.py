"""The source in use stays loaded between the shards of a stage, and leaves memory before another model or stage wants it.

Where the task runner has processes of its own, a stage that ends here cannot reach what they hold: a model that no shard has
asked for within `runtime.keep_models_s` leaves by itself.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from models.params.runtime import Runtime
from tasks.artifact import file_digest
from tasks.model_pool import ModelPool
from tasks.workspace import project_root

if TYPE_CHECKING:
    from models.generation.loading import LoadedSource
    from models.schema import ResolvedSource

POOL = ModelPool()
"""Sources and judges of this process."""


@contextmanager
def source_in_use(folder: Path, *, runtime: Runtime) -> Iterator["LoadedSource"]:
    """Lend the source described in `folder`, loading it unless it is in memory.

    Raises:
        SourceError: It cannot be loaded, or its files are not those it was resolved with.
    """
    from models.generation.loading import load_source, pick_devices

    source = source_record(folder)

    def load(device: str) -> "LoadedSource":
        use_threads(runtime)
        check_unchanged(source)
        loaded = load_source(source, device=device)
        check_unchanged(source)  # nor were they replaced while they were read
        return loaded

    devices = pick_devices(runtime.device)
    with POOL.using(source.digest + source.location, load, devices=devices, keep_s=runtime.keep_models_s) as loaded:
        yield loaded


def release_models() -> None:
    """Drop the models that nobody uses: what comes next needs the memory."""
    POOL.release()


def loading() -> threading.RLock:
    """Return the lock to hold while a model is loaded."""
    return POOL.loading


def source_record(folder: Path) -> "ResolvedSource":
    """Return the record of a source; places inside the project are resolved against it."""
    from models.generation.source_file import read_source

    return read_source(folder, root=project_root())


def check_unchanged(source: "ResolvedSource") -> None:
    """Check that the files of a source in a folder are those it was resolved with; digests of unchanged files are remembered.

    Raises:
        SourceError: Weights, config or code are others.
    """
    from models.generation.weights import refuse_changed

    refuse_changed(source, digest_of=file_digest)


def use_threads(runtime: Runtime) -> None:
    """Apply `runtime.threads` to torch in this process."""
    import torch

    if runtime.threads:
        torch.set_num_threads(runtime.threads)
