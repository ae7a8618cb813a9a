from collections import Counter
from collections.abc import Mapping

import pytest

from models.corpus.split import normalise
from models.evaluation.fusion.correctness import is_correct
from models.params.corpus import WorldParams
from models.schema import Example, Message
from models.world.instructions import (
    FAMILIES,
    FamilyItems,
    assign_items,
    known_answers,
    preference_pairs,
    pretrain_examples,
    split_examples,
)
from models.world.town import World, build_world

CFG = WorldParams()
FamilySplits = Mapping[str, FamilyItems]
HELD_OUT = ("valid", "test")


@pytest.fixture(scope="module")
def world() -> World:
    return build_world(CFG.seed, num_entities=CFG.num_entities)


@pytest.fixture(scope="module")
def assigned(world: World) -> FamilySplits:
    return assign_items(world, CFG)


def test_the_sizes_are_as_asked(assigned: FamilySplits) -> None:
    for items in assigned.values():
        assert [len(items.train), len(items.valid), len(items.test)] == [200, 20, 100]
        assert 1000 < len(items.pretrain) <= 4000


def test_no_prompt_stands_in_two_places(assigned: FamilySplits) -> None:
    prompts = [
        normalise(item.prompt)
        for items in assigned.values()
        for part in (items.train, items.valid, items.test, items.pretrain)
        for item in part
    ]
    assert len(set(prompts)) == len(prompts)


@pytest.mark.parametrize("family", ["reasoning", "safety"])
def test_held_out_computations_and_requests_are_new(assigned: FamilySplits, family: str) -> None:
    items = assigned[family]
    known = {item.key for item in (*items.train, *items.pretrain)}
    assert not known & {item.key for part in HELD_OUT for item in getattr(items, part)}


def test_held_out_facts_are_known_under_other_phrasings(assigned: FamilySplits) -> None:
    items = assigned["knowledge"]
    in_train, in_pretrain = Counter(i.key for i in items.train), Counter(i.key for i in items.pretrain)
    for part in HELD_OUT:
        assert all(in_train[item.key] for item in getattr(items, part))
    assert len(in_train) == len(in_pretrain) == 180
    assert min(in_pretrain.values()) >= 4


def test_ground_truths_are_detailed_and_pretraining_mostly_simple(assigned: FamilySplits, world: World) -> None:
    rows = split_examples(assigned, "train", world=world)
    assert len({row.id for row in rows}) == len(rows) == 600
    detailed = {item.prompt: item.detailed for items in assigned.values() for item in items.train}
    assert all(row.response == detailed[row.messages[0].content] for row in rows)
    assert [row.family for row in rows[:50]] != ["knowledge"] * 50, "families are mixed"
    for family in FAMILIES:
        styles = {item.prompt: item.detailed for item in assigned[family].pretrain}
        learned = list(pretrain_examples(assigned, family, world=world))
        share = sum(row.response == styles[row.messages[0].content] for row in learned) / len(learned)
        assert 0.1 < share < 0.2
        assert all(is_correct(row, row.response) for row in learned)


def test_better_answers_are_correct_and_worse_ones_are_not(assigned: FamilySplits, world: World) -> None:
    items = {item.prompt: item for part in assigned.values() for item in part.pretrain}
    pairs = list(preference_pairs(assigned, world=world))
    assert len(pairs) == len(items)
    garbled = 0
    for pair in pairs:
        item = items[pair["messages"][0]["content"]]
        example = Example("x", pair["family"], (Message("user", item.prompt),), item.detailed, item.answer, item.check)
        assert pair["better"] in (item.simple, item.detailed)
        assert pair["worse"] != pair["better"]
        # Garbling spoils the language, not always the key word.
        garbled += bool(is_correct(example, pair["worse"]))
    assert garbled / len(pairs) < 0.08


def test_another_size_of_one_split_keeps_its_promises(world: World) -> None:
    assigned = assign_items(world, CFG.model_copy(update={"num_train": 30, "num_test": 31, "num_valid": 7}))
    assert [len(items.test) for items in assigned.values()] == [11, 10, 10]
    assert [len(items.valid) for items in assigned.values()] == [3, 2, 2]
    known = {item.key for item in assigned["knowledge"].train}
    assert {item.key for item in assigned["knowledge"].test} <= known


def test_prompts_without_ground_truths_are_extra_and_keep_held_out_novel_prompts(world: World, assigned: FamilySplits) -> None:
    more = assign_items(world, CFG.model_copy(update={"num_prompts_only": 300}))
    for family, items in more.items():
        assert (len(items.prompts_only), assigned[family].prompts_only) == (100, ())
        assert items.train == assigned[family].train
        prompts = [normalise(i.prompt) for s in ("train", "prompts_only", "valid", "test", "pretrain") for i in getattr(items, s)]
        assert len(set(prompts)) == len(prompts)
    for family in ("reasoning", "safety"):
        assert (more[family].valid, more[family].test) == (assigned[family].valid, assigned[family].test)
    rows = split_examples(more, "train", world=world)
    alone = [row for row in rows if row.response is None]
    assert (len(rows), len(alone), len({row.id for row in rows})) == (900, 300, 900)
    assert {(row.answer, row.check) for row in alone} == {(None, "none")}
    assert any(row.response is None for row in rows[:20]), "both kinds are mixed"


def test_few_ground_truths_leave_facts_to_be_asked_for(world: World) -> None:
    cfg = CFG.model_copy(update={"num_train": 12, "num_prompts_only": 600})
    items = assign_items(world, cfg)["knowledge"]
    known = {item.key for item in (*items.train, *items.prompts_only)}
    assert len(items.test) == 100 and {item.key for item in items.test} <= known


def test_an_oracle_knows_the_answers_that_prompts_alone_do_not_show(world: World) -> None:
    assigned = assign_items(world, CFG.model_copy(update={"num_train": 30, "num_prompts_only": 30}))
    rows = {row.id: row for row in split_examples(assigned, "train", world=world)}
    known = {row["id"]: row for row in known_answers(assigned)}
    assert known.keys() == rows.keys()
    for id_, row in rows.items():
        if row.response is not None:
            assert (row.answer, row.check) == (known[id_]["answer"], known[id_]["check"])
        else:
            assert row.answer is None and row.check == "none" and known[id_]["answer"]
