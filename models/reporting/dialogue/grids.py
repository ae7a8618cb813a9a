"""Tables of the dialogue results: main results next to the paper's, retrieval, responses, domains, claims."""

from collections.abc import Iterable, Sequence

from models.evaluation.dialogue.metrics import EXPECTED, FIT, FIT_CEILING, MRR, higher_is_better
from models.evaluation.dialogue.scores import ALL_DOMAINS, DialogueComparison, DialogueTableRow
from models.evaluation.dialogue.system import DialogueSystem
from models.reporting.dialogue.formatting import (
    format_range,
    format_value,
    is_main,
    is_percent,
    is_retrieval,
    kind_name,
    lead_metrics,
    main_recall,
    metric_name,
    metric_title,
    recall_ks,
)
from models.reporting.formatting import MINUS, format_p
from models.reporting.grids import Cell, Grid, Mark
from models.reporting.paper_tables import PAPER, PaperRow

RESPONSE_METRICS = (
    "bleu",
    "bleu_maker",
    "entity_f1",
    "entity_precision",
    "entity_recall",
    "annotated_f1",
    "hallucination",
    "hallucination_no_gold",
)
CLAIMS = {
    "meta knowledge": "Does meta knowledge help?",
    "meta knowledge in context": "Does it help a generator that was not trained with it?",
    "joint training": "Does joint training improve the retriever?",
    "floor": "Does the trained retriever beat word matching?",
    "response floor": "Does the generator beat a constant answer, and the first entity copied?",
    "hybrid scoring": "Do names, values and words found in the dialogue help the retriever?",
    "unseen entities": "Does it find entities it has never seen?",
}
"""Claim of a comparison → the question it answers."""

_NONE = Cell("–")


def main_grid(rows: Sequence[DialogueTableRow], *, paper: Sequence[PaperRow] = ()) -> Grid:
    """Return systems × leading metrics over all domains; the paper's printed rows below, marked as such."""
    rows = [row for row in rows if is_main(row.system)]
    metrics = lead_metrics(rows)
    systems = _systems(row for row in rows if row.metric in metrics)
    body = _body(rows, metrics, systems, domain=ALL_DOMAINS)
    printed = [_printed(row, metrics) for row in paper]
    notes = (*_notes(rows, metrics), *_fewer_notes(rows))
    if paper:
        notes += (
            f"Rows marked “paper” are as printed in {PAPER} ({paper[0].table}): pre-trained models, single runs, "
            "BLEU by multi-bleu.perl. Systems here may be trained from scratch.",
        )
    return Grid("Main results", ("system", *_headers(metrics)), (*body, *printed), notes=notes)


def retrieval_grid(rows: Sequence[DialogueTableRow], *, first_mentions: bool = False) -> Grid:
    """Return retrievers × recall@k by value and by id, and MRR; all turns, or only first mentions of an entity."""
    prefix = "first_" if first_mentions else ""
    ks = recall_ks(row.metric for row in rows)
    wanted = [f"{prefix}recall_{by}@{k}" for by in ("value", "id") for k in ks] + [prefix + MRR]
    chosen = [row for row in rows if row.system.kind != "in_context" and row.domain == ALL_DOMAINS]
    metrics = [metric for metric in wanted if any(row.metric == metric for row in chosen)]
    body = _body(chosen, metrics, _systems(row for row in chosen if row.metric in metrics), domain=ALL_DOMAINS, with_kind=False)
    what = "first mentions of an entity" if first_mentions else "all turns"
    counts = {row.metric: row.num for row in chosen}
    said = [f"{by} n = {counts[m]:,}" for by in ("value", "id") if (m := f"{prefix}recall_{by}@{ks[-1]}") in counts] if ks else []
    notes = (f"Turns that count: by {', by '.join(said)}. MRR is by id, 0 beyond the largest k.",) if said else ()
    short = tuple(_retrieval_header(metric.removeprefix(prefix)) for metric in metrics)
    return Grid(f"Retrieval, {what}", ("retriever", *short), body, notes=notes)


