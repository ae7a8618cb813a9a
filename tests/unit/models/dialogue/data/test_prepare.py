import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.prepare import prepare_dialogues
from models.dialogue.data.records import read_kb, read_turns
from models.errors import DataError, ParamsError
from models.files import file_digest
from models.metrics_sink import NullSink
from models.params.dialogues import DialoguesParams, RenewParams, TownParams

TOWN = TownParams(num_entities=24, num_dialogues=40)
FILES = ("kb.jsonl", "requests.json", "stats.json", "test.jsonl", "train.jsonl", "valid.jsonl", "values.json")


class Sink(NullSink):
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.done: list[tuple[int, int]] = []

    def log(self, metrics: Mapping[str, float], *, step: int) -> None:
        assert step == 0
        self.metrics.update(metrics)

    def progress(self, done: int, total: int, *, unit: str) -> None:
        self.done.append((done, total))


def prepare(cfg: DialoguesParams, root: Path, name: str = "out") -> tuple[dict[str, Any], Path]:
    out = root / name
    return prepare_dialogues(cfg, root=root, out=out, sink=NullSink()), out


def camrest(root: Path, records: Mapping[str, Any], **fields: Any) -> DialoguesParams:
    """Write raw files of CamRest676's form, of three restaurants and the given turns by split."""
    for folder in ("raw/cdnet", "raw/nndial"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for split in ("train", "val", "test"):
        (root / f"raw/cdnet/{split}.json.gz").write_bytes(gzip.compress(json.dumps(records.get(split, [])).encode()))
    (root / "raw/cdnet/entities.json").write_text('{"all_entities_list": ["north", "place_a"]}')
    rows = [{"id": n, "name": f"place {n}", "area": "north"} for n in "abc"]
    (root / "raw/nndial/CamRestDB.json").write_text(json.dumps(rows))
    return DialoguesParams(kind="camrest", path="raw", **fields)


def said(did: int, *, output: str = "place_a is in the north", **fields: Any) -> dict[str, Any]:
    return {"did": did, "context": ["north"], "output": output, "gold_entities": ["north"], "kb": [], **fields}


def test_the_artifact_has_its_files_and_counts(tmp_path: Path) -> None:
    sink, out = Sink(), tmp_path / "out"
    stats = prepare_dialogues(DialoguesParams(town=TOWN), root=tmp_path, out=out, sink=sink)
    assert tuple(sorted(p.name for p in out.iterdir() if p.suffix != ".offsets")) == FILES
    assert json.loads((out / "stats.json").read_text()) == stats
    turns = {split: list(read_turns(out / f"{split}.jsonl")) for split in ("train", "valid", "test")}
    assert {s: stats["splits"][s]["turns"] for s in turns} == {s: len(t) for s, t in turns.items()}
    assert {s: stats["splits"][s]["dialogues"] for s in turns} == {"train": 32, "valid": 4, "test": 4}
    assert (stats["kind"], stats["setting"], stats["kb"]["entities"], stats["left_out"]) == ("embedded", "large_scale", 24, {})
    assert stats["values"] == len(json.loads((out / "values.json").read_text())) > 50
    kb = KnowledgeBase.load(out / "kb.jsonl")
    assert len(kb) == 24
    assert all(id in kb.row_of for t in turns.values() for turn in t for id in turn.gold_entities)
    assert sink.done == [(1, 3), (2, 3), (3, 3)]
    assert sink.metrics["data/num_turns_train"] == len(turns["train"])
    assert sink.metrics["data/num_entities"] == 24


def test_the_same_params_write_the_same_bytes(tmp_path: Path) -> None:
    cfg = DialoguesParams(town=TOWN, setting="condensed")
    one, two = prepare(cfg, tmp_path, "one")[1], prepare(cfg, tmp_path, "two")[1]
    assert [file_digest(one / f) for f in FILES] == [file_digest(two / f) for f in FILES]
    other = prepare(DialoguesParams(town=TOWN.model_copy(update={"seed": 1})), tmp_path, "other")[1]
    assert file_digest(one / "kb.jsonl") != file_digest(other / "kb.jsonl")


def test_only_the_condensed_setting_keeps_the_dialogues_own_rows(tmp_path: Path) -> None:
    large, small = (prepare(DialoguesParams(town=TOWN, setting=s), tmp_path, s) for s in ("large_scale", "condensed"))  # type: ignore[arg-type]
    assert {turn.kb for turn in read_turns(large[1] / "train.jsonl")} == {()}
    assert {len(turn.kb) for turn in read_turns(small[1] / "train.jsonl")} == {7}
    assert small[0]["splits"]["train"]["mean_per_turn"]["kb_entities"] == 7.0
    assert list(read_kb(large[1] / "kb.jsonl")) == list(read_kb(small[1] / "kb.jsonl"))


def test_a_limit_keeps_the_first_dialogues_of_each_split(tmp_path: Path) -> None:
    whole, some = (prepare(DialoguesParams(town=TOWN, limit=limit), tmp_path, str(limit)) for limit in (None, 3))
    for split in ("train", "valid", "test"):
        assert some[0]["splits"][split]["dialogues"] == 3
        kept = list(read_turns(some[1] / f"{split}.jsonl"))
        assert kept == list(read_turns(whole[1] / f"{split}.jsonl"))[: len(kept)]
    assert some[0]["kb"] == whole[0]["kb"]


def test_malformed_records_stop_the_stage_all_at_once(tmp_path: Path) -> None:
    records = {"train": [said(1), said(2, output=""), said(3)], "val": [said(4)], "test": [said(5), said(6, kb=None)]}
    with pytest.raises(DataError) as caught:
        prepare(camrest(tmp_path, records), tmp_path)
    assert "2 records are malformed; correct them, or set `dialogues.on_bad_record` to `skip`" in str(caught.value)
    assert [problem.where.rpartition("/")[2] for problem in caught.value.problems] == [
        "train.json.gz record 2",
        "test.json.gz record 2",
    ]
    assert not (tmp_path / "out/stats.json").exists()


def test_or_are_left_out_and_counted(tmp_path: Path) -> None:
    records = {"train": [said(1), said(2, output=""), said(3)], "val": [said(4), said(1)], "test": [said(5), said(6, kb=None)]}
    stats, out = prepare(camrest(tmp_path, records, on_bad_record="skip"), tmp_path)
    assert [t.id for t in read_turns(out / "train.jsonl")] == ["camrest-train-1#0", "camrest-train-3#0"]
    assert stats["left_out"] == {"malformed": 2}
    assert json.loads((out / "values.json").read_text()) == ["north", "place a"]


def test_an_empty_split_is_an_error(tmp_path: Path) -> None:
    records = {"train": [said(1)], "val": [said(2, output="")], "test": [said(3)]}
    with pytest.raises(DataError, match=r"split `valid` must leave at least one turn.*but is 0 \(left out: {'malformed': 1}\)"):
        prepare(camrest(tmp_path, records, on_bad_record="skip"), tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    for kind in ("smd", "camrest", "multiwoz", "maker", "jsonl"):
        with pytest.raises(DataError, match="nowhere"):
            prepare(DialoguesParams(kind=kind, path="nowhere", setting="condensed"), tmp_path)
    with pytest.raises(ParamsError, match="no large-scale setting"):
        prepare(DialoguesParams(kind="smd", path="nowhere"), tmp_path)


def test_renewed_entities_reach_the_knowledge_base_and_the_test_dialogues(tmp_path: Path) -> None:
    plain, renewed = (
        prepare(DialoguesParams(town=TOWN, renew=RenewParams(values=values, distractors=number)), tmp_path, str(values))
        for values, number in ((False, 0), (True, 5))
    )
    assert renewed[0]["kb"]["entities"] == 29
    names = {e.name for e in read_kb(plain[1] / "kb.jsonl")}
    assert not names & {e.name for e in read_kb(renewed[1] / "kb.jsonl")}
    assert file_digest(plain[1] / "test.jsonl") != file_digest(renewed[1] / "test.jsonl")
    said = " ".join(t.response for t in read_turns(renewed[1] / "test.jsonl"))
    assert not [name for name in names if name in said]


def test_a_limit_in_the_condensed_setting_keeps_the_rows_of_the_kept_dialogues(tmp_path: Path) -> None:
    stats, out = prepare(DialoguesParams(town=TOWN, limit=1, setting="condensed"), tmp_path)
    turns = [turn for split in ("train", "valid", "test") for turn in read_turns(out / f"{split}.jsonl")]
    kb = KnowledgeBase.load(out / "kb.jsonl")
    assert set(kb.row_of) == {id for turn in turns for id in turn.kb}
    assert 7 <= len(kb) == stats["kb"]["entities"] < 24


def test_camrest_has_the_turns_of_the_paper(tmp_path: Path) -> None:
    path = "data/external/tod/camrest/raw"
    if not Path(path).is_dir():
        pytest.skip(f"{path} is not there")
    stats = prepare_dialogues(DialoguesParams(kind="camrest", path=path), root=Path(), out=tmp_path, sink=NullSink())
    assert {name: split["turns"] for name, split in stats["splits"].items()} == {"train": 2095, "valid": 675, "test": 643}
    assert [split["dialogues"] for split in stats["splits"].values()] == [406, 135, 135]
    assert [split["api_calls"] for split in stats["splits"].values()] == [403, 132, 134]
    assert stats["kb"]["entities"] == 110
    assert stats["left_out"] == {}
