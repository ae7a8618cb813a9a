"""Task `fusion-page`: the result page of the fusion half; drawn again when something it shows has changed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.artifact import Artifact
from tasks.benchmark import BENCHMARKS
from tasks.caching import Execution, Work, step
from tasks.evaluation import ROWS, SCORES
from tasks.manifest import MANIFEST

if TYPE_CHECKING:
    from models.reporting.fusion.data import ReportData

SHOWN_EXAMPLES = 3


@dataclass(frozen=True)
class Made(Execution):
    """When a page is made: shown on the page, but not part of the key."""

    when: str


@step("fusion-page")
def fusion_page(
    texts: Mapping[str, Any],
    *,
    data: Artifact,
    summary: Artifact,
    comparison: Artifact,
    systems: tuple[Mapping[str, str | None], ...],
    rows: tuple[Artifact, ...],
    fused: Mapping[str, Artifact],
    aligned: Mapping[str, Artifact],
    benchmarks: Artifact,
    made: Made,
    work: Work,
) -> Mapping[str, Any]:
    """Write index.html and one PNG per plot.

    Args:
        texts: `title`, `provenance`, `reproduce`, `notes`.
        data: Corpus, of whose test split examples are shown.
        summary: Win table and agreement of `teach`.
        comparison: Scores and differences.
        systems: Everything that was scored.
        rows: The rows of each.
        fused: Name in the curves → training.
        aligned: Name behind a source's coverage, or empty → training.
        benchmarks: Scores of the standard benchmarks.
        made: Shown with the provenance.
        work: Scratch.
    """
    from models.evaluation.fusion.comparison import headline_metric
    from models.reporting.canvas import save_figure
    from models.reporting.fusion.page import write_report
    from models.reporting.fusion.plots import plot_comparison, plot_coverage, plot_losses
    from models.reporting.fusion.win_plots import plot_agreement, plot_win_table

    shown = _fusion_data(
        texts,
        data=data,
        summary=summary,
        comparison=comparison,
        systems=systems,
        rows=rows,
        fused=fused,
        aligned=aligned,
        benchmarks=benchmarks,
        made=made,
    )
    metrics = list(dict.fromkeys(row.metric for row in shown.table))
    for metric in dict.fromkeys([headline_metric(metrics), "bits_per_byte"]):
        save_figure(plot_comparison(shown.table, metric=metric), work.out / f"scores_{metric.replace('/', '_')}.png")
    save_figure(plot_win_table(shown.wins), work.out / "wins.png")
    if shown.agreement["overall"]["num_examples"]:
        save_figure(plot_agreement(shown.agreement), work.out / "agreement.png")
    save_figure(plot_losses(shown.histories), work.out / "losses.png")
    save_figure(plot_coverage(shown.coverage), work.out / "coverage.png")
    write_report(shown, work.out / "index.html")
    return {"notes": list(shown.notes)}


def page_files(page: Artifact) -> list[Path]:
    """Return the page and its plots."""
    return sorted(path for path in page.path.iterdir() if path.is_file() and path.name != MANIFEST)


def history_of(training: Artifact) -> list[dict[str, Any]]:
    """Return the logged rows of a training."""
    return [json.loads(line) for line in (training.path / "history.jsonl").read_text(encoding="utf-8").splitlines()]


def _fusion_data(
    texts: Mapping[str, Any],
    *,
    data: Artifact,
    summary: Artifact,
    comparison: Artifact,
    systems: Sequence[Mapping[str, str | None]],
    rows: Sequence[Artifact],
    fused: Mapping[str, Artifact],
    aligned: Mapping[str, Artifact],
    benchmarks: Artifact,
    made: Made,
) -> "ReportData":
    from models.corpus.examples import read_examples
    from models.evaluation.benchmarks.records import BenchmarkRow
    from models.evaluation.fusion.scores import ComparisonRow, System, TableRow, read_scores
    from models.reporting.fusion.data import ReportData, cut_notes, seen_notes, select_examples

    scored, standard = _json(comparison.path / SCORES), _json(benchmarks.path / BENCHMARKS)
    examples = list(read_examples(data.path / "test.jsonl"))
    scores = {
        System(**system): list(read_scores(found.path / ROWS))  # type: ignore[arg-type]
        for system, found in zip(systems, rows, strict=True)
    }
    coverage = _coverage(aligned)
    return ReportData(
        title=texts["title"],
        table=[TableRow.from_json(row) for row in scored["table"]],
        comparisons=[ComparisonRow.from_json(row) for row in scored["comparisons"]],
        wins=_json(summary.path / "win_table.json"),
        agreement=_json(summary.path / "agreement.json"),
        winners=_json(summary.path / "winners.json"),
        scorers=_json(summary.path / "scorer_quality.json"),
        histories={name: history_of(training) for name, training in fused.items()},
        coverage=coverage,
        trainings={name: training.meta for name, training in fused.items()},
        examples=select_examples(examples, scores, per_family=SHOWN_EXAMPLES),
        provenance={**texts["provenance"], "made": made.when},
        reproduce=texts["reproduce"],
        notes=[*seen_notes(examples), *cut_notes(coverage, examples), *texts["notes"]],
        confidence=scored["confidence"],
        benchmarks=[BenchmarkRow.from_json(row) for row in standard["table"]],
        benchmark_differences=[ComparisonRow.from_json(row) for row in standard["comparisons"]],
    )


def _coverage(aligned: Mapping[str, Artifact]) -> dict[str, dict[str, float]]:
    """Return per source (and target) what became of the target's positions, both modes together."""
    return {
        f"{source}{name}": counts
        for name, training in aligned.items()
        for source, counts in _json(training.path / "coverage.json").items()
    }


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
