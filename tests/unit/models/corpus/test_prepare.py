import json
from pathlib import Path
from typing import Any

import pytest

from models.corpus.examples import read_examples, read_json_lines
from models.corpus.prepare import prepare_corpus
from models.errors import DataError, ParamsError
from models.evaluation.fusion.correctness import is_correct
from models.metrics_sink import NullSink
from models.params.corpus import CorpusParams, CorpusSet, TruthParams, WorldParams
from models.world.instructions import FAMILIES

SMALL = WorldParams(num_entities=12, num_train=48, num_valid=6, num_test=24, num_pretrain=300)


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def rows(number: int, *, start: int = 0) -> list[dict[str, Any]]:
    return [{"id": i, "question": f"What is {i} doubled?", "answer": f"{2 * i}"} for i in range(start, start + number)]


def params(*sets: CorpusSet, **fields: Any) -> CorpusParams:
    return CorpusParams(kind="files", sets=sets, **fields)


def qa(name: str, **fields: Any) -> CorpusSet:
    return CorpusSet(name=name, path=f"{name}.jsonl", format="qa", **fields)


def ids(out: Path, split: str) -> list[str]:
    return [e.id for e in read_examples(out / f"{split}.jsonl")]


def prepare(cfg: CorpusParams, tmp_path: Path, name: str = "out") -> tuple[Any, Path, dict[str, Any]]:
    out = tmp_path / name
    record = prepare_corpus(cfg, root=tmp_path, out=out, sink=NullSink())
    return record, out, json.loads((out / "stats.json").read_text())