def request_grid(rows: Sequence[DialogueTableRow]) -> Grid:
    """Return retrievers × expected recall@k and fit@k, all turns: what does not depend on how ties are ordered."""
    ks = recall_ks(row.metric for row in rows)
    chosen = [row for row in rows if row.system.kind != "in_context" and row.domain == ALL_DOMAINS]
    known = {row.metric: row.num for row in chosen}
    wanted = [*(f"{EXPECTED}recall_{by}@{k}" for by in ("value", "id") for k in ks), *(f"{FIT}@{k}" for k in ks)]
    metrics = [metric for metric in wanted if metric in known]
    body = _body(chosen, metrics, _systems(row for row in chosen if row.metric in metrics), domain=ALL_DOMAINS, with_kind=False)
    ceilings = {k: row.value for k in ks for row in chosen if row.metric == f"{FIT_CEILING}@{k}"}
    said = [f"{format_value(FIT, ceilings[k])} % at {k}" for k in ks if k in ceilings]
    notes = (
        *_notes(chosen, metrics),
        *(
            [f"Fit: n = {known[metrics[-1]]:,} turns; at most {', '.join(said)}, as few entities satisfy some requests."]
            if said
            else ()
        ),
    )
    short = tuple(metric.replace(f"{EXPECTED}recall_", "expected, ").replace("@", " @") for metric in metrics)
    return Grid("Expected recall and fit", ("retriever", *short), body, notes=notes)


def response_grid(rows: Sequence[DialogueTableRow]) -> Grid:
    """Return generators × every metric of responses, all domains."""
    chosen = [row for row in rows if row.metric in RESPONSE_METRICS]
    metrics = [metric for metric in RESPONSE_METRICS if any(row.metric == metric for row in chosen)]
    body = _body(chosen, metrics, _systems(chosen), domain=ALL_DOMAINS, with_kind=False)
    return Grid("Responses", ("system", *_headers(metrics)), body, notes=_notes(rows, metrics))


def domain_grid(rows: Sequence[DialogueTableRow], *, metric: str) -> Grid:
    """Return systems × domains of one metric, the best of each domain marked; recalls without the generators over them."""
    chosen = [row for row in rows if row.metric == metric and not (is_retrieval(metric) and row.system.kind == "in_context")]
    domains = list(dict.fromkeys(row.domain for row in chosen))
    systems = _systems(chosen)
    columns = [_column(chosen, metric, systems, domain=domain) for domain in domains]
    body = tuple((Cell(system.label), *cells) for system, cells in zip(systems, zip(*columns, strict=True), strict=True))
    counts = {domain: max(row.num for row in chosen if row.domain == domain) for domain in domains}
    header = ("system", *(f"{domain} (n = {counts[domain]:,})" for domain in domains))
    return Grid(metric_title(metric), header, body, notes=_fewer_notes(chosen))


def claim_grid(rows: Sequence[DialogueComparison], *, claim: str, domain: str = ALL_DOMAINS) -> Grid:
    """Return the pairs behind a claim × leading metrics: differences with intervals, marked by their verdict."""
    chosen = [row for row in rows if (row.claim, row.domain) == (claim, domain)]
    metrics = _claim_metrics(chosen)
    pairs = list(dict.fromkeys((row.a, row.b) for row in chosen))
    cells = {(row.a, row.b, row.metric): _difference(row) for row in chosen}
    body = tuple((Cell(_pair(a, b)), *(cells.get((a, b, metric), _NONE) for metric in metrics)) for a, b in pairs)
    counted = {row.num_dialogues for row in chosen}
    notes = (f"Paired over {' or '.join(f'{n:,}' for n in sorted(counted))} dialogues.",) if counted else ()
    return Grid(CLAIMS.get(claim, claim), ("difference", *_headers(metrics, points=True)), body, notes=notes)


def difference_grid(rows: Sequence[DialogueComparison], *, claim: str, domain: str = ALL_DOMAINS) -> Grid:
    """Return every difference behind a claim as a line: metric, pair, value, p, verdict."""
    lines = tuple(
        (
            Cell(_pair(row.a, row.b)),
            Cell(metric_name(row.metric)),
            _difference(row),
            Cell(format_p(row.p)),
            Cell(f"{row.num:,}"),
            Cell(row.verdict, mark=row.verdict),
        )
        for row in rows
        if (row.claim, row.domain) == (claim, domain)
    )
    header = ("difference", "metric", "value [interval]", "p", "turns", "verdict")
    return Grid(CLAIMS.get(claim, claim), header, lines, num_text=2)


