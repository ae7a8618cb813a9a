import json
from pathlib import Path

import pytest

from models.errors import SignalError
from models.fusion.shard_advantage import judge_shard, read_advantages, score_row, write_advantages
from models.schema import SourceScore


def score(nll: float, *, tokens: int = 4, num_bytes: int = 10, lossless: bool = True) -> SourceScore:
    return SourceScore(nll=nll, num_tokens=tokens, num_bytes=num_bytes, lossless=lossless)


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Two sources, two examples: `a` is sure of both ground truths, the scorer prefers `b`'s answer on the second."""
    rows = {
        "a": [
            score_row("x", "ground_truth", score(1.0)),
            score_row("y", "ground_truth", score(2.0)),
            score_row("x#0", "response", score(1.0)),
            score_row("y#0", "response", score(3.0)),
        ],
        "b": [
            score_row("x", "ground_truth", score(2.0)),
            score_row("y", "ground_truth", score(3.0, tokens=30)),
            score_row("x#0", "response", score(5.0)),
            score_row("y#0", "response", score(1.0)),
        ],
    }
    votes = [{"id": "x", "scores": {"a#0": 0.9, "b#0": 0.1}}, {"id": "y", "scores": {"a#0": 0.2, "b#0": 0.8}}]
    return {name: write(tmp_path / f"{name}.jsonl", r) for name, r in rows.items()} | {
        "rm": write(tmp_path / "rm.jsonl", votes)  # type: ignore[arg-type]
    }


def judged(files: dict[str, Path], unit: str = "byte", examples: tuple[str, ...] = ("x", "y")):  # type: ignore[no-untyped-def]
    return judge_shard(
        [(e, "f") for e in examples],
        scores={n: files[n] for n in ("a", "b")},
        rewards={"rm": files["rm"]},
        unit=unit,  # type: ignore[arg-type]
        order=("a", "b"),
    )


def test_both_modes_have_their_own_winner(files: dict[str, Path]) -> None:
    x, y = judged(files)
    assert (x.train_winner, x.infer_winner) == ("a", "a")
    assert (y.train_winner, y.infer_winner, y.infer_sample) == ("a", "b", 0)
    assert y.infer_votes == {"a#0": 0, "b#0": 1}
    assert x.train_scores == {"a": 0.1, "b": 0.2}


def test_the_unit_decides_between_tokenizers(files: dict[str, Path]) -> None:
    """Per token the finer tokenizer looks better on the same text (3.0 / 30 against 2.0 / 4)."""
    assert judged(files, "byte")[1].train_winner == "a"
    assert judged(files, "token")[1].train_winner == "b"


def test_files_come_back_as_written(files: dict[str, Path], tmp_path: Path) -> None:
    rows = judged(files)
    write_advantages(tmp_path / "advantage.jsonl", rows)
    assert list(read_advantages(tmp_path / "advantage.jsonl")) == rows


def test_a_missing_example_is_named(files: dict[str, Path]) -> None:
    with pytest.raises(SignalError, match=r"`scores` must hold every example.*first z"):
        judged(files, examples=("x", "y", "z"))


def test_a_scorer_without_scores_abstains(files: dict[str, Path], tmp_path: Path) -> None:
    plain = judged(files)
    mute = write(tmp_path / "mute.jsonl", [{"id": "x", "scores": {}}, {"id": "y", "scores": {"a#0": 9.0, "b#0": 1.0}}])
    x, y = judge_shard(
        [("x", "f"), ("y", "f")],
        scores={n: files[n] for n in ("a", "b")},
        rewards={"rm": files["rm"], "mute": mute},
        unit="byte",
        order=("a", "b"),
    )
    assert x == plain[0] and sum(y.infer_votes.values()) == 2
