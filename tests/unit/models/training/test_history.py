import json
from pathlib import Path

import pytest

from models.metrics_sink import NullSink
from models.training.history import HistorySink, write_history


def test_a_resumed_run_leaves_one_row_per_step(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch.jsonl"
    first = HistorySink(NullSink(), scratch)
    first.log({"train/loss": 3.0, "train/tokens_per_s": 100.0}, step=1)
    first.log({"train/loss": 2.0}, step=2)
    with scratch.open("a") as file:
        file.write('{"step": 3, "tra')  # killed while writing
    again = HistorySink(NullSink(), scratch)
    again.log({"train/loss": 2.0}, step=2)
    again.log({"train/loss": 1.0}, step=3)
    assert write_history(scratch, tmp_path / "history.jsonl") == 3
    rows = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [(r["step"], r["train/loss"]) for r in rows] == [(1, 3.0), (2, 2.0), (3, 1.0)]
    assert all("train/tokens_per_s" not in r for r in rows), "what differs between equal runs stays out"


@pytest.mark.parametrize(
    "torn", [b"\xff\xfe\x00", b"\x00" * 20, b"[1]", b"{}", b'{"step": "x"}', b'{"step": 1, "a": [2]}', b"null"]
)
def test_what_is_not_a_row_is_dropped(tmp_path: Path, torn: bytes) -> None:
    scratch = tmp_path / "scratch.jsonl"
    scratch.write_bytes(b'{"step": 1, "a": 2.0}\n' + torn)
    HistorySink(NullSink(), scratch).log({"a": 3.0}, step=2)
    assert write_history(scratch, tmp_path / "history.jsonl") == 2


def test_no_curve_is_an_empty_file(tmp_path: Path) -> None:
    assert write_history(tmp_path / "none", tmp_path / "history.jsonl") == 0
    assert (tmp_path / "history.jsonl").read_text() == ""
