"""Tables 10, 11 and 12 of MK-TOD cell by cell, and what is known about hits."""

import numpy as np
import pytest

from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.pseudo_positive import ValueIndex
from models.dialogue.data.records import Entity
from models.dialogue.retrieval.meta_knowledge import EntityMeta, MetaKnowledge, MetaStyle, calibrate_edges, style_of
from models.dialogue.retrieval.ranking import Hits
from models.errors import RetrievalError
from models.params.dialogue import MetaKnowledgeParams

# What the paper prints, written out again: rank → text, score → text, seen → text.
TABLES: dict[MetaStyle, tuple[dict[int, str], dict[float, str], dict[bool, str]]] = {
    "prefix": (
        {
            1: "<1th-entity>",
            2: "<2th-entity>",
            3: "<3th-entity>",
            4: "<4th-entity>",
            5: "<5th-entity>",
            6: "<other-entity>",
            7: "<other-entity>",
        },
        {
            0.9: "<high-confidence>",
            0.75: "<high-confidence>",
            0.74: "<mid-confidence>",
            0.25: "<mid-confidence>",
            0.24: "<low-confidence>",
            -1.0: "<low-confidence>",
        },
        {True: "<old-entity>", False: "<new-entity>"},
    ),
    "prompt": (
        {
            1: "The top-1 recalled:",
            2: "The top-2 recalled:",
            3: "The top-3 recalled:",
            4: "The top-4 recalled:",
            5: "The top-5 recalled:",
            6: "The negative entity recalled:",
            7: "The negative entity recalled:",
        },
        {
            0.9: "with high confidence:",
            0.75: "with high confidence:",
            0.74: "with middle confidence:",
            0.25: "with middle confidence:",
            0.24: "with low confidence:",
            -1.0: "with low confidence:",
        },
        {True: "existed in history:", False: "newly recalled:"},
    ),
}
CHAT_ORDER = {n: f"this entity is top-{n} important." for n in range(1, 6)} | {6: "this entity is not important."}
CHAT_CONFIDENCE = {
    0.75: "It has high possibility that",
    0.25: "It has medium possibility that",
    0.1: "It has low possibility that",
}
CHAT_SEEN = {True: "This entity has appeared before.", False: "This is a new entity."}


def meta(rank: int = 1, score: float = 0.5, seen: bool = False, negative: bool = False) -> EntityMeta:
    return EntityMeta(rank, score, seen, negative)


def knowledge(style: MetaStyle, *kinds: str, **more: object) -> MetaKnowledge:
    return MetaKnowledge(MetaKnowledgeParams(**({"kinds": kinds} if kinds else {}), **more), style=style)


@pytest.mark.parametrize("style", ["prefix", "chat_prefix", "prompt"])
def test_every_cell_of_tables_10_and_11(style: MetaStyle) -> None:
    ranks, scores, seen = TABLES["prefix" if style == "chat_prefix" else style]
    for rank, text in ranks.items():
        assert knowledge(style, "order").text(meta(rank=rank)) == text
    for score, text in scores.items():
        assert knowledge(style, "confidence").text(meta(score=score)) == text
    for flag, text in seen.items():
        assert knowledge(style, "cooccurrence").text(meta(seen=flag)) == text


def test_every_cell_of_table_12() -> None:
    for rank, order in CHAT_ORDER.items():
        for score, confidence in CHAT_CONFIDENCE.items():
            for flag, seen in CHAT_SEEN.items():
                text = knowledge("chat_prompt").text(meta(rank=rank, score=score, seen=flag))
                assert text == f"{seen} {confidence} {order}"


def test_the_assembled_sentence() -> None:
    text = "This is a new entity. It has medium possibility that this entity is top-2 important."
    assert knowledge("chat_prompt").text(meta(rank=2)) == text
    reordered = knowledge("chat_prompt", "confidence", "order", "cooccurrence")
    assert reordered.text(meta(rank=2)) == text


@pytest.mark.parametrize(
    ("kinds", "text"),
    [
        (("order",), "This entity is top-2 important."),
        (("confidence",), "It has medium possibility that this entity is important."),
        (("cooccurrence",), "This is a new entity."),
        (("order", "cooccurrence"), "This is a new entity. This entity is top-2 important."),
        (("confidence", "cooccurrence"), "This is a new entity. It has medium possibility that this entity is important."),
        (("order", "confidence"), "It has medium possibility that this entity is top-2 important."),
    ],
)
def test_a_subset_of_table_12_is_still_sentences(kinds: tuple[str, ...], text: str) -> None:
    assert knowledge("chat_prompt", *kinds).text(meta(rank=2)) == text


