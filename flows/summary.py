"""Terminal output of a pipeline: progress announcements and result summaries."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from flows.context import StageContext
from flows.pipeline import COMPOSITES
from flows.servers import ADDRESSES, answers
from flows.stages import HALVES, Half
from models.errors import ArtifactError
from tasks.benchmark import BENCHMARKS
from tasks.evaluation import SCORES
from tasks.tracking import compare_page

if TYPE_CHECKING:
    from models.evaluation.benchmarks.records import BenchmarkRow
    from models.evaluation.fusion.scores import ComparisonRow, TableRow
    from models.reporting.results import ResultRow


def announce_stage(name: str, seconds: float) -> None:
    """Print one line for a finished stage.

    A plain function, with a console of its own: it travels with the flow to the processes of other engines.
    """
    Console().print(f"[green]✓[/] {name:24s} {seconds:6.1f} s", highlight=False)


def print_summary(ctx: StageContext, stage: str, out: Console, *, seconds: float) -> None:
    """Print time and, after the whole pipeline, the results and where to look."""
    out.print(f"[bold]{stage}[/] done in {seconds:.0f} s (profile {ctx.params.profile})", highlight=False)
    halves = COMPOSITES.get(stage, HALVES if stage == "report" else ())
    if halves:
        print_results(ctx, out, halves=halves)
        print_places(ctx, out, halves=halves)


def print_results(ctx: StageContext, out: Console, *, halves: tuple[Half, ...] = HALVES) -> Path:
    """Print the results of the halves; return the page of the last one.

    Raises:
        ArtifactError: The profile has no finished report of a half.
    """
    pages = []
    for half in halves:
        page = ctx.out("report", half, "index.html")
        if not page.is_file():
            raise ArtifactError(f"{page} does not exist; run `python -m flows run {half} --profile {ctx.params.profile}` first.")
        pages.append(page)
        {"fusion": print_fusion, "dialogue": print_dialogue}[half](ctx, out)
    return pages[-1]


def print_dialogue(ctx: StageContext, out: Console) -> None:
    """Print the dialogue half's main table, the retrieval table, and what the paired differences say."""
    from flows.report_dialogue import scored_dialogues
    from models.reporting.dialogue.grids import CLAIMS, claim_grid, main_grid, request_grid, retrieval_grid
    from models.reporting.grids import to_rich
    from models.reporting.paper_tables import paper_rows

    table, comparisons, _ = scored_dialogues(ctx)
    paper = paper_rows(ctx.params.dialogues.kind, ctx.params.dialogues.setting)
    out.print(to_rich(main_grid(table, paper=paper)))
    out.print(to_rich(retrieval_grid(table)))
    out.print(to_rich(request_grid(table)))
    # The page has all claims; here what a terminal has room for.
    shown = [row for row in comparisons if row.claim not in ("floor", "response floor") and row.a.kind != "retriever"]
    made = {row.claim for row in shown}
    for claim in (c for c in CLAIMS if c in made):
        out.print(to_rich(claim_grid(shown, claim=claim)))


def print_fusion(ctx: StageContext, out: Console) -> None:
    """Print the fusion half's result table, the paired differences and the two modes' winners."""
    from models.evaluation.fusion.comparison import headline_metric
    from models.evaluation.fusion.scores import ALL_FAMILIES
    from models.reporting.grids import comparison_grid, score_grid, to_rich

    table, differences = scored_rows(ctx)
    headline = headline_metric(row.metric for row in table)
    for metric in dict.fromkeys([headline, "bits_per_byte"]):
        out.print(to_rich(score_grid(table, metric=metric)))
    for metric in dict.fromkeys([headline, "bits_per_byte"]):
        out.print(to_rich(comparison_grid(differences, metric=metric, family=ALL_FAMILIES)))
    print_benchmarks(ctx, out)
    out.print(agreement_line(_agreement(ctx)))
    print_vote(ctx, out)


def print_benchmarks(ctx: StageContext, out: Console) -> None:
    """Print the standard benchmarks and their paired differences, where any was run."""
    from models.reporting.fusion.benchmarks import benchmark_difference_grid, benchmark_grid
    from models.reporting.grids import to_rich

    rows, differences = scored_benchmarks(ctx)
    if rows:
        out.print(to_rich(benchmark_grid(rows)))
    if differences:
        out.print(to_rich(benchmark_difference_grid(differences)))


