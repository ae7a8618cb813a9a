"""`python -m benchmarks.requests`: does the request that is read from a dialogue agree with what annotators wrote down?

On the embedded town, whose dialogues carry the number of entities that satisfy their true wishes; on CamRest676, whose turns are
annotated with wishes (NNDIAL); and on MultiWOZ 2.1 (ConvLab-2). Annotated dialogues are found by their words, since the texts of
the copies differ. Only values that the knowledge base has are compared. And what that makes of the floors: recall@k, expected
recall@k and fit@k of Frequency and BM25. No model is trained. Writes docs/results/requests.json.
"""

import gzip
import json
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from flows.cli import root as prepare_environment
from flows.context import StageContext, git_commit
from flows.results_files import renew_tables
from models.corpus.text import PUBLISHED, RULES
from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.prepare import prepare_dialogues
from models.dialogue.data.records import KB, Turn, read_turns, splits_of
from models.dialogue.data.requests.lexicon import RequestLexicon
from models.dialogue.data.requests.reader import RequestReader
from models.dialogue.data.value_finder import matchable
from models.evaluation.bootstrap import Resampling
from models.evaluation.dialogue.baselines import Bm25, Frequency
from models.evaluation.dialogue.comparison import aggregate
from models.evaluation.dialogue.run import HeldOut
from models.evaluation.dialogue.system import DialogueSystem
from models.evaluation.dialogue.ties import tied_with_last
from models.metrics_sink import NullSink
from models.reporting.dialogue.data import dialogue_result_rows
from models.reporting.results import Result, ResultRow, write_result

PROFILES, CUTOFFS = ("embedded", "real-camrest", "real-mwoz", "real-smd"), (1, 7)
FLOORS = {"frequency": Frequency, "bm25": Bm25}
ROOT = Path(__file__).resolve().parent.parent
# Two copies of a dialogue share most of what its user says.
_LEAST_SHARED = 0.7
_SILENCE = "<silence>"
# How annotators say that a slot is empty, and spellings of theirs.
_NO_WISH = frozenset({"", "not mentioned", "dontcare", "dont care", "do n t care", "don t care", "none"})
_SPELT = {"center": "centre", "guest house": "guesthouse", "moderately": "moderate"}

Wishes = Mapping[str, str]
"""Attribute → value that is wanted."""


def main() -> None:
    prepare_environment()
    rows = [row for profile in PROFILES for row in rows_of(StageContext.load(profile=profile))]
    command, today = "python -m benchmarks.requests", datetime.now(UTC).date().isoformat()
    write_result(ROOT / "docs" / "results", Result("requests", command, git_commit(ROOT), today, tuple(rows)))
    for row in rows:
        print(f"{row.name:32s} {row.more['metric']:26s} {row.value:7.1f} {row.unit} n = {row.num}")
    renew_tables(ROOT, write=True)


def rows_of(ctx: StageContext) -> Iterator[ResultRow]:
    cfg = ctx.params.dialogues
    if not (ctx.root / cfg.path).exists():
        print(f"benchmarks.requests: {ctx.params.profile} skipped, {cfg.path} is not there (data/README.md)")
        return
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        prepare_dialogues(cfg, root=ctx.root, out=data, sink=NullSink())
        kb = KnowledgeBase.load(data / KB)
        reader = RequestReader(kb, RequestLexicon.read(data))
        turns = [turn for turn in read_turns(splits_of(data)["test"]) if turn.kind == "response"]
        if cfg.kind == "embedded":
            yield _counts(ctx.params.profile, turns, reader)
        elif cfg.kind in ANNOTATED:
            agreement = compare(turns, list(ANNOTATED[cfg.kind](ctx.root / cfg.path)), reader, kb)
            yield from agreement.rows(ctx.params.profile)
        yield from _floors(ctx, data)


def _counts(profile: str, turns: Sequence[Turn], reader: RequestReader) -> ResultRow:
    told = [turn for turn in turns if "choice" in turn.dynamic]
    right = [turn.dynamic["choice"] == (str(len(reader.rows(reader.read(turn.context)))),) for turn in told]
    more = {"metric": "count of fitting entities", "kind": "reader"}
    return ResultRow(f"{profile}: request", 100 * sum(right) / len(told), "%", num=len(told), more=more)


def _floors(ctx: StageContext, data: Path) -> Iterator[ResultRow]:
    condensed = ctx.params.dialogues.setting == "condensed"
    cfg = ctx.params.dialogue_evaluation.model_copy(update={"recall_at": CUTOFFS})
    held = HeldOut(data, cfg, kind=ctx.params.dialogues.kind, condensed=condensed, root=ctx.root)
    scores = {}
    for name, make in FLOORS.items():
        ranker = make(held.kb, attributes=cfg.value_attributes, rule=RULES[cfg.text_rule])
        hits = ranker.rank(held.contexts, max(CUTOFFS), within=held.within)
        rows = [[row for row, _ in hits.of(query)] for query in range(len(held.turns))]
        tied = tied_with_last(ranker.dense_scores(held.contexts), rows, within=held.within)
        scores[DialogueSystem(name, "floor")] = list(held.score(held.retrieved(hits), tied=tied))
    for row in dialogue_result_rows(row for row in aggregate(scores, resampling=Resampling()) if row.domain == "all"):
        if not row.more["metric"].startswith("first_") and row.more["metric"] != "mrr":  # type: ignore[union-attr]
            yield ResultRow(f"{ctx.params.profile}: {row.name}", row.value, row.unit, row.low, row.high, row.num, row.more)


