from models.data.dialogue import Entity, Turn
from models.data.dialogue_stats import SplitStats, kb_stats

TURNS = (
    Turn("d#0", "d", 0, "bar", ("hi there",), "which area", dynamic={"choice": ("3",)}),
    Turn("d#1", "d", 1, "bar", ("a", "b", "c d"), "api call north", kind="api_call", gold_values=("north",), kb=("x", "y")),
    Turn("e#0", "e", 0, "inn", ("e",), "", gold_values=("x",), gold_entities=("x",), first_mention=True),
    Turn("e#1", "e", 1, "inn", ("e", "f", "g"), "x is a bar", gold_entities=("x",), kb=("x",)),
)


def test_turns_are_counted_as_they_pass() -> None:
    stats = SplitStats()
    assert tuple(stats.watch(iter(TURNS))) == TURNS
    assert stats.to_json() == {
        "turns": 4,
        "dialogues": 2,
        "api_calls": 1,
        "empty_responses": 1,
        "domains": {"bar": 2, "inn": 2},
        "share_of_turns": {"dynamic": 0.25, "first_mention": 0.25, "gold_entities": 0.5, "gold_values": 0.5, "kb": 0.5},
        "mean_per_turn": {"context_utterances": 2.0, "context_words": 2.5, "kb_entities": 0.75, "response_words": 2.25},
    }


def test_an_empty_split_has_zeros() -> None:
    made = SplitStats().to_json()
    assert (made["turns"], made["dialogues"], set(made["mean_per_turn"].values())) == (0, 0, {0.0})


def test_a_knowledge_base_is_counted_by_domain_and_attribute() -> None:
    rows = [Entity("a", "inn", {"name": "a", "stars": "4"}), Entity("b", "bar", {"name": "b"}), Entity("c", "bar", {"name": "c"})]
    assert kb_stats(rows) == {"entities": 3, "domains": {"bar": 2, "inn": 1}, "attributes": {"name": 3, "stars": 1}}