@pytest.mark.parametrize(
    ("style", "text"),
    [
        ("prefix", "<other-entity> <low-confidence> <new-entity>"),
        ("prompt", "The negative entity recalled: with low confidence: newly recalled:"),
        ("chat_prefix", "<new-entity> <low-confidence> <other-entity>"),
        ("chat_prompt", "This is a new entity. It has low possibility that this entity is not important."),
        ("none", ""),
    ],
)
def test_the_negative_entity(style: MetaStyle, text: str) -> None:
    assert knowledge(style).text(meta(rank=1, score=0.99, seen=True, negative=True)) == text


def test_kinds_are_written_in_the_order_of_the_params() -> None:
    assert knowledge("prefix").text(meta()) == "<1th-entity> <mid-confidence> <new-entity>"
    assert knowledge("prefix", "cooccurrence", "order").text(meta()) == "<new-entity> <1th-entity>"
    assert knowledge("chat_prefix").text(meta()) == "<new-entity> <mid-confidence> <1th-entity>"


def test_edges_published_custom_calibrated() -> None:
    assert knowledge("prefix", edges=(0.4, 0.75)).confidence(0.3) == "low"
    assert knowledge("prefix").confidence(0.3) == "middle"
    cfg = MetaKnowledgeParams(edges="calibrated")
    assert MetaKnowledge(cfg, style="prefix", edges=(0.1, 0.2)).confidence(0.2) == "high"
    with pytest.raises(RetrievalError, match="no edges were measured"):
        MetaKnowledge(cfg, style="prefix")


def test_calibrated_edges_are_terciles() -> None:
    scores = np.random.default_rng(0).normal(size=999)
    edges = calibrate_edges([*scores.tolist(), float("-inf"), float("nan")])
    knows = MetaKnowledge(MetaKnowledgeParams(edges="calibrated"), style="prefix", edges=edges)
    counts = [sum(knows.confidence(s) == level for s in scores) for level in ("low", "middle", "high")]
    assert counts == [333, 333, 333]
    low, high = calibrate_edges([0.5] * 10)
    assert low < high
    with pytest.raises(RetrievalError, match="at least 3"):
        calibrate_edges([0.1, 0.2, float("nan")])


def test_styles_of_variants_and_special_tokens() -> None:
    assert [style_of(v) for v in ("none", "prefix", "prompt", "contrastive")] == ["none", "prefix", "prompt", "none"]
    tokens = knowledge("prefix", "order").special_tokens()
    ranks, scores, seen = TABLES["prefix"]
    assert set(tokens) == {*ranks.values(), *scores.values(), *seen.values()}
    assert len(tokens) == 11
    assert knowledge("prompt").special_tokens() == knowledge("chat_prefix").special_tokens() == ()


def test_the_explanation_speaks_of_the_kinds_that_are_used() -> None:
    whole = knowledge("chat_prefix").chat_explanation()
    places = [whole.index(token) for token in ("<old-entity>", "<high-confidence>", "<1th-entity>")]
    assert places == sorted(places)
    assert all(token in whole for token in ("<new-entity>", "<mid-confidence>", "<low-confidence>", "<other-entity>"))
    assert "confidence" not in knowledge("chat_prefix", "order").chat_explanation()
    assert knowledge("chat_prompt").chat_explanation() == ""


def test_annotate_knows_rank_score_and_what_the_dialogue_named() -> None:
    kb = KnowledgeBase(
        [
            Entity("a", "hotel", {"name": "the old mill", "area": "north", "phone": "4843"}),
            Entity("b", "hotel", {"name": "zobran inn", "area": "north", "phone": "9833"}),
            Entity("c", "hotel", {"name": "penes lodge", "area": "south", "phone": "1122"}),
        ]
    )
    hits = Hits(
        np.array([[2, 0, 1], [1, -1, -1]]),
        np.array([[0.9, 0.5, 0.1], [0.4, -np.inf, -np.inf]], dtype=np.float32),
        np.array([3, 1]),
    )
    contexts = [["A hotel in the NORTH?", "there is old mill.", "not that. which has number 9833?"], ["hello"]]
    first, second = MetaKnowledge(MetaKnowledgeParams(), style="prefix").annotate(hits, kb, contexts, ValueIndex(kb))
    assert [m.rank for m in first] == [1, 2, 3]
    assert [m.seen for m in first] == [False, True, True]
    assert [round(m.score, 3) for m in first] == [0.9, 0.5, 0.1]
    assert [(m.rank, m.seen, m.negative) for m in second] == [(1, False, False)]
