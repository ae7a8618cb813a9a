import json
from pathlib import Path

import pytest

from models.corpus.examples import write_responses
from models.errors import SignalError
from models.fusion.advantage import Calibration, Scale
from models.fusion.shard_advantage import (
    ExampleScores,
    VotingRules,
    eligible,
    read_advantages,
    read_example_scores,
    read_own_scores,
    score_row,
    select_winners,
    write_advantages,
)
from models.params.teach import VoteParams
from models.schema import Response, SourceScore


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


def answers(tmp_path: Path, texts: dict[str, dict[str, tuple[str, str]]]) -> dict[str, Path]:
    """Source → example → (text, finish), as folders of responses."""
    for source, rows in texts.items():
        (tmp_path / f"answers-{source}").mkdir(exist_ok=True)
        found = [Response(id_, source, 0, text, 3, finish) for id_, (text, finish) in rows.items()]  # type: ignore[arg-type]
        write_responses(tmp_path / f"answers-{source}", found)
    return {source: tmp_path / f"answers-{source}" for source in texts}


SAID = {"a": {"x": ("red", "eos"), "y": ("blue", "eos")}, "b": {"x": ("green", "eos"), "y": ("brown", "eos")}}


def judged(  # type: ignore[no-untyped-def]
    files: dict[str, Path],
    unit: str = "byte",
    *,
    said=None,
    rewards=None,
    examples: tuple[str, ...] = ("x", "y"),
    prompts_only=(),
    calibrations=(None, None),
    worth=None,
    **rules,
):
    contests = read_example_scores(
        [(e, "f") for e in examples],
        scores={n: files[n] for n in ("a", "b")},
        rewards=rewards or {"rm": files["rm"]},
        responses=answers(files["a"].parent, {n: SAID[n] | (said or {}).get(n, {}) for n in SAID}),
        prompts_only=prompts_only,
    )
    election = VotingRules(("a", "b"), unit, VoteParams(**rules), *calibrations)  # type: ignore[arg-type]
    return select_winners(contests, election, worth=worth)


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


def test_an_empty_answer_cannot_win(files: dict[str, Path]) -> None:
    """`b` has the better score on `y`, but says nothing."""
    x, y = judged(files, said={"b": {"y": (" \n", "eos")}})
    assert (x.infer_winner, y.infer_winner) == ("a", "a")
    assert y.infer_votes == {"a#0": 1}


def test_copies_of_an_answer_do_not_divide_the_votes() -> None:
    """Two scorers prefer `blue`, but rounding shows each of them another copy; the third prefers `red`."""
    said = {"a#0": "blue", "b#0": "red", "a#1": "blue", "b#1": "blue"}
    found = {c: Response("x", c[0], int(c[2]), text, 3, "eos") for c, text in said.items()}
    copy = 0.9 + 1e-9
    rewards = {
        "s": {"a#0": 0.9, "a#1": copy, "b#0": 0.8, "b#1": 0.1},
        "t": {"a#0": copy, "a#1": 0.9, "b#0": 0.8, "b#1": 0.1},
        "u": {"a#0": 0.1, "a#1": 0.1, "b#0": 0.9, "b#1": 0.1},
    }
    contest = ExampleScores("x", "f", {}, {c: score(1.0) for c in said}, rewards, found)
    assert eligible(found, order=("a", "b"), truncated_may_win=False) == ["a#0", "b#0", "b#1"]
    (row,) = select_winners([contest], VotingRules(("a", "b"), "byte"))
    assert (row.infer_winner, row.infer_sample, row.tie) == ("a", 0, "votes") and row.infer_votes["a#0"] == 2


def test_a_truncated_answer_wins_only_where_it_may(files: dict[str, Path]) -> None:
    said = {"b": {"y": ("brown and", "length")}}
    assert [row.infer_winner for row in judged(files, said=said)] == ["a", "a"]
    assert [row.infer_winner for row in judged(files, said=said, truncated_may_win=True)] == ["a", "b"]


def test_without_an_answer_that_may_win_there_is_no_winner_and_the_reason_is_recorded(files: dict[str, Path]) -> None:
    said = {"a": {"x": ("", "eos"), "y": ("blue and", "length")}, "b": {"x": (" ", "length"), "y": ("", "eos")}}
    x, y = judged(files, said=said)
    assert (x.infer_winner, x.infer_sample, x.without_winner, x.tie) == (None, None, "empty", "none")
    assert (y.infer_winner, y.without_winner) == (None, "truncated")
    assert (x.train_winner, y.train_winner) == ("a", "a")  # the ground truth still has a teacher
    assert judged(files, said=said, truncated_may_win=True)[1].infer_winner == "a"


def test_a_scorer_that_abstains_has_no_vote(files: dict[str, Path], tmp_path: Path) -> None:
    check = write(tmp_path / "check.jsonl", [{"id": "x", "scores": {"a#0": 0.0, "b#0": 1.0}}, {"id": "y", "scores": {}}])
    x, y = judged(files, rewards={"rm": files["rm"], "check": check})
    assert (x.infer_votes, y.infer_votes) == ({"a#0": 1, "b#0": 1}, {"a#0": 0, "b#0": 1})
    x, y = judged(files, rewards={"check": check})
    assert (x.infer_winner, y.infer_winner, y.without_winner) == ("b", None, "abstained")


