import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from models.dialogue.data.readers import embedded
from models.dialogue.data.readers.base import SPLITS, DialogueSource
from models.dialogue.data.readers.maker import read
from models.dialogue.data.records import Entity, Turn
from models.errors import DataError
from models.params.dialogues import DialoguesParams, TownParams

FILES = {"train": "train.json", "valid": "val.json", "test": "test.json"}
DB = [
    {"address": "mill_road", "name": "the_oak", "area": "north", "type": "pub", "ref": "dontknow", "choice": "dontknow"},
    {"address": "dontknow", "name": "the_elm", "area": "south", "type": "pub", "ref": "dontknow", "choice": "dontknow"},
    {"address": "hill_road", "name": "rose", "area": "south", "type": "guesthouse", "ref": "dontknow", "choice": "dontknow"},
]


def example(**changed: Any) -> dict[str, Any]:
    row = {
        "did": 1,
        "type": "Restaurant",
        "context_used": "<user> a pub ? <sys> north or south ? <user> North",
        "output_used": "<sys> The Oak is in the north",
        "gold_entities": ["the_oak", "north"],
        "kb": [{"name": "the_oak", "ref": "AB12", "choice": "a_few"}],
        "gt_db_idx": [1, 0, 1],
        "attributes_value_times": [[0, 1]],
    }
    return {name: value for name, value in (row | changed).items() if value is not None}


def source(folder: Path, *examples: Any, db: Any = DB, setting: Any = "large_scale", entities: Any = None) -> DialogueSource:
    for split, name in FILES.items():
        (folder / name).write_text(json.dumps([*examples] if split == "test" else [example()]))
    (folder / "all_db.json").write_text(json.dumps(db))
    if entities is not None:
        (folder / "entities.json").write_text(json.dumps(entities))
    return read(DialoguesParams(kind="maker", path=".", setting=setting), root=folder)


def test_an_example_becomes_a_turn(tmp_path: Path) -> None:
    made = source(tmp_path, example(), setting="condensed")
    assert next(made.turns("test")) == Turn(
        id="test-1#1",
        dialogue="test-1",
        turn=1,
        domain="restaurant",
        context=("a pub ?", "north or south ?", "north"),
        response="the oak is in the north",
        gold_values=("the oak", "north"),
        gold_entities=("db-0",),
        kb=("db-1", "db-0"),
        dynamic={"ref": ("ab12",), "choice": ("a few",)},
        first_mention=True,
    )
    assert made.values == ["the oak", "mill road", "north", "pub", "the elm", "south", "rose", "hill road", "guesthouse"]
    assert next(source(tmp_path, example(), entities={"name": ["The_Oak"], "poi": [{"a": "b"}, "?"]}).turns("test")).kb == ()
    assert source(tmp_path, entities={"name": ["The_Oak"], "poi": [{"a": "b"}, "?"]}).values == ["the oak", "b"]


def test_rows_become_entities_of_the_domain_that_has_them(tmp_path: Path) -> None:
    hotel = example(did=2, type="hotel", gt_db_idx=[2])
    made = source(tmp_path, hotel, db=[*DB, {"name": "ivy", "type": "guesthouse"}])
    assert made.entities[0] == Entity(
        "db-0", "restaurant", {"name": "the oak", "address": "mill road", "area": "north", "type": "pub"}
    )
    assert [e.domain for e in made.entities] == ["restaurant", "restaurant", "hotel", "hotel"], "the ivy: as others of its type"
    assert "address" not in made.entities[1].attributes


def test_queries_are_no_responses(tmp_path: Path) -> None:
    query = example(context_used="<user> book it", output_used="<sys-api> ref oak")
    answer = example(context_used="<user> book it <sys-api> ref oak <api> AB12", output_used="<sys> done, AB12")
    first, second = source(tmp_path, query, answer).turns("test")
    assert (first.kind, first.response, first.gold_entities, first.turn) == ("api_call", "ref oak", (), 0)
    assert (second.kind, second.context, second.turn) == ("response", ("book it", "ref oak", "ab12"), 1)


def test_what_one_side_says_in_a_row_is_one_utterance(tmp_path: Path) -> None:
    said = "<user> hi <user> a pub <sys> yes? <api> oak <user> so?"
    (turn,) = source(tmp_path, example(context_used=said, output_used="<sys> the oak <sys> it is")).turns("test")
    assert (turn.context, turn.response, turn.turn) == (("hi a pub", "yes?", "oak so?"), "the oak it is", 1)


def test_numbers_of_a_query_are_values(tmp_path: Path) -> None:
    rows = [{"name": "oak", "choice": 0, "ref": None}, {"name": "elm", "choice": 2.0, "ref": "N/A"}]
    (turn,) = source(tmp_path, example(kb=rows, gold_entities=[5])).turns("test")
    assert (turn.dynamic, turn.gold_values) == ({"choice": ("0", "2")}, ("5",))


