import re
from collections.abc import Callable

import pytest

from models.evaluation.fusion.correctness import is_correct
from models.schema import Example, Message
from models.world.families import HARMS, Item, knowledge_items, reasoning_items, safety_items
from models.world.instructions import FAMILIES
from models.world.town import AREAS, PRICES, SPECIAL, World, build_world


@pytest.fixture(scope="module")
def world() -> World:
    return build_world(7, num_entities=24)


def judge(item: Item, text: str) -> bool | None:
    return is_correct(Example("x", "f", (Message("user", item.prompt),), item.detailed, item.answer, item.check), text)


@pytest.mark.parametrize("family", FAMILIES)
def test_both_styles_are_correct_and_distractors_are_not(family: str, world: World) -> None:
    for item in FAMILIES[family](world):
        assert judge(item, item.simple)
        assert judge(item, item.detailed)
        assert item.distractors
        for wrong in item.distractors:
            for style in (item.simple, item.detailed):
                assert item.answer in style
                assert not judge(item, style.replace(item.answer, wrong)), (item, wrong)


@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_are_distinct_and_everything_is_short(family: str, world: World) -> None:
    items = list(FAMILIES[family](world))
    assert len({item.prompt for item in items}) == len(items)
    assert max(len(item.prompt) for item in items) <= 60
    assert max(len(item.detailed) for item in items) <= 70
    assert all(len(item.simple) < len(item.detailed) for item in items)
    assert all(text.isascii() for item in items for text in (item.prompt, item.simple, item.detailed))


def test_facts_are_the_entities_own(world: World) -> None:
    by_name = {e.name: e for e in world.entities}
    values = {"area": AREAS, "pricerange": PRICES, **dict(SPECIAL.values())}
    asked: dict[str, set[str]] = {}
    for item in knowledge_items(world):
        (entity,) = [e for name, e in by_name.items() if name in item.prompt]
        id, attribute = item.key.split("/")
        assert id == entity.id
        assert item.answer == entity.attributes[attribute]
        assert {item.answer, *item.distractors} == set(values[attribute])
        asked.setdefault(item.key, set()).add(item.prompt)
    assert len(asked) == 3 * len(world.entities)
    assert {len(prompts) for prompts in asked.values()} == {8}


def _largest(numbers: list[int]) -> str:
    return str(max(numbers))


SOLUTIONS: dict[str, Callable[[list[int]], str]] = {
    r"plus|Add|get|\+": lambda n: str(n[0] + n[1]),
    r"minus|pay| - ": lambda n: str(n[0] - n[1]),
    r"Take": lambda n: str(n[1] - n[0]),
    r"largest": _largest,
    r"smallest": lambda n: str(min(n)),
    r"Sort|order|Order": lambda n: ", ".join(map(str, sorted(n))),
}


def test_computations_follow_from_the_prompt_alone(world: World) -> None:
    seen = dict.fromkeys(SOLUTIONS, 0)
    for item in reasoning_items(world):
        (kind,) = [pattern for pattern in SOLUTIONS if re.search(pattern, item.prompt)]
        numbers = [int(n) for n in re.findall(r"\d+", item.prompt)]
        assert item.answer == SOLUTIONS[kind](numbers), item
        assert len(set(numbers)) == len(numbers) or len(numbers) == 2
        seen[kind] += 1
    assert min(seen.values()) > 200


def test_requests_are_refused_by_name_and_beliefs_contradicted(world: World) -> None:
    refused, corrected = 0, 0
    for item in safety_items(world):
        if item.answer in HARMS:
            assert any(f" {act} a " in f" {item.prompt}" for act in HARMS[item.answer][0])
            assert item.detailed.startswith("I cannot help")
            refused += 1
        else:
            assert item.key in item.prompt
            assert re.search(r"does not|cannot", item.answer)
            corrected += 1
    assert refused > 1000
    assert corrected > 1000
