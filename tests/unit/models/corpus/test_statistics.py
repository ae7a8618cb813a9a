from pathlib import Path

from models.corpus.examples import write_examples
from models.corpus.statistics import length_quantiles, overlap_share, split_stats
from models.schema import Example, Message

WORDS = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen".split()


def examples(path: Path, *rows: tuple[str, str]) -> Path:
    write_examples(path, (Example(str(i), "f", (Message("user", p),), r) for i, (p, r) in enumerate(rows)))
    return path


def test_thirteen_words_in_a_row_count_and_twelve_do_not(tmp_path: Path) -> None:
    train = examples(
        tmp_path / "train.jsonl",
        ("Say: " + " ".join(WORDS[:13]).upper(), "ok"),
        ("What is", " ".join(WORDS[2:15])),
        ("x", "y"),
    )
    held_out = examples(
        tmp_path / "test.jsonl",
        ("zero " + " ".join(WORDS[:13]), ""),  # 13 words of the first row, in other letters
        (" ".join(WORDS[1:13]) + " other words", ""),  # 12 words only
        (" ".join(WORDS[2:15]), ""),  # in a response
        ("too short", ""),
    )
    assert overlap_share(held_out, train) == {"checked": 3, "overlapping": 2, "share": 0.6667}


def test_nothing_to_check_is_no_overlap(tmp_path: Path) -> None:
    train = examples(tmp_path / "train.jsonl", ("a", "b"))
    assert overlap_share(examples(tmp_path / "test.jsonl"), train) == {"checked": 0, "overlapping": 0, "share": 0.0}


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
