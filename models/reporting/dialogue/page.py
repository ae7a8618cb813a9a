"""The dialogue result page, standalone or as a section of another page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from matplotlib.figure import Figure

from models.evaluation.dialogue.metrics import ENTITY_F1, EXPECTED
from models.evaluation.dialogue.scores import ALL_DOMAINS, DialogueComparison, DialogueTableRow
from models.reporting.canvas import themed_svg
from models.reporting.dialogue.data import DialogueReportData
from models.reporting.dialogue.formatting import format_range, format_value, is_main, is_percent, main_recall, metric_name
from models.reporting.dialogue.grids import (
    CLAIMS,
    claim_grid,
    difference_grid,
    domain_grid,
    main_grid,
    request_grid,
    response_grid,
    retrieval_grid,
)
from models.reporting.dialogue.plots import (
    has_curves,
    plot_agreement_curves,
    plot_dialogue_scores,
    plot_recall_at_k,
    plot_retriever_curves,
)
from models.reporting.documents import render_page, write_page
from models.reporting.grids import Grid
from models.reporting.paper_tables import paper_rows

_PAGE = "dialogue.html.j2"


@dataclass(frozen=True, slots=True)
class DialogueCard:
    """Headline of one variant: Entity F1 (without responses: recall) and its baseline."""

    name: str
    metric: str
    value: str
    interval: str
    differences: tuple[DialogueComparison, ...]


@dataclass(frozen=True, slots=True)
class Claim:
    """A question, its answer by leading metrics, and all figures for it."""

    question: str
    grid: Grid
    details: Grid


@dataclass(frozen=True, slots=True)
class DialogueParts:
    """The computed parts of the section; plots are SVG, None or empty where there is nothing to show."""

    cards: tuple[DialogueCard, ...]
    main: Grid
    scores: Markup | None
    retrieval: tuple[Grid, ...]
    retrieval_plots: tuple[Markup, ...]
    responses: Grid
    domains: tuple[Grid, ...]
    claims: tuple[Claim, ...]
    curves: Markup | None
    agreement: Markup | None


def render_dialogue_report(data: DialogueReportData) -> str:
    """Return a whole page: it loads nothing and runs no script.

    Raises:
        DataError: The results table is empty.
    """
    functions = {f.__name__: f for f in (metric_name, format_value, format_range, is_percent)}
    return render_page(_PAGE, data, functions=functions, parts=lambda: {"parts": dialogue_parts(data)})


def write_dialogue_report(data: DialogueReportData, path: Path) -> Path:
    """Render the page into `path`; returns it."""
    return write_page(path, render_dialogue_report(data))


def dialogue_figures(data: DialogueReportData) -> dict[str, Figure]:
    """Return every plot the data allow, by file name without suffix."""
    main = [row for row in data.table if is_main(row.system)]
    known = {row.metric for row in main}
    spoken = [metric for metric in ("bleu", ENTITY_F1, "hallucination") if metric in known]
    ranked = [metric for metric in (main_recall(known), main_recall(known, by="id"), "mrr") if metric in known]
    curves, agreement = has_curves(data.histories)
    figures = {}
    if spoken:
        figures["responses"] = plot_dialogue_scores(main, metrics=spoken)
    if ranked:
        figures["retrieval"] = plot_dialogue_scores(main, metrics=ranked)
    if main_recall(known) or main_recall(known, by="id"):
        figures["recall_at_k"] = plot_recall_at_k(main)
    if curves:
        figures["retriever_curves"] = plot_retriever_curves(data.histories, warm=data.warm)
    if agreement:
        figures["agreement"] = plot_agreement_curves(data.histories)
    return figures


def dialogue_parts(data: DialogueReportData) -> DialogueParts:
    """Compute tables and plots."""
    drawn = {name: _svg(figure, name) for name, figure in dialogue_figures(data).items()}
    firsts = any(row.metric.startswith("first_") for row in data.table)
    metrics = [metric for metric in (ENTITY_F1, main_recall({row.metric for row in data.table})) if metric]
    several = any(row.domain != ALL_DOMAINS for row in data.table)
    return DialogueParts(
        cards=_cards(data.table, data.comparisons),
        main=main_grid(data.table, paper=paper_rows(data.data_set, data.setting)),
        scores=drawn.get("responses"),
        retrieval=(
            *(retrieval_grid(data.table, first_mentions=first) for first in (False, True)[: 1 + firsts]),
            *([request_grid(data.table)] if any(row.metric.startswith(EXPECTED) for row in data.table) else []),
        ),
        retrieval_plots=tuple(drawn[name] for name in ("retrieval", "recall_at_k") if name in drawn),
        responses=response_grid(data.table),
        domains=tuple(domain_grid(data.table, metric=m) for m in metrics if several and any(r.metric == m for r in data.table)),
        claims=_claims(data.comparisons),
        curves=drawn.get("retriever_curves"),
        agreement=drawn.get("agreement"),
    )


def _cards(table: Sequence[DialogueTableRow], comparisons: Sequence[DialogueComparison]) -> tuple[DialogueCard, ...]:
    """Return a card for each variant: its differences from `none` by that metric, and from the warm start by recall."""
    known = [row.metric for row in table]
    recall = main_recall(known)
    metric = ENTITY_F1 if ENTITY_F1 in known else recall
    shown = {("meta knowledge", metric), ("joint training", recall)}
    cards = []
    for row in table:
        if (row.system.kind, row.metric, row.domain) == ("variant", metric, ALL_DOMAINS):
            mine = (c for c in comparisons if c.a == row.system and c.domain == ALL_DOMAINS and (c.claim, c.metric) in shown)
            figures = (format_value(metric, row.value), format_range(metric, row.low, row.high))
            cards.append(DialogueCard(row.system.label, metric, *figures, differences=tuple(mine)))
    return tuple(cards)


def _claims(comparisons: Sequence[DialogueComparison]) -> tuple[Claim, ...]:
    present = dict.fromkeys(row.claim for row in comparisons)
    ordered = [claim for claim in CLAIMS if claim in present] + [claim for claim in present if claim not in CLAIMS]
    grids = ((claim_grid(comparisons, claim=claim), difference_grid(comparisons, claim=claim)) for claim in ordered)
    return tuple(Claim(grid.title, grid, details) for grid, details in grids)


def _svg(figure: Figure, name: str) -> Markup:
    return themed_svg(figure, name=f"dialogue-{name}", description=name.replace("_", " "))
