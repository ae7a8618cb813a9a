"""MultiWOZ as fetched, against the uniform form that was made from the same files."""

import gzip
import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest

from models.dialogue.data.readers.base import DialogueSource
from models.dialogue.data.readers.multiwoz import read
from models.dialogue.data.readers.multiwoz_venues import references
from models.dialogue.data.records import MISSING, Turn
from models.params.dialogues import DialoguesParams
from models.schema import Split

REAL = Path("data/external/tod/multiwoz")
pytestmark = pytest.mark.skipif(not REAL.exists(), reason="MultiWOZ is not fetched (data/external/tod/multiwoz)")


@cache
def source(text: str) -> DialogueSource:
    params = {"path": str(REAL / "raw"), "setting": "condensed", "test_text": text}
    return read(DialoguesParams.model_validate({"kind": "multiwoz", **params}), root=Path())


@cache
def turns(text: str, split: str) -> list[Turn]:
    return list(source(text).turns(cast(Split, split)))


@cache
def derived(path: str) -> list[dict[str, Any]]:
    with gzip.open(REAL / f"derived/{path}.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


def ids(rows: list[int]) -> list[str]:
    return [f"mwoz-{row}" for row in sorted(rows)]


def test_the_knowledge_base_has_223_entities() -> None:
    entities = source("cdnet").entities
    domains = Counter(entity.domain for entity in entities)
    assert domains == {"restaurant": 110, "hotel": 33, "attraction": 79, "hospital": 1}
    for entity, row in zip(entities, json.loads((REAL / "derived/kb_global.json").read_text()), strict=True):
        assert (entity.id, entity.domain) == (f"mwoz-{row.pop('id')}", row.pop("domain"))
        assert list(entity.attributes.items()) == [(key, value) for key, value in row.items() if value not in MISSING]


@pytest.mark.parametrize(("split", "file", "count"), [("valid", "val", 576), ("test", "test", 711)])
def test_annotated_turns(split: str, file: str, count: int) -> None:
    made, rows = turns("cdnet", split), derived(f"cdnet_style/{file}")
    assert len(made) == count
    for turn, row in zip(made, rows, strict=True):
        assert turn.id == f"{row['did']}#{row['turn']}"
        assert (turn.domain, turn.kind, list(turn.context), turn.response) == (
            row["domain"],
            row["kind"],
            row["context"],
            row["response"],
        )
        assert list(turn.gold_values) == row["gold_entities"]
        assert list(turn.kb) == ids(row["kb"])
        assert turn.dynamic == {k: tuple(row[v]) for k, v in (("ref", "booking_ref"), ("choice", "choice")) if row[v]}
    differ = {t.id for t, row in zip(made, rows, strict=True) if list(t.gold_entities) != ids(row["mentions"])}
    assert differ == {t.id for t in made if "a great place" in t.response and "old schools" in t.response}


def test_the_turns_that_name_an_entity_are_those_of_the_published_recall() -> None:
    assert sum(bool(t.gold_entities) for t in turns("cdnet", "test")) == 185
    assert sum(bool(t.gold_values) for t in turns("cdnet", "test")) == 441


@pytest.mark.parametrize(("split", "file", "count"), [("valid", "val", 576), ("test", "test", 699), ("train", "train", 8529)])
def test_text_turns(split: str, file: str, count: int) -> None:
    made, rows = turns("graphdialog", split), derived(f"graphdialog_style/{file}")
    assert len(made) == count
    for turn, row in zip(made, rows, strict=True):
        assert turn.id == f"{row['did']}#{row['turn']}"
        assert (turn.domain, list(turn.context), turn.response) == (row["domain"], row["context"], row["response"])
    same = sum(list(t.gold_entities) == ids(row["mentions"]) for t, row in zip(made, rows, strict=True))
    assert same >= count - 7


@pytest.mark.parametrize(("split", "file", "misaligned"), [("valid", "val", 3), ("test", "test", 8)])
def test_text_dialogues_have_the_session_of_their_copy(split: str, file: str, misaligned: int) -> None:
    """The uniform form took 11 dialogues for others with the same first words; all else is the same."""
    sessions = {turn.dialogue.split("-")[-1]: (turn.kb, turn.dynamic) for turn in turns("cdnet", split)}
    off = set()
    for turn, row in zip(turns("graphdialog", split), derived(f"graphdialog_style/{file}"), strict=True):
        kb, dynamic = sessions[str(row["cdnet_did"])]
        if (turn.kb, turn.dynamic) != (kb, dynamic):
            off.add(turn.dialogue)
        elif not {"center", "centre"} & set(turn.response.split()) and "pizza" not in turn.response:
            ours = set(turn.gold_values) - set(references(turn.response))
            assert ours == set(row["gold_entities"]) - set(references(turn.response)) - {"the place"}
    assert len(off) == misaligned
    booked = {ref for turn in turns("graphdialog", split) for ref in turn.dynamic.get("ref", ())}
    said = [ref for turn in turns("graphdialog", split) for ref in references(turn.response)]
    assert sum(ref in booked for ref in said) >= len(said) - 2, "the right copy has the reference that is said"


def test_rebuilt_training_sessions() -> None:
    names = {entity.id: entity for entity in source("graphdialog").entities}
    by_dialogue: dict[str, list[Turn]] = {}
    for turn in turns("graphdialog", "train"):
        by_dialogue.setdefault(turn.dialogue, []).append(turn)
    assert len(by_dialogue) == 1839
    named, kept = 0, 0
    for talk in by_dialogue.values():
        kb = set(talk[0].kb)
        assert len(kb) == 7 and {turn.kb for turn in talk} == {talk[0].kb}
        assert {names[id].domain for id in kb} == {talk[0].domain}
        spoken_of = {id for turn in talk for id in turn.gold_entities}
        named, kept = named + len(spoken_of), kept + len(spoken_of & kb)
    assert kept / named > 0.99, "what is named is in, but for dialogues that name more than seven"


def test_training_responses_say_their_dynamic_values() -> None:
    made = turns("graphdialog", "train")
    refs = [(turn, ref) for turn in made for ref in references(turn.response)]
    assert len(refs) > 700 and all(ref in turn.dynamic["ref"] for turn, ref in refs)
