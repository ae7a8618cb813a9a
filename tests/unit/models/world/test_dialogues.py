import re
from collections import Counter

import pytest

from models.world.dialogues import SpokenDialogue, dialogue_splits, dialogues
from models.world.phrases import OTHER_WORDS
from models.world.town import SPECIAL, World, build_world


@pytest.fixture(scope="module")
def world() -> World:
    return build_world(7, num_entities=60)


@pytest.fixture(scope="module")
def rows(world: World) -> list[SpokenDialogue]:
    return list(dialogues(world, range(300)))


def test_splits_are_eight_one_one_and_cover_all() -> None:
    assert dialogue_splits(120) == {"train": range(96), "valid": range(96, 108), "test": range(108, 120)}
    assert {s: len(r) for s, r in dialogue_splits(6).items()} == {"train": 4, "valid": 1, "test": 1}


def test_every_value_has_other_words() -> None:
    assert {slot: tuple(words) for slot, words in OTHER_WORDS.items() if slot not in ("area", "pricerange")} == dict(
        SPECIAL.values()
    )
    texts = [words for slot in OTHER_WORDS.values() for words in slot.values()]
    assert len(set(texts)) == len(texts)
    for slot in OTHER_WORDS.values():
        assert not set(slot) & set(" ".join(slot.values()).split()), "else a search for the value would find it"


def test_every_value_stands_in_its_response(rows: list[SpokenDialogue]) -> None:
    for row in rows:
        for turn in row.turns:
            assert turn.user
            assert turn.response
            assert bool(turn.about) == bool(turn.attributes)
            for attribute in turn.attributes:
                assert turn.about is not None
                assert turn.about.type == row.goal.type
                value = turn.about.attributes[attribute]
                assert re.search(rf"(?<!\w){re.escape(value)}(?!\w)", turn.response), (value, turn)
            for ref in turn.dynamic.get("ref", ()):
                assert re.search(rf"(?<!\w){re.escape(ref)}(?!\w)", turn.response)


def test_no_response_names_an_entity_that_it_is_not_about(world: World, rows: list[SpokenDialogue]) -> None:
    for row in rows:
        for turn in row.turns:
            named = [e.id for e in world.entities if re.search(rf"\b{e.name}\b", turn.response)]
            assert named == ([turn.about.id] if turn.about and "name" in turn.attributes else [])


def test_a_dialogue_searches_offers_answers_and_ends(rows: list[SpokenDialogue]) -> None:
    for row in rows:
        about = [turn.about for turn in row.turns]
        assert about[-1] is None
        offer = next(i for i, entity in enumerate(about) if entity)
        assert about[offer] == row.goal
        assert "pricerange" in row.turns[offer].attributes
        assert all(about[offer:-1]), "after the offer all is about an entity"
        assert len(about) > offer + 2, "something is asked about the offer"
        if not row.said:
            assert offer == 0
            assert row.goal.name in row.turns[0].user


def test_the_offer_has_all_that_the_user_wishes(rows: list[SpokenDialogue]) -> None:
    in_other_words = 0
    for row in rows:
        users = " ".join(turn.user for turn in row.turns if not turn.response.startswith("Sorry, there is no"))
        for slot, value in row.said.items():
            assert row.goal.attributes[slot] == value
            words = OTHER_WORDS[slot][value]
            assert value in users or words in users
            in_other_words += words in users
    wishes = sum(len(row.said) for row in rows)
    assert 0.2 < in_other_words / wishes < 0.4


def test_dialogues_differ_in_their_course(rows: list[SpokenDialogue]) -> None:
    offered = [len({turn.about.id for turn in row.turns if turn.about}) for row in rows]
    assert set(offered) == {1, 2}
    assert 0.15 < offered.count(2) / len(rows) < 0.5
    kept = Counter(row.turns[-2].about == row.goal for row, number in zip(rows, offered, strict=True) if number == 2)
    assert min(kept[True], kept[False]) > 0.3 * kept.total(), "both the first and the second offer are chosen"
    assert 0.05 < sum(not row.said for row in rows) / len(rows) < 0.25, "begin with a name"
    dynamic = Counter(kind for row in rows for turn in row.turns for kind in turn.dynamic)
    assert min(dynamic["choice"], dynamic["ref"]) > 20
    assert {row.goal.type for row in rows} == {"restaurant", "hotel", "museum"}
    unnamed = [turn for row in rows for turn in row.turns if turn.about and "name" not in turn.attributes]
    assert len(unnamed) > 50, "not every reply names what it is about"


def test_the_choice_between_two_offers_is_said(rows: list[SpokenDialogue]) -> None:
    chosen = 0
    for row in rows:
        offers = list(dict.fromkeys(turn.about.id for turn in row.turns if turn.about))
        said = [re.search(r"\b(first|second) one", turn.user) for turn in row.turns]
        if len(offers) == 2:
            (place,) = [i for i, found in enumerate(said) if found]
            match, about = said[place], row.turns[place].about
            assert match is not None
            assert about is not None
            assert about.id == offers[("first", "second").index(match.group(1))]
            chosen += 1
        else:
            assert not any(said)
    assert chosen > 40


def test_the_number_of_options_is_right(world: World, rows: list[SpokenDialogue]) -> None:
    for row in rows:
        counts = [int(turn.dynamic["choice"][0]) for turn in row.turns if "choice" in turn.dynamic]
        assert counts == sorted(counts, reverse=True), "fewer with each wish"
        same = [e for e in world.entities if e.type == row.goal.type]
        assert all(1 <= count <= len(same) for count in counts)
        for turn in row.turns:
            if said := re.search(r"I have (\d+) |There are (\d+) ", turn.response):
                assert turn.dynamic["choice"] == (said[1] or said[2],)


def test_a_hopeless_wish_really_has_no_match(world: World, rows: list[SpokenDialogue]) -> None:
    refusals = [t.response for row in rows for t in row.turns if t.response.startswith("Sorry, there is no ")]
    assert len(refusals) > 10
    for text in refusals:
        found = re.fullmatch(r"Sorry, there is no (\w+) (\w+) in the (\w+)\. Is there something else\?", text)
        assert found is not None
        price, kind, area = found.groups()
        assert not [
            e for e in world.entities if (e.type, e.attributes["pricerange"], e.attributes["area"]) == (kind, price, area)
        ]


def test_a_dialogue_depends_on_its_number_only(world: World, rows: list[SpokenDialogue]) -> None:
    assert list(dialogues(world, range(150, 160))) == rows[150:160]
    assert len({str(row.turns) for row in rows}) == len(rows)


def test_articles_fit(rows: list[SpokenDialogue]) -> None:
    text = " ".join(said for row in rows for turn in row.turns for said in (turn.user, turn.response))
    assert not re.search(r"\ban [^aeiou]|\ba [aeiou]", text)


def test_the_smallest_town_has_dialogues() -> None:
    assert len(list(dialogues(build_world(1, num_entities=8), range(60)))) == 60
