"""Independent task calls, one after another or on the flow's task runner."""

from collections.abc import Mapping, Sequence
from typing import Any

from prefect import Task
from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner

from models.errors import FusedialError
from models.params.runtime import Runtime
from tasks.artifact import Artifact

Call = tuple[Task[..., Artifact], Mapping[str, Any]]


def task_runner(runtime: Runtime) -> Any:
    """Return the engine named by `runtime.task_runner`.

    Raises:
        FusedialError: Its extra is not installed.
    """
    if runtime.task_runner == "thread":
        return ThreadPoolTaskRunner(max_workers=runtime.workers)
    if runtime.task_runner == "process":
        return ProcessPoolTaskRunner(max_workers=runtime.workers)
    try:
        if runtime.task_runner == "dask":
            from prefect_dask.task_runners import DaskTaskRunner

            return DaskTaskRunner(
                cluster_kwargs={"n_workers": runtime.workers, "threads_per_worker": 1, "dashboard_address": None}
            )
        from prefect_ray.task_runners import RayTaskRunner

        return RayTaskRunner(init_kwargs={"num_cpus": runtime.workers, "include_dashboard": False})
    except ImportError as error:
        raise FusedialError(
            f"`runtime.task_runner` is {runtime.task_runner}, whose package is not installed; "
            f'install the extra: pip install -c constraints.txt -e ".[{runtime.task_runner}]".'
        ) from error


def device_lanes(runtime: Runtime) -> int:
    """Return on how many devices of this machine models can work side by side: all CUDA devices for `auto` and `cuda`, else 1."""
    if runtime.device not in ("auto", "cuda") or runtime.task_runner != "thread":
        return 1
    import torch

    return max(1, torch.cuda.device_count()) if torch.cuda.is_available() else 1


def gather(calls: Sequence[Call], *, runtime: Runtime, lanes: int = 1) -> list[Artifact]:
    """Run the calls and return their artifacts in order; with one worker directly, in this thread.

    Args:
        calls: Tasks with their arguments.
        runtime: Workers, and the engine they run on.
        lanes: Threads to use where `runtime.workers` asks for one only, see `device_lanes`; each model takes a device of its own.
    """
    if runtime.workers == 1 and lanes == 1:
        return [task(**arguments) for task, arguments in calls]
    if runtime.workers == 1:
        spreading: Any = ThreadPoolTaskRunner(max_workers=lanes)
        with spreading as runner:
            spread: list[Any] = [runner.submit(task, parameters=dict(arguments)) for task, arguments in calls]
            return [future.result() for future in spread]
    futures = [task.submit(**arguments) for task, arguments in calls]
    return [future.result() for future in futures]
