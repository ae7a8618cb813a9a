"""lm-evaluation-harness as a library: is it there, which tasks does it define, what does it say of one of our models."""

import copy
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import FusedialError, ParamsError, Problem, reason
from models.evaluation.benchmarks.records import BenchmarkItem, BenchmarkRun
from models.evaluation.benchmarks.table import headline_metric

if TYPE_CHECKING:
    from models.lm.loading import LoadedSource

FEWSHOT_SEED = 1234
"""lm-evaluation-harness's own default: the same solved examples as in anybody's run."""


def harness_version() -> str:
    """Return the version of lm-evaluation-harness.

    Raises:
        FusedialError: It is not installed.
    """
    try:
        return version("lm_eval")
    except PackageNotFoundError as error:
        raise FusedialError(
            "`benchmark.tasks` needs the package lm_eval (lm-evaluation-harness), which is not installed; "
            'install the extra: pip install -c constraints.txt -e ".[bench]", or set benchmark.tasks to [].'
        ) from error


def definitions_folder() -> Path:
    """Return the folder with the task definitions of lm-evaluation-harness, without importing it.

    Raises:
        FusedialError: It is not installed.
    """
    harness_version()
    spec = find_spec("lm_eval")
    if spec is None or spec.origin is None:
        raise FusedialError('the package lm_eval is damaged; install it again: pip install -c constraints.txt -e ".[bench]".')
    return Path(spec.origin).parent / "tasks"


def run_benchmark(
    loaded: "LoadedSource",
    name: str,
    definitions: Sequence[Path],
    *,
    num_fewshot: int | None,
    limit: int | None,
    batch_size: int,
) -> BenchmarkRun:
    """Score a loaded model on a benchmark.

    Args:
        loaded: The model, on its device and in its dtype; it is handed over as it is.
        name: Benchmark; without `definitions` a task, group or tag that lm-evaluation-harness knows.
        definitions: Definition files (`local.write_definitions`); with them nothing is fetched.
        num_fewshot: Solved examples in the prompt; None is the task's own number.
        limit: First documents of each task; None is all.
        batch_size: Sequences scored together.

    Returns:
        Every document with the value of every metric, tasks in their order and documents in theirs.

    Raises:
        ParamsError: An unknown task, or a number of solved examples that its prompt cannot have.
        FusedialError: lm-evaluation-harness is not installed, or cannot get or score the documents.
    """
    harness_version()
    from lm_eval.evaluator import evaluate

    with _quiet():
        tasks = _tasks(name, definitions, num_fewshot)
        model = _wrapped(loaded, batch_size)
        try:
            found = evaluate(lm=model, task_dict={"tasks": tasks}, limit=limit, log_samples=True, bootstrap_iters=0)
        except Exception as error:  # whatever the tasks' own code raises
            raise FusedialError(f"benchmark {name}, model {loaded.source.name}: lm_eval failed: {reason(error)}") from error
    items = [item for task in tasks for item in _items(task, found["samples"][task])]
    shots = {str(task): int(tasks[task].get_config("num_fewshot") or 0) for task in tasks}
    return BenchmarkRun(
        name=name,
        headline=headline_metric(name, items[0].values),
        num_fewshot=max(shots.values()),
        task_version=", ".join(sorted({str(found["versions"].get(task)) for task in tasks})),
        harness_version=harness_version(),
        items=tuple(items),
    )


def _tasks(name: str, definitions: Sequence[Path], num_fewshot: int | None) -> dict[str, Any]:
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_defaults=not definitions)
    if not definitions and name not in manager.all_tasks:
        near = get_close_matches(name, manager.all_tasks, 1)
        hint = f"Did you mean `{near[0]}`?" if near else "`lm_eval ls tasks` lists them."
        rule = "must be a task of lm-evaluation-harness"
        raise ParamsError("Invalid parameters", [Problem("`benchmark.tasks[].name`", rule, f"`{name}`", hint)])
    try:
        tasks: dict[str, Any] = manager.load([str(path) for path in definitions] or [name])["tasks"]
    except Exception as error:  # the hub's, the data set's, or the task's own code
        raise FusedialError(
            f"benchmark {name}: lm_eval cannot load its documents: {reason(error)} "
            "Without a network set `benchmark.data` to a folder with local files (docs/operations.md)."
        ) from error
    for task in tasks.values():
        own = task.get_config("num_fewshot")
        if num_fewshot and own == 0:
            rule = "must be null or 0: its examples are written in the prompt"
            where = f"`benchmark.tasks[].num_fewshot` of {name}"
            raise ParamsError("Invalid parameters", [Problem(where, rule, str(num_fewshot))])
        task.set_config(key="num_fewshot", value=(own or 0) if num_fewshot is None else num_fewshot)
        task.set_fewshot_seed(seed=FEWSHOT_SEED)
    return tasks


def _wrapped(loaded: "LoadedSource", batch_size: int) -> Any:
    """Return the model as lm-evaluation-harness takes it; its tokenizer is a copy, as a padding token is set on it."""
    from lm_eval.models.huggingface import HFLM

    class Quiet(HFLM):
        """No bars: they cannot be turned off from outside."""

        def loglikelihood(self, requests: Any, disable_tqdm: bool = True) -> Any:
            return super().loglikelihood(requests, disable_tqdm=True)

        def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = True) -> Any:
            return super().loglikelihood_rolling(requests, disable_tqdm=True)

        def generate_until(self, requests: Any, disable_tqdm: bool = True) -> Any:
            return super().generate_until(requests, disable_tqdm=True)

    tokenizer = copy.deepcopy(loaded.codec.tokenizer)
    return Quiet(
        pretrained=loaded.model,
        tokenizer=tokenizer,
        backend="causal",
        batch_size=batch_size,
        max_length=loaded.source.context_length,
    )


def _items(task: str, samples: Sequence[dict[str, Any]]) -> list[BenchmarkItem]:
    """Join the samples of a document, one for each filter of the task."""
    several = len({sample["filter"] for sample in samples}) > 1
    joined: dict[int, BenchmarkItem] = {}
    for sample in sorted(samples, key=lambda sample: int(sample["doc_id"])):
        number = int(sample["doc_id"])
        item = joined.setdefault(number, BenchmarkItem(task, number, str(sample["doc_hash"]), {}))
        for metric in sample["metrics"]:
            name = f"{metric},{sample['filter']}" if several else str(metric)
            value = sample[metric]
            if isinstance(value, bool | int | float) or hasattr(value, "item"):
                item.values[name] = float(value)
    return list(joined.values())


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep lm-evaluation-harness's remarks on how it is called, and the bars of reading its files, out of the log."""
    from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    log = logging.getLogger("lm_eval")
    before, silent = log.level, are_progress_bars_disabled()
    log.setLevel(logging.ERROR)
    disable_progress_bars()
    try:
        yield
    finally:
        log.setLevel(before)
        if not silent:
            enable_progress_bars()
