import json
from pathlib import Path
from typing import Any

import pytest

from models.dialogue.data.readers.base import SPLITS, DialogueSource
from models.dialogue.data.readers.jsonl import problems_in, read
from models.dialogue.data.records import Entity, Turn
from models.errors import DataError
from models.params.dialogues import DialoguesParams

EXAMPLE = Path("docs/examples/dialogues")
KB = (
    {"id": "oak", "domain": "pub", "name": "The_Oak", "Area": "North", "rooms": 3, "garden": True, "phone": None, "food": "?"},
    {"id": 7, "domain": "pub", "name": "Elm Inn", "Area": "South"},
)
TURN = {"dialogue": "d", "context": ["A pub in the NORTH?"], "response": "The Oak."}


def lines(*rows: Any) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def source(folder: Path, *turns: Any, kb: Any = KB, setting: Any = "large_scale") -> DialogueSource:
    (folder / "kb.jsonl").write_text(lines(*kb))
    for split in SPLITS:
        (folder / f"{split}.jsonl").write_text(lines(*turns) if split == "test" else lines(TURN))
    return read(DialoguesParams(kind="jsonl", path=".", setting=setting), root=folder)


def only_turn(folder: Path, **changed: Any) -> Turn:
    made = source(folder, TURN | changed)
    (turn,) = made.turns("test")
    return turn


def test_the_example_reads_in_both_settings() -> None:
    for setting, size in (("large_scale", 0), ("condensed", 3)):
        made = read(DialoguesParams.model_validate({"kind": "jsonl", "path": str(EXAMPLE), "setting": setting}), root=Path())
        assert [len(list(made.turns(split))) for split in SPLITS] == [3, 2, 2]
        assert made.log.problems == []
        assert [e.name for e in made.entities] == ["the wagtail", "copper kettle", "salt house museum", "museum of knots"]
        first, second = made.turns("test")
        assert (first.domain, second.domain, second.gold_entities) == ("cafe", "museum", ("4",))
        assert len(first.kb) == size
        found, implied = made.turns("valid")
        assert (found.gold_entities, found.gold_values) == (("salt-house",), ("salt house museum", "2 crowns"))
        assert (implied.gold_entities, implied.gold_values) == (("salt-house",), ("40 rope walk",))
    assert problems_in(EXAMPLE, condensed=True) == []


def test_the_message_in_the_examples_readme_is_the_real_one(tmp_path: Path) -> None:
    for file in EXAMPLE.glob("*.jsonl"):
        (tmp_path / file.name).write_text(file.read_text().replace('["copper-kettle"], "kb"', '["coper-kettle"], "kb"'))
    (problem,) = problems_in(tmp_path)
    said = str(problem).replace(str(tmp_path), "docs/examples/dialogues")
    assert said in (EXAMPLE / "README.md").read_text()


def test_entities(tmp_path: Path) -> None:
    made = source(tmp_path)
    oak = {"name": "the oak", "area": "north", "rooms": "3", "garden": "yes"}
    assert list(made.entities) == [Entity("oak", "pub", oak), Entity("7", "pub", {"name": "elm inn", "area": "south"})]
    assert made.values == ["the oak", "north", "3", "elm inn", "south"], "`yes` is no value to look for"
    assert source(tmp_path, kb=[{"id": 1, "name": "a"}]).entities[0].domain == "entity"


def test_what_a_line_leaves_out_is_found(tmp_path: Path) -> None:
    turn = only_turn(tmp_path, response="The Oak, in the north.")
    assert (turn.id, turn.domain, turn.context) == ("d#0", "pub", ("a pub in the north?",))
    assert (turn.gold_entities, turn.gold_values, turn.first_mention) == (("oak",), ("the oak", "north"), True)
    assert only_turn(tmp_path, context=["the oak?", "yes?", "where is it?"]).first_mention is False


