import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from models.dialogue.data.readers.base import DialogueSource
from models.dialogue.data.readers.camrest import CONDENSED_SIZE, read
from models.dialogue.data.records import MISSING
from models.errors import DataError
from models.params.dialogues import DialoguesParams

REAL = Path("data/external/tod/camrest")
FOODS = ("thai", "pies", "indian")
DB = [
    {"id": str(i), "name": f"Place {i:02d}", "area": ("north", "south")[i % 2], "food": FOODS[i % 3], "postcode": "C.B 2, 1 A.B"}
    for i in reversed(range(12))
]


def record(did: Any, output: str, *context: str, gold: Any = (), kb: Any = (), **fields: Any) -> dict[str, Any]:
    rows = [{"name": name, "area": "north"} if isinstance(name, str) else name for name in kb]
    return {"did": did, "output": output, "context": list(context), "gold_entities": list(gold), "kb": rows, **fields}


TALK = (
    record(7, "api_call thai north dontcare", "thai in the north", gold=["thai", "north"]),
    record(
        7,
        "place_06 is thai",
        "thai in the north",
        "api_call thai north dontcare",
        "<silence>",
        gold=["place_06"],
        kb=["place_00", "place_06"],
    ),
)


def write(folder: Path, records: Any, *, db: Any = DB, entities: Any = None) -> None:
    for name in ("cdnet", "nndial"):
        (folder / "raw" / name).mkdir(parents=True, exist_ok=True)
    for split in ("train", "val", "test"):
        (folder / f"raw/cdnet/{split}.json.gz").write_bytes(gzip.compress(json.dumps(list(records)).encode()))
    listed = {"all_entities_list": ["place_06", "thai"]} if entities is None else entities
    (folder / "raw/cdnet/entities.json").write_text(json.dumps(listed))
    (folder / "raw/nndial/CamRestDB.json").write_text("#####\n#  (c) #\n" + json.dumps(db))


def source(folder: Path, *records: Any, setting: Any = "large_scale", **files: Any) -> DialogueSource:
    write(folder, records, **files)
    return read(DialoguesParams(kind="camrest", path="raw", setting=setting), root=folder)


def test_records_become_turns(tmp_path: Path) -> None:
    made = source(tmp_path, *TALK, record("8", "bye", "hi"))
    assert [e.id for e in made.entities] == [f"camrest-{i}" for i in range(12)], "by name"
    assert dict(made.entities[1].attributes) == {"name": "place 01", "area": "south", "food": "pies", "postcode": "cb21ab"}
    assert made.values == ["place 06", "thai"]
    query, answer, other = made.turns("valid")
    assert (query.id, query.kind, query.response) == ("camrest-val-7#0", "api_call", "api call thai north dontcare")
    assert query.gold_values == ("thai", "north")
    assert query.gold_entities == ()
    assert (answer.id, answer.turn, answer.kind, answer.domain) == ("camrest-val-7#1", 1, "response", "restaurant")
    assert answer.context == ("thai in the north", "api call thai north dontcare", "<silence>")
    assert (answer.gold_entities, answer.first_mention) == (("camrest-6",), True)
    assert answer.gold_values == ("place 06",)
    assert answer.kb == (), "large scale"
    assert other.dialogue == "camrest-val-8"
    assert next(t.id for t in made.turns("train")) == "camrest-train-7#0"


def test_a_condensed_knowledge_base_has_the_named_the_returned_and_similar_ones(tmp_path: Path) -> None:
    asked = record(9, "how about place 01 ?", "place 03 is full")
    made = list(source(tmp_path, *TALK, asked, setting="condensed").turns("test"))
    assert all(len(set(t.kb)) == len(t.kb) == CONDENSED_SIZE for t in made)
    assert made[0].kb == made[1].kb, "the same in all turns of a dialogue"
    assert {"camrest-0", "camrest-6"} <= set(made[0].kb)
    # The query asks for thai food (0, 3, 6, 9) in the north (0, 2, 4, 6, 8, 10): no others come in.
    assert set(made[0].kb) <= {f"camrest-{i}" for i in (0, 3, 6, 9, 2, 4, 8, 10)}
    assert {"camrest-1", "camrest-3"} <= set(made[2].kb)
    assert list(made[2].kb) == sorted(made[2].kb, key=lambda id: int(id.partition("-")[2])), "the order tells nothing"


