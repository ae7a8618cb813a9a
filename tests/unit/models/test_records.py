"""Records and their JSON: what was written is read back, and what is torn or of another version is refused by field."""

import json
from dataclasses import asdict

import pytest

from models.dialogue.data.records import Entity, Turn
from models.evaluation.dialogue.scores import DialogueRow, Retrieved
from models.records import from_row, to_row
from models.schema import Example, Message

ROW = DialogueRow(
    "d#3", "d", "hotel", "response", True, False, (Retrieved("e1", 0.5, "top"), Retrieved("e2", 1e-7)), "ref",
    statistics={"bleu": (1, 2.5), "entity_f1": ()}, hallucinated=("x",),
)  # fmt: skip
TURN = Turn("d#0", "d", 0, "hotel", ("hi",), "it is", kb=("a", "b"), dynamic={"ref": ("x1",)}, first_mention=True)


@pytest.mark.parametrize("record", [ROW, TURN, Entity("a", "hotel", {"name": "red lion", "area": "north"})])
def test_json_is_that_of_asdict_and_reads_back(record: object) -> None:
    text = json.dumps(to_row(record))
    assert text == json.dumps(asdict(record))  # type: ignore[call-overload]
    assert from_row(type(record), json.loads(text)) == record


def test_nested_records_and_tuples_come_back() -> None:
    example = Example("e", "family", (Message("user", "?"),), "answer", seen_by=("a",), ended=False)
    read = from_row(Example, json.loads(json.dumps(example.to_json())))
    assert read == example and isinstance(read.messages[0], Message) and isinstance(read.seen_by, tuple)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"id": "a", "domain": "hotel"}, "`attributes`: Field required"),
        ({"id": "a", "domain": "hotel", "attributes": {}, "type": "x"}, "`type`: Unexpected"),
        ({"id": "a", "domain": "hotel", "attributes": {"name": None}}, "`attributes.name`: Input should be a valid string"),
        (["a", "hotel", {}], "Input should be a dictionary"),
    ],
)
def test_other_rows_are_refused_by_field(row: object, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        from_row(Entity, row)
    assert "\n" not in str(caught.value)
