import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from models.dialogue.data.readers.base import DialogueSource
from models.dialogue.data.readers.multiwoz import read
from models.dialogue.data.records import Entity, Turn
from models.errors import DataError
from models.params.dialogues import DialoguesParams

RESTAURANTS = [
    {
        "name": "The Oak",
        "address": "1 Mill Road, Centre",
        "area": "centre",
        "food": "thai",
        "pricerange": "cheap",
        "phone": "0123",
    },
    *({"name": f"place {i:02d}", "area": ("north", "south")[i % 2], "food": "pies", "pricerange": "?"} for i in range(8)),
]
HOTELS = [{"name": "rosa's bed and breakfast", "stars": "4", "internet": "yes", "type": "guesthouse", "address": "2 Mill Road"}]
ENTITY_LIST = {"name": ["the_oak"], "choice": ["several", "<dontknow>"], "ref": ["ab12cd34"]}
OAK = {"name": "the_oak", "address": "1_mill_road_,_centre", "ref": "ab12cd34", "choice": "several"}


def record(did: int, output: str, *context: str, gold: Any = (), kb: Any = (OAK,), **fields: Any) -> dict[str, Any]:
    return {
        "did": did,
        "type": "restaurant",
        "output": output,
        "context": [*context],
        "gold_entities": [*gold],
        "kb": [*kb],
        **fields,
    }


TALK = (
    record(3, "the_oak is thai", "thai food please", gold=["the_oak", "thai"], kb=[OAK, {**OAK, "name": "place_01", "ref": "x"}]),
    record(3, "booked , reference number is : ab12cd34", "thai food please", "the_oak is thai", "book it", gold=["ab12cd34"]),
)
TEXT = """#restaurant#
1 thai food please\tthe oak is thai
2 book it\tbooked reference number is : ab12cd34

#train#
1 to london\tok
"""


def source(folder: Path, *, turns: Any = TALK, text: str = TEXT, entities: Any = ENTITY_LIST, **params: Any) -> DialogueSource:
    raw = folder / "raw"
    for name in ("cdnet", "graphdialog", "multiwoz/db"):
        (raw / name).mkdir(parents=True, exist_ok=True)
    for split in ("val", "test"):
        (raw / f"cdnet/{split}.json.gz").write_bytes(gzip.compress(json.dumps(list(turns)).encode()))
    for split in ("train", "valid", "test"):
        (raw / f"graphdialog/{split}.txt.gz").write_bytes(gzip.compress(text.encode()))
    for domain, rows in (("attraction", []), ("hotel", HOTELS), ("restaurant", RESTAURANTS)):
        (raw / f"multiwoz/db/{domain}_db.json").write_text(json.dumps(rows))
    (raw / "cdnet/entities.json").write_text(json.dumps({"all_entities": entities}))
    return read(DialoguesParams(kind="multiwoz", path="raw", **params), root=folder)


def test_the_knowledge_base(tmp_path: Path) -> None:
    made = source(tmp_path)
    hotel, *restaurants, hospital = made.entities
    attributes = {"name": "rosa ' s bed and breakfast", "type": "guesthouse", "address": "2 mill road"}
    assert hotel == Entity("mwoz-0", "hotel", {**attributes, "stars": "4 star", "internet": "yes"})
    assert [e.name for e in restaurants][-2:] == ["place 07", "the oak"], "by name within a domain"
    assert restaurants[-1].attributes["address"] == "1 mill road , centre", "as the dialogues spell it"
    assert "pricerange" not in restaurants[0].attributes, "`?` is no value"
    assert (hospital.name, hospital.id, hospital.domain) == ("addenbrookes hospital", "mwoz-10", "hospital")
    assert not any({"ref", "choice"} & set(e.attributes) for e in made.entities)
    assert made.values == ["the oak", "choice-several", "ab12cd34"]


def test_annotated_turns(tmp_path: Path) -> None:
    made = source(tmp_path, setting="condensed")
    first, second = made.turns("test")
    dynamic = {"ref": ("ab12cd34", "x"), "choice": ("several",)}
    assert first == Turn(
        id="mwoz-test-3#0",
        dialogue="mwoz-test-3",
        turn=0,
        domain="restaurant",
        context=("thai food please",),
        response="the oak is thai",
        gold_values=("the oak", "thai"),
        gold_entities=("mwoz-9",),
        kb=("mwoz-2", "mwoz-9"),
        dynamic=dynamic,
        first_mention=True,
    )
    assert (second.turn, second.gold_entities, second.first_mention, second.kb) == (1, (), False, ("mwoz-9",))
    assert made.log.left_out == {"other_domain": 1}
    assert next(source(tmp_path).turns("test")).kb == (), "no dialogue has a knowledge base of its own at large scale"


