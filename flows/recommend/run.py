"""`python -m flows recommend`: run a pilot's candidates, compare them on the validation split, and say which one to use."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow
from rich.console import Console
from rich.markup import escape

from flows.ablation.grid import chosen_values, validation_rows
from flows.ablation.kept import claimed, drop_outputs, drop_shared, identity, scores_path, sharing
from flows.ablation.plan_file import Item, LoadedPlan
from flows.ablation.run import duration, record_run, run_named, run_stages
from flows.evaluate import evaluated
from flows.fusion_systems import SystemKey
from flows.parallel import task_runner
from flows.recommend.candidates import Candidate, Facts, candidates
from flows.recommend.pilot import REGIME, Asked, choosing_figure, pilot_settings, read_facts, split_sizes, write_plan
from flows.servers import start_ephemeral
from models.files import read_record, write_atomic
from tasks.evaluation import ROWS

if TYPE_CHECKING:
    from models.evaluation.fusion.scores import ScoreRow, System


@dataclass(frozen=True, slots=True)
class Measured:
    """One candidate on the validation split.

    Attributes:
        chosen: Values chosen for it (`fusion.lr`).
        rows: Its rows.
    """

    chosen: Mapping[str, Any]
    rows: "list[ScoreRow]"


@dataclass(slots=True)
class Findings:
    """What a pilot has shown.

    Attributes:
        wanted: What was asked for.
        whole: Training prompts of the whole data, and those of them without a ground truth.
        num_valid: Validation rows.
        facts: What is known of the pilot.
        candidates: What was tried.
        left_out: Why the others were not.
        measured: Candidate → its rows.
        failed: Candidate → why it could not be run.
        baselines: The untrained target and the sources → their rows.
    """

    wanted: Asked
    whole: tuple[int, int]
    num_valid: int
    facts: Facts
    candidates: list[Candidate]
    left_out: list[str]
    measured: dict[str, Measured] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    baselines: "dict[System, list[ScoreRow]]" = field(default_factory=dict)


def run_pilot(wanted: Asked, out: Console, *, keep: bool = False) -> Findings:
    """Run the pilot in a Prefect flow; finished candidates are not run again.

    Args:
        wanted: What was asked for.
        out: Receives a line for each step.
        keep: Whether weights and other outputs of the candidates stay.

    Raises:
        ParamsError: There is nothing to compare on, or a candidate cannot have these params.
        DataError: The data cannot be read.
    """
    found: list[Findings] = []

    runner = task_runner(wanted.context("whole").params.runtime)

    @flow(name="recommend", flow_run_name=f"recommend-{wanted.profile}", task_runner=runner)
    def body() -> None:
        with claimed(f"ablation-{wanted.name}", "recommend", wait=True):
            found.append(_pilot(wanted, out, keep=keep))

    start_ephemeral()
    body()
    return found[0]


def _pilot(wanted: Asked, out: Console, *, keep: bool) -> Findings:
    whole = wanted.context("whole")
    run_named(whole, ["prepare"])
    num_train, alone, num_valid = split_sizes(whole)
    cut = pilot_settings(whole.params.corpus, num_train=num_train, num_prompts_only=alone, limit=wanted.limit)
    # The folder that the runs of the plan will have in common.
    taught = sharing(wanted.context(f"{REGIME}/{whole.params.fusion.seed}", cut))
    run_stages(taught, until="teach")
    facts = read_facts(taught)
    tried, left_out = candidates(facts, taught.params.fusion, taught.params.methods)
    findings = Findings(wanted, (num_train, alone), num_valid, facts, tried, left_out)
    out.print(f"candidates: {'; '.join(c.label for c in tried) or 'none'}", highlight=False)
    if not tried:
        return findings
    loaded = write_plan(wanted, taught.params, tried, pilot=cut, choose_by=choosing_figure(taught))
    # The params of the plan train one target alone.
    ctx = replace(taught, params=loaded.context(_item(loaded, tried[0])).params)
    findings.baselines = _baselines(ctx)
    for candidate in tried:
        _one(loaded, candidate, findings, out, keep=keep)
    if not keep:
        drop_shared(loaded, _item(loaded, tried[0]))
    return findings


def _one(loaded: LoadedPlan, candidate: Candidate, findings: Findings, out: Console, *, keep: bool) -> None:
    """Run one candidate in a flow run of its own; one that fails stops no other."""
    item = _item(loaded, candidate)
    started = time.monotonic()

    @flow(name="recommend-run", flow_run_name=item.label, task_runner=task_runner(loaded.context(item).params.runtime))
    def body() -> None:
        findings.measured[candidate.name] = measure(loaded, item, keep=keep)

    state: Any = body(return_state=True)
    if state.is_completed():
        out.print(f"[green]✓[/] {candidate.label}, {duration(time.monotonic() - started)}", highlight=False)
    else:
        why = str(state.result(raise_on_failure=False) or state.message).strip()
        findings.failed[candidate.name] = why
        out.print(f"[red]failed[/] {candidate.label}: {escape(why.splitlines()[0])}", highlight=False)


def measure(loaded: LoadedPlan, item: Item, *, keep: bool) -> Measured:
    """Choose a candidate's learning rate, train it and score it on the validation split; what is finished is read."""
    from models.evaluation.fusion.scores import read_scores, write_scores

    chosen = chosen_values(loaded, item.regime, item.arm, train=run_stages, keep=keep)
    ctx = sharing(loaded.context(item, chosen=chosen))
    place = _place(loaded, item)
    with claimed(loaded.experiment, item.regime, item.seed, item.arm, wait=True):
        key = identity(ctx)
        known = read_record(place)
        if known is None or known.get("key") != key:
            run_stages(ctx, until="fuse")
            rows = validation_rows(ctx)
            write_scores(place.with_suffix(".jsonl"), rows)
            record_run(loaded, item, ctx, key=key, metrics=_figures(rows))
            # Written last: rows without it do not count.
            write_atomic(place, json.dumps({"key": key, "chosen": chosen, "split": "valid"}, indent=1))
        if not keep:
            drop_outputs(ctx)
        return Measured(chosen, list(read_scores(place.with_suffix(".jsonl"), with_text=False)))


def _figures(rows: "list[ScoreRow]") -> dict[str, float]:
    """Return `valid/<metric>` over all families."""
    from models.evaluation.fusion.comparison import aggregate
    from models.evaluation.fusion.scores import ALL_FAMILIES, System

    table = aggregate({System("candidate", "method"): rows})
    return {f"valid/{row.metric.replace('/', '_')}": row.value for row in table if row.family == ALL_FAMILIES}


def _baselines(ctx: Any) -> "dict[System, list[ScoreRow]]":
    """Return the rows of the untrained target and of every source."""
    from models.evaluation.fusion.scores import System, read_scores

    target = ctx.params.fusion.targets[0]
    keys: list[SystemKey] = [{"name": target, "kind": "untrained", "target": target}]
    keys += [{"name": s.name, "kind": "source", "target": None} for s in ctx.params.sources.models]
    made = evaluated(ctx, keys, "valid")
    return {
        System(**key): list(read_scores(artifact.path / ROWS, with_text=False))  # type: ignore[arg-type]
        for key, artifact in zip(keys, made, strict=True)
    }


def _item(loaded: LoadedPlan, candidate: Candidate) -> Item:
    return Item(REGIME, candidate.name, loaded.plan.seeds[0])


def _place(loaded: LoadedPlan, item: Item) -> Path:
    return scores_path(loaded, item).with_name(f"{item.arm}.valid.json")
