"""The advice: its sentences, and what it says to write and to run."""

from pathlib import Path
from typing import Any

import pytest

from flows.params.file import load_params
from flows.recommend.advice import Advice, Cost, command, profile_lines, sentences
from flows.recommend.candidates import Candidate, Facts
from flows.recommend.pilot import Asked
from flows.recommend.run import Findings, Measured
from models.evaluation.bootstrap import Resampling
from models.evaluation.fusion.recommendation import recommend
from models.evaluation.fusion.scores import ScoreRow, System

ROOT = Path(__file__).resolve().parents[4]
SFT, PROFUSER = Candidate("sft", "sft"), Candidate("profuser_replay_1", "profuser", {"fusion.replay": 1.0})
UNTRAINED = System("solver", "untrained", "solver")


def rows(right: int | None, bits: float | None) -> list[ScoreRow]:
    return [
        ScoreRow(str(i), "f", None if bits is None else 7 * bits + 0.01 * (i % 3), 10 * (bits is not None), 1, lossless=True)
        if right is None
        else ScoreRow(str(i), "f", None if bits is None else 7 * bits + 0.01 * (i % 3), 10, 1, lossless=True, correct=i < right)
        for i in range(100)
    ]


def advice(figures: dict[Any, tuple[int | None, float | None]], *, overrides: tuple[str, ...] = (), lr: float = 2e-3) -> Advice:
    """`figures`: candidate or system → right answers of 100, bits per byte."""
    params = load_params(ROOT, profile="embedded", overrides=overrides).params
    tried = [c for c in figures if isinstance(c, Candidate)]
    systems = {c.name: System(c.label, "method", "solver") for c in tried}
    scores = {systems[k.name] if isinstance(k, Candidate) else k: rows(*v) for k, v in figures.items()}
    findings = Findings(Asked(ROOT, "embedded", overrides, 100), (1456, 1200), 100, Facts(3, 18, 82, 100), tried, [])
    findings.measured = {c.name: Measured({"fusion.lr": lr}, []) for c in tried}
    costs = {c.name: Cost(300.0 + i, 1, 1) for i, c in enumerate(tried)}
    prices = {systems[c.name]: costs[c.name].seconds for c in tried}
    choice = recommend(scores, list(systems.values()), costs=prices, resampling=Resampling(samples=200))
    return Advice(findings, params, systems, costs, choice)


def test_a_clear_choice_gives_its_reason_and_its_cost() -> None:
    assert sentences(advice({SFT: (40, 1.0), PROFUSER: (80, 1.0), UNTRAINED: (10, 2.0)})) == [
        "Use `profuser, replay 1`: it is the best in accuracy (80.0 %, 40.0 points from `sft`, the next), and the interval "
        "excludes zero. The full run takes about 5 min."
    ]


def test_an_unclear_choice_says_so() -> None:
    (said,) = sentences(advice({SFT: (80, 1.0), PROFUSER: (80, 1.0), UNTRAINED: (10, 2.0)}))
    assert said.startswith(
        "unclear: in accuracy the intervals do not tell `sft` and `profuser, replay 1` apart. Use `sft` (80.0 %)"
    )


def test_metrics_that_disagree_name_both() -> None:
    said = sentences(advice({SFT: (40, 1.0), PROFUSER: (80, 2.0), UNTRAINED: (10, 3.0)}))
    assert said[1].startswith(
        "The metrics disagree. `profuser, replay 1` buys accuracy: 80.0 % against 40.0 %. `sft` buys likeness"
    )
    equal = sentences(advice({SFT: (80, 2.0), PROFUSER: (80, 1.0), UNTRAINED: (10, 3.0)}))
    assert "`profuser, replay 1` is not told from `sft` in accuracy (80.0 % against 80.0 %), but is better" in equal[1]


def test_doubts_are_said() -> None:
    said = sentences(advice({SFT: (40, 1.0), PROFUSER: (20, 1.0), UNTRAINED: (40, 2.0)}, lr=4e-3))
    assert said[1].startswith("Not even `sft` is told from the untrained target in accuracy (0.0 [0.0, 0.0])")
    assert said[2] == "`fusion.lr` 0.004 is at the edge of what was tried: try more by `--lr`."


def test_a_single_candidate_that_nothing_measures() -> None:
    (said,) = sentences(advice({Candidate("inference_only", "inference_only"): (None, None)}))
    assert said.startswith("Use `inference_only`: it is all that can be run. Nothing measures what it gains")


def test_what_to_write_and_to_run() -> None:
    given = ("corpus.world.seed=5", "fusion.lr=0.001", "runtime.threads=1")
    found = advice({SFT: (40, 1.0), PROFUSER: (80, 1.0)}, overrides=given)
    assert profile_lines(found, PROFUSER) == [
        "methods: [profuser]  # params.yaml", "fusion:", "  budget: ground_truth", "  replay: 1.0", "  lr: 0.002",
    ]  # fmt: skip
    assert command(found, PROFUSER) == (
        "python -m flows run fusion --profile embedded -S corpus.world.seed=5 -S runtime.threads=1 -S fusion.budget=ground_truth "
        "-S fusion.replay=1.0 -S fusion.lr=0.002 -S 'methods=[profuser]'"
    )
    assert "replay" not in command(found, SFT) and "-S 'dialogue_evaluation.in_context=[]'" in command(found, SFT)


@pytest.mark.parametrize("candidate", [SFT, PROFUSER])
def test_the_command_has_valid_params(candidate: Candidate) -> None:
    import shlex

    words = shlex.split(command(advice({SFT: (40, 1.0), PROFUSER: (80, 1.0)}), candidate))
    params = load_params(
        ROOT, profile="embedded", overrides=[words[i + 1] for i, word in enumerate(words) if word == "-S"]
    ).params
    assert (params.methods, params.fusion.lr) == ((candidate.method,), 0.002)