def test_text_turns_take_the_session_of_their_annotated_copy(tmp_path: Path) -> None:
    made = source(tmp_path, setting="condensed", test_text="graphdialog")
    first, second = made.turns("valid")
    assert (first.id, first.context, first.response) == ("mwoz-gd-val-0#0", ("thai food please",), "the oak is thai")
    assert first.kb == ("mwoz-9",)
    assert first.dynamic == {"ref": ("ab12cd34",), "choice": ("several",)}
    assert (first.gold_values, second.gold_values) == (("the oak", "thai"), ("ab12cd34",))
    assert second.context == ("thai food please", "the oak is thai", "book it")


def test_training_turns_have_a_rebuilt_session(tmp_path: Path) -> None:
    text = "#restaurant#\n1 pies in the north\tthere are several\n2 one\ttry the oak ref# zz99zz99\n"
    first, second = source(tmp_path, text=text, setting="condensed").turns("train")
    assert len(first.kb) == 7 and "mwoz-9" in first.kb, "seven venues, the named one among them"
    north = {f"mwoz-{row}" for row in (1, 3, 5, 7)}
    assert north < set(first.kb), "then those that fit both of the user's wishes"
    assert first.kb == second.kb == tuple(sorted(first.kb))
    assert first.dynamic == {"ref": ("zz99zz99",), "choice": ("several",)}
    assert (second.gold_values, second.gold_entities) == (("the oak", "zz99zz99"), ("mwoz-9",))


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        ("text", "must be a JSON object"),
        ({**TALK[0], "did": "4"}, "must have a number in `did`"),
        (record(4, "hi", "a", "b"), "the user last"),
        (record(4, "", "a"), "must have text in `output`"),
        (record(4, "hi", "a", kb=[{"area": "north"}]), "must have a list of rows with a `name`"),
        (record(4, "hi", "a", gold=[True]), "must have a list of texts or numbers in `gold_entities`"),
        (
            record(4, "hi", "a", kb=[{"name": "atlantis"}]),
            "must have rows of venues of MultiWOZ's database in `kb`, but is 'atlantis'",
        ),
        (TALK[0], "must be a unique turn, but is turn 0 of dialogue 3"),
    ],
)
def test_a_malformed_record_is_left_out(tmp_path: Path, bad: Any, rule: str) -> None:
    made = source(tmp_path, turns=[*TALK, bad])
    assert [t.id for t in made.turns("test")] == ["mwoz-test-3#0", "mwoz-test-3#1"]
    found = [str(p) for p in made.log.problems if "test.json.gz record 3" in p.where]
    assert len(found) == 1 and rule in found[0]


@pytest.mark.parametrize("bad", ["1 hi\n", "#hotel#\n1 hi\tho\n3 no\tno\n", "hotel\n1 a\tb\n", "#hotel#\n1 \tb\n", "#hotel#\n"])
def test_a_malformed_dialogue_is_left_out_whole(tmp_path: Path, bad: str) -> None:
    made = source(tmp_path, text=f"{bad}\n{TEXT}")
    assert [t.id for t in made.turns("train")] == ["mwoz-gd-train-1#0", "mwoz-gd-train-1#1"], "numbers do not shift"
    assert len(made.log.problems) == 1 and made.log.problems[0].where.endswith("train.txt.gz:1")


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    source(tmp_path)
    with pytest.raises(DataError, match=r"train\.json\.gz.*must be CDNet's training file.*train_text: graphdialog"):
        read(DialoguesParams(kind="multiwoz", path="raw", train_text="cdnet"), root=tmp_path)
    with pytest.raises(DataError, match="all_entities"):
        source(tmp_path, entities={"name": []})
    source(tmp_path)
    (tmp_path / "raw/graphdialog/train.txt.gz").write_bytes(b"\x1f\x8bno gzip")
    with pytest.raises(DataError, match=r"train\.txt\.gz.*must be a readable text file"):
        read(DialoguesParams(kind="multiwoz", path="raw"), root=tmp_path)
    (tmp_path / "raw/multiwoz/db/hotel_db.json").write_text('[{"stars": "4"}]')
    with pytest.raises(DataError, match=r"hotel_db\.json:1 must be an object with a `name`"):
        read(DialoguesParams(kind="multiwoz", path="raw"), root=tmp_path)


def test_cdnet_training_file_is_read_where_it_is(tmp_path: Path) -> None:
    source(tmp_path)
    (tmp_path / "raw/cdnet/train.json.gz").write_bytes(gzip.compress(json.dumps([TALK[0]]).encode()))
    made = read(DialoguesParams(kind="multiwoz", path="raw", train_text="cdnet"), root=tmp_path)
    assert [t.id for t in made.turns("train")] == ["mwoz-train-3#0"]
