"""The fusion half of `report`: one self-contained page, plots, tables for DVC, model cards, figures on the MLflow parent."""

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.cards import write_cards
from flows.context import StageContext, git_commit
from flows.fusion_systems import place_of, run_name, systems_of
from models.files import replacing
from tasks.artifact import Artifact, materialise
from tasks.evaluation import SCORES
from tasks.report import Made, fusion_page, history_of, page_files
from tasks.tracking import finish_parent, finish_stage

if TYPE_CHECKING:
    from models.evaluation.fusion.scores import ComparisonRow, TableRow


def report_fusion(ctx: StageContext) -> None:
    """Write artifacts/<profile>/report/fusion/index.html with its plots, and the CSV files of `dvc plots`."""
    summary = ctx.input("teach", "summary")
    trained = trainings(ctx)
    write_tables(ctx, summary, trained)
    comparison = ctx.input("evaluate_fusion", "comparison")
    page = make_page(ctx, summary=summary, comparison=comparison, trained=trained)
    home = materialise(page, ctx.out("report", "fusion"))
    table, differences, confidence = scored(comparison)
    about = provenance(ctx)
    write_cards(
        ctx, home / "cards", table=table, comparisons=differences, confidence=confidence, limits=page.meta["notes"], about=about
    )
    files = page_files(page)
    finish_stage(ctx.run("report"), output=ctx.digest_of("fusion"), params={}, metrics={}, files=files)
    # Where no prompt has a winner in inference mode, there is no agreement to draw.
    plots = [path for path in (page.path / "wins.png", page.path / "agreement.png") if path.is_file()]
    shared = [*plots, summary.path / "win_table.json", summary.path / "scorer_quality.json"]
    for (method, target), made in trained.items():
        finish_stage(ctx.run(run_name(ctx, method, target)), output=made.sha256, params={}, metrics={}, files=shared)
    finish_parent(ctx.parent(), tracking=ctx.params.tracking, metrics=headline_figures(table), files=files)


def trainings(ctx: StageContext) -> dict[tuple[str, str], Artifact]:
    """Return (method, target) → training."""
    params = ctx.params
    return {(m, t): ctx.input("fuse", m, t) for t in params.fusion.targets for m in params.methods}


def scored(comparison: Artifact) -> "tuple[list[TableRow], list[ComparisonRow], float]":
    """Return the results table, the paired differences and the level of the intervals."""
    from models.evaluation.fusion.scores import ComparisonRow, TableRow

    found = _json(comparison.path / SCORES)
    table = [TableRow.from_json(row) for row in found["table"]]
    return table, [ComparisonRow.from_json(row) for row in found["comparisons"]], float(found["confidence"])


