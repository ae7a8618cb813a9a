import numpy as np
import pytest

from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.pseudo_positive import ValueIndex
from models.dialogue.data.records import Entity
from models.dialogue.train.warm_start.batches import WarmBatches, log_inclusion
from models.dialogue.train.warm_start.examples import WarmExample, WarmExamples
from models.params.retriever import WarmStartParams

FOODS = ("thai", "greek")
KB = KnowledgeBase([Entity(str(i), "restaurant", {"name": f"house {i}", "food": FOODS[i % 2]}) for i in range(20)])
INDEX = ValueIndex(KB)


def _example(i: int, *, positive: int, said: str, session: tuple[int, ...] = ()) -> WarmExample:
    return WarmExample(f"t{i}", positive, INDEX.values_in(said).tolist(), list(session), [2, *[5] * i, 3])


EXAMPLES = WarmExamples(_example(i, positive=i % 20, said=f"house {i % 20}") for i in range(50))


def _batches(examples: WarmExamples = EXAMPLES, **changes: int) -> WarmBatches:
    return WarmBatches(examples, INDEX, WarmStartParams(**{"batch_size": 4, "negatives": 3, **changes}))


def test_examples_come_back_as_they_were() -> None:
    assert EXAMPLES[7] == _example(7, positive=7, said="house 7")
    assert EXAMPLES.lengths.tolist() == [i + 2 for i in range(50)]


def test_an_epoch_sees_every_turn_once() -> None:
    batches = _batches(batch_size=5)
    seen = [turn.id for step in range(10) for turn in batches.turns_at(step)]
    # A window of length sorting may cross the end of an epoch, but draws the same turns.
    whole = [turn.id for step in range(40) for turn in batches.turns_at(step)]
    assert sorted(whole) == sorted(f"t{i}" for i in range(50) for _ in range(4))
    assert len(set(seen)) > 40


def test_turns_of_a_batch_are_of_similar_length() -> None:
    batches = _batches()
    spread = [np.ptp([len(turn.tokens) for turn in batches.turns_at(step)]) for step in range(8)]
    assert np.mean(spread) < 12


def test_a_step_is_a_function_of_seed_and_step() -> None:
    def rows(batches: WarmBatches, step: int) -> tuple[list[str], list[int]]:
        turns = batches.turns_at(step)
        return [t.id for t in turns], batches.batch(step, turns).columns.tolist()

    forward = _batches()
    steps = [rows(forward, step) for step in range(20)]
    assert rows(_batches(), 17) == steps[17]
    assert rows(_batches(seed=1), 17) != steps[17]
    assert len({_batches().dropout_seed(step) for step in range(20)}) == 20


def test_columns_are_distinct_and_positives_point_into_them() -> None:
    batches = _batches(batch_size=16)
    turns = batches.turns_at(0)
    batch = batches.batch(0, turns)
    assert len(set(batch.columns.tolist())) == len(batch.columns)
    assert batch.columns[batch.positives].tolist() == [turn.positive for turn in turns]
    assert len(batch.columns) == len({turn.positive for turn in turns}) + 3
    # A name explains itself only.
    assert batch.explains.sum(axis=1).tolist() == [1] * 16
    assert batch.explains[np.arange(16), batch.positives].all()


def test_entities_with_the_same_values_explain_the_turn_as_well() -> None:
    examples = WarmExamples([_example(1, positive=0, said="thai"), _example(2, positive=1, said="house 1")])
    batches = _batches(examples, batch_size=2, negatives=18)
    turns = sorted(batches.turns_at(0), key=lambda turn: turn.id)
    batch = batches.batch(0, turns)
    explained = {int(row) for row in batch.columns[batch.explains[0]]}
    assert explained == set(range(0, 20, 2))
    assert {int(row) for row in batch.columns[batch.explains[1]]} == {1}


def test_wrong_are_only_entities_that_explain_less() -> None:
    said = "house 0 thai ; house 1"
    examples = WarmExamples([_example(1, positive=0, said=said), _example(2, positive=2, said="house 2")])
    batches = _batches(examples, batch_size=2, negatives=18)
    turns = sorted(batches.turns_at(0), key=lambda turn: turn.id)
    batch = batches.batch(0, turns)
    # House 1 is named as well; house 2 is merely another Thai restaurant.
    assert {int(row) for row in batch.columns[batch.not_wrong[0]]} == {0, 1}
    assert {int(row) for row in batch.columns[batch.explains[0]]} == {0}
    assert {int(row) for row in batch.columns[batch.not_wrong[1]]} == {2}


def test_hard_negatives_are_the_best_that_do_not_explain() -> None:
    examples = WarmExamples([_example(1, positive=0, said="thai"), _example(2, positive=1, said="house 1")])
    batches = _batches(examples, batch_size=2, negatives=0, hard_negatives=2)
    turns = sorted(batches.turns_at(0), key=lambda turn: turn.id)
    hard = np.array([[2, 4, 5, 7, 9], [1, 8, -1, -1, -1]])
    assert batches.batch(0, turns, hard=hard).columns.tolist() == [0, 1, 5, 7, 8]


def test_condensed_negatives_come_from_the_turns_own_knowledge_bases() -> None:
    examples = WarmExamples([_example(i, positive=i, said=f"house {i}", session=(i, 10 + i)) for i in range(4)])
    batches = _batches(examples, negatives=8)
    batch = batches.batch(0, batches.turns_at(0))
    assert set(batch.columns.tolist()) == {0, 1, 2, 3, 10, 11, 12, 13}


def test_hard_negatives_of_condensed_turns_are_their_own_rows() -> None:
    examples = WarmExamples([_example(i, positive=i, said=f"house {i}", session=(i, 10 + i, 15 + i)) for i in range(4)])
    batches = _batches(examples, negatives=0, hard_negatives=1)
    columns = batches.batch(0, batches.turns_at(0)).columns.tolist()
    assert sorted(columns[:4]) == [0, 1, 2, 3]
    assert len(columns) == 8
    assert {row % 5 for row in columns[4:]} == {0, 1, 2, 3}


@pytest.mark.parametrize("negatives", [0, 30])
def test_more_negatives_than_entities(negatives: int) -> None:
    batches = _batches(negatives=negatives)
    turns = batches.turns_at(0)
    known = len({turn.positive for turn in turns})
    assert len(batches.batch(0, turns).columns) == (20 if negatives else known)


def test_log_q_counts_how_often_an_entity_is_in_a_batch() -> None:
    examples = WarmExamples(_example(i, positive=0 if i < 40 else i % 20, said="") for i in range(50))
    batches = _batches(examples, batch_size=4, negatives=2)
    seen = np.zeros(20)
    for step in range(4000):
        seen[batches.batch(step, batches.turns_at(step)).columns] += 1
    log_q = log_inclusion(examples.positives, 20, WarmStartParams(batch_size=4, negatives=2))
    # Random negatives fall on entities that are not in yet, and turns of a length come together: the formula leaves that out.
    assert np.exp(log_q) == pytest.approx(seen / 4000, rel=0.25)
    assert np.exp(log_q[0]) / np.exp(log_q[1:]).max() == pytest.approx(seen[0] / seen[1:].max(), rel=0.25)
    batch = batches.batch(0, batches.turns_at(0))
    assert batch.log_q.tolist() == log_q[batch.columns].tolist()


def test_log_q_of_what_never_comes_in_is_finite() -> None:
    log_q = log_inclusion(np.zeros(50, dtype=np.int64), 3, WarmStartParams(batch_size=4, negatives=0))
    assert log_q[0] == 0 and log_q[1:].tolist() == pytest.approx([np.log(1 / 50)] * 2)
