import json
import tracemalloc
from pathlib import Path

import numpy as np

from models.corpus.split import ProblemLog, read_set_rows
from models.errors import Problem
from models.params.corpus import CorpusSet


def peak(root: Path, num_rows: int) -> int:
    with (root / "a.jsonl").open("w") as file:
        for i in range(num_rows):
            file.write(json.dumps({"question": f"Question number {i}?", "answer": "a long answer " * 20}) + "\n")
    tracemalloc.start()
    survey = read_set_rows(CorpusSet(name="a", path="a.jsonl", format="qa"), root=root, seed=1, log=ProblemLog())
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert survey.num_rows == num_rows
    return most


def test_memory_grows_by_a_few_bytes_a_row(tmp_path: Path) -> None:
    small = peak(tmp_path, 1_000)
    assert (peak(tmp_path, 11_000) - small) / 10_000 < 64, "a row's text has 300 bytes"


def test_columns_follow_the_file(tmp_path: Path) -> None:
    rows = [
        '{"question": "Q?", "answer": "a"}',
        "",
        "{",
        '{"question": " q? ", "answer": "b"}',
        '{"question": "very long", "answer": "x"}',
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    log = ProblemLog()
    survey = read_set_rows(CorpusSet(name="a", path="a.jsonl", format="qa", max_chars=6), root=tmp_path, seed=1, log=log)
    assert survey.lines.tolist() == [1, 4]
    assert survey.where(1) == "a.jsonl:4"
    assert survey.prompts[0] == survey.prompts[1]
    assert survey.contents[0] != survey.contents[1]
    assert len(np.unique(survey.ids)) == 2
    assert dict(survey.left_out) == {"malformed": 1, "too_long": 1}
    assert [p.where for p in log.problems] == ["a.jsonl:3"]


def test_the_log_counts_more_than_it_keeps() -> None:
    log = ProblemLog()
    for number in range(10_500):
        log.add(Problem(str(number), "must be fine"))
    assert (log.count, len(log.problems)) == (10_500, 10_000)
