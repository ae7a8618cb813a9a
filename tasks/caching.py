"""The one cache policy: a step is identified by its typed params, the digests of its inputs, and its code.

key = sha256 of canonical JSON {step, params sections, input sha256s, digest of the code it reaches}. Execution
choices (`Runtime`, `Tracking`, `StageRun`) are excluded by type; values without a stable identity raise. Paths never enter: a
param that names a file or folder counts by its content.
"""

import functools
import hashlib
import inspect
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from prefect import State, Task, task
from prefect.cache_policies import CachePolicy
from prefect.context import TaskRunContext
from prefect.results import ResultRecord  # type: ignore[attr-defined] # of the public module, but not in its list
from prefect.settings import get_current_settings
from prefect.transactions import IsolationLevel

from models.errors import BackendError
from models.memory import release_memory
from models.params.base import Section, with_places
from models.params.runtime import Runtime, Tracking
from models.redaction import register_address
from tasks.artifact import Artifact, publish, tree_digest
from tasks.code_identity import step_code_digest
from tasks.locking import FolderOf, ProcessLocks
from tasks.secrets import guard_secrets
from tasks.workspace import project_root, work_dir

logger = logging.getLogger(__name__)


IDENTITY = "identity"
"""Metadata of an artifact whose content includes a path: the digest of everything else, which enters keys instead."""
_NO_PLACES = ("embedded", "pico")


class Execution:
    """Base of values that say how to execute, not what: they never enter a key."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Addresses in it, which may hold a login."""
        return ()


EXECUTION_TYPES = (Runtime, Tracking, Execution)


@dataclass(frozen=True, slots=True)
class Work:
    """Scratch of one step: `out` becomes the artifact, `resume` survives a kill and is removed at the end."""

    out: Path
    resume: Path


class StepBody(Protocol):
    """A step's function: its own arguments, then `work`; returns the metadata of its artifact."""

    __name__: str
    __module__: str

    def __call__(self, *args: Any, work: Work, **kwargs: Any) -> Mapping[str, Any]:
        """Fill `work.out` and return small deterministic facts."""


def canonical(value: object, where: str) -> Any:
    """Return the JSON-ready identity of a value.

    Raises:
        TypeError: Naming the argument whose value has no identity that is stable across processes.
    """
    if isinstance(value, Artifact):
        return {"artifact": value.meta.get(IDENTITY, value.sha256)}
    if isinstance(value, Section):
        return {"section": type(value).__name__, "value": with_places(value, _content)}
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, list | tuple):
        return [canonical(v, f"{where}[{i}]") for i, v in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(k, str) for k in value):
        return {k: canonical(v, f"{where}.{k}") for k, v in sorted(value.items())}
    raise TypeError(
        f"`{where}` has type {type(value).__name__}, which has no identity that is stable across processes; "
        "pass an Artifact, a params section, a string, a number, or lists and mappings of them."
    )


def _content(place: str) -> str:
    """Return the identity of a `Place`: the digest of a file or folder; other names (hub, package, `pico`) stay as they are."""
    path = project_root() / Path(place).expanduser()
    return f"content:{tree_digest(path)}" if place not in _NO_PLACES and path.exists() else place


