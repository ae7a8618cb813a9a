import gzip
import json
import re
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from models.corpus.text import normalise
from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.pseudo_positive import ValueIndex, pseudo_positive
from models.dialogue.data.readers.base import DialogueSource
from models.dialogue.data.readers.smd import read
from models.errors import DataError, ParamsError
from models.params.dialogues import DialoguesParams

REAL = Path("data/external/tod/smd")
ROW = {
    "poi": "Chef Chu's",
    "poi_type": "chinese restaurant",
    "address": "593 Arrowhead Way",
    "distance": "2 miles",
    "traffic_info": "-",
}
OTHER = {
    "poi": "Valero",
    "poi_type": "gas station",
    "address": "200 Alester Ave",
    "distance": "4 miles",
    "traffic_info": "no traffic",
}
LISTS = {
    "poi": [{"address": "200 Alester Ave", "poi": "Chef_Chu_s", "type": "gas station"}],
    "distance": ["2_miles"],
    "time": ["7pm", "20f"],
}


def dialogue(number: int, *texts: str, rows: Any = (ROW, OTHER), split: str = "train", **fields: Any) -> dict[str, Any]:
    turns: list[dict[str, Any]] = [{"speaker": ("user", "system")[i % 2], "utterance": t} for i, t in enumerate(texts)]
    for turn in turns[1::2]:
        turn["db_results"] = {"navigate": list(rows)}
    return {"dialogue_id": f"kvret-{split}-{number}", "data_split": split, "domains": ["navigate"], "turns": turns, **fields}


def source(folder: Path, *dialogues: Any, lists: Any = LISTS, **fields: Any) -> DialogueSource:
    (folder / "smd/convlab3").mkdir(parents=True)
    (folder / "smd/mem2seq").mkdir()
    (folder / "smd/mem2seq/kvret_entities.json").write_text(json.dumps(lists))
    with zipfile.ZipFile(folder / "smd/convlab3/data.zip", "w") as archive:
        archive.writestr("data/dialogues.json", json.dumps(dialogues))
    return read(DialoguesParams(kind="smd", path="smd", **{"setting": "condensed", **fields}), root=folder)


def test_a_dialogue_becomes_turns_with_its_own_rows(tmp_path: Path) -> None:
    texts = ("Chinese food?", "Chef Chu's is 2 miles away", "Its  address?", "593_Arrowhead Way at 7 pm, 10-20f")
    made = source(tmp_path, dialogue(0, *texts), dialogue(0, "hi", "hello", split="validation"), dialogue(0, "x", split="test"))
    assert [(e.id, e.domain, e.name) for e in made.entities[:2]] == [
        ("smd-train-0/0", "navigate", "chef chu's"),
        ("smd-train-0/1", "navigate", "valero"),
    ]
    assert "traffic_info" not in made.entities[0].attributes, "missing value"
    assert made.values == ["200 alester ave", "chef chu s", "gas station", "2 miles", "7pm", "20f"]
    first, second = made.turns("train")
    assert (first.id, first.dialogue, first.turn, first.domain) == ("smd-train-0#0", "smd-train-0", 0, "navigate")
    assert first.context == ("chinese food?",)
    assert first.response == "chef chu's is 2 miles away"
    assert first.gold_values == ("chef chu s", "2 miles")
    assert (first.gold_entities, first.first_mention) == (("smd-train-0/0",), True)
    assert first.kb == ("smd-train-0/0", "smd-train-0/1")
    assert second.context == ("chinese food?", "chef chu's is 2 miles away", "its address?")
    assert second.gold_values == ("7pm", "20f")
    assert (second.gold_entities, second.first_mention) == (("smd-train-0/0",), False)
    assert [t.id for t in made.turns("valid")] == ["smd-val-0#0"]
    assert list(made.turns("test")) == [], "no system turn"
    assert not made.log.problems


def test_what_one_speaker_says_in_a_row_is_one_utterance(tmp_path: Path) -> None:
    said = [("user", "hi"), ("user", "food?"), ("system", "chef chu's"), ("system", "is near"), ("user", "thanks")]
    turns = [{"speaker": speaker, "utterance": text} for speaker, text in said]
    turns[2]["db_results"] = {"navigate": [ROW]}  # type: ignore[assignment]
    (turn,) = source(tmp_path, dialogue(0, turns=turns)).turns("train")
    assert (turn.context, turn.response, turn.kb) == (("hi food?",), "chef chu's is near", ("smd-train-0/0",))


