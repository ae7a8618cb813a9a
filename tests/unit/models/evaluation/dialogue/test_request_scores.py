"""Expected recall and fit of single turns."""

import numpy as np
import pytest

from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.pseudo_positive import ValueIndex
from models.dialogue.data.records import Entity, Turn
from models.dialogue.data.requests.lexicon import RequestLexicon
from models.evaluation.dialogue.baselines import Bm25, Frequency
from models.evaluation.dialogue.request_scores import RequestScorer
from models.evaluation.dialogue.ties import EqualEntities, Ranking, tied_with_last

AREAS = ("north", "north", "north", "south", "south")
FOODS = ("thai", "thai", "greek", "thai", "greek")
KB = KnowledgeBase(
    Entity(f"e{i}", "pub", {"name": f"the {name}", "area": AREAS[i], "food": FOODS[i], "phone": f"55{i}"})
    for i, name in enumerate(("oak", "elm", "ash", "fir", "yew"))
)
LEXICON = RequestLexicon(("area", "food"))
SCORER = RequestScorer(KB, LEXICON, recall_at=(1, 2, 5), value_attributes=None)
ASKED = Turn(
    "d#0", "d", 0, "pub", ("thai food in the north",), "the elm is thai", gold_values=("the elm", "thai"), gold_entities=("e1",)
)


def scores(turn: Turn, rows: list[int], points: list[float] | None = None, tied: tuple[int, ...] = ()) -> dict[str, float]:
    found = SCORER.statistics(turn, Ranking(rows, points or [1 - row / 10 for row in range(len(rows))], tied))
    return {name: top / bottom for name, (top, bottom) in found.items()}


def test_entities_that_the_user_cannot_tell_apart_take_turns() -> None:
    found = scores(ASKED, [0, 1, 2, 3, 4])
    assert [found[f"expected_recall_id@{k}"] for k in (1, 2, 5)] == [0.5, 1.0, 1.0]
    assert [found[f"expected_recall_value@{k}"] for k in (1, 2, 5)] == [0.5, 1.0, 1.0]
    # Which of the two stands first does not matter, nor does a third between them.
    assert scores(ASKED, [1, 0, 2, 3, 4]) == found
    assert [scores(ASKED, [2, 1, 0, 3, 4])[f"expected_recall_id@{k}"] for k in (1, 2, 5)] == [0, 0.5, 1]


def test_an_entity_that_was_named_is_known() -> None:
    named = Turn(
        "d#1", "d", 1, "pub", (*ASKED.context, "the elm ?", "its phone ?"), "551", gold_values=("551",), gold_entities=("e1",)
    )
    assert scores(named, [1, 0, 2, 3, 4])["expected_recall_id@1"] == 1
    assert scores(named, [0, 1, 2, 3, 4])["expected_recall_id@1"] == 0
    members = EqualEntities(ValueIndex(KB), attributes=("area", "food")).of(named, range(5))
    assert {row: list(mine) for row, mine in members.items()} == {0: [0], 1: [1]}
    by_area = EqualEntities(ValueIndex(KB), attributes=("area",)).of(ASKED, [0], session=[1, 0, 3])
    assert [list(rows) for rows in by_area.values()] == [[0, 1], [0, 1]]


def test_equal_scores_are_drawn_also_behind_the_cutoff() -> None:
    greek = Turn("d#2", "d", 0, "pub", ("hi",), "the yew", gold_values=("the yew",), gold_entities=("e4",))
    assert scores(greek, [0, 1], [0.0, 0.0], (2, 3, 4))["expected_recall_id@2"] == pytest.approx(2 / 5)
    assert scores(greek, [0, 1], [1.0, 0.0], (2, 3, 4))["expected_recall_id@2"] == pytest.approx(1 / 4)
    assert scores(greek, [0, 1], [1.0, 0.5])["expected_recall_id@2"] == 0


def test_what_cannot_be_looked_for_is_found_and_what_does_not_count_is_absent() -> None:
    free = Turn("d#3", "d", 0, "pub", ("hi",), "ref abc", gold_values=("abc",))
    assert {name: value for name, value in scores(free, [0, 1, 2, 3, 4]).items()} == dict.fromkeys(
        [f"expected_recall_value@{k}" for k in (1, 2, 5)], 1.0
    )
    assert scores(Turn("d#4", "d", 0, "pub", ("hi",), "bye"), [0, 1, 2, 3, 4]) == {}


def test_fit_is_the_share_of_entities_that_satisfy_the_request() -> None:
    found = SCORER.statistics(ASKED, Ranking([1, 4, 0, 2, 3], [5, 4, 3, 2, 1]))
    assert [found[f"fit@{k}"] for k in (1, 2, 5)] == [(1, 1), (1, 2), (2, 5)]
    assert [found[f"fit_ceiling@{k}"] for k in (1, 2, 5)] == [(1, 1), (2, 2), (2, 5)]
    session = SCORER.statistics(ASKED, Ranking([4, 0], [2, 1]), session=[0, 4])
    assert (session["fit@5"], session["fit_ceiling@5"]) == ((1, 2), (1, 2))
    nobody = Turn("d#5", "d", 0, "pub", ("thai food in the north",), "none")
    assert SCORER.statistics(nobody, Ranking([4], [1]), session=[4]) == {}


@pytest.mark.parametrize("floor", [Frequency, Bm25])
def test_floors_say_what_ties_with_their_last_row(floor: type[Frequency] | type[Bm25]) -> None:
    ranker = floor(KB)
    contexts = [["in the south"], ["hello"], ["hello"]]
    within = [[0, 3, 4], [4, 2], []]
    hits = ranker.rank(contexts, 1)
    rows = [[row for row, _ in hits.of(query)] for query in range(3)]
    assert list(tied_with_last(ranker.dense_scores(contexts), rows, within=None)) == [[4], [1, 2, 3, 4], [1, 2, 3, 4]]
    hits = ranker.rank(contexts, 1, within=within)
    rows = [[row for row, _ in hits.of(query)] for query in range(3)]
    assert list(tied_with_last(ranker.dense_scores(contexts), rows, within=within)) == [[4], [4], []]


def test_expected_recall_of_word_matching_is_the_mean_over_lots() -> None:
    ranker, rng = Frequency(KB, attributes=["area", "food"]), np.random.default_rng(0)
    (dense,) = ranker.dense_scores([ASKED.context])
    draws = [np.lexsort((rng.random(5), -dense))[:1] for _ in range(4000)]
    ranking = Ranking([0], [float(dense[0])], [1])
    found = SCORER.statistics(ASKED, ranking)["expected_recall_id@1"][0]
    assert found == pytest.approx(np.mean([1 in rows for rows in draws]), abs=0.03)