def step_key(function: StepBody, arguments: Mapping[str, object], *, name: str) -> str:
    """Return the cache key of a call."""
    kept = {k: v for k, v in arguments.items() if k != "work" and not isinstance(v, EXECUTION_TYPES)}
    identity = {
        "step": name,
        "arguments": {k: canonical(v, f"{name}.{k}") for k, v in sorted(kept.items())},
        "code": step_code_digest(cast(Any, function)),
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def discard_unreadable(key: str) -> None:
    """Remove the record of a step that holds no artifact that is there: torn, empty, edited, or no file at all.

    Prefect passes over most of these, but not over a record that holds nothing or a folder in its place.
    """
    path = Path(get_current_settings().results.local_storage_path) / key
    if not os.path.lexists(path):
        return
    if path.is_file():
        try:
            # Reading it verifies the artifact.
            if isinstance(ResultRecord.deserialize(path.read_bytes()).result, Artifact):
                return
        except Exception as error:  # anything may be in the file; what Prefect or pydantic cannot read is not a record
            logger.info("The record `%s` does not lead to its artifact (%s); its step runs again.", path, type(error).__name__)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@dataclass
class StepIdentity(CachePolicy):
    """Prefect cache policy over `step_key`."""

    function: StepBody | None = None
    name: str = ""

    def compute_key(
        self, task_ctx: TaskRunContext, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str | None:
        """Return the step's key; never None, so every call is cached."""
        if self.function is None:
            raise TypeError("StepIdentity needs its function.")
        key = step_key(self.function, inputs, name=self.name)
        discard_unreadable(key)
        return key

    def __deepcopy__(self, memo: object) -> "StepIdentity":
        return self


_LOCKS = ProcessLocks(FolderOf())


def _guard(arguments: Iterable[object]) -> None:
    """Keep secrets out of what this process logs: a worker of another engine knows none of what its parent has learnt."""
    guard_secrets()
    for value in arguments:
        if isinstance(value, Runtime | Execution):
            for address in value.endpoints.values() if isinstance(value, Runtime) else value.addresses:
                register_address(address)


def _run_name() -> str:
    """Name a task run by what it is about: `teacher-inference scholar 0-256`, `fusion profuser scholar`."""
    from prefect.runtime import task_run

    given = task_run.parameters
    words = [str(given[key]) for key in ("method", "split", "letter") if key in given]
    words += [str(a.meta["name"]) for a in given.values() if isinstance(a, Artifact) and "name" in a.meta]
    words += [given[key].name for key in ("spec", "scorer") if key in given]
    if "start" in given:
        words.append(f"{given['start']}-{given['stop']}")
    return " ".join([str(task_run.task_name), *words])


def _endpoint_failed(task: object, task_run: object, state: State[Any]) -> bool:
    """Only what another attempt can cure is tried again; bad input fails the same way three times."""
    try:
        state.result()
    except BackendError as error:
        return error.transient
    except Exception:
        return False
    return False


def step(name: str, *, retries: int = 0, retry_delay_seconds: float = 5.0) -> Callable[[Any], Task[..., Artifact]]:
    """Make a Prefect task of a step function `f(…, *, work: Work) -> metadata`; the task returns the published Artifact.

    Args:
        name: Task name in the Prefect UI, part of the key.
        retries: Attempts after a failure, for steps that talk to endpoints.
        retry_delay_seconds: Pause before an attempt.
    """

    def decorate(function: Any) -> Task[..., Artifact]:
        visible = inspect.signature(function)
        visible = visible.replace(
            parameters=[p for p in visible.parameters.values() if p.name != "work"], return_annotation=Artifact
        )

        @functools.wraps(function)
        def body(*args: Any, **kwargs: Any) -> Artifact:
            bound = visible.bind(*args, **kwargs)
            bound.apply_defaults()
            _guard(bound.arguments.values())
            home = work_dir(step_key(function, bound.arguments, name=name))
            work = Work(out=home / "out", resume=home / "resume")
            # What a killed attempt left there must not become part of the artifact.
            shutil.rmtree(work.out, ignore_errors=True)
            work.out.mkdir(parents=True)
            work.resume.mkdir(parents=True, exist_ok=True)
            meta = function(*args, **kwargs, work=work)
            artifact = publish(work.out, name, meta=meta)
            shutil.rmtree(home)
            release_memory()
            return artifact

        # Prefect reads the signature: `work` is ours to fill, and `wraps` must not lead it back to the original.
        vars(body)["__signature__"] = visible
        del vars(body)["__wrapped__"]
        policy = StepIdentity(function=function, name=name)
        policy.isolation_level = IsolationLevel.SERIALIZABLE
        policy.lock_manager = cast(Any, _LOCKS)
        made = task(
            name=name,
            task_run_name=_run_name,
            cache_policy=policy,
            persist_result=True,
            result_serializer="json",
            cache_result_in_memory=False,
            retries=retries,
            retry_condition_fn=_endpoint_failed,
            retry_delay_seconds=retry_delay_seconds,
        )(cast(Callable[..., Artifact], body))
        return made

    return decorate
