import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from models.corpus.readers import read_set
from models.errors import DataError, Problem
from models.params.corpus import CorpusSet
from models.schema import Example

EXTERNAL = Path("data/external")
ROWS = [{"question": f"Wo ist Nr. {i}?", "answer": f"Hör zu: {i}"} for i in range(5)]


def cfg(path: str, **fields: Any) -> CorpusSet:
    return CorpusSet(**{"name": "set", "path": path, "format": "qa", **fields})


def write(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def texts(data: CorpusSet, root: Path) -> list[str]:
    outcomes = [record.outcome for record in read_set(data, root=root)]
    return [o.response if isinstance(o, Example) else str(o) for o in outcomes]


def test_plain_compressed_and_folder_give_the_same_examples(tmp_path: Path) -> None:
    from datasets import Dataset

    lines = [json.dumps(row, ensure_ascii=False) for row in ROWS]
    write(tmp_path / "a.jsonl", lines)
    with gzip.open(tmp_path / "a.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(lines))
    Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "folder"))
    plain = list(read_set(cfg("a.jsonl"), root=tmp_path))
    assert [r.number for r in plain] == [1, 2, 3, 4, 5]
    assert [o.response for o in (r.outcome for r in plain) if isinstance(o, Example)] == [row["answer"] for row in ROWS]
    assert list(read_set(cfg("a.jsonl.gz"), root=tmp_path)) == plain
    assert list(read_set(cfg("folder"), root=tmp_path)) == plain


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ('{"question": "a", "question": "b", "answer": "c"}', "question"),
        ('{"question": "a", "answer": "b", "answer": "b"}', "answer"),
        ('{"question": "a", "answer": "b", "choices": {"A": "x", "A": "y"}}', "A"),
    ],
)
def test_a_field_given_twice_is_a_finding(line: str, field: str, tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [json.dumps(ROWS[0]), line])
    good, bad = (record.outcome for record in read_set(cfg("a.jsonl"), root=tmp_path))
    assert isinstance(good, Example)
    assert str(bad) == f"a.jsonl:2 must have the field `{field}` once, but is there 2 times. Keep the right one."


def test_a_folder_of_several_splits_asks_which_one(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    data = Dataset.from_list(ROWS)
    DatasetDict({"train": data, "test": data}).save_to_disk(str(tmp_path / "folder"))
    with pytest.raises(DataError, match=r"folder of several \(train, test\).*Name one of them in `path`, such as `folder/train`"):
        list(read_set(cfg("folder"), root=tmp_path))
    assert len(list(read_set(cfg("folder/train"), root=tmp_path))) == 5


def test_bad_lines_are_found_with_line_and_column_and_stop_nothing(tmp_path: Path) -> None:
    good = json.dumps(ROWS[0])
    (tmp_path / "a.jsonl").write_bytes(
        b"\xef\xbb\xbf" + good.encode() + b"\n\n"  # a byte order mark, a blank line
        b'{"question": "x", "answer": }\n'
        b'{"question": "\xff"}\n' + b"[" * 100_000 + b"\n" + json.dumps({"question": "x"}).encode() + b"\n" + good.encode()
    )
    records = list(read_set(cfg("a.jsonl"), root=tmp_path))
    assert [r.number for r in records] == [1, 3, 4, 5, 6, 7]
    found = [str(r.outcome) for r in records if isinstance(r.outcome, Problem)]
    assert found[0] == "a.jsonl:3 must be one JSON object a line, but is malformed at column 29 (Expecting value)."
    assert found[1] == "a.jsonl:4 must be UTF-8, but is byte 0xff at column 15."
    assert found[2].startswith("a.jsonl:5 must be one JSON object a line, but is unreadable")
    assert found[3] == "a.jsonl:6 must have the field `answer`, but is {question}."
    assert isinstance(records[0].outcome, Example)
    assert isinstance(records[-1].outcome, Example)


def test_left_out_rows_carry_their_reason(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [json.dumps(row) for row in ROWS])
    assert texts(cfg("a.jsonl", max_chars=3), tmp_path) == ["too_long"] * 5


def test_missing_and_truncated_files_are_errors_of_the_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Data set `set` cannot be read(.|\n)*absent\.jsonl must be a file of JSON lines"):
        list(read_set(cfg("absent.jsonl"), root=tmp_path))
    whole = gzip.compress(json.dumps(ROWS[0]).encode() * 1000)
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut\.jsonl\.gz must be a file of JSON lines.*end-of-stream"):
        list(read_set(cfg("cut.jsonl.gz"), root=tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty must be a file of JSON lines"):
        list(read_set(cfg("empty"), root=tmp_path))


@pytest.mark.skipif(not (EXTERNAL / "instruct").exists(), reason="needs data/external/instruct")
@pytest.mark.parametrize(
    ("path", "fields", "good", "bad"),
    [
        ("instruct/alpaca_gpt4_1k/alpaca_gpt4.jsonl.gz", {"format": "alpaca"}, 483, 0),
        ("instruct/codealpaca_2k/codealpaca.jsonl.gz", {"format": "alpaca"}, 987, 2),
        ("instruct/gsm8k_train/gsm8k_train.jsonl.gz", {"check": "number"}, 3773, 0),
        ("benchmarks/gsm8k_test/gsm8k_test.jsonl.gz", {"check": "number"}, 655, 0),
        ("instruct/tinystories_sample/tinystories.jsonl.gz", {"format": "text"}, 1152, 0),
    ],
)
def test_real_sets(path: str, fields: dict[str, Any], good: int, bad: int) -> None:
    counts: Counter[type] = Counter()
    for record in read_set(cfg(path, **fields), root=EXTERNAL):
        counts[type(record.outcome)] += 1
        if isinstance(record.outcome, Example) and fields.get("check") == "number":
            assert record.outcome.answer is not None
            assert record.outcome.response.replace(",", "").endswith(f"#### {record.outcome.answer}")
    assert (counts[Example], counts[Problem]) == (good, bad)