def test_the_gate_counts_the_scorers_that_voted(files: dict[str, Path], tmp_path: Path) -> None:
    """On `x` the two scorers disagree, so nobody has a majority; on `y` one abstains and the other is all there is."""
    check = write(tmp_path / "check.jsonl", [{"id": "x", "scores": {"a#0": 0.0, "b#0": 1.0}}, {"id": "y", "scores": {}}])
    x, y = judged(files, rewards={"rm": files["rm"], "check": check}, accept="majority")
    assert (x.infer_winner, x.without_winner, x.infer_votes) == (None, "gate", {"a#0": 1, "b#0": 1})
    assert (y.infer_winner, y.without_winner) == ("b", "")


def test_rows_without_a_winner_come_back_as_written(files: dict[str, Path], tmp_path: Path) -> None:
    rows = judged(files, said={"a": {"x": ("", "eos")}, "b": {"x": ("", "eos")}})
    write_advantages(tmp_path / "advantage.jsonl", rows)
    assert list(read_advantages(tmp_path / "advantage.jsonl")) == rows


def test_own_scores_are_those_of_the_answers(files: dict[str, Path]) -> None:
    assert read_own_scores(files["a"]) == {"x#0": score(1.0), "y#0": score(3.0)}


def test_a_prompt_without_a_ground_truth_has_a_winner_in_inference_mode_only(files: dict[str, Path], tmp_path: Path) -> None:
    for name in ("a", "b"):
        kept = [row for row in files[name].read_text().splitlines() if json.loads(row)["id"] != "y"]
        files[name].write_text("\n".join(kept) + "\n")
    with pytest.raises(SignalError, match=r"`scores` must hold every example.*first y"):
        judged(files)
    x, y = judged(files, prompts_only={"y"})
    assert (x.train_winner, x.infer_winner) == ("a", "a")
    assert (y.train_winner, y.train_scores, y.infer_winner) == (None, {}, "b")
    write_advantages(tmp_path / "advantage.jsonl", [x, y])
    assert list(read_advantages(tmp_path / "advantage.jsonl")) == [x, y]


def test_without_a_ground_truth_another_threshold_is_passed(files: dict[str, Path]) -> None:
    """The threshold of the scorers that see the ground truth is another scale than that of those that do not."""
    for name in ("a", "b"):
        kept = [row for row in files[name].read_text().splitlines() if json.loads(row)["id"] != "y"]
        files[name].write_text("\n".join(kept) + "\n")
    low, high = (Calibration({"rm": Scale(0.0, 1.0)}, threshold, 1.0, 0.9, 1, 1) for threshold in (0.5, 0.85))
    for whole, alone, won in ((low, high, ["a", None]), (high, low, ["a", "b"])):
        rows = judged(files, prompts_only={"y"}, accept="calibrated", calibrations=(whole, alone))
        assert [row.infer_winner for row in rows] == won


def test_chance_names_a_winner_by_seed_and_prompt(files: dict[str, Path]) -> None:
    drawn = {seed: [row.infer_winner for row in judged(files, winner="random", winner_seed=seed)] for seed in range(20)}
    assert drawn[0] == [row.infer_winner for row in judged(files, winner="random", winner_seed=0)]
    assert {tuple(row) for row in drawn.values()} == {("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")}
    # The vote is held all the same, and Min-CE is another matter.
    assert [row.infer_votes for row in judged(files, winner="random")] == [row.infer_votes for row in judged(files)]
    assert [row.train_winner for row in judged(files, winner="random")] == ["a", "a"]


def test_chance_does_not_name_an_answer_that_may_not_win(files: dict[str, Path]) -> None:
    said = {"b": {"y": ("brown and", "length")}}
    assert {judged(files, said=said, winner="random", winner_seed=seed)[1].infer_winner for seed in range(20)} == {"a"}


def test_an_oracle_names_what_is_right_whatever_the_vote_says(files: dict[str, Path]) -> None:
    x, y = judged(files, winner="oracle", worth={"x": {"a#0": 0.0, "b#0": 1.0}, "y": {"a#0": 1.0, "b#0": 0.0}})
    assert (x.infer_winner, y.infer_winner) == ("b", "a")
    assert [row.infer_winner for row in judged(files)] == ["a", "b"]


def test_among_right_answers_the_vote_decides_for_an_oracle(files: dict[str, Path]) -> None:
    both = {"a#0": 1.0, "b#0": 1.0}
    assert [row.infer_winner for row in judged(files, winner="oracle", worth={"x": both, "y": both})] == ["a", "b"]


def test_an_oracle_names_nobody_where_all_are_wrong_or_nothing_is_known(files: dict[str, Path]) -> None:
    x, y = judged(files, winner="oracle", worth={"x": {"a#0": 0.0, "b#0": 0.0}})
    assert (x.infer_winner, x.without_winner) == (None, "wrong")
    assert (y.infer_winner, y.without_winner) == (None, "abstained")
