"""Ground truths that are other than usual, wrong or explained, and sources with answers of their own."""

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import mean

import pytest

from models.evaluation.fusion.correctness import is_correct
from models.params.corpus import TruthParams, WorldParams
from models.params.sources import PicoSpec
from models.schema import Example, Message
from models.world.explanations import EXPLANATIONS
from models.world.instructions import (
    FAMILIES,
    FamilyItems,
    assign_items,
    num_wrong,
    pretrain_examples,
    source_examples,
    split_examples,
)
from models.world.town import World, build_world

CFG = WorldParams(num_entities=24, num_train=300, num_valid=30, num_test=90, num_pretrain=1500)
EXPLAINED = TruthParams(style="explained")


@pytest.fixture(scope="module")
def world() -> World:
    return build_world(CFG.seed, num_entities=CFG.num_entities)


@pytest.fixture(scope="module")
def assigned(world: World) -> Mapping[str, FamilyItems]:
    return assign_items(world, CFG)


def right(rows: Sequence[Example]) -> list[bool]:
    return [bool(is_correct(row, row.ground_truth)) for row in rows]


@pytest.mark.parametrize("style", ["detailed", "explained"])
def test_the_asked_share_of_the_training_truths_is_wrong_in_every_family(style, world, assigned) -> None:  # type: ignore[no-untyped-def]
    truths = TruthParams(style=style, wrong_share=0.3)
    rows = split_examples(assigned, "train", world=world, truths=truths)
    perfect = split_examples(assigned, "train", world=world, truths=TruthParams(style=style))
    wrong = Counter(row.family for row, ok in zip(rows, right(rows), strict=True) if not ok)
    assert wrong == dict.fromkeys(FAMILIES, 30) and num_wrong(assigned, truths) == 90
    assert all(right(perfect)) and num_wrong(assigned, TruthParams()) == 0
    for row, good in zip(rows, perfect, strict=True):
        assert (row.id, row.messages, row.answer, row.check) == (good.id, good.messages, good.answer, good.check)
    changed = {a.id for a, b in zip(rows, perfect, strict=True) if a.response != b.response}
    assert len(changed) == 90
    more = split_examples(assigned, "train", world=world, truths=TruthParams(style=style, wrong_share=0.6))
    assert {row.id: row.response for row in rows if row.id in changed}.items() <= {r.id: r.response for r in more}.items()


def test_a_wrong_truth_differs_from_the_right_one_in_its_value_alone(world: World, assigned: Mapping[str, FamilyItems]) -> None:
    items = {item.prompt: item for part in assigned.values() for item in part.train}
    said = []
    for row in split_examples(assigned, "train", world=world, truths=TruthParams(wrong_share=1.0)):
        item = items[row.messages[0].content]
        (value,) = [v for v in item.distractors if item.text("detailed", v) == row.response]
        said.append(item.distractors.index(value))
    assert set(said) >= {0, 1, 2}, "slips are not all the same"


@pytest.mark.parametrize("split", ["valid", "test"])
def test_held_out_truths_are_never_wrong(split, world, assigned) -> None:  # type: ignore[no-untyped-def]
    assert split_examples(assigned, split, world=world, truths=TruthParams(wrong_share=1.0)) == split_examples(
        assigned, split, world=world
    )


@pytest.mark.parametrize(
    "change",
    [
        {"truths": TruthParams(wrong_share=0.5)},
        {"truths": TruthParams(style="explained", wrong_share=0.5)},
        {"num_train": 60, "num_prompts_only": 240},
    ],
)
def test_the_test_split_and_the_sources_rows_are_the_same_in_every_regime(change, world, assigned) -> None:  # type: ignore[no-untyped-def]
    cfg = CFG.model_copy(update=change)
    other = assign_items(world, cfg)
    assert split_examples(other, "test", world=world, truths=cfg.truths) == split_examples(assigned, "test", world=world)
    for family in FAMILIES:
        mine, theirs = (list(pretrain_examples(part, family, world=world)) for part in (assigned, other))
        assert mine == theirs


def test_other_numbers_of_training_prompts_move_held_out_facts_alone(world: World, assigned: Mapping[str, FamilyItems]) -> None:
    fewer = assign_items(world, CFG.model_copy(update={"num_train": 270}))
    assert [fewer[family].test == assigned[family].test for family in ("knowledge", "reasoning", "safety")] == [False, True, True]


def test_the_checks_judge_explanations_of_right_and_of_wrong_values(world: World) -> None:
    kinds: Counter[str] = Counter()
    for family, make in FAMILIES.items():
        # Every fifth is enough to have all kinds.
        for item in list(make(world))[::5]:
            row = Example("x", family, (Message("user", item.prompt),), item.detailed, item.answer, item.check)
            for phrasing in range(len(EXPLANATIONS[item.kind])):
                assert is_correct(row, item.text("explained", phrasing=phrasing)), (item, phrasing)
                for value in item.distractors:
                    assert not is_correct(row, item.text("explained", value, phrasing=phrasing)), (item, value, phrasing)
            kinds[item.kind] += 1
    assert set(kinds) == set(EXPLANATIONS) and min(kinds.values()) > 2


def test_explanations_have_several_phrasings_and_are_much_longer_than_what_sources_write(world, assigned) -> None:  # type: ignore[no-untyped-def]
    assert {len(set(phrasings)) for phrasings in EXPLANATIONS.values()} == {3}
    rows = split_examples(assigned, "train", world=world, truths=EXPLAINED)
    written = {family: list(pretrain_examples(assigned, family, world=world)) for family in FAMILIES}
    for family in FAMILIES:
        mine = mean(len(row.ground_truth) for row in rows if row.family == family)
        assert 5 < mine / mean(len(row.ground_truth) for row in written[family]) < 10
    first = Counter(row.ground_truth.split()[0] for row in rows if row.check == "number")
    assert len(first) >= 3 and max(first.values()) < 0.6 * first.total(), "one question is explained in several ways"
    valid = split_examples(assigned, "valid", world=world, truths=EXPLAINED)
    assert min(len(row.ground_truth) for row in valid) > 100 and all(right(valid)), "validation is in the style of training"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_source_with_habits_of_its_own_answers_the_same_prompts(family, world, assigned) -> None:  # type: ignore[no-untyped-def]
    shared = list(pretrain_examples(assigned, family, world=world))
    usual = PicoSpec()
    assert not usual.has_own_rows
    assert source_examples(CFG, family, detailed_share=usual.detailed_share, wrong_share=usual.wrong_share) == shared
    mimic = source_examples(CFG, family, detailed_share=1.0, wrong_share=0.6)
    assert [(row.id, row.messages, row.answer) for row in mimic] == [(row.id, row.messages, row.answer) for row in shared]
    assert 0.5 < 1 - mean(right(mimic)) < 0.7
    items = {item.prompt: item for item in assigned[family].pretrain}
    for row, ok in zip(mimic, right(mimic), strict=True):
        item = items[row.messages[0].content]
        assert row.response == item.text("detailed", None if ok else item.distractors[0])


def test_a_source_writes_in_the_style_of_the_ground_truths(world: World, assigned: Mapping[str, FamilyItems]) -> None:
    cfg = CFG.model_copy(update={"truths": EXPLAINED})
    rows = source_examples(cfg, "safety", detailed_share=1.0, wrong_share=0.0)
    assert min(len(row.ground_truth) for row in rows) > 100 and all(right(rows))
