"""BM25 and Frequency on the real MultiWOZ test turns: the published floors, to the turn."""

import gzip
import json
from collections.abc import Iterator, Set
from pathlib import Path

import pytest

from models.corpus.text import ALL_SCRIPTS, PUBLISHED, TextRule
from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.records import MISSING, Entity, Turn
from models.evaluation.dialogue.baselines import Bm25, Frequency
from models.evaluation.dialogue.retrieval_scores import RetrievalRow, score_retrieval

DATA = Path("data/external/tod/multiwoz/derived")
NINE = ("name", "type", "address", "area", "food", "phone", "postcode", "pricerange", "stars")
DYNAMIC = {"ref": "booking_ref", "choice": "choice"}

pytestmark = pytest.mark.skipif(not DATA.exists(), reason=f"{DATA} is not there")


def knowledge_base(missing: Set[str]) -> KnowledgeBase:
    rows = json.loads((DATA / "kb_global.json").read_text())
    values = [{k: v for k, v in row.items() if k not in ("id", "domain") and v not in missing} for row in rows]
    return KnowledgeBase(Entity(str(row["id"]), row["domain"], kept) for row, kept in zip(rows, values, strict=True))


def turns() -> Iterator[Turn]:
    with gzip.open(DATA / "cdnet_style" / "test.jsonl.gz", "rt") as lines:
        for row in map(json.loads, lines):
            yield Turn(
                id=f"{row['did']}#{row['turn']}",
                dialogue=row["did"],
                turn=row["turn"],
                domain=row["domain"],
                context=tuple(row["context"]),
                response=row["response"],
                kind=row["kind"],
                gold_values=tuple(row["gold_entities"]),
                gold_entities=tuple(map(str, row["mentions"])),
                dynamic={name: tuple(row[source]) for name, source in DYNAMIC.items()},
            )


def ranked(ranker: type[Bm25] | type[Frequency], missing: Set[str], rule: TextRule = PUBLISHED) -> list[RetrievalRow]:
    kb, asked = knowledge_base(missing), list(turns())
    hits = ranker(kb, attributes=NINE, rule=rule).rank([turn.context for turn in asked], 7)
    return list(score_retrieval(asked, hits.rows, kb, recall_at=(7,), value_attributes=NINE, rule=rule))


def hits_by_value(rows: list[RetrievalRow]) -> tuple[int, int]:
    """Turns found within 7, and turns with gold values."""
    counted = [row.value_rank is not None for row in rows if row.num_values]
    return sum(counted), len(counted)


# The floors come out to the turn where only this mark is left out and `<dontknow>` (the price range of 12 attractions) is a word.
PUBLISHED_MISSING = frozenset({"dontknow"})


@pytest.mark.parametrize("rule", [PUBLISHED, ALL_SCRIPTS])
@pytest.mark.parametrize(("ranker", "found"), [(Bm25, 334), (Frequency, 390)])
def test_the_published_floors(ranker: type[Bm25] | type[Frequency], found: int, rule: TextRule) -> None:
    assert hits_by_value(ranked(ranker, PUBLISHED_MISSING, rule)) == (found, 441)


@pytest.mark.parametrize(("ranker", "found"), [(Bm25, 335), (Frequency, 390)])
def test_the_floors_once_every_mark_of_a_missing_value_is_left_out(ranker: type[Bm25] | type[Frequency], found: int) -> None:
    assert hits_by_value(ranked(ranker, MISSING)) == (found, 441)


@pytest.mark.parametrize(("ranker", "percent"), [(Bm25, 54.1), (Frequency, 84.3)])
def test_the_published_recall_by_id(ranker: type[Bm25] | type[Frequency], percent: float) -> None:
    counted = [row.id_rank is not None for row in ranked(ranker, PUBLISHED_MISSING) if row.num_entities]
    assert len(counted) == 185
    assert round(100 * sum(counted) / len(counted), 1) == percent
