"""What `plan` says of training prompts without a ground truth."""

from pathlib import Path

import pytest

from flows.context import StageContext
from flows.params.file import load_params
from flows.plan.fusion_sizes import corpus_size
from flows.plan.plan import extra_steps
from flows.plan.prompt_kinds import prompt_lines, prompt_warnings

ROOT = Path(__file__).parents[4]
CONFIDENCE, CHRF = "{kind: confidence, name: sure}", "{kind: reference, name: chrf}"


@pytest.fixture
def context(tmp_path: Path):
    """`context(methods, *overrides)`: the profile `smoke` with 48 ground truths, before anything has run."""

    def make(methods: str, *overrides: str, alone: int = 24) -> StageContext:
        given = (
            f"methods=[{methods}]",
            "dialogue_evaluation.in_context=[]",
            f"corpus.world.num_prompts_only={alone}",
            *overrides,
        )
        return StageContext(root=tmp_path, params=load_params(ROOT, profile="smoke", overrides=given).params)

    return make


def test_nothing_is_said_where_every_prompt_has_a_ground_truth(context) -> None:
    ctx = context("sft", alone=0)
    assert prompt_lines(ctx) == prompt_warnings(ctx) == []


def test_both_kinds_are_counted_and_methods_that_do_not_see_them_named(context) -> None:
    ctx = context("sft, profuser", "fusion.budget=ground_truth", "fusion.epochs=2")
    size = corpus_size(ctx)
    assert size is not None and (size.num_train, size.num_truths) == (72, 48)
    assert prompt_lines(ctx) == [
        "24 of 72 training prompts have no ground truth: they take part in inference mode only.",
        "fuse@sft has no phase in inference mode: it does not see them.",
        "fuse@sft: 2 passes over 48 ground truths, 0 over the winning answers to 72 prompts.",
        "fuse@profuser: 2 passes over 48 ground truths, 2.22 over the winning answers to 72 prompts.",
    ]
    assert extra_steps(ctx) == ["fuse@profuser: 5 steps on winning answers alone, on top of 6 with ground truth."]


def test_prompts_that_no_method_uses_are_a_warning(context) -> None:
    (line, *_) = prompt_warnings(context("sft, fusellm"))
    assert line.startswith(
        "none of the methods (sft, fusellm) has a phase in inference mode: the 24 prompts without a ground truth"
    )
    assert not [line for line in prompt_warnings(context("sft, profuser")) if "none of the methods" in line]


def test_prompts_that_nobody_can_vote_on_are_a_warning(context) -> None:
    (line,) = prompt_warnings(context("profuser", f"teach.rewards.scorers=[{CHRF}]"))
    assert line.startswith("all of `teach.rewards.scorers` compare with the ground truth: none votes on the 24 prompts")
    assert prompt_warnings(context("profuser", f"teach.rewards.scorers=[{CONFIDENCE}, {CHRF}]")) == []
    (line,) = prompt_warnings(context("profuser"))
    assert "an even number of scorers votes (confidence, pico-rm)" in line
