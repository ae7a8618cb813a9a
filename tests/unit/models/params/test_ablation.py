"""What a plan of an ablation may say."""

from typing import Any

import pytest
from pydantic import ValidationError

from models.params.ablation import AblationPlan


def plan(**more: Any) -> AblationPlan:
    given = {
        "name": "x",
        "regimes": {"few": {"profile": "smoke"}, "many": {"profile": "smoke"}},
        "arms": {"sft": {"method": "sft"}},
    }
    return AblationPlan.model_validate(given | more)


def test_an_arm_has_the_plans_seeds_grid_and_regimes_unless_it_has_its_own() -> None:
    own = {"method": "profuser", "seeds": [2], "regimes": ["few"], "grid": {}}
    made = plan(seeds=[1, 2], grid={"fusion.lr": [1e-3]}, arms={"sft": {"method": "sft"}, "ours": own})
    assert (made.seeds_of("sft"), made.seeds_of("ours")) == ((1, 2), (2,))
    assert (made.grid_of("sft"), made.grid_of("ours")) == ({"fusion.lr": (1e-3,)}, {})
    assert [made.runs_in("ours", regime) for regime in ("few", "many")] == [True, False]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seeds": [1, 1]}, "`seeds` must be distinct, but has ['1']"),
        (
            {"arms": {"untrained": {"method": "sft"}}},
            "`arms.untrained` must have another name",
        ),
        ({"seeds": [1], "arms": {"a": {"method": "sft", "seeds": [2]}}}, "`arms.a.seeds` must be among `seeds` (1), but has [2]"),
        (
            {"arms": {"a": {"method": "sft", "regimes": ["x"]}}},
            "`arms.a.regimes` must be among `regimes` (few, many), but",
        ),
        ({"grid": {"fusion.lr": []}}, "`grid` must give at least one value for `fusion.lr`"),
        ({"compare": [["sft", "y"]]}, "`compare[0]` must be among `arms` (sft, untrained, best_source), but has ['y']"),
    ],
)
def test_names_that_lead_nowhere(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        plan(**given)
    assert message in str(caught.value)
