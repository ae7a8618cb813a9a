from pathlib import Path

from models.data.corpus import write_examples
from models.data.stats import length_quantiles, split_stats
from models.schema import Example, Message


def test_quantiles_are_exact() -> None:
    assert length_quantiles({n: 1 for n in range(1, 101)}) == {"p05": 5, "p25": 25, "p50": 50, "p75": 75, "p95": 95, "max": 100}
    assert length_quantiles({3: 99, 1000: 1}) == {"p05": 3, "p25": 3, "p50": 3, "p75": 3, "p95": 3, "max": 1000}
    assert length_quantiles({}) == {}


def test_split_stats_count_families_and_characters(tmp_path: Path) -> None:
    turns = (Message("system", "ab"), Message("user", "cdé"))
    rows = [Example("1", "x", turns, "1234"), Example("2", "y", turns[1:], "12"), Example("3", "x", turns[1:], "1", ended=False)]
    write_examples(tmp_path / "a.jsonl", rows)
    stats = split_stats(tmp_path / "a.jsonl")
    assert (stats["rows"], stats["cut"], stats["families"]) == (3, 1, {"x": 2, "y": 1})
    assert stats["prompt_chars"] == {"p05": 3, "p25": 3, "p50": 3, "p75": 5, "p95": 5, "max": 5}
    assert stats["response_chars"]["max"] == 4