def test_names_that_several_rows_have_are_looked_for_in_the_dialogues_own(tmp_path: Path) -> None:
    made = source(tmp_path, example(gt_db_idx=[1]), db=[DB[0], {**DB[0], "area": "west"}])
    assert [t.gold_entities for t in made.turns("test")] == [("db-1",)]


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"did": None}, "must have a dialogue id in `did`"),
        ({"context_used": "hello <user> there"}, "must begin with `<user>`"),
        ({"context_used": "<sys> hello <user> there"}, "the user first and last, in `context_used`, but is <sys> <user>"),
        ({"context_used": "<user> hi <sys> hello"}, "must alternate between user and system"),
        ({"context_used": "<user> hi <sys> <user> you"}, "must have text after each mark in `context_used`"),
        ({"output_used": "<user> hi"}, "must have one utterance, of `<sys>` or `<sys-api>`, in `output_used`"),
        ({"output_used": " "}, "must have text in `output_used`"),
        ({"gold_entities": "oak"}, "must have a list of texts or numbers in `gold_entities`"),
        ({"gt_db_idx": [3]}, "must have a list of rows of `all_db.json` (0 to 2) in `gt_db_idx`"),
        ({"gt_db_idx": None}, "must have a list of rows of `all_db.json` (0 to 2) in `gt_db_idx`"),
        ({"kb": ["oak"]}, "must have a list of rows in `kb`"),
        ({"did": 1}, "must be a unique turn, but is 'test-1#1'"),
    ],
)
def test_a_malformed_example_is_left_out(tmp_path: Path, changed: dict[str, Any], rule: str) -> None:
    made = source(tmp_path, example(), example(**({"did": 2} | changed)), setting="condensed")
    assert [t.id for t in made.turns("test")] == ["test-1#1"]
    assert [p.where.endswith("test.json record 2") for p in made.log.problems] == [True]
    assert rule in str(made.log.problems[0])


def test_a_malformed_knowledge_base_stops(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"all_db.json row 1 must have one of the fields `name`"):
        source(tmp_path, db=[{"area": "north"}])
    with pytest.raises(DataError, match=r"entities.json must hold an object of lists"):
        source(tmp_path, entities=["oak"])


def maker_form(turn: Turn, rows: dict[str, int], entities: Iterable[Entity]) -> dict[str, Any]:
    """Write a turn as MAKER has it."""
    marks = ("<user>", "<sys>")
    own = [e for e in entities if e.id in turn.kb]
    dynamic = {kind: values[0].replace(" ", "_") for kind, values in turn.dynamic.items()}
    return {
        "did": turn.dialogue,
        "type": turn.domain,
        "context_used": " ".join(f"{marks[i % 2]} {text}" for i, text in enumerate(turn.context)),
        "output_used": f"<sys> {turn.response}",
        "gold_entities": [value.replace(" ", "_") for value in turn.gold_values],
        "kb": [{**{k: v.replace(" ", "_") for k, v in e.attributes.items()}, **dynamic} for e in own],
        "gt_db_idx": [rows[id] for id in turn.kb],
    }


def test_a_data_set_written_in_makers_form_comes_back(tmp_path: Path) -> None:
    cfg = DialoguesParams(setting="condensed", town=TownParams(num_entities=20, num_dialogues=20))
    town = embedded.read(cfg, root=tmp_path)
    rows = {entity.id: row for row, entity in enumerate(town.entities)}
    keys = dict.fromkeys(key for entity in town.entities for key in entity.attributes)
    db = [{key: entity.attributes.get(key, "dontknow").replace(" ", "_") for key in keys} for entity in town.entities]
    (tmp_path / "all_db.json").write_text(json.dumps(db))
    for split in SPLITS:
        examples = [maker_form(turn, rows, town.entities) for turn in town.turns(split)]
        (tmp_path / FILES[split]).write_text(json.dumps(examples))
    made = read(DialoguesParams(kind="maker", path=".", setting="condensed"), root=tmp_path)
    assert [dict(e.attributes) for e in made.entities] == [dict(e.attributes) for e in town.entities]
    spoken_of = {id for split in SPLITS for turn in town.turns(split) for id in turn.kb}
    assert {e.domain for e in town.entities if e.id in spoken_of} == {e.domain for e in made.entities if e.domain != "unknown"}
    for split in SPLITS:
        for new, old in zip(made.turns(split), town.turns(split), strict=True):
            assert (new.context, new.response, new.domain, new.gold_values) == (
                old.context,
                old.response,
                old.domain,
                old.gold_values,
            )
            assert (new.turn, new.dynamic) == (old.turn, dict(old.dynamic))
            assert [f"db-{rows[id]}" for id in old.kb] == list(new.kb)
    assert made.log.problems == []
