"""The fusion half of `report`: one self-contained page, plots, tables for DVC, model cards, figures on the MLflow parent."""

import csv
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.cards import write_cards
from flows.context import StageContext, git_commit
from flows.systems import place_of, run_name, systems_of
from tasks.artifact import Artifact
from tasks.evaluation import ROWS, SCORES
from tasks.report import report_page
from tasks.tracking import finish_parent, finish_stage

if TYPE_CHECKING:
    from models.reporting.report_data import ReportData

SHOWN_EXAMPLES = 3


def report_fusion(ctx: StageContext) -> None:
    """Write artifacts/<profile>/report/fusion/index.html with its plots, and the CSV files of `dvc plots`."""
    summary = ctx.input("teach", "summary")
    write_tables(ctx, summary)
    data = report_data(ctx, summary)
    page = report_page(data, ctx.out("report", "fusion"))
    write_cards(ctx, data, page.parent / "cards")
    run = ctx.run("report")
    finish_stage(
        run, output=ctx.digest_of("fusion"), params={}, metrics={}, files=sorted(p for p in page.parent.glob("*") if p.is_file())
    )
    shared = [page.parent / "wins.png", page.parent / "agreement.png", summary.path / "win_table.json"]
    for system in systems_of(ctx):
        if system["kind"] == "method":
            method, target = str(system["name"]), str(system["target"])
            made = ctx.input("fuse", method, target)
            finish_stage(ctx.run(run_name(ctx, method, target)), output=made.sha256, params={}, metrics={}, files=shared)
    finish_parent(
        ctx.parent(),
        tracking=ctx.params.tracking,
        metrics=headline_figures(data),
        files=sorted(p for p in page.parent.glob("*") if p.is_file()),
    )


def headline_figures(data: "ReportData") -> dict[str, float]:
    """Return the pooled score of every method under its name: what the pipeline's own run shows."""
    from models.evaluation.comparison import headline_metric

    metric = headline_metric(row.metric for row in data.table)
    rows = [r for r in data.table if r.metric == metric and r.family == "all" and r.system.kind == "method"]
    several = len({r.system.target for r in rows}) > 1
    return {f"{metric}/{r.system.name}{f'_{r.system.target}' if several else ''}": r.value for r in rows}


def histories(ctx: StageContext) -> dict[str, list[dict[str, Any]]]:
    """Return the training curves: method (with several targets `method → target`) → rows."""
    several = len(ctx.params.fusion.targets) > 1
    found = {}
    for method in ctx.params.methods:
        for target in ctx.params.fusion.targets:
            lines = (ctx.out("fuse", method, target) / "history.jsonl").read_text(encoding="utf-8").splitlines()
            found[f"{method} → {target}" if several else method] = [json.loads(line) for line in lines]
    return found


def coverage(ctx: StageContext) -> dict[str, dict[str, float]]:
    """Return per source (and target) what became of the target's positions, both modes together."""
    several = len(ctx.params.fusion.targets) > 1
    method = ctx.params.methods[0]
    total: dict[str, dict[str, float]] = {}
    for target in ctx.params.fusion.targets:
        path = ctx.out("fuse", method, target) / "coverage.json"
        for source, counts in json.loads(path.read_text(encoding="utf-8")).items():
            total[f"{source} → {target}" if several else source] = counts
    return total


def report_data(ctx: StageContext, summary: Artifact) -> "ReportData":
    """Collect what the page shows from the stages' artifacts."""
    from models.data.corpus import read_examples
    from models.evaluation.scores import ComparisonRow, System, TableRow, read_scores
    from models.reporting.report_data import ReportData, seen_notes, select_examples

    scored = json.loads((ctx.input("evaluate_fusion", "comparison").path / SCORES).read_text(encoding="utf-8"))
    examples = list(read_examples(ctx.input("prepare", "corpus").path / "test.jsonl"))
    rows = {
        System(**s): list(read_scores(ctx.out("evaluate_fusion", "test", place_of(s)) / ROWS))  # type: ignore[arg-type]
        for s in systems_of(ctx)
    }
    names = ", ".join(s.name for s in ctx.params.sources.models)
    return ReportData(
        title=f"{ctx.params.profile}: {names} fused into {', '.join(ctx.params.fusion.targets)}",
        table=[TableRow.from_json(row) for row in scored["table"]],
        comparisons=[ComparisonRow.from_json(row) for row in scored["comparisons"]],
        wins=_json(summary.path / "win_table.json"),
        agreement=_json(summary.path / "agreement.json"),
        histories=histories(ctx),
        coverage=coverage(ctx),
        examples=select_examples(examples, rows, per_family=SHOWN_EXAMPLES),
        provenance=provenance(ctx),
        reproduce=reproduce(ctx),
        notes=seen_notes(examples),
        confidence=scored["confidence"],
    )


def provenance(ctx: StageContext) -> dict[str, str]:
    """Return what made the result: commit, params, versions."""
    versions = {p: version(p) for p in ("torch", "transformers", "prefect", "mlflow", "dvc")}
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return {
        "profile": ctx.params.profile,
        "params": ctx.digest_of("fusion")[:16],
        "commit": git_commit(ctx.root),
        "made": made,
        **versions,
    }


def reproduce(ctx: StageContext) -> list[str]:
    """Return the commands that give this report again."""
    methods = f" -S 'methods=[{','.join(ctx.params.methods)}]'"
    return [
        f"git checkout {git_commit(ctx.root).rstrip('+')}",
        f"python -m flows run fusion --profile {ctx.params.profile}{methods}",
    ]


def write_tables(ctx: StageContext, summary: Artifact) -> None:
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
        for name, rows in histories(ctx).items()
        for row in rows
        if "train/loss" in row
    )
    _write_csv(ctx.reports() / "loss.csv", ["method", "step", "loss"], curves)


def _write_csv(path: Path, header: list[str], rows: Iterator[list[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
