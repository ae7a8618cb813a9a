"""What a step does while it runs: which errors another attempt can cure, who may use the accelerator, how many steps have run."""

import errno
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from prefect import State

from models.errors import BackendError
from models.params.runtime import Runtime

ACCELERATOR = "tag:accelerator"
"""The Prefect concurrency limit of the tag `accelerator`, which steps on an accelerator count against."""
_READERS = frozenset({"corpus", "dialogues"})  # steps that take a Runtime, but compute on no device

_PASSING = frozenset({errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.ESTALE, errno.EHOSTUNREACH})
# Of Python, requests and urllib3. A refused connection is none of them: nobody is there, and a line says so at once.
_LOST = frozenset({"TimeoutError", "ConnectTimeout", "ReadTimeout", "ConnectionResetError", "ChunkedEncodingError"})


def can_be_cured(task: object, task_run: object, state: State[Any]) -> bool:
    """Be the retry condition of every step: bad input would fail the same way three times."""
    try:
        state.result()
    except Exception as error:
        return transient(error)
    return False


def transient(error: BaseException | None) -> bool:
    """Say whether an error may be gone a few seconds later: an endpoint under load, a network, a locked database."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, BackendError):
            return error.transient
        if isinstance(error, OSError) and (error.errno in _PASSING or type(error).__name__ in _LOST):
            return True
        if "database is locked" in str(error):
            return True
        seen.add(id(error))
        error = error.__cause__
    return False


@contextmanager
def accelerator_slot(name: str, arguments: Mapping[str, object]) -> Iterator[None]:
    """Hold a slot of the limit `accelerator` while a step computes on an accelerator; where there is no such limit, do nothing.

    With the tag on the tasks themselves Prefect would also take a slot for what comes from the cache, and on a CPU. The slot of a
    process that was killed comes back with its lease, after a minute.
    """
    runtime = next((value for value in arguments.values() if isinstance(value, Runtime)), None)
    if runtime is None or name in _READERS or not on_accelerator(runtime.device) or not _is_limited():
        yield
        return
    from prefect.concurrency.sync import concurrency

    with concurrency(ACCELERATOR, lease_duration=60):
        yield


def on_accelerator(device: str) -> bool:
    """Say whether `runtime.device` is something else than a CPU."""
    if device != "auto":
        return device.partition(":")[0] != "cpu"
    from models.lm.loading import pick_device

    return pick_device(device) != "cpu"


@cache
def _is_limited() -> bool:
    """Ask the server once: Prefect warns at every use of a limit that is not there."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            return bool(client.read_global_concurrency_limit_by_name(ACCELERATOR).active)
        except ObjectNotFound:
            return False


class _Count:
    def __init__(self) -> None:
        self._guard, self._value = threading.Lock(), 0

    def add(self, number: int) -> None:
        with self._guard:
            self._value += number

    def read(self) -> int:
        return self._value


_COUNT = _Count()


def steps_run() -> int:
    """Return how many steps this process, and the engines it waited for, have run instead of taking them from the cache."""
    return _COUNT.read()


def note_steps(number: int) -> None:
    """Count steps that ran."""
    _COUNT.add(number)
