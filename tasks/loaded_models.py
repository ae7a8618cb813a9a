"""Models in memory: those in use are kept; an idle one leaves when another is wanted, or after `runtime.keep_models_s`."""

import functools
import gc
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from models.memory import release_memory
from models.params.runtime import Runtime
from tasks.artifact import file_digest
from tasks.workspace import project_root

if TYPE_CHECKING:
    from models.lm.loading import LoadedSource
    from models.schema import ResolvedSource
    from models.tokenization.codec import TokenCodec


M = TypeVar("M")
_Place = tuple[str, str]  # what it is, and the device it is on


@dataclass(slots=True)
class _Held:
    model: Any
    users: int = 0
    leaving: threading.Timer | None = None  # runs while nobody uses it


class ModelPool:
    """Loaded models by identity and device; safe to share between threads.

    A model that nobody uses stays for a while, so that the next shard finds it loaded; it leaves when that time is over, before
    another one is loaded, and at `release`. (By time, because workers of a task runner do not learn when a stage ends.) On one
    device there are several models only while several are in use. Each of several devices holds one model; a caller waits while
    all of them are taken.
    """

    def __init__(self) -> None:
        self.loading = threading.RLock()
        """Hold it while a model is loaded: loading swaps global state in transformers."""
        self._changed = threading.Condition(self.loading)
        self._held: dict[_Place, _Held] = {}

    def __len__(self) -> int:
        return len(self._held)

    @contextmanager
    def using(
        self, identity: str, load: Callable[[str], M], *, devices: Sequence[str], keep_s: float | None = None
    ) -> Iterator[M]:
        """Lend a model; it is loaded unless an equal one is in memory. Keep no reference to it after the block.

        Args:
            identity: What it is; equal identities are equal models.
            load: Device → model.
            devices: Where it may be.
            keep_s: Seconds it stays after its last use; None = until another one is loaded or `release`.
        """
        with self._changed:
            while (device := self._free_device(identity, devices)) is None:
                self._changed.wait()
            place = (identity, device)
            self._drop_idle(keep=place, device=device, alone=len(devices) == 1)
            if place not in self._held:
                self._held[place] = _Held(load(device))
            held = self._held[place]
            held.users += 1
            _stay(held)
        try:
            yield held.model
        finally:
            with self._changed:
                held.users -= 1
                if not held.users and keep_s is not None:
                    held.leaving = self._leave_in(keep_s, place)
                del held
                self._changed.notify_all()

    def release(self) -> None:
        """Drop every model that nobody uses, and give its memory back."""
        with self._changed:
            self._drop([place for place, held in self._held.items() if not held.users])
            self._changed.notify_all()

    def _leave_in(self, seconds: float, place: _Place) -> threading.Timer:
        timer = threading.Timer(seconds, self._leave, args=(place,))
        timer.daemon = True  # the end of the process does not wait for it
        timer.start()
        return timer

    def _leave(self, place: _Place) -> None:
        """Drop a model unless it was lent again, or lent and returned, since this timer started."""
        with self._changed:
            if place in self._held and self._held[place].leaving is threading.current_thread():
                self._drop([place])
                self._changed.notify_all()

    def _free_device(self, identity: str, devices: Sequence[str]) -> str | None:
        """Return a device: where the model is idle, else an unused one; the only device is always returned."""
        if len(devices) == 1:
            return devices[0]
        busy = {device for (_, device), held in self._held.items() if held.users}
        free = [device for device in devices if device not in busy]
        loaded = [device for device in free if (identity, device) in self._held]
        empty = [device for device in free if all(device != at for _, at in self._held)]
        return next(iter([*loaded, *empty, *free]), None)

    def _drop_idle(self, *, keep: _Place, device: str, alone: bool) -> None:
        places = [place for place, held in self._held.items() if not held.users and place != keep]
        self._drop([place for place in places if alone or place[1] == device])

    def _drop(self, places: Sequence[_Place]) -> None:
        for place in places:
            _stay(self._held.pop(place))
        if places:
            _give_back()


def _stay(held: _Held) -> None:
    if held.leaving is not None:
        held.leaving.cancel()
        held.leaving = None


def _give_back() -> None:
    gc.collect()  # models refer to themselves: their hooks, and the frames of errors
    if "torch" in sys.modules:
        _empty_device_caches()
    release_memory()


def _empty_device_caches() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


POOL = ModelPool()
"""Sources and judges of this process."""


@contextmanager
def source_in_use(folder: Path, *, runtime: Runtime) -> Iterator["LoadedSource"]:
    """Lend the source described in `folder`, loading it unless it is in memory.

    Raises:
        SourceError: It cannot be loaded, or its files are not those it was resolved with.
    """
    from models.lm.loading import load_source, pick_devices

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


@functools.lru_cache(maxsize=16)
def codec_in_use(source: "ResolvedSource") -> "TokenCodec":
    """Return the tokenizer of a source; it stays for the next shard until `release_models`, as a large one takes seconds to load.

    Raises:
        SourceError: It cannot be loaded, or has changed since the source was resolved.
    """
    from models.lm.loading import load_codec

    return load_codec(source)


def release_models() -> None:
    """Drop the models that nobody uses, and the tokenizers: what comes next needs the memory."""
    codec_in_use.cache_clear()
    POOL.release()


def loading() -> threading.RLock:
    """Return the lock to hold while a model is loaded."""
    return POOL.loading


def source_record(folder: Path) -> "ResolvedSource":
    """Return the record of a source; places inside the project are resolved against it."""
    from models.lm.source_file import read_source

    return read_source(folder, root=project_root())


def check_unchanged(source: "ResolvedSource") -> None:
    """Check that the files of a source in a folder are those it was resolved with; digests of unchanged files are remembered.

    Raises:
        SourceError: Weights, config or code are others.
    """
    from models.lm.weights import refuse_changed

    refuse_changed(source, digest_of=file_digest)


def use_threads(runtime: Runtime) -> None:
    """Apply `runtime.threads` to torch in this process."""
    import torch

    if runtime.threads:
        torch.set_num_threads(runtime.threads)
