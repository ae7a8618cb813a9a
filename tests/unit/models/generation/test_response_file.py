from pathlib import Path

from models.generation.response_file import read_responses, write_responses
from models.schema import Response


def test_answers_come_back_as_written(tmp_path: Path) -> None:
    rows = [
        Response("a", "s", 0, "two\nlines, “quotes” 🙂", 5, "eos"),
        Response("b", "s", 1, "", 0, "length", prompt_truncated=True),
    ]
    write_responses(tmp_path, rows)
    assert read_responses(tmp_path) == rows
    assert len((tmp_path / "responses.jsonl").read_text().splitlines()) == 2
