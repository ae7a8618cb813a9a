"""What is kept of a finished run of an ablation: its scores, under the identity of its params and code; weights are dropped."""

import functools
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from flows.ablation.plan_file import Item, LoadedPlan
from flows.context import SHARED_STAGES, StageContext
from flows.stages import STAGES, Stage
from models.files import read_record, write_atomic
from models.params.base import Section
from models.params.evaluation import EvaluationParams
from tasks.artifact import adopt_all, drop
from tasks.caching import canonical
from tasks.workspace import cache_dir

RUN_STAGES = (*SHARED_STAGES, "fuse", "evaluate_fusion")
"""Stages of one run: the fusion half without benchmarks and page."""
_SECTIONS = ("corpus", "sources", "teach", "alignment", "fusion", "evaluation", "methods")
_SHARED_SECTIONS = ("corpus", "sources", "teach")
_BOOTSTRAP = ("bootstrap_samples", "confidence", "seed")


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one finished run.

    Attributes:
        key: Identity of its params and code.
        seconds: What it took.
        chosen: Values of the arm's grid.
        best_source: Metric → the source that is best on the validation split.
        table: Rows of the results table (`TableRow.to_json`).
    """

    key: str
    seconds: float
    chosen: Mapping[str, Any]
    best_source: Mapping[str, str]
    table: tuple[Mapping[str, Any], ...]


def stages(names: Sequence[str] = RUN_STAGES) -> list[Stage]:
    """Return the stages of one run, or some of them, in order."""
    return [stage for stage in STAGES if stage.name in names]


@functools.cache
def _code(names: tuple[str, ...] = RUN_STAGES) -> str:
    return json.dumps({stage.name: stage.code() for stage in stages(names)}, sort_keys=True)


def sharing(ctx: StageContext) -> StageContext:
    """Return a run's context with the folder of what it has in common with others of its regime and seed: `teach` and before."""
    values = {name: canonical(getattr(ctx.params, name), name) for name in _SHARED_SECTIONS}
    text = json.dumps([values, _code(SHARED_STAGES)], sort_keys=True)
    regime_and_seed = "/".join(ctx.place.split("/")[:3])
    return replace(ctx, shared=f"{regime_and_seed}/shared-{hashlib.sha256(text.encode()).hexdigest()[:12]}")


def identity(ctx: StageContext) -> str:
    """Return the identity of a run: what of its params, data files and code decides its scores (not their intervals)."""
    defaults = EvaluationParams()
    evaluation = ctx.params.evaluation.model_copy(update={key: getattr(defaults, key) for key in _BOOTSTRAP})
    given = {name: getattr(ctx.params, name) for name in _SECTIONS} | {"evaluation": evaluation}
    values = {k: canonical(v, k) if isinstance(v, Section) else v for k, v in given.items()}
    return hashlib.sha256(json.dumps([values, _code()], sort_keys=True).encode()).hexdigest()


def scores_path(loaded: LoadedPlan, item: Item) -> Path:
    """Return where the scores of a run are kept."""
    return loaded.root / "artifacts" / loaded.experiment / item.regime / str(item.seed) / f"{item.arm}.json"


def read_scores(loaded: LoadedPlan, item: Item, *, key: str) -> Scores | None:
    """Return the scores of a run; None where it has not been run as it is now."""
    row = read_record(scores_path(loaded, item))
    if row is None or row.get("key") != key:
        return None
    return Scores(row["key"], row["seconds"], row["chosen"], row["best_source"], tuple(row["table"]))


def write_scores(loaded: LoadedPlan, item: Item, scores: Scores) -> None:
    """Keep the scores of a run."""
    write_atomic(scores_path(loaded, item), json.dumps(asdict(scores), indent=1, ensure_ascii=False))


def drop_outputs(ctx: StageContext) -> None:
    """Remove the outputs of a run, and its weights from the store unless something else has them as its output.

    What it has in common with others stays.
    """
    place = ctx.out("")
    weights = adopt_all(ctx.out("fuse"), stage="fuse").values() if ctx.out("fuse").is_dir() else ()
    shutil.rmtree(place, ignore_errors=True)
    for artifact in weights:
        drop(artifact)


def drop_shared(loaded: LoadedPlan, item: Item) -> None:
    """Remove what the runs of a regime and seed have in common; it stays in the cache."""
    for folder in scores_path(loaded, item).parent.glob("shared-*"):
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def claimed(*names: object, wait: bool = False) -> Iterator[bool]:
    """Hold the right to a piece of an ablation; False where another process has it (`wait`: until it has given it back)."""
    folder = cache_dir() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{'-'.join(map(str, names)).replace('/', '-')}.lock", thread_local=False)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
