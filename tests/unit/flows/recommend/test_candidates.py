"""Which methods are tried on which data."""

from dataclasses import replace

import pytest

from flows.recommend.candidates import Facts, candidates
from models.params.fusion import FusionParams, Phase

CFG = FusionParams(targets=("solver",))
# Few ground truths, many prompts without; the modes disagree often, and winners are right.
FEW = Facts(3, 70, 330, 400, agreement=0.5, num_checked=60, num_right=55, chance=0.6, length_ratio=1.2)


def tried(facts: Facts, cfg: FusionParams = CFG, methods: tuple[str, ...] = ()) -> list[str]:
    return [c.name for c in candidates(facts, cfg, methods)[0]]


def test_all_that_can_run_are_tried_with_both_replays() -> None:
    found, left_out = candidates(FEW, CFG, ("sft",))
    assert [c.label for c in found] == ["sft", "fusellm", "inference_only", "profuser, replay 0.1", "profuser, replay 1"]
    assert found[-1].settings == {"fusion.replay": 1.0} and not left_out


def test_without_ground_truths_inference_mode_alone() -> None:
    found, left_out = candidates(replace(FEW, num_truths=0, agreement=None, length_ratio=None), CFG, ())
    assert [c.name for c in found] == ["inference_only"]
    assert left_out == ["`sft`, `fusellm`, `profuser`: the pilot has no ground truths."]


def test_one_source_is_only_fine_tuned() -> None:
    assert tried(replace(FEW, num_sources=1)) == ["sft"]


@pytest.mark.parametrize(("right", "kept"), [(36, False), (37, True)])
def test_winners_at_chance_teach_nothing(right: int, kept: bool) -> None:
    """60 % of 60 is what a source drawn at random would reach."""
    assert ("inference_only" in tried(replace(FEW, num_right=right))) == kept
    assert ("profuser_replay_1" in tried(replace(FEW, num_right=right))) == kept


def test_few_checked_winners_say_nothing() -> None:
    assert "inference_only" in tried(replace(FEW, num_checked=29, num_right=0))


def test_no_winner_no_inference_mode() -> None:
    assert tried(replace(FEW, num_winners=0)) == ["sft", "fusellm"]


def test_full_replay_is_left_out_where_it_has_nothing_to_preserve() -> None:
    same = replace(FEW, num_prompts_only=0, agreement=0.95)
    assert "profuser_replay_1" not in tried(same)
    for other in ({"num_prompts_only": 1}, {"agreement": 0.94}, {"length_ratio": 2.0}):
        assert "profuser_replay_1" in tried(replace(same, **other)), other


def test_the_profiles_own_replay_and_schedules_are_tried() -> None:
    both, infer = (Phase(w_infer=1.0, w_train=w) for w in (1.0, 0.0))
    cfg = FusionParams(targets=("solver",), replay=0.3, schedules={"mine": (both,), "unused": (both,), "alone": (infer,)})
    assert {"profuser_replay_0_3", "mine", "alone"} <= set(tried(FEW, cfg, ("mine", "alone")))
    without = tried(replace(FEW, num_truths=0), cfg, ("mine", "alone"))
    assert without == ["inference_only", "alone"]