def _systems(rows: Iterable[DialogueTableRow]) -> list[DialogueSystem]:
    """Return the systems in the order of reports: variants, in context, floors, retrievers, unseen."""
    order = ("variant", "in_context", "response_floor", "retriever", "warm_start", "floor", "dense", "unseen")
    return sorted(dict.fromkeys(row.system for row in rows), key=lambda system: order.index(system.kind))


def _body(
    rows: Sequence[DialogueTableRow],
    metrics: Sequence[str],
    systems: Sequence[DialogueSystem],
    *,
    domain: str,
    with_kind: bool = True,
) -> tuple[tuple[Cell, ...], ...]:
    columns = [_column(rows, metric, systems, domain=domain) for metric in metrics]
    heads = (Cell(s.label, kind_name(s) if with_kind else "") for s in systems)
    lines = zip(*columns, strict=True) if columns else ((),) * len(systems)
    return tuple((head, *line) for head, line in zip(heads, lines, strict=True))


def _column(rows: Sequence[DialogueTableRow], metric: str, systems: Sequence[DialogueSystem], *, domain: str) -> list[Cell]:
    found = {row.system: row for row in rows if (row.metric, row.domain) == (metric, domain)}
    values = {row.value for row in found.values()}
    best = (max if higher_is_better(metric) else min)(values) if len(values) > 1 else None

    def cell(row: DialogueTableRow | None) -> Cell:
        if row is None:
            return _NONE
        mark: Mark = "best" if row.value == best else ""
        return Cell(format_value(metric, row.value), format_range(metric, row.low, row.high), mark)

    return [cell(found.get(system)) for system in systems]


def _printed(row: PaperRow, metrics: Sequence[str]) -> tuple[Cell, ...]:
    """Place a printed row under the metrics it is comparable with."""
    figures = {"bleu_maker": row.bleu, "entity_f1": row.entity_f1, "recall_value@7": row.recall_value_7}
    cells = (Cell(f"{value:.2f}") if (value := figures.get(metric)) is not None else _NONE for metric in metrics)
    return Cell(row.system, f"paper, {row.base}"), *cells


def _headers(metrics: Iterable[str], *, points: bool = False) -> tuple[str, ...]:
    unit = ", points" if points else ", %"
    return tuple(metric_name(metric) + (unit if is_percent(metric) else "") for metric in metrics)


def _retrieval_header(metric: str) -> str:
    return "MRR" if metric == MRR else metric.removeprefix("recall_").replace("@", " @")


def _claim_metrics(rows: Sequence[DialogueComparison]) -> list[str]:
    known = list(dict.fromkeys(row.metric for row in rows))
    by_value, by_id = main_recall(known), main_recall(known, by="id")
    alone = () if "bleu" in known else (by_id, MRR)  # next to the response metrics there is no room for all of them
    wanted = ("bleu", "entity_f1", "hallucination", by_value, *alone, f"first_{by_id}")
    return [metric for metric in wanted if metric in known]


def _difference(row: DialogueComparison) -> Cell:
    text = format_value(row.metric, row.value, signed=True)
    return Cell(text, format_range(row.metric, row.low, row.high, signed=True), row.verdict)


def _pair(a: DialogueSystem, b: DialogueSystem) -> str:
    return f"{a.label} {MINUS} {b.label}"


def _notes(rows: Sequence[DialogueTableRow], metrics: Sequence[str]) -> tuple[str, ...]:
    """Say what each figure rests on: signature, entity list."""
    found = {row.metric: row.note for row in rows if row.note and row.metric in metrics}
    by_note: dict[str, list[str]] = {}
    for metric, note in found.items():
        by_note.setdefault(note, []).append(metric_name(metric))
    return tuple(f"{', '.join(names)}: {note}." for note, names in by_note.items())


def _fewer_notes(rows: Sequence[DialogueTableRow]) -> tuple[str, ...]:
    """Name the generators that answered only some of the turns (`limit`)."""
    counted = [row for row in rows if row.metric in ("bleu", "entity_f1") and row.domain == ALL_DOMAINS]
    most = {metric: max(row.num for row in counted if row.metric == metric) for metric in {row.metric for row in counted}}
    fewer = {row.system: row for row in counted if row.num < most[row.metric]}
    return tuple(f"{system.label} answered only some of the turns (n = {row.num:,})." for system, row in fewer.items())
