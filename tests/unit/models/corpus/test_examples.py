import json
from pathlib import Path

import pytest

from models.corpus.examples import (
    count_examples,
    offsets_path,
    pick_examples,
    read_examples,
    read_json_lines,
    read_responses,
    read_slice,
    write_examples,
    write_responses,
)
from models.errors import ArtifactError, DataError
from models.schema import Example, Message, Response


def make(number: int) -> Example:
    return Example(
        id=f"set/{number}",
        family="knowledge",
        messages=(Message("user", f"Where is the Café №{number}?\nPlease."),),
        response="é" * number + "x",
        answer=str(number),
        check="contains",
        seen_by=("scholar",),
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "deep" / "train.jsonl"
    assert write_examples(path, (make(i) for i in range(50))) == 50
    return path


def test_examples_survive_the_round_trip(path: Path) -> None:
    assert list(read_examples(path)) == [make(i) for i in range(50)]
    assert count_examples(path) == 50
    assert not list(path.parent.glob(".*")), "no temporary file is left"


@pytest.mark.parametrize(("start", "stop"), [(0, 50), (7, 8), (10, 30), (49, 99), (-3, 2), (50, 60), (9, 9)])
def test_slice_equals_list_slice_with_and_without_offsets(path: Path, start: int, stop: int) -> None:
    expected = [make(i) for i in range(50)][max(start, 0) : stop]
    assert read_slice(path, start, stop) == expected
    offsets_path(path).unlink()
    assert read_slice(path, start, stop) == expected
    assert count_examples(path) == 50


def test_offsets_of_another_file_are_not_trusted(path: Path) -> None:
    rows = [json.dumps(make(i).to_json()) for i in (3, 4)]
    path.write_text("\n".join(rows))  # no newline at the end either
    assert count_examples(path) == 2
    assert read_slice(path, 1, 2) == [make(4)]


def test_slice_reads_only_its_own_bytes(path: Path) -> None:
    size = path.stat().st_size
    raw = path.read_bytes()
    path.write_bytes(raw[:-40] + b"#" * 39 + b"\n")
    assert path.stat().st_size == size
    assert read_slice(path, 0, 40) == [make(i) for i in range(40)]
    with pytest.raises(DataError, match=r"train\.jsonl:50 must be one JSON object"):
        read_slice(path, 45, 50)


def test_an_interrupted_write_leaves_the_old_file(path: Path) -> None:
    def broken() -> object:
        yield make(1)
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        write_examples(path, broken())  # type: ignore[arg-type]
    assert count_examples(path) == 50


def test_missing_and_damaged_files_name_the_place(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"absent\.jsonl does not exist"):
        count_examples(tmp_path / "absent.jsonl")
    damaged = tmp_path / "damaged.jsonl"
    damaged.write_text('{"id": 1}\n[1]\n')
    with pytest.raises(DataError, match=r"damaged\.jsonl:2 must be one JSON object"):
        list(read_json_lines(damaged))


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl"
    assert write_examples(path, []) == 0
    assert count_examples(path) == 0
    assert read_slice(path, 0, 5) == []
    offsets_path(path).unlink()
    assert count_examples(path) == 0


def test_answers_come_back_as_written(tmp_path: Path) -> None:
    rows = [
        Response("a", "s", 0, "two\nlines, “quotes” 🙂", 5, "eos"),
        Response("b", "s", 1, "", 0, "length", prompt_truncated=True),
    ]
    write_responses(tmp_path, rows)
    assert read_responses(tmp_path) == rows
    assert len((tmp_path / "responses.jsonl").read_text().splitlines()) == 2


def test_a_limit_keeps_the_order_and_grows_monotonically() -> None:
    examples = [make(i) for i in range(400)]
    few, more = pick_examples(examples, limit=60), pick_examples(iter(examples), limit=120)
    assert len(few) == 60
    assert {e.id for e in few} < {e.id for e in more}
    assert [e.id for e in more] == [e.id for e in examples if e in more]
    assert 20 <= sum(int(e.answer or 0) % 2 for e in few) <= 40, "every family keeps its share"
    assert pick_examples(examples, limit=None) == examples
