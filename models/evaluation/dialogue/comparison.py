"""From rows of turns to the results table of the dialogue half, and the paired differences its claims rest on.

Whole dialogues are resampled, since the turns of one are alike; the same ones for every system on the same turns.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from models.errors import DataError, Problem
from models.evaluation.bootstrap import Resampling, resample_sums
from models.evaluation.dialogue.metrics import DialogueMetric, list_metrics
from models.evaluation.dialogue.scores import ALL_DOMAINS, DialogueComparison, DialogueRow, DialogueTableRow, TurnColumns
from models.evaluation.dialogue.system import DialogueSystem

Floats = npt.NDArray[np.float64]
Columns = Mapping[DialogueSystem, TurnColumns]
Scores = Mapping[DialogueSystem, Iterable[DialogueRow]] | Columns
"""System → rows of its turns, or what `read_columns` kept of them."""

NO_META = "none"


@dataclass(frozen=True, slots=True)
class DialoguePair:
    """Two systems to compare, on all metrics or on those of the retriever or of the responses."""

    a: DialogueSystem
    b: DialogueSystem
    claim: str
    part: Literal["all", "retrieval", "responses"] = "all"

    def covers(self, metric: DialogueMetric) -> bool:
        return self.part == "all" or (self.part == "retrieval") == metric.is_retrieval


@dataclass(frozen=True, slots=True)
class _Figure:
    """A metric of one system, its value in every resample [samples], and its basis."""

    value: float
    draws: Floats
    num: int
    turns: int


@dataclass(frozen=True, slots=True)
class _Block:
    """The statistic behind a metric of one system, summed by dialogue [dialogues, S], and how many turns count."""

    system: DialogueSystem
    metric: DialogueMetric
    sums: Floats
    turns: int

    def figure(self, draws: Floats) -> _Figure | None:
        """Return the figure, given the sums of the resamples [samples, S]; None where it is undefined."""
        sums = self.sums.sum(axis=0)
        value = float(self.metric.value(sums))
        if not np.isfinite(value):
            return None
        return _Figure(value, self.metric.value(draws), self.metric.num(sums, self.turns), self.turns)


@dataclass(frozen=True, slots=True)
class _Sample:
    """Systems on the same turns of one domain: figures by system and metric; absent where no turn counts."""

    figures: Mapping[tuple[DialogueSystem, str], _Figure] = field(default_factory=dict)
    num_dialogues: int = 0


def read_columns(scores: Mapping[DialogueSystem, Iterable[DialogueRow]], *, count_api: bool = False) -> Columns:
    """Read the rows of each system, one after the other, and keep what is compared; rows may come from a file.

    Args:
        scores: System → rows of its turns; an in-context generator may have fewer of them.
        count_api: Let API turns count, as the paper's CamRest figures do.

    Raises:
        DataError: There is no row to score, or a turn occurs twice.
    """
    names: dict[str, str] = {}
    columns = {system: TurnColumns.read(rows, count_api=count_api, names=names) for system, rows in scores.items()}
    problems = []
    for system, mine in columns.items():
        if not len(mine):
            problems.append(Problem(f"system `{system.label}`", "must have at least one turn"))
        if len(set(mine.ids)) < len(mine):
            problems.append(Problem(f"system `{system.label}`", "must have every turn once"))
    if problems or not columns:
        raise DataError("The dialogue scores cannot be added up", problems or [Problem("the scores", "must hold a system")])
    return columns


def aggregate(
    scores: Scores,
    *,
    resampling: Resampling | None = None,
    count_api: bool = False,
    notes: Mapping[str, str] | None = None,
) -> tuple[DialogueTableRow, ...]:
    """Return value and interval of every metric for each domain (and `all`) and system.

    Args:
        scores: Rows, or the columns of them.
        resampling: Number of resamples, level, seed.
        count_api: Where `scores` are rows: as in `read_columns`.
        notes: What to know of a figure, by statistic without its k (`TurnScorer.notes`).

    Raises:
        DataError: There is no row to score, or a turn occurs twice.
    """
    how = resampling or Resampling()
    counted = _counted(scores, count_api)
    metrics = _metrics(counted)
    table = []
    for domain in _domains(counted):
        samples = {system: sample for group in _by_turns(counted) for system, sample in _sampled(group, domain, metrics, how)}
        for metric in metrics:
            for system in counted:
                figure = samples[system].figures.get((system, metric.name))
                if figure:
                    low, high = _percentiles(figure.draws, how.confidence)
                    note = (notes or {}).get(metric.statistic.partition("@")[0], "")
                    table.append(DialogueTableRow(system, domain, metric.name, figure.value, low, high, figure.num, note))
    return tuple(table)


def paired(
    scores: Scores, pairs: Iterable[DialoguePair], *, resampling: Resampling | None = None, count_api: bool = False
) -> tuple[DialogueComparison, ...]:
    """Return difference, interval and p of each pair, domain and metric, on the turns that both systems have.

    Raises:
        DataError: A pair names a system without scores, or two systems without a turn in common.
    """
    how = resampling or Resampling()
    counted = _counted(scores, count_api)
    wanted, metrics = list(pairs), _metrics(counted)
    _check_known(counted, wanted)
    found: list[DialogueComparison] = []
    for domain in _domains(counted):
        samples = [dict(_sampled(group, domain, metrics, how)) for group in _by_turns(counted)]
        for pair in wanted:
            shared = next((known[pair.a] for known in samples if pair.a in known and pair.b in known), None)
            sample = shared or dict(_sampled(_common(counted, pair), domain, metrics, how))[pair.a]
            found += [row for metric in metrics if (row := _difference(pair, metric, domain, sample, how))]
    order = {metric.name: at for at, metric in enumerate(metrics)}
    return tuple(sorted(found, key=lambda row: order[row.metric]))


def claim_pairs(systems: Sequence[DialogueSystem]) -> tuple[DialoguePair, ...]:
    """Return the comparisons the claims rest on, as far as their systems are there.

    Each variant − `none`; each variant's retriever (that of its best generator, and its best one) − warm start, and − the floors;
    responses − a constant answer, and − a copied entity; in context with meta knowledge − without; a retriever on unseen entities
    − on the known ones; hybrid scores − their cosines alone.
    """
    variants = [s for s in systems if s.kind == "variant"]
    plain = [s for s in variants if s.name == NO_META]
    kinds = ("warm_start", "floor", "retriever", "unseen", "dense")
    warm, floors, best, unseen, dense = ([s for s in systems if s.kind == kind] for kind in kinds)
    copies, spoken = ([s for s in systems if s.kind in kinds] for kinds in (("response_floor",), ("variant", "in_context")))
    by_name = {s.name: s for s in variants}
    with_meta = [s for s in systems if s.kind == "in_context" and s.meta_knowledge != NO_META]
    without_meta = {(s.name, s.retriever): s for s in systems if s.kind == "in_context" and s.meta_knowledge == NO_META}
    return (
        *(DialoguePair(a, b, "meta knowledge") for b in plain for a in variants if a != b),
        *(DialoguePair(a, b, "joint training", part="retrieval") for b in warm for a in (*variants, *best)),
        *(DialoguePair(a, b, "floor", part="retrieval") for b in floors for a in (*variants, *warm)),
        *(DialoguePair(a, b, "response floor", part="responses") for b in copies for a in spoken),
        *(
            # Both read what the same retriever found.
            DialoguePair(a, without_meta[key], "meta knowledge in context", part="responses")
            for a in with_meta
            if (key := (a.name, a.retriever)) in without_meta
        ),
        *(DialoguePair(a, by_name[a.name], "unseen entities", part="retrieval") for a in unseen if a.name in by_name),
        *(DialoguePair(a, b, "hybrid scoring", part="retrieval") for a in (*variants, *warm) for b in dense if b.name == a.name),
    )


def _counted(scores: Scores, count_api: bool) -> Columns:
    columns = {system: mine for system, mine in scores.items() if isinstance(mine, TurnColumns)}
    if columns and len(columns) == len(scores):
        return columns
    return read_columns({s: rows for s, rows in scores.items() if not isinstance(rows, TurnColumns)}, count_api=count_api)


def _metrics(scores: Columns) -> tuple[DialogueMetric, ...]:
    return list_metrics({name for columns in scores.values() for name in columns.known})


def _domains(scores: Columns) -> list[str]:
    """Return `all`, and the domains in alphabetical order where there are several."""
    found = sorted({domain for columns in scores.values() for domain in columns.domains})
    return [ALL_DOMAINS, *(found if len(found) > 1 else ())]


def _by_turns(scores: Columns) -> list[dict[DialogueSystem, TurnColumns]]:
    """Group the systems by the turns they have."""
    groups: dict[frozenset[str], dict[DialogueSystem, TurnColumns]] = {}
    for system, columns in scores.items():
        groups.setdefault(frozenset(columns.ids), {})[system] = columns
    return list(groups.values())


def _sampled(
    group: Columns, domain: str, metrics: Sequence[DialogueMetric], how: Resampling
) -> Iterable[tuple[DialogueSystem, _Sample]]:
    """Resample the dialogues of one domain for systems on the same turns; every system comes with the one sample of all."""
    turns = {system: _of_domain(mine, domain) for system, mine in group.items()}
    dialogues = {name: at for at, name in enumerate(sorted(set(next(iter(turns.values())).dialogues)))}
    blocks = [b for s, mine in turns.items() for m in metrics if (b := _block(s, m, mine, dialogues))]
    if not blocks:
        return [(system, _Sample()) for system in group]
    draws = resample_sums(np.concatenate([block.sums for block in blocks], axis=1), resampling=how)
    ends = np.cumsum([block.sums.shape[1] for block in blocks])
    parts = zip(blocks, np.split(draws, ends[:-1], axis=1), strict=True)
    figures = {(b.system, b.metric.name): figure for b, mine in parts if (figure := b.figure(mine))}
    sample = _Sample(figures, len(dialogues))
    return [(system, sample) for system in group]


def _of_domain(turns: TurnColumns, domain: str) -> TurnColumns:
    return turns if domain == ALL_DOMAINS else turns.take([i for i, found in enumerate(turns.domains) if found == domain])


def _block(system: DialogueSystem, metric: DialogueMetric, turns: TurnColumns, dialogues: Mapping[str, int]) -> _Block | None:
    """Sum a metric's statistic by dialogue; None if no turn counts."""
    counted = turns.counted(metric)
    if not len(counted):
        return None
    values = turns.values[metric.statistic][counted]
    sums = np.zeros((len(dialogues), values.shape[1]))
    np.add.at(sums, [dialogues[turns.dialogues[i]] for i in counted.tolist()], values)
    return _Block(system, metric, sums, len(counted))