def test_what_a_line_gives_counts(tmp_path: Path) -> None:
    turn = only_turn(tmp_path, entities=[7], values=["X_1"], turn=4, domain="Bar", dynamic={"ref": "AB", "choice": ["2", "3"]})
    assert (turn.id, turn.turn, turn.domain) == ("d#4", 4, "bar")
    assert (turn.gold_entities, turn.gold_values, turn.first_mention) == (("7",), ("x 1",), False)
    assert turn.dynamic == {"ref": ("ab",), "choice": ("2", "3")}
    query = only_turn(tmp_path, kind="api_call")
    assert (query.kind, query.gold_entities, query.gold_values) == ("api_call", (), ())


def test_messages_are_a_context(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "A pub"}]
    assert only_turn(tmp_path, context=talk).context == ("hi", "yes?", "a pub")


def test_what_one_speaker_says_in_a_row_is_one_utterance(tmp_path: Path) -> None:
    roles = ["user", "user", "assistant", "assistant", "user", "user"]
    talk = [{"role": role, "content": f"{role[0]}{place}"} for place, role in enumerate(roles)]
    turn = only_turn(tmp_path, context=talk)
    assert (turn.context, turn.turn) == (("u0 u1", "a2 a3", "u4 u5"), 1)
    assert only_turn(tmp_path, context=["a", "b", talk[0], talk[1]]).context == ("a", "b", "u0 u1")


def test_numbers_are_numbers_however_a_table_writes_them(tmp_path: Path) -> None:
    turn = only_turn(tmp_path, entities=[7.0], values=[5, 4.0, 0.00001], turn=2.0, dynamic={"choice": 5, "ref": [12.0, "x"]})
    assert (turn.gold_entities, turn.gold_values, turn.id) == (("7",), ("5", "4", "0.00001"), "d#2")
    assert turn.dynamic == {"choice": ("5",), "ref": ("12", "x")}
    gaps = only_turn(
        tmp_path, values=["Oak", "n/a", " "], dynamic={"choice": float("nan"), "ref": [None, "null", "x"], "when": []}
    )
    assert gaps.gold_values == ("oak",) and gaps.dynamic == {"ref": ("x",)}
    assert only_turn(tmp_path, dialogue=3.0).id == only_turn(tmp_path, dialogue=3).id == "3#0"


