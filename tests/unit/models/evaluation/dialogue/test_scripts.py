"""Scores of dialogues that are not in English: nothing counts as found because nothing was left of it."""

import pytest

from models.corpus.text import ALL_SCRIPTS, PUBLISHED, normalise
from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.pseudo_positive import ValueIndex, pseudo_positive, seen_in_context
from models.dialogue.data.records import Entity, Turn
from models.dialogue.train.recall_rule import RecallRule
from models.evaluation.dialogue.baselines import Bm25, Frequency
from models.evaluation.dialogue.entity_f1 import MULTIWOZ, PLAIN, EntityList
from models.evaluation.dialogue.hallucination import GroundingCheck, WordValues
from models.evaluation.dialogue.retrieval_scores import RetrievalRow, score_retrieval
from models.evaluation.dialogue.run import TurnScorer

ROWS = [("北京烤鸭店", "东城区"), ("兰州拉面馆", "西城区"), ("Märkt", "süd"), ("Mörkt", "nord"), ("🍕", "—")]
KB = KnowledgeBase(Entity(str(i), "餐馆", {"name": name, "area": area}) for i, (name, area) in enumerate(ROWS))


def turn(values: tuple[str, ...], response: str = "r", context: tuple[str, ...] = ("?",)) -> Turn:
    return Turn("d#0", "d", 0, "餐馆", context, response, gold_values=values)


def score(values: tuple[str, ...], hits: list[int], **how: object) -> RetrievalRow:
    return next(score_retrieval([turn(values)], [hits], KB, recall_at=(1,), value_attributes=None, **how))  # type: ignore[arg-type]


@pytest.mark.parametrize(("values", "wrong", "right"), [(("北京烤鸭店", "东城区"), 1, 0), (("Märkt",), 3, 2), (("MÄRKT",), 3, 2)])
def test_recall_by_value_finds_the_right_entity_only(values: tuple[str, ...], wrong: int, right: int) -> None:
    assert (score(values, [wrong]).value_rank, score(values, [right]).value_rank) == (None, 1)
    rule = RecallRule(KB)
    assert (rule.value_rank(turn(values), [wrong]), rule.value_rank(turn(values), [right])) == (None, 1)


def test_values_of_which_nothing_is_left_do_not_count() -> None:
    assert (score(("🍕",), [0]).num_values, score(("🍕",), [4]).value_rank) == (0, None)
    assert score(("北京烤鸭店",), [1], rule=PUBLISHED).num_values == 0
    assert RecallRule(KB).value_rank(turn(("🍕", "!")), []) == 0
    assert ValueIndex(KB).names_in("a 🍕 and 🍕").tolist() == []
    assert WordValues(["🍕", "—"]).maximal("🍕 —") == frozenset()
    assert EntityList(["🍕", "…", "pizza"], rule=PLAIN).extract("pizza 🍕 …") == ("pizza",)
    assert len(EntityList(["!", "a"], rule=MULTIWOZ)) == 1


def test_pseudo_positives_and_mentions_of_any_script() -> None:
    index = ValueIndex(KB)
    assert pseudo_positive(turn((), "推荐北京烤鸭店，在东城区。"), index) == 0
    assert pseudo_positive(turn((), "Das Mörkt ist im Nord."), index) == 3
    assert pseudo_positive(turn((), "🍕 — !"), index) is None
    assert seen_in_context(KB[1], normalise("我要去兰州拉面馆吃面"), index)
    assert not seen_in_context(KB[2], normalise("mörkt, bitte"), index)


def test_floors_read_any_script() -> None:
    contexts = [["我想吃烤鸭"], ["im Süd ?"], ["兰州拉面馆在哪"]]
    assert Bm25(KB).rank(contexts, 1).rows.ravel().tolist() == [0, 2, 1]
    assert Frequency(KB).rank(contexts, 1).rows.ravel().tolist() == [0, 2, 1]
    latin = KnowledgeBase([Entity("a", "x", {"name": "café"}), Entity("b", "x", {"name": "caf"})])
    assert Frequency(latin).rank([["cafe\u0301?"]], 2).rows.tolist() == [[0, 1]]
    assert Frequency(latin, rule=PUBLISHED).rank([["caf"]], 2).scores.tolist() == [[1.0, 1.0]]


def test_values_in_responses_of_any_script() -> None:
    words = WordValues(["北京烤鸭店", "东城区", "城区"])
    assert words.maximal("推荐北京烤鸭店，在东城区。") == {"北京烤鸭店", "东城区"}
    found = GroundingCheck(words).check(turn((), context=("东城区有吗",)), "北京烤鸭店在东城区", retrieved=[KB[1]])
    assert found.hallucinated == ("北京烤鸭店",)
    cafe = EntityList(["CAFÉ Zoë"], rule=PLAIN)
    assert cafe.extract("try cafe\u0301 zoe\u0308!") == cafe.extract("try café zoë") == ("café zoë",)
    assert cafe.extract("try caf zo") == ()


def test_notes_name_the_rule_and_its_version() -> None:
    listed = EntityList(["a"], rule=PLAIN)
    assert TurnScorer(listed, KB).notes["recall_value"] == f"texts: {ALL_SCRIPTS.name}"
    assert PUBLISHED.name in TurnScorer(listed, KB, rule=PUBLISHED).notes["annotated_f1"]