def test_many_returned_rows_are_cut_after_the_named_ones(tmp_path: Path) -> None:
    talk = record(1, "place_11 ?", "hi", kb=[f"place_{i:02d}" for i in range(10)])
    (turn,) = source(tmp_path, talk, setting="condensed").turns("test")
    assert turn.kb == tuple(f"camrest-{i}" for i in (0, 1, 2, 3, 4, 5, 11))


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        (["x"], "must be a JSON object"),
        (record(8, "", "hi"), "`output`"),
        (record(8, "x", "hi", "you"), "`context`, the user last"),
        (record(8, "x", "hi", context=[1]), "list of texts in `context`"),
        (record(8, "x", "hi", gold_entities=None), "`gold_entities`"),
        (record(None, "x", "hi"), "`did`"),
        (record(8, "x", "hi", kb=[["x"]]), "list of rows in `kb`"),
        (record(8, "x", "hi", kb=[{"area": "north"}]), "`name`"),
        (TALK[1], "a unique turn"),
    ],
)
def test_a_malformed_record_is_named_and_left_out(tmp_path: Path, bad: Any, rule: str) -> None:
    made = source(tmp_path, *TALK, bad)
    assert [t.id for t in made.turns("test")] == ["camrest-test-7#0", "camrest-test-7#1"]
    (problem,) = made.log.problems
    assert rule in problem.rule
    assert problem.where.endswith("test.json.gz record 3")


def test_a_dialogue_that_comes_back_is_malformed(tmp_path: Path) -> None:
    made = source(tmp_path, *TALK, record(8, "bye", "hi"), record(7, "bye", "hi", "you", "a"))
    assert [t.dialogue[-1] for t in made.turns("test")] == ["7", "7", "8"]
    assert [p.where.rpartition(" ")[2] for p in made.log.problems] == ["4"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"db": {}}, "CamRestDB.json must hold a list"),
        ({"db": [{"name": "x"}, {"id": 1, "name": ["x"]}]}, r"row 1 must have the field `id`(.|\n)*row 2 must have text"),
        ({"entities": []}, "entities.json must hold an object"),
        ({"entities": {}}, "entities.json must have a list of texts in `all_entities_list`"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, files: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        source(tmp_path, *TALK, **files)


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    made = source(tmp_path, *TALK)
    (tmp_path / "raw/cdnet/test.json.gz").unlink()
    with pytest.raises(DataError, match=r"cdnet/test\.json\.gz"):
        list(made.turns("test"))


def real(setting: Any) -> DialogueSource:
    if not (REAL / "raw/cdnet").is_dir():
        pytest.skip("data/external/tod/camrest is not there")
    return read(DialoguesParams(kind="camrest", path=str(REAL / "raw"), setting=setting), root=Path())


@pytest.mark.parametrize(("split", "name", "turns"), [("train", "train", 2095), ("valid", "val", 675), ("test", "test", 643)])
def test_the_derived_files_are_reproduced(split: Any, name: str, turns: int) -> None:
    made = real("condensed")
    place = {entity.id: row for row, entity in enumerate(made.entities)}
    with gzip.open(REAL / f"derived/{name}.jsonl.gz", "rt") as lines:
        derived = [json.loads(line) for line in lines]
    read_turns = list(made.turns(split))
    assert len(read_turns) == len(derived) == turns
    assert not made.log.problems
    core: dict[str, set[int]] = {}
    for turn, row in zip(read_turns, derived, strict=True):
        assert (turn.dialogue, turn.turn, turn.domain, turn.kind) == (row["did"], row["turn"], row["domain"], row["kind"])
        assert list(turn.context) == row["context"]
        assert turn.response == row["response"]
        assert list(turn.gold_values) == row["gold_entities"]
        named = row["name_in_response"]
        if turn.kind == "response" and named and "nandos city centre" not in turn.response:
            assert [place[id] for id in turn.gold_entities] == named
        core.setdefault(turn.dialogue, set()).update(named)
    for turn, row in zip(read_turns, derived, strict=True):
        own = {place[id] for id in turn.kb}
        assert len(own) == CONDENSED_SIZE
        assert core[turn.dialogue] <= own
        # What the API returned belongs in as far as there is room, in its order.
        assert len(own & set(row["kb_api"][:CONDENSED_SIZE])) >= min(
            len(row["kb_api"]), CONDENSED_SIZE - len(core[turn.dialogue])
        )


def test_the_knowledge_base_is_that_of_the_derived_file() -> None:
    made = real("large_scale")
    rows = json.loads((REAL / "derived/kb_global.json").read_text())
    published = [[(k, v) for k, v in row.items() if k != "id" and v not in MISSING] for row in rows]
    assert [list(entity.attributes.items()) for entity in made.entities] == published
    assert len(made.values) == 420
    assert all(turn.kb == () for turn in made.turns("test"))