def _common(scores: Columns, pair: DialoguePair) -> Columns:
    """Return the two systems with the turns that both have."""
    both = set(scores[pair.a].ids) & set(scores[pair.b].ids)
    if not both:
        where = f"`{pair.a.label}` and `{pair.b.label}`"
        raise DataError("Two systems cannot be compared", [Problem(where, "must have a turn in common")])
    return {s: scores[s].take([i for i, id_ in enumerate(scores[s].ids) if id_ in both]) for s in (pair.a, pair.b)}


def _difference(
    pair: DialoguePair, metric: DialogueMetric, domain: str, sample: _Sample, how: Resampling
) -> DialogueComparison | None:
    a, b = (sample.figures.get((system, metric.name)) for system in (pair.a, pair.b))
    if a is None or b is None or not pair.covers(metric):
        return None
    gaps = a.draws - b.draws
    low, high = _percentiles(gaps, how.confidence)
    figures = (a.value - b.value, low, high, _two_sided(gaps), min(a.turns, b.turns))
    return DialogueComparison(pair.a, pair.b, domain, metric.name, *figures, num_dialogues=sample.num_dialogues, claim=pair.claim)


def _percentiles(draws: Floats, confidence: float) -> tuple[float, float]:
    # A resample of a small domain may hold no turn that counts; it says nothing about the metric.
    low, high = np.nanquantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _two_sided(gaps: Floats) -> float:
    known = gaps[np.isfinite(gaps)]
    crossing = min(float(np.mean(known <= 0)), float(np.mean(known >= 0)))
    return min(1.0, max(2 * crossing, 1 / len(known)))


def _check_known(scores: Columns, pairs: Iterable[DialoguePair]) -> None:
    known = ", ".join(system.label for system in scores)
    lost = dict.fromkeys(system for pair in pairs for system in (pair.a, pair.b) if system not in scores)
    if lost:
        problems = [Problem(f"system `{system.label}`", f"must be among the scored ones ({known})") for system in lost]
        raise DataError("The comparison names systems without scores", problems)