def make_page(
    ctx: StageContext, *, summary: Artifact, comparison: Artifact, trained: Mapping[tuple[str, str], Artifact]
) -> Artifact:
    """Return the page."""
    params, systems = ctx.params, systems_of(ctx)
    names = ", ".join(s.name for s in params.sources.models)
    title = f"{params.profile}: {names} fused into {', '.join(params.fusion.targets)}"
    several = len(params.fusion.targets) > 1
    return fusion_page(
        {"title": title, "provenance": provenance(ctx), "reproduce": reproduce(ctx), "notes": notes_of(ctx, trained)},
        data=ctx.input("prepare", "corpus"),
        summary=summary,
        comparison=comparison,
        systems=tuple(systems),
        rows=tuple(ctx.input("evaluate_fusion", "test", place_of(system)) for system in systems),
        fused=named(ctx, trained),
        aligned={f" → {t}" if several else "": made for (m, t), made in trained.items() if m == params.methods[0]},
        benchmarks=ctx.input("benchmark", "scores"),
        made=Made(datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
    )


def notes_of(ctx: StageContext, trained: Mapping[tuple[str, str], Artifact]) -> list[str]:
    """Return what a reader must know of the ground truths, of prompts without one, and of prompts without an answer."""
    from models.reporting.fusion.data import prompt_notes, truth_notes

    counts = ctx.input("prepare", "corpus").meta
    blind = list(dict.fromkeys(method for (method, _), made in trained.items() if not _winner_steps(made)))
    alone = prompt_notes(counts, counts.get("prompts_only", {}), blind=blind)
    return [*truth_notes(counts), *alone, *without_answer(ctx)]


def _winner_steps(made: Artifact) -> int:
    """Return over how many steps a training went in inference mode."""
    return int(made.meta["exposure"]["winners"]["steps"])


def without_answer(ctx: StageContext) -> list[str]:
    """Say which sources left prompts without an answer, and why."""
    counts: dict[str, Counter[str]] = {}
    for place, made in ctx.inputs("teach", "responses").items():
        counts.setdefault(place.partition("/")[0], Counter()).update(made.meta.get("problems", {}))
    described = {name: ", ".join(f"{n} × {problem}" for problem, n in sorted(found.items())) for name, found in counts.items()}
    return [f"Prompts without an answer of `{name}`: {text}." for name, text in described.items() if text]


def named(ctx: StageContext, trained: Mapping[tuple[str, str], Artifact]) -> dict[str, Artifact]:
    """Return the trainings under the names of their curves: method, with several targets `method → target`."""
    several = len(ctx.params.fusion.targets) > 1
    return {f"{method} → {target}" if several else method: made for (method, target), made in trained.items()}


def headline_figures(table: "Sequence[TableRow]") -> dict[str, float]:
    """Return the pooled score of every method under its name: what the pipeline's own run shows."""
    from models.evaluation.fusion.comparison import headline_metric

    metric = headline_metric(row.metric for row in table)
    rows = [r for r in table if r.metric == metric and r.family == "all" and r.system.kind == "method"]
    several = len({r.system.target for r in rows}) > 1
    return {f"{metric}/{r.system.name}{f'_{r.system.target}' if several else ''}": r.value for r in rows}


def provenance(ctx: StageContext) -> dict[str, str]:
    """Return what made the result: commit, params, versions."""
    versions = {p: version(p) for p in ("torch", "transformers", "prefect", "mlflow", "dvc")}
    return {
        "profile": ctx.params.profile,
        "params": ctx.digest_of("fusion")[:16],
        "commit": git_commit(ctx.root),
        **versions,
    }


def reproduce(ctx: StageContext) -> list[str]:
    """Return the commands that give this report again."""
    methods = f" -S 'methods=[{','.join(ctx.params.methods)}]'"
    return [
        f"git checkout {git_commit(ctx.root).rstrip('+')}",
        f"python -m flows run fusion --profile {ctx.params.profile}{methods}",
    ]


def write_tables(ctx: StageContext, summary: Artifact, trained: Mapping[tuple[str, str], Artifact]) -> None:
    """Write wins.csv, agreement.csv and loss.csv for `dvc plots`."""
    wins = _json(summary.path / "win_table.json")
    _write_csv(
        ctx.reports() / "wins.csv",
        ["source", "panel", "share"],
        ([r["source"], f"{r['mode']} mode, {r['family']}", round(r["share"], 6)] for r in wins),
    )
    confusion = _json(summary.path / "agreement.json")["confusion"]
    names, counts = confusion["sources"], confusion["counts"]
    pairs = ([a, b] for i, a in enumerate(names) for j, b in enumerate(names) for _ in range(counts[i][j]))
    _write_csv(ctx.reports() / "agreement.csv", ["training", "inference"], pairs)
    curves = (
        [name, row["step"], round(row["train/loss"], 6)]
        for name, made in named(ctx, trained).items()
        for row in history_of(made)
        if "train/loss" in row
    )
    _write_csv(ctx.reports() / "loss.csv", ["method", "step", "loss"], curves)


def _write_csv(path: Path, header: list[str], rows: Iterator[list[Any]]) -> None:
    with replacing(path) as place, place.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