def test_equal_rows_of_a_dialogue_are_merged_but_not_those_of_two(tmp_path: Path) -> None:
    made = source(tmp_path, dialogue(0, "a", "b", rows=[ROW, OTHER, ROW]), dialogue(1, "a", "b"), dialogue(2, "a", "b", rows=[]))
    assert [e.id for e in made.entities] == [f"smd-train-{d}/{r}" for d in (0, 1) for r in (0, 1)]
    assert [t.kb for t in made.turns("train")][2] == ()
    assert made.log.left_out == Counter(duplicate_kb_row=1)


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        ("text", "must be a JSON object"),
        (dialogue(1, "a", "b", split="dev"), "`data_split`"),
        (dialogue(1, "a", "b", data_split=["train"]), "`data_split`"),
        (dialogue(1, "a", "b", data_split={"train": 1}), "`data_split`"),
        (dialogue(1, "a", "b", domains=[]), "`domains`"),
        (dialogue(1, "a", "b", turns=[]), "`turns`"),
        (dialogue(1, "a", "b", dialogue_id=5), "`dialogue_id`"),
        (dialogue(1, "a", "b", turns=[{"speaker": "system", "utterance": "a"}]), r"by the user in `turns\[0\]`"),
        (dialogue(1, "a", "b", turns=[{"speaker": "user", "utterance": None}]), r"`turns\[0\].utterance`"),
        (dialogue(1, "a", "b", rows=["x"]), r"JSON object in `db_results.navigate\[0\]`"),
        (dialogue(1, "a", "b", rows=[{"poi": ["x"]}]), r"text or a number in `db_results.navigate\[0\].poi`"),
        (dialogue(0, "a", "b"), "unique `dialogue_id`"),
    ],
)
def test_a_malformed_dialogue_is_named_and_left_out(tmp_path: Path, bad: Any, rule: str) -> None:
    made = source(tmp_path, dialogue(0, "a", "b"), bad, dialogue(2, "a", "b"))
    assert [t.dialogue for t in made.turns("train")] == ["smd-train-0", "smd-train-2"]
    (problem,) = made.log.problems
    assert re.search(rule, problem.rule)
    assert problem.where.endswith("data.zip:data/dialogues.json dialogue 2")
    assert made.log.left_out["malformed"] == 1, "read more than once, counted once"


def test_there_is_no_large_scale_setting(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"`dialogues.setting` must be `condensed`.*but is `large_scale`"):
        source(tmp_path, dialogue(0, "a", "b"), setting="large_scale")


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"kvret_entities\.json must be a JSON file"):
        read(DialoguesParams(kind="smd", path="smd", setting="condensed"), root=tmp_path)
    with pytest.raises(DataError, match=r"kvret_entities\.json must hold an object of lists"):
        source(tmp_path, dialogue(0, "a", "b"), lists=["x"])


@pytest.fixture(scope="module")
def real() -> DialogueSource:
    if not (REAL / "raw/convlab3/data.zip").is_file():
        pytest.skip("data/external/tod/smd is not there")
    return read(DialoguesParams(kind="smd", path=str(REAL / "raw"), setting="condensed"), root=Path())


@pytest.mark.parametrize(("split", "name", "turns"), [("train", "train", 6291), ("valid", "val", 777), ("test", "test", 808)])
def test_the_derived_files_are_reproduced(real: DialogueSource, split: Any, name: str, turns: int) -> None:
    # The derived files leave out distances and temperatures, which Entity F1 counts, and take "481 amaranta" for a time.
    unlisted = {v for v in real.values if re.fullmatch(r"\d+ miles|\d+f", v)}
    with gzip.open(REAL / f"derived/{name}.jsonl.gz", "rt") as lines:
        derived = [json.loads(line) for line in lines]
    made = list(real.turns(split))
    assert len(made) == len(derived) == turns
    for turn, row in zip(made, derived, strict=True):
        assert (turn.dialogue, turn.turn, turn.domain, turn.kind) == (row["did"], row["turn"], row["domain"], row["kind"])
        assert list(turn.context) == row["context"]
        assert turn.response == row["response"]
        kb = [int(id.partition("/")[2]) for id in turn.kb]
        # Two dialogues have a row twice.
        assert kb == row["kb"] or (len(kb) == len(row["kb"]) - 1 and set(kb) < set(row["kb"]))
        if re.search(r"\d ?[ap]m", " ".join([*row["context"], row["response"]])):
            continue
        assert {normalise(v) for v in turn.gold_values} - unlisted == {normalise(v) for v in row["gold_entities"]}
        assert set(turn.gold_entities) <= set(turn.kb)


def test_the_pseudo_positives_of_the_derived_file_are_reproduced(real: DialogueSource) -> None:
    """In weather dialogues they count parts of a day's forecast, against their own description; a colon is part of a word."""
    index = ValueIndex(KnowledgeBase(real.entities))
    with gzip.open(REAL / "derived/test.jsonl.gz", "rt") as lines:
        derived = [json.loads(line) for line in lines]
    compared = 0
    for turn, row in zip(real.turns("test"), derived, strict=True):
        if row["domain"] != "weather" and not re.search(r"\d ?[ap]m|\w:|:\w", " ".join([*row["context"], row["response"]])):
            found = pseudo_positive(turn, index, rows=index.kb.rows(turn.kb))
            assert (None if found is None else int(index.kb[found].id.partition("/")[2])) == row["pos"]
            compared += found is not None
    assert compared > 150


def test_the_knowledge_bases_are_those_of_the_derived_file(real: DialogueSource) -> None:
    assert len(real.entities) == 18_047 - 2
    assert len(real.values) == 305
    with gzip.open(REAL / "derived/kb_sessions.json.gz", "rt") as file:
        sessions = json.load(file)
    for entity in real.entities:
        dialogue, _, row = entity.id.partition("/")
        published = {k: v for k, v in sessions[dialogue][int(row)].items() if k != "id" and v != "-"}
        assert entity.attributes == published