@dataclass(slots=True)
class Agreement:
    """Turns compared, those with equal wishes and with the right domain; wishes found, too many, and missed."""

    turns: int = 0
    equal: int = 0
    domains: int = 0
    found: int = 0
    extra: int = 0
    missed: int = 0

    def add(self, mine: Wishes, theirs: Wishes) -> None:
        self.turns += 1
        self.equal += mine == theirs
        self.found += len(mine.items() & theirs.items())
        self.extra += len(mine.items() - theirs.items())
        self.missed += len(theirs.items() - mine.items())

    def rows(self, profile: str) -> Iterator[ResultRow]:
        shares = {
            "turns with equal wishes": (self.equal, self.turns),
            "precision of wishes": (self.found, self.found + self.extra),
            "recall of wishes": (self.found, self.found + self.missed),
            "turns with the right domain": (self.domains, self.turns),
        }
        for metric, (count, of) in shares.items():
            yield ResultRow(f"{profile}: request", 100 * count / of, "%", num=of, more={"metric": metric, "kind": "reader"})


@dataclass(frozen=True, slots=True)
class Annotated:
    """A dialogue with annotation: what its user said, and after each utterance the wishes by domain."""

    said: tuple[str, ...]
    wishes: tuple[Mapping[str, Wishes], ...]


def compare(turns: Sequence[Turn], annotated: Sequence[Annotated], reader: RequestReader, kb: KnowledgeBase) -> Agreement:
    """Compare what is read at each turn with the annotation; the domain in question is known, and read once more without it."""
    values: dict[tuple[str, str], set[str]] = {}
    for entity in kb.entities:
        for name, value in entity.attributes.items():
            values.setdefault((entity.domain, name), set()).add(matchable(value))
    bags = [(_bag(one.said), one) for one in annotated]
    agreement, slots = (
        Agreement(),
        {name for one in annotated for known in one.wishes for mine in known.values() for name in mine},
    )
    for _, group in groupby(turns, key=lambda turn: turn.dialogue):
        dialogue = list(group)
        bag = _bag(_said(dialogue[-1]))
        shared, best = max(((_shared(bag, other), one) for other, one in bags), key=lambda pair: pair[0])
        for turn in dialogue if shared >= _LEAST_SHARED else ():
            place = len(_said(turn)) - 1
            if place < len(best.wishes):
                known = best.wishes[place].get(turn.domain, {})
                theirs = {n: v for n, raw in known.items() if (v := _plain(raw, values.get((turn.domain, n), set())))}
                wishes = reader.read(turn.context, domain=turn.domain).wishes
                agreement.add(
                    {w.attribute: " or ".join(sorted(w.values)) for w in wishes if w.values and w.attribute in slots}, theirs
                )
                agreement.domains += reader.read(turn.context).domain == turn.domain
    return agreement


def _said(turn: Turn) -> list[str]:
    return [text for text in turn.context[::2] if text != _SILENCE]


def _plain(raw: str, known: set[str]) -> str:
    """Return an annotated value as the knowledge base spells it; empty where it has none such."""
    value = matchable(raw)
    spelt = (_SPELT.get(value, value), f"{value} star")
    return "" if value in _NO_WISH else next((text for text in spelt if text in known), "")


def _bag(said: Sequence[str]) -> Counter[str]:
    return Counter(PUBLISHED.normalise(" ".join(said)).split())


def _shared(one: Counter[str], other: Counter[str]) -> float:
    both = (one & other).total()
    return both / max(1, one.total() + other.total() - both)


def _camrest(folder: Path) -> Iterator[Annotated]:
    with gzip.open(folder / "nndial" / "CamRest676.json.gz", "rt", encoding="utf-8") as file:
        dialogues = json.loads("".join(line for line in file if not line.startswith("#")))
    for dialogue in dialogues:
        turns = [turn["usr"] for turn in dialogue["dial"]]
        wishes = [
            {name: value for act in turn["slu"] if act["act"] == "inform" for name, value in act["slots"]} for turn in turns
        ]
        yield Annotated(tuple(turn["transcript"] for turn in turns), tuple({"restaurant": mine} for mine in wishes))


def _multiwoz(folder: Path) -> Iterator[Annotated]:
    with zipfile.ZipFile(folder / "convlab2" / "multiwoz21_test.json.zip") as archive:
        dialogues: dict[str, Any] = json.loads(archive.read("test.json"))
    names = ("area", "food", "pricerange", "stars", "type")
    for dialogue in dialogues.values():
        log = dialogue["log"]
        after = [{d: {n: v for n, v in s["semi"].items() if n in names} for d, s in t["metadata"].items()} for t in log[1::2]]
        yield Annotated(tuple(turn["text"] for turn in log[::2]), tuple(after))


ANNOTATED = {"camrest": _camrest, "multiwoz": _multiwoz}


if __name__ == "__main__":
    main()