def test_cells_of_a_table_with_gaps(tmp_path: Path) -> None:
    made = source(tmp_path)
    rows = (
        '{"id": 1.0, "name": "Copper Kettle", "seats": 40.0, "phone": NaN, "fax": -Infinity, "open": true, "domain": "Hotel"}',
        '{"id": 2, "name": 1762, "seats": 4.5, "phone": 5550122.0, "far": 1e22, "near": 1e-5, "zero": -0.0, '
        '"big": 1e999, "domain": NaN}',
        '{"id": 3, "name": "Wagtail", "a": "N/A", "b": " NaN ", "c": "Null", "d": "NONE", "e": "-", "f": "", '
        '"na": "NA", "g": "-inf", "h": "ｎａｎ", "domain": "null"}',
    )
    (tmp_path / "kb.jsonl").write_text("\n".join(rows))
    made = read(DialoguesParams(kind="jsonl", path="."), root=tmp_path)
    far = {"far": "10000000000000000000000", "near": "0.00001", "zero": "0"}
    assert [dict(entity.attributes) for entity in made.entities] == [
        {"name": "copper kettle", "seats": "40", "open": "yes"},
        {"name": "1762", "seats": "4.5", "phone": "5550122", **far},
        {"name": "wagtail", "na": "na"},
    ]
    assert [entity.domain for entity in made.entities] == ["hotel", "entity", "entity"]
    assert [entity.id for entity in made.entities] == ["1", "2", "3"] and not made.log.problems


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"id": 2, "name": "b", "Name": "c"}', "must have fields of different names, but is 'name', 'Name'."),
        ('{"id": 2, "name": "b", "area": 1, " AREA ": 2}', "must have fields of different names, but is 'area', ' AREA '."),
        ('{"id": 2, " Id": 3, "name": "b"}', "must have fields of different names, but is 'id', ' Id'."),
        ('{"id": 2, "name": "b", "straße": 1, "STRASSE": 2}', "must have fields of different names, but is 'straße', 'STRASSE'."),
        ('{"id": 2, "name": "b", "cafe\u0301": 1, "caf\u00e9": 2}', "must have fields of different names"),
        ('{"id": 2, "name": "b", "area": 1, "area": 1}', "must have each field once, but is `area` more than once."),
        ('{"id": 2, "name": "b", "open_hours": 1, "Open hours": 2}', "must have fields of different names"),
        ('{"id": 2, "name": "b", "domain": 5}', "must have text in `domain`, but is int 5."),
        ('{"id": 2, "name": "b", " ": 1}', "must have a name for each field, but is ''."),
        ('{"id": 2, "name": "n/a"}', "must have text in `name`, but is str 'n/a'."),
        ('{"id": 2, "name": NaN}', "must have text in `name`, but is float nan."),
        ('{"id": 2.5, "name": "b"}', "must have text or a whole number in `id`, but is float 2.5."),
        ('{"id": "1", "name": "b"}', "must have a unique `id`, but is `1`, as in line 1."),
        ('{"id": 1.0, "name": "b"}', "must have a unique `id`, but is `1`, as in line 1."),
        ('{"id": 2, "name": "b", "x": {"y": NaN}}', "must have text, a number, true, false or null in `x`"),
    ],
)
def test_a_bad_entity_says_what_is_wrong(tmp_path: Path, line: str, said: str) -> None:
    source(tmp_path)
    (tmp_path / "kb.jsonl").write_text('{"id": 1, "name": "a"}\n' + line, encoding="utf-8")
    (problem,) = read(DialoguesParams(kind="jsonl", path="."), root=tmp_path).log.problems
    assert str(problem).startswith(f"{tmp_path}/kb.jsonl:2 {said}")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"dialogue": None}, "must have text or a whole number in `dialogue`, but is missing."),
        ({"dialogue": True}, "must have text or a whole number in `dialogue`, but is bool True."),
        ({"context": None}, "must have the utterances before the response in `context`, but is missing."),
        ({"context": []}, "must have the utterances before the response in `context`, but is list []."),
        ({"context": ["a", 3, "c"]}, "must have an utterance in `context[1]`, but is int 3."),
        ({"context": ["a", "b"]}, "must end with an utterance of the user in `context`, but is 2 utterances."),
        (
            {"context": [{"role": "assistant", "content": "a"}]},
            "must have an utterance of the user in `context[0]`, but is one of the system.",
        ),
        ({"context": [{"role": "bot", "content": "a"}]}, "must have an utterance in `context[0]`"),
        ({"response": "  "}, "must have text in `response`, but is str '  '."),
        ({"entities": "oak"}, "must have a list of entity ids in `entities`, but is str 'oak'."),
        ({"entities": ["oka"]}, "must name entities of kb.jsonl in `entities`, but is 'oka'. Did you mean `oak`?"),
        ({"kb": ["nothing alike"]}, "must name entities of kb.jsonl in `kb`, but is 'nothing alike'."),
        ({"values": ["a", True]}, "must have a list of texts or numbers in `values`, but is list ['a', True]."),
        ({"values": [float("nan")]}, "must have a list of texts or numbers in `values`, but is list [nan]."),
        ({"turn": -1}, "must have a whole number from 0 in `turn`, but is int -1."),
        ({"turn": True}, "must have a whole number from 0 in `turn`, but is bool True."),
        ({"turn": "1"}, "must have a whole number from 0 in `turn`, but is str '1'."),
        ({"turn": 1.5}, "must have a whole number from 0 in `turn`, but is float 1.5."),
        ({"entities": [True]}, "must have a list of entity ids in `entities`, but is list [True]."),
        ({"kind": "query"}, "must have `response` or `api_call` in `kind`, but is str 'query'."),
        ({"dynamic": ["ref"]}, "must have an object (name → text, number or list) in `dynamic`, but is list ['ref']."),
        ({"dynamic": {"ref": True}}, "must have a list of texts or numbers in `dynamic.ref`, but is list [True]."),
        ({"dynamic": {"ref": "x", "Ref": "y"}}, "must have distinct names in `dynamic`, but is 'ref', 'Ref'."),
        ({"entites": ["oak"]}, "must not have the field `entites`. Did you mean `entities`?"),
    ],
)
def test_a_bad_line_says_what_is_wrong(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    made = source(tmp_path, TURN, TURN | {"dialogue": "e"} | changed)
    assert [turn.id for turn in made.turns("test")] == ["d#0"]
    (problem,) = made.log.problems
    assert str(problem).startswith(f"{tmp_path}/test.jsonl:2 {said}")


def test_every_finding_at_once(tmp_path: Path) -> None:
    kb = [*KB, {"id": "oak", "name": "again"}, {"name": ""}, "{half", {"id": "x", "name": "n", "tags": ["a"]}, []]
    bad = {"dialogue": None, "context": ["a", "b"], "response": "", "entities": ["elm"]}
    source(tmp_path, TURN, bad, "", "[1]", TURN, '{"response": "\\ud800"}', kb=kb)
    found = [str(problem).removeprefix(f"{tmp_path}/") for problem in problems_in(tmp_path)]
    places = [text.split(" ")[0] for text in found]
    assert places == [f"kb.jsonl:{n}" for n in (3, 4, 4, 5, 6, 7)] + [f"test.jsonl:{n}" for n in (2, 2, 2, 2, 4, 5, 6)]
    assert "must have a unique `id`, but is `oak`, as in line 1" in found[0]
    assert "must be unique within its dialogue, but is turn `d#0`, as in line 1" in found[11]
    assert "malformed at column 2" in found[3] and "tags" in found[4]


def test_other_fields_are_the_authors_own(tmp_path: Path) -> None:
    assert only_turn(tmp_path, note="checked by Ada", source_page=3).response == "the oak."


def test_the_domain_must_be_clear_where_there_are_several(tmp_path: Path) -> None:
    kb = [*KB, {"id": "inn", "domain": "hotel", "name": "Inn"}]
    made = source(tmp_path, TURN, TURN | {"dialogue": "e", "entities": ["inn"]}, kb=kb)
    assert [turn.domain for turn in made.turns("test")] == ["hotel"]
    assert str(made.log.problems[0]).startswith(f"{tmp_path}/test.jsonl:1 must have text in `domain`, but is missing. ")


def test_condensed_needs_a_knowledge_base_for_each_turn(tmp_path: Path) -> None:
    rows = (TURN, TURN | {"dialogue": "e", "kb": [7], "entities": ["oak"]}, TURN | {"dialogue": "f", "kb": ["oak", 7, "oak"]})
    made = source(tmp_path, *rows, setting="condensed")
    assert [(turn.dialogue, turn.kb) for turn in made.turns("test")] == [("f", ("oak", "7"))]
    assert "must have a list of entity ids in `kb`, but is missing." in str(made.log.problems[0])
    assert "must list all its `entities` in its `kb`, but is 'oak'." in str(made.log.problems[1])


def test_missing_files_are_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "kb.jsonl").write_text("")
    with pytest.raises(DataError, match=r"(?s)train\.jsonl.*valid\.jsonl.*test\.jsonl"):
        read(DialoguesParams(kind="jsonl", path="."), root=tmp_path)
    with pytest.raises(DataError, match="no entity"):
        source(tmp_path, kb=[])
    with pytest.raises(DataError, match=r"kb\.jsonl:1 must have text in `name`"):
        source(tmp_path, kb=[{"id": 1}])