def scored_benchmarks(ctx: StageContext) -> "tuple[list[BenchmarkRow], list[ComparisonRow]]":
    """Return the table of the standard benchmarks and the paired differences; both empty where none was run."""
    from models.evaluation.benchmarks.records import BenchmarkRow
    from models.evaluation.fusion.scores import ComparisonRow

    scored = json.loads((ctx.input("benchmark", "scores").path / BENCHMARKS).read_text(encoding="utf-8"))
    table = [BenchmarkRow.from_json(row) for row in scored["table"]]
    return table, [ComparisonRow.from_json(row) for row in scored["comparisons"]]


def print_vote(ctx: StageContext, out: Console) -> None:
    """Print how many prompts have a winner, how many winners are right, and what is wrong with the scorers."""
    from models.reporting.fusion.grids import winner_sentence

    summary = ctx.input("teach", "summary").path
    out.print(winner_sentence(json.loads((summary / "winners.json").read_text(encoding="utf-8"))), highlight=False)
    for warning in json.loads((summary / "scorer_quality.json").read_text(encoding="utf-8"))["warnings"]:
        out.print(f"[yellow]warning[/] {escape(warning)}", highlight=False)


def scored_rows(ctx: StageContext) -> "tuple[list[TableRow], list[ComparisonRow]]":
    """Return the results table and the paired differences of a finished profile."""
    from models.evaluation.fusion.scores import ComparisonRow, TableRow

    scored = json.loads((ctx.input("evaluate_fusion", "comparison").path / SCORES).read_text(encoding="utf-8"))
    table = [TableRow.from_json(row) for row in scored["table"]]
    return table, [ComparisonRow.from_json(row) for row in scored["comparisons"]]


def agreement_rows(ctx: StageContext) -> "list[ResultRow]":
    """Return the agreement of the two modes and the pairwise win rates as result rows."""
    from models.reporting.results import ResultRow

    agreement = _agreement(ctx)
    overall = agreement["overall"]
    agree = ResultRow("modes agree", overall["share"], "share", num=overall["num_examples"], more={"part": "agreement"})
    rows = [] if overall["share"] is None else [agree]
    for pair in agreement["pairwise"]:
        for mode in ("training", "inference"):
            if pair[f"{mode}_share"] is not None:
                more = {"part": "pairwise", "mode": mode}
                name = f"{pair['a']} beats {pair['b']}"
                rows.append(ResultRow(name, pair[f"{mode}_share"], "share", num=pair[f"num_{mode}"], more=more))
    return rows


def _agreement(ctx: StageContext) -> dict[str, Any]:
    path = ctx.input("teach", "summary").path / "agreement.json"
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def agreement_line(agreement: dict[str, Any]) -> str:
    """Return the paper's comparison of the two modes in one sentence."""
    overall = agreement["overall"]
    if overall["share"] is None:
        return "No prompt has a winner in both modes."
    widest = max(agreement["pairwise"], key=lambda p: (p["training_share"] or 0.0) - (p["inference_share"] or 0.0), default=None)
    text = f"The two modes name the same winner on {overall['share']:.0%} of {overall['num_examples']:,} prompts."
    if widest is None:
        return text
    return (
        f"{text} Widest gap: {widest['a']} beats {widest['b']} on {widest['training_share']:.0%} of them in training mode, "
        f"on {widest['inference_share']:.0%} in inference mode."
    )


def print_places(ctx: StageContext, out: Console, *, halves: tuple[Half, ...] = HALVES) -> None:
    """Say where pages, runs and flows can be looked at."""
    out.print("\n[bold]Look[/]")
    pages = []
    for half in halves:
        page = ctx.out("report", half, "index.html")
        out.print(f"  {half + ' page':14s}  {page.relative_to(ctx.root)}", highlight=False)
        place, prefix = ADDRESSES["mlflow"], {"fusion": "fuse-", "dialogue": "dialogue-"}[half]
        compare = compare_page(ctx.parent(half), tracking=ctx.params.tracking, server=place, prefixes=(prefix,))
        pages.append(("mlflow", f"{half} runs", compare))
    pages.append(("prefect", "flow runs", f"{ADDRESSES['prefect']}/runs"))
    for name, what, address in pages:
        state = "" if answers(name) else "   (start it: make ui)"
        out.print(f"  {what:14s}  {address}{state}", highlight=False, soft_wrap=True)
