"""`python -m benchmarks.ties`: how much of recall@k can be known from a dialogue, on the real dialogue profiles.

Where several entities fit what has been asked for, no retriever can know which one the human operator named. Here the entity
that was named says which of its values stand in the context; all entities of its domain with the same values tie, and the tie is
broken by lot (mean over many draws) or by how often training responses name an entity. It is an oracle: it knows which words of
the context matter, and that the entity named has them.

The same on the knowledge base with the distractors of `dialogue_evaluation.unseen`: how many entities fit, which turns the oracle
loses to them, and how many of those are first mentions. No model is trained. Writes docs/results/retrieval-ties.json.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flows.cli import root as prepare_environment
from flows.context import StageContext, git_commit
from flows.dialogue_systems import unseen_renewals
from flows.results_files import renew_tables
from models.corpus.text import RULES, contains_words, normalise
from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.prepare import prepare_dialogues
from models.dialogue.data.pseudo_positive import ValueIndex, pseudo_positive
from models.dialogue.data.records import KB, Turn, read_turns, splits_of
from models.evaluation.dialogue.retrieval_scores import RetrievalRow, score_retrieval
from models.metrics_sink import NullSink
from models.params.dialogues import RenewParams
from models.reporting.results import Result, ResultRow, Scalar, write_result

PROFILES, CUTOFFS, DRAWS = ("real-mwoz", "real-camrest"), (1, 7), 100
MOST = max(CUTOFFS)
OWN, ALL, FIRST, OTHER = "own", "all", "first mentions", "others"
ROOT = Path(__file__).resolve().parent.parent

Draws = Sequence[Sequence[RetrievalRow]]
Rows = npt.NDArray[np.intp]


def main() -> None:
    prepare_environment()
    rows = [row for profile in PROFILES for row in rows_of(StageContext.load(profile=profile))]
    if not rows:
        raise SystemExit("benchmarks.ties: no real dialogues in data/external (data/README.md), nothing measured")
    command, today = "python -m benchmarks.ties", datetime.now(UTC).date().isoformat()
    write_result(ROOT / "docs" / "results", Result("retrieval-ties", command, git_commit(ROOT), today, tuple(rows)))
    for row in rows:
        print(f"{row.name:36s} {row.more['kb']:24s} {row.more['metric']:16s} {row.more['turns']:16s} {row.value:7.1f} {row.unit}")
    renew_tables(ROOT, write=True)


@dataclass(frozen=True, slots=True)
class Setting:
    """The held-out turns over one knowledge base.

    Attributes:
        kb: The knowledge base.
        turns: The turns.
        popularity: How many training responses name each entity, float[N].
    """

    kb: KnowledgeBase
    turns: Sequence[Turn]
    popularity: npt.NDArray[np.float64]

    @classmethod
    def read(cls, ctx: StageContext, renew: RenewParams) -> "Setting":
        """Prepare a profile's dialogues with a knowledge base generated as asked."""
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder)
            prepare_dialogues(ctx.params.dialogues.model_copy(update={"renew": renew}), root=ctx.root, out=data, sink=NullSink())
            kb, splits = KnowledgeBase.load(data / KB), splits_of(data)
            named = Counter(row for turn in read_turns(splits["train"]) for row in kb.rows(turn.gold_entities))
            turns = list(read_turns(splits["test"]))
        return cls(kb, turns, np.array([named[row] for row in range(len(kb))], dtype=np.float64))


def rows_of(ctx: StageContext) -> Iterator[ResultRow]:
    params = ctx.params
    if not (ctx.root / params.dialogues.path).exists():
        print(f"benchmarks.ties: {params.profile} skipped, {params.dialogues.path} is not there (data/README.md)")
        return
    unseen = [renew for renew in unseen_renewals(params.dialogue_evaluation.unseen).values() if renew.distractors]
    enlarged = {f"{renew.distractors}-{renew.distractor_kind}": renew for renew in unseen}
    own: Mapping[str, Draws] = {}
    for name, renew in {OWN: params.dialogues.renew, **enlarged}.items():
        setting = Setting.read(ctx, renew)
        tied = Ties(setting.kb, attributes=params.retriever.attributes)
        lots = np.random.default_rng(0).random((DRAWS, len(setting.kb)))
        ways = {"popularity": setting.popularity[None], "lot": lots}
        found = {way: _scored(ctx, setting, tied, orders) for way, orders in ways.items()}
        known: dict[str, Scalar] = {"profile": params.profile, "kb": name}
        for way, draws in found.items():
            label = f"{params.profile}: ties by {way}"
            yield from recalls(label, draws, known)
            if own:
                yield from lost(label, own[way], draws, known)
        yield from fitting_entities(f"{params.profile}: entities that fit", setting.turns, tied, known)
        own = own or found


def _scored(ctx: StageContext, setting: Setting, tied: "Ties", orders: npt.NDArray[np.float64]) -> Draws:
    cfg, turns = ctx.params.dialogue_evaluation, setting.turns
    ranked = [rows for order in orders for rows in tied.ranked(turns, order, k=MOST)]
    rows = list(
        score_retrieval(
            [turn for _ in orders for turn in turns],
            ranked,
            setting.kb,
            recall_at=CUTOFFS,
            value_attributes=cfg.value_attributes,
            count_api=cfg.count_api,
            rule=RULES[cfg.text_rule],
        )
    )
    each = len(rows) // len(orders)
    return [rows[start : start + each] for start in range(0, len(rows), each)]


