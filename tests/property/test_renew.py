from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from models.corpus.text import contains_words, normalise
from models.dialogue.data.readers.base import DialogueSource
from models.dialogue.data.records import Entity, Turn
from models.dialogue.data.unseen.data_set import renew
from models.dialogue.data.unseen.replace import words_of
from models.params.dialogues import RenewParams

OWN = ("oak", "elm", "lensfield", "nandos", "saint", "johns", "place", "alexander", "city", "17")
KINDS = ("hotel", "guest house", "bed and breakfast", "restaurant", "road", "")
FILLER = ("i", "found", "the", "in", "at", "road", "hotel", "a", "12", "north", "s", "for", "people")

names = st.builds(
    lambda the, own, kind: " ".join(f"{the} {' '.join(own)} {kind}".split()),
    st.sampled_from(("", "the", "restaurant")),
    st.lists(st.sampled_from(OWN), min_size=1, max_size=3),
    st.sampled_from(KINDS),
)
addresses = st.builds(
    lambda number, own, kind: f"{number} {own} {kind}",
    st.integers(1, 99),
    st.sampled_from(OWN),
    st.sampled_from(("road", "street")),
)
phones = st.integers(10**6, 10**7 - 1).map(lambda n: f"0{n}")


@st.composite
def sources(draw: st.DrawFn) -> DialogueSource:
    rows = draw(st.lists(st.tuples(names, addresses, phones), min_size=1, max_size=6, unique_by=lambda row: row[0]))
    entities = [
        Entity(str(i), "hotel", {"name": name, "address": address, "area": "north", "phone": phone})
        for i, (name, address, phone) in enumerate(rows)
    ]
    values = [value for entity in entities for value in entity.attributes.values()]
    pieces = st.lists(st.one_of(st.sampled_from(values), st.sampled_from(FILLER)), min_size=1, max_size=8).map(" ".join)
    turns = [
        Turn(
            f"d#{n}",
            "d",
            n,
            "hotel",
            (draw(pieces),),
            draw(pieces),
            gold_values=tuple(draw(st.lists(st.sampled_from(values), max_size=3))),
        )
        for n in range(draw(st.integers(1, 3)))
    ]
    return DialogueSource(entities, values, lambda split: iter(turns if split == "test" else ()))


def named(source: DialogueSource, text: str) -> list[bool]:
    return [contains_words(normalise(text), normalise(entity.name)) for entity in source.entities]


@settings(max_examples=150, deadline=None)
@given(sources(), st.integers(0, 5))
def test_renewing_keeps_the_structure(old: DialogueSource, seed: int) -> None:
    new = renew(old, RenewParams(values=True, seed=seed), setting="condensed")
    before, after = list(old.turns("test")), list(new.turns("test"))
    assert [turn.id for turn in before] == [turn.id for turn in after]
    for a, b in zip(before, after, strict=True):
        assert named(old, a.response) == named(new, b.response), "a response names the entities it named"
        assert len(words_of(a.response)) == len(words_of(b.response))
    both = [
        (value, renewed)
        for a, b in zip(before, after, strict=True)
        for value, renewed in zip(a.gold_values, b.gold_values, strict=True)
    ]
    cells = [
        (v, w)
        for e, f in zip(old.entities, new.entities, strict=True)
        for v, w in zip(e.attributes.values(), f.attributes.values(), strict=True)
    ]
    mapping = dict([*cells, *both])
    assert all(mapping[value] == renewed for value, renewed in [*cells, *both]), "equal values stay equal"
    assert len(set(mapping.values())) == len(mapping), "different values stay different"
    assert list(new.values) == list(dict.fromkeys(mapping[value] for value in old.values))


@settings(max_examples=150, deadline=None)
@given(sources(), st.integers(0, 5))
def test_no_old_name_of_several_words_remains(old: DialogueSource, seed: int) -> None:
    new = renew(old, RenewParams(values=True, seed=seed), setting="condensed")
    texts = [text for turn in new.turns("test") for text in (*turn.context, turn.response, *turn.gold_values)]
    texts += [value for entity in new.entities for value in entity.attributes.values()]
    for entity in old.entities:
        assert " " not in entity.name or not any(contains_words(normalise(text), normalise(entity.name)) for text in texts)
        assert not any(entity.attributes["phone"] in text for text in texts)
    assert [e.attributes["area"] for e in new.entities] == ["north"] * len(new.entities)


@settings(max_examples=50, deadline=None)
@given(sources(), st.integers(0, 30))
def test_distractors_are_new(old: DialogueSource, count: int) -> None:
    new = renew(old, RenewParams(distractors=count), setting="large_scale")
    assert list(new.entities[: len(old.entities)]) == list(old.entities) and len(new.entities) == len(old.entities) + count
    assert all(a.id != b.id for a, b in pairwise(new.entities)) and len({e.id for e in new.entities}) == len(new.entities)
    known = {value for entity in old.entities for key, value in entity.attributes.items() if key != "area"}
    drawn = [entity.attributes[key] for entity in new.entities[len(old.entities) :] for key in ("name", "address", "phone")]
    assert not known & set(drawn) and len(set(drawn)) == len(drawn)