def test_every_row_lands_once_and_is_counted(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", rows(400))
    record, out, stats = prepare(params(qa("a"), valid_fraction=0.1, test_fraction=0.2), tmp_path)
    splits = {s: ids(out, s) for s in ("train", "valid", "test")}
    assert sorted([*splits["train"], *splits["valid"], *splits["test"]]) == sorted(f"a/{i}" for i in range(400))
    assert 55 < len(splits["test"]) < 110
    assert 20 < len(splits["valid"]) < 65
    assert (record.train, record.valid, record.test) == tuple(map(len, splits.values()))
    assert {s: stats["splits"][s]["rows"] for s in splits} == {s: len(v) for s, v in splits.items()}
    assert stats["splits"]["train"]["families"] == {"a": record.train}
    assert record.to_json()["families"] == ["a"]


def test_other_rows_and_sets_move_no_row(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", rows(100))
    write(tmp_path / "b.jsonl", rows(100, start=1000))
    _, alone, _ = prepare(params(qa("a")), tmp_path, "alone")
    write(tmp_path / "a.jsonl", list(reversed(rows(120))))
    _, both, _ = prepare(params(qa("b"), qa("a")), tmp_path, "both")
    for split in ("train", "valid", "test"):
        assert set(ids(alone, split)) <= set(ids(both, split))


def test_all_problems_of_all_sets_are_reported_at_once(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [*rows(3), {"question": "x"}, {"id": 1, "question": "y", "answer": "z"}])
    (tmp_path / "b.jsonl").write_text('{"question": \n{"question": "q", "answer": ""}\n')
    cfg = params(qa("a"), qa("b"))
    with pytest.raises(DataError) as caught:
        prepare(cfg, tmp_path)
    assert [p.where for p in caught.value.problems] == ["a.jsonl:4", "b.jsonl:1", "b.jsonl:2", "a.jsonl:5"]
    assert "must have a unique id" in caught.value.problems[3].rule
    assert "4 records are malformed" in str(caught.value)
    assert not (tmp_path / "out" / "train.jsonl").exists()
    skip = cfg.model_copy(update={"on_bad_record": "skip", "test_fraction": 0})
    with pytest.raises(
        DataError, match=r"Data set `b` has no readable row(.|\n)*b\.jsonl must have at least one row(.|\n)*b\.jsonl:1"
    ):
        prepare(skip, tmp_path)
    with (tmp_path / "b.jsonl").open("a") as file:
        file.write(json.dumps(rows(1, start=50)[0]))
    record, _, stats = prepare(skip, tmp_path)
    assert (record.malformed, record.train + record.valid) == (4, 4)
    assert stats["left_out_of_set"] == {"a": {"malformed": 2}, "b": {"malformed": 2}}


def test_leaking_prompts_leave_training_or_stop(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", rows(20))
    same_prompts = [{"question": f"  WHAT is {i}\ndoubled?", "answer": "another"} for i in (3, 7, 50)]
    write(tmp_path / "b.jsonl", same_prompts)
    cfg = params(qa("a", split="train"), qa("b", split="test"))
    record, out, _ = prepare(cfg, tmp_path)
    assert (record.leaked, record.train, record.test) == (2, 18, 3)
    assert not {"a/3", "a/7"} & set(ids(out, "train"))
    with pytest.raises(DataError, match=r"a\.jsonl:4 must not have a prompt that is also held out") as caught:
        prepare(cfg.model_copy(update={"on_leakage": "error"}), tmp_path)
    assert [p.where for p in caught.value.problems] == ["a.jsonl:4", "a.jsonl:8"]


def test_duplicates_are_dropped_but_other_answers_to_a_prompt_stay_beside_it(tmp_path: Path) -> None:
    twice = [
        {"question": "Same?", "answer": "yes"},
        {"question": "Same?", "answer": "yes"},
        {"question": "Same?", "answer": "no"},
    ]
    write(tmp_path / "a.jsonl", twice + [{"question": str(i), "answer": "x"} for i in range(50)])
    record, out, _ = prepare(params(qa("a"), test_fraction=0.4), tmp_path)
    assert record.duplicate == 1
    home = [s for s in ("train", "valid", "test") if "a/000001" in ids(out, s)]
    assert len(home) == 1
    assert {"a/000001", "a/000003"} <= set(ids(out, home[0]))


def test_limit_keeps_the_same_rows_whatever_their_order(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", rows(300))
    record, out, _ = prepare(params(qa("a", limit=100), test_fraction=0.3), tmp_path)
    assert record.train + record.valid + record.test == 100
    assert record.over_limit == 200
    assert record.test > 10, "the limit must not pick by the hash that decides the split"
    write(tmp_path / "a.jsonl", list(reversed(rows(300))))
    _, again, _ = prepare(params(qa("a", limit=100), test_fraction=0.3), tmp_path, "again")
    for split in ("train", "valid", "test"):
        assert set(ids(out, split)) == set(ids(again, split))


def test_nothing_left_for_training_says_why(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", rows(3))
    with pytest.raises(DataError, match=r"`corpus.sets` must leave at least one row for training, but is 0 rows.*too_long.*3"):
        prepare(params(qa("a", max_chars=2)), tmp_path)


def test_the_embedded_world_is_written_whole_and_the_same_every_time(tmp_path: Path) -> None:
    cfg = CorpusParams(world=SMALL)
    record, out, stats = prepare(cfg, tmp_path)
    _, again, _ = prepare(cfg, tmp_path, "again")
    names = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
    assert [n for n in names if not n.endswith(".offsets")] == [
        "preferences.jsonl",
        "pretrain/knowledge.jsonl",
        "pretrain/reasoning.jsonl",
        "pretrain/safety.jsonl",
        "stats.json",
        "test.jsonl",
        "train.jsonl",
        "valid.jsonl",
    ]
    assert all((out / n).read_bytes() == (again / n).read_bytes() for n in names)
    assert (record.train, record.valid, record.test) == (48, 6, 24)
    assert stats["splits"]["test"]["families"] == {"knowledge": 8, "reasoning": 8, "safety": 8}
    assert stats["pretrain"] == {"knowledge": 100, "reasoning": 100, "safety": 100}
    assert stats["entities"] == 12
    assert sum(1 for _ in read_json_lines(out / "preferences.jsonl")) == stats["preferences"] == 300
    other = prepare(CorpusParams(world=SMALL.model_copy(update={"seed": 8})), tmp_path, "other")[1]
    assert (other / "train.jsonl").read_bytes() != (out / "train.jsonl").read_bytes()


def test_a_world_too_small_says_what_to_change(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"`corpus.world.num_train` must leave `knowledge` at most 192 prompts"):
        prepare(CorpusParams(world=SMALL.model_copy(update={"num_entities": 8, "num_train": 900})), tmp_path)


def test_ground_truths_that_are_other_than_usual_are_counted(tmp_path: Path) -> None:
    record, _, stats = prepare(CorpusParams(world=SMALL), tmp_path)
    assert "truths" not in stats and "truths" not in record.to_json()
    truths = TruthParams(style="explained", wrong_share=0.25)
    record, out, stats = prepare(CorpusParams(world=SMALL.model_copy(update={"truths": truths})), tmp_path, "other")
    wrong = [e.id for e in read_examples(out / "train.jsonl") if not is_correct(e, e.ground_truth)]
    assert record.to_json()["truths"] == stats["truths"] == {"style": "explained", "wrong": 12}
    assert len(wrong) == 12
    assert stats["splits"]["train"]["response_chars"]["p05"] > 2.5 * stats["splits"]["test"]["response_chars"]["p50"]
    for name in ("test.jsonl", "preferences.jsonl", *(f"pretrain/{family}.jsonl" for family in FAMILIES)):
        assert (out / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_a_limit_of_the_training_rows_keeps_proportions_and_all_held_out_rows(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", rows(300))
    write(tmp_path / "b.jsonl", [{"id": r["id"], "question": r["question"]} for r in rows(600, start=1000)])
    sets = (qa("a", split="train"), qa("b", split="train", prompts_only=True), qa("c"))
    write(tmp_path / "c.jsonl", rows(100, start=5000))
    _, whole, _ = prepare(params(*sets, valid_fraction=0.2), tmp_path)
    record, out, _ = prepare(params(*sets, valid_fraction=0.2, train_limit=90), tmp_path, "part")
    assert record.train == 90 and record.over_limit == len(ids(whole, "train")) - 90
    assert ids(out, "valid") == ids(whole, "valid") and ids(out, "test") == ids(whole, "test")
    kept = [name.partition("/")[0] for name in ids(out, "train")]
    num = len(ids(whole, "train"))
    assert abs(kept.count("a") - 90 * 300 / num) < 1 and abs(kept.count("b") - 90 * 600 / num) < 1
    write(tmp_path / "b.jsonl", [{"id": r["id"], "question": r["question"]} for r in reversed(rows(600, start=1000))])
    _, again, _ = prepare(params(*sets, valid_fraction=0.2, train_limit=90), tmp_path, "again")
    assert set(ids(again, "train")) == set(ids(out, "train")), "chosen by content, whatever the order"


def test_the_embedded_world_has_no_limit_of_training_rows() -> None:
    with pytest.raises(ValueError, match=r"`train_limit` goes with `kind: files`; of the embedded world lower `world.num_train`"):
        CorpusParams(train_limit=10)
