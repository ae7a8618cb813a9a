"""What `recommend` prints."""

from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape

from flows.plan.plan import duration, size
from flows.recommend.advice import Advice, Cost, advise, command, profile_lines, sentences
from flows.recommend.candidates import Candidate, Facts
from flows.recommend.pilot import Asked
from flows.recommend.run import run_pilot
from models.evaluation.fusion.recommendation import Verdict
from models.evaluation.fusion.scores import ACCURACY, System, TableRow
from models.reporting.formatting import format_interval, format_metric, metric_title
from models.reporting.grids import Cell, Grid, to_rich


def print_recommendation(wanted: Asked, out: Console, *, keep: bool = False) -> bool:
    """Run the pilot and print the advice; return whether every candidate could be run.

    Args:
        wanted: What was asked for.
        out: Terminal.
        keep: Whether weights and other outputs of the candidates stay.

    Raises:
        ParamsError: As `run_pilot`.
        DataError: As `run_pilot`.
    """
    findings = run_pilot(wanted, out, keep=keep)
    advice = advise(findings)
    for line in (*fact_lines(advice), *findings.left_out):
        out.print(line, highlight=False, markup=False, soft_wrap=True)
    if advice.choice is not None:
        out.print(to_rich(grid(advice)))
    for line in sentences(advice):
        out.print(f"[bold]{escape(line)}[/]", highlight=False, soft_wrap=True)
    for candidate in _choices(advice):
        text = [f"`{candidate.label}`:", *profile_lines(advice, candidate), command(advice, candidate)]
        out.print("\n".join(text), highlight=False, markup=False, soft_wrap=True)
    return not findings.failed


def fact_lines(advice: Advice) -> Iterator[str]:
    """Yield what the data are like."""
    findings = advice.findings
    (num_train, alone), facts = findings.whole, findings.facts
    yield (
        f"data: {num_train - alone:,} prompts with a ground truth, {alone:,} without; the pilot has {facts.num_truths:,} and "
        f"{facts.num_prompts_only:,}. Compared on {findings.num_valid:,} validation rows; the test split is not read."
    )
    told = list(_measures(facts))
    if told:
        yield f"pilot: {'; '.join(told)}."


def _measures(facts: Facts) -> Iterator[str]:
    yield f"{facts.num_winners:,} prompts have a winner in inference mode"
    if facts.num_checked:
        right = 100 * facts.num_right / facts.num_checked
        yield f"{right:.0f} % of the {facts.num_checked:,} winners that can be checked are right"
    if facts.agreement is not None:
        yield f"the two modes name the same winner on {100 * facts.agreement:.0f} %"
    if facts.length_ratio is not None:
        yield f"ground truths are {facts.length_ratio:.1f} times as long as the sources' answers"


def grid(advice: Advice) -> Grid:
    """Return candidates and baselines × value, difference from the best, second metric, time and memory of the full run."""
    choice = advice.choice
    assert choice is not None
    lead, second = choice.lead, choice.second
    rows = [_row(advice, system, lead, second) for system in _systems(advice, lead)]
    header = ["candidate", "value [interval]", "difference from the best"]
    header += ["bits per byte"] if second else []
    notes = [
        "Intervals: paired bootstrap over validation rows, for one training seed; each candidate chose its `fusion.lr` on them."
    ]
    if any(cost is None for cost in advice.costs.values()):
        notes.append("Sizes of models are not known here, so that time and memory are not: set `planning.sizes`.")
    columns = (*header, "fusion.lr", "full run", "memory")
    return Grid(f"validation: {metric_title(lead.metric)}", columns, tuple(rows), notes=tuple(notes))


def _systems(advice: Advice, lead: Verdict) -> list[System]:
    """Return the candidates, the untrained target, and the best source that is another model."""
    known = list(lead.values)
    untrained = [s for s in known if s.kind == "untrained"]
    sources = [s for s in known if s.kind == "source" and s.name not in {u.name for u in untrained}]
    sign = -1 if lead.metric == "bits_per_byte" else 1
    best = sorted(sources, key=lambda s: -sign * lead.values[s].value)[:1]
    return [*(s for s in known if s in advice.systems.values()), *untrained, *best]


def _row(advice: Advice, system: System, lead: Verdict, second: Verdict | None) -> tuple[Cell, ...]:
    name = next((name for name, s in advice.systems.items() if s == system), None)
    cells = [Cell(system.name if name else system.label), _figure(lead.values[system])]
    gap = lead.differences.get(system)
    if gap is None:
        cells.append(Cell("best", mark="best"))
    else:
        value, interval = format_metric(lead.metric, gap.value, signed=True), (gap.low, gap.high)
        cells.append(Cell(value, format_interval(lead.metric, *interval, signed=True), gap.verdict))
    if second is not None:
        cells.append(_figure(second.values[system]) if system in second.values else Cell("–"))
    rate = advice.findings.measured[name].chosen.get("fusion.lr") if name else None
    return (*cells, Cell("" if rate is None else f"{rate:g}"), *_costs(advice.costs[name] if name else None, known=bool(name)))


def _figure(row: TableRow) -> Cell:
    unit = " %" if row.metric == ACCURACY else ""
    return Cell(format_metric(row.metric, row.value) + unit, format_interval(row.metric, row.low, row.high))


def _costs(cost: Cost | None, *, known: bool) -> tuple[Cell, Cell]:
    if cost is None:
        return (Cell("unknown" if known else ""), Cell(""))
    memory = size(cost.host_bytes) + (f" + {size(cost.device_bytes)} device" if cost.device_bytes else "")
    return (Cell(duration(cost.seconds)), Cell(memory))


def _choices(advice: Advice) -> list[Candidate]:
    found = [advice.pick] if advice.pick is not None else []
    if advice.choice is not None and advice.choice.alternative is not None:
        found.append(advice.candidate(advice.choice.alternative))
    return found
