from pathlib import Path

from models.data.corpus import write_examples
from models.data.overlap import overlap_share
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