def recalls(label: str, draws: Draws, known: Mapping[str, Scalar]) -> Iterator[ResultRow]:
    """Yield recall by value and by id; by value at the largest k also of first mentions and of the others."""
    for rule in ("value", "id"):
        counted = [[row for row in draw if _counts(row, rule)] for draw in draws]
        for k in CUTOFFS:
            for turns in (ALL, FIRST, OTHER) if (rule, k) == ("value", MOST) else (ALL,):
                kept = [[_found(row, rule, k) for row in draw if _among(row, turns)] for draw in counted]
                if not kept[0]:
                    continue
                more = {"metric": f"recall_{rule}@{k}", **known, "turns": turns}
                yield ResultRow(label, 100 * float(np.mean(kept)), "%", num=len(kept[0]), more=more)


def lost(label: str, own: Draws, enlarged: Draws, known: Mapping[str, Scalar]) -> Iterator[ResultRow]:
    """Yield how many turns fewer are found by value at the largest k on the enlarged knowledge base than on the own one.

    Over several draws the mean numbers of turns found are compared. Below 0 where more are found.
    """
    for turns in (ALL, FIRST, OTHER):
        numbers = []
        for draws in (own, enlarged):
            counted = [[row for row in draw if _counts(row, "value") and _among(row, turns)] for draw in draws]
            numbers.append(np.mean([sum(_found(row, "value", MOST) for row in draw) for draw in counted]))
        more = {"metric": f"lost_value@{MOST}", **known, "turns": turns}
        yield ResultRow(label, float(numbers[0] - numbers[1]), "turns", num=len(counted[0]), more=more)


def fitting_entities(label: str, turns: Iterable[Turn], tied: "Ties", known: Mapping[str, Scalar]) -> Iterator[ResultRow]:
    """Yield median and mean of the entities that fit what has been asked for, over the turns whose responses hold values."""
    kept = [turn for turn in turns if turn.gold_values]
    for part, first in ((FIRST, True), (OTHER, False)):
        sizes = [len(tied.fitting(turn)) for turn in kept if turn.first_mention is first]
        for metric, value in (("fitting_median", np.median(sizes)), ("fitting_mean", np.mean(sizes))):
            yield ResultRow(label, float(value), "", num=len(sizes), more={"metric": metric, **known, "turns": part})


def _among(row: RetrievalRow, turns: str) -> bool:
    return turns == ALL or row.first_mention is (turns == FIRST)


def _counts(row: RetrievalRow, rule: str) -> bool:
    return bool(row.num_values if rule == "value" else row.num_entities)


def _found(row: RetrievalRow, rule: str, k: int) -> bool:
    rank = row.value_rank if rule == "value" else row.id_rank
    return rank is not None and rank <= k


class Ties:
    """Ranks entities as an oracle of the request would."""

    def __init__(self, kb: KnowledgeBase, *, attributes: Sequence[str] | None) -> None:
        """Bind to a knowledge base; `attributes` besides the name can be asked for, None = all."""
        self._kb, self._index, self._attributes = kb, ValueIndex(kb), attributes
        self._groups: dict[str, Rows] = {}
        rows_of: dict[str | tuple[str, str], list[int]] = {}
        for row, entity in enumerate(kb.entities):
            for key in (entity.domain, *self._askable(row)):
                rows_of.setdefault(key, []).append(row)
        # Domain, or attribute and value → rows, ascending.
        self._rows_of = {key: np.array(rows) for key, rows in rows_of.items()}

    def ranked(self, turns: Iterable[Turn], order: npt.NDArray[np.float64], *, k: int) -> list[list[int]]:
        """Return the k first rows for each turn: those that tie by falling `order`, then the others."""
        best = np.argsort(-order, kind="stable")
        place = np.argsort(best)
        return [self._first(self.fitting(turn), best, place, k=k) for turn in turns]

    @staticmethod
    def _first(rows: Rows, best: Rows, place: Rows, *, k: int) -> list[int]:
        places = place[rows]
        first: list[int] = best[np.sort(np.partition(places, k)[:k] if len(places) > k else places)].tolist()
        likely = best[: k + len(rows)] if len(first) < k else best[:0]
        return [*first, *likely[~np.isin(likely, rows)][: k - len(first)].tolist()]

    def fitting(self, turn: Turn) -> Rows:
        """Return the rows, ascending, that fit what the context says of the entities that the response names."""
        if turn.id not in self._groups:
            self._groups[turn.id] = self._fitting(turn)
        return self._groups[turn.id]

    def _fitting(self, turn: Turn) -> Rows:
        rows = list(self._kb.rows(turn.gold_entities))
        if not rows:
            row = pseudo_positive(turn, self._index)
            if row is None:
                return np.arange(len(self._kb))
            rows = [row]
        context = normalise(" ".join(turn.context))
        asked = set.intersection(*(self._said(row, context) for row in rows))
        groups = sorted((self._rows_of[key] for key in (self._kb[rows[0]].domain, *asked)), key=len)
        return reduce(lambda kept, group: kept[np.isin(kept, group)], groups)

    def _askable(self, row: int) -> set[tuple[str, str]]:
        values = self._kb[row].attributes
        name = next(iter(values), "")
        keys = values if self._attributes is None else [name, *(a for a in self._attributes if a in values)]
        return {(key, normalise(values[key])) for key in keys if values.get(key)}

    def _said(self, row: int, context: str) -> set[tuple[str, str]]:
        return {(key, value) for key, value in self._askable(row) if contains_words(context, value)}


if __name__ == "__main__":
    main()
