"""`python -m benchmarks.ties`: how much of recall@k can be known from a dialogue, on the real dialogue profiles.

Where several entities fit what has been asked for, no retriever can know which one the human operator named. Here the entity
that was named says which of its values stand in the context; all entities of its domain with the same values tie, and the tie is
broken by lot (mean over many draws) or by how often training responses name an entity. It is an oracle: it knows which words of
the context matter, and that the entity named has them. Writes docs/results/retrieval-ties.json.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flows.cli import root as prepare_environment
from flows.context import StageContext, git_commit
from flows.results_files import renew_tables
from models.data.dialogue import Turn
from models.data.dialogue_files import KB, read_turns, splits_of
from models.data.knowledge_base import KnowledgeBase
from models.data.prepare_dialogues import prepare_dialogues
from models.data.pseudo_positive import ValueIndex, pseudo_positive
from models.data.text import contains_words, normalise
from models.evaluation.retrieval_scores import RetrievalRow, score_retrieval
from models.metrics_sink import NullSink
from models.reporting.results import Result, ResultRow, write_result

PROFILES, CUTOFFS, DRAWS = ("real-mwoz", "real-camrest"), (1, 7), 200
ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    prepare_environment()
    rows = [row for profile in PROFILES for row in rows_of(StageContext.load(profile=profile))]
    if not rows:
        raise SystemExit("benchmarks.ties: no real dialogues in data/external (data/README.md), nothing measured")
    command, today = "python -m benchmarks.ties", datetime.now(UTC).date().isoformat()
    write_result(ROOT / "docs" / "results", Result("retrieval-ties", command, git_commit(ROOT), today, tuple(rows)))
    for row in rows:
        print(f"{row.name:48s} {row.more['metric']:16s} {row.value:6.1f} % of {row.num}")
    renew_tables(ROOT, write=True)


def rows_of(ctx: StageContext) -> Iterator[ResultRow]:
    params = ctx.params
    if not (ctx.root / params.dialogues.path).exists():
        print(f"benchmarks.ties: {params.profile} skipped, {params.dialogues.path} is not there (data/README.md)")
        return
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        prepare_dialogues(params.dialogues, root=ctx.root, out=data, sink=NullSink())
        kb, splits = KnowledgeBase.load(data / KB), splits_of(data)
        popularity = Counter(row for turn in read_turns(splits["train"]) for row in kb.rows(turn.gold_entities))
        turns = list(read_turns(splits["test"]))
    tied, cfg = Ties(kb, attributes=params.retriever.attributes), params.dialogue_evaluation

    def scored(order: npt.NDArray[np.float64]) -> list[RetrievalRow]:
        ranked = tied.ranked(turns, order, k=max(CUTOFFS))
        found = score_retrieval(
            turns, ranked, kb, recall_at=CUTOFFS, value_attributes=cfg.value_attributes, count_api=cfg.count_api
        )
        return list(found)

    often = np.array([popularity[row] for row in range(len(kb))], dtype=np.float64)
    yield from _rows(params.profile, "by popularity", [scored(often)])
    draws = np.random.default_rng(0)
    yield from _rows(params.profile, "by lot", [scored(draws.random(len(kb))) for _ in range(DRAWS)])


def _rows(profile: str, how: str, draws: Sequence[Sequence[RetrievalRow]]) -> Iterator[ResultRow]:
    for rule in ("value", "id"):
        ranks = [[_rank(row, rule) for row in draw if _counts(row, rule)] for draw in draws]
        for k in CUTOFFS:
            share = float(np.mean([[rank is not None and rank <= k for rank in draw] for draw in ranks]))
            more = {"metric": f"recall_{rule}@{k}", "profile": profile}
            yield ResultRow(f"{profile}: ties {how}", 100 * share, "%", num=len(ranks[0]), more=more)


def _counts(row: RetrievalRow, rule: str) -> bool:
    return bool(row.num_values if rule == "value" else row.num_entities)


def _rank(row: RetrievalRow, rule: str) -> int | None:
    return row.value_rank if rule == "value" else row.id_rank


class Ties:
    """Ranks entities as an oracle of the request would."""

    def __init__(self, kb: KnowledgeBase, *, attributes: Sequence[str] | None) -> None:
        """Bind to a knowledge base; `attributes` besides the name can be asked for, None = all."""
        self._kb, self._index, self._attributes = kb, ValueIndex(kb), attributes
        self._groups: dict[str, npt.NDArray[np.bool_]] = {}

    def ranked(self, turns: Iterable[Turn], order: npt.NDArray[np.float64], *, k: int) -> list[list[int]]:
        """Return the k first rows for each turn: those that tie by falling `order`, then the others."""
        return [np.lexsort((-order, ~self.fitting(turn)))[:k].tolist() for turn in turns]

    def fitting(self, turn: Turn) -> npt.NDArray[np.bool_]:
        """Return which entities fit what the context says of those that the response names, bool[N]."""
        if turn.id not in self._groups:
            self._groups[turn.id] = self._fitting(turn)
        return self._groups[turn.id]

    def _fitting(self, turn: Turn) -> npt.NDArray[np.bool_]:
        rows = list(self._kb.rows(turn.gold_entities))
        if not rows:
            row = pseudo_positive(turn, self._index)
            if row is None:
                return np.ones(len(self._kb), dtype=np.bool_)
            rows = [row]
        context = normalise(" ".join(turn.context))
        asked = set.intersection(*(self._said(row, context) for row in rows))
        domain = self._kb[rows[0]].domain
        return np.array([e.domain == domain and asked <= self._pairs(row) for row, e in enumerate(self._kb.entities)])

    def _pairs(self, row: int) -> set[tuple[str, str]]:
        values = self._kb[row].attributes
        name = next(iter(values), "")
        keys = values if self._attributes is None else [name, *(a for a in self._attributes if a in values)]
        return {(key, normalise(values[key])) for key in keys if values.get(key)}

    def _said(self, row: int, context: str) -> set[tuple[str, str]]:
        return {(key, value) for key, value in self._pairs(row) if contains_words(context, value)}


if __name__ == "__main__":
    main()
