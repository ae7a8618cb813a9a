"""How `evaluate_fusion` spreads over devices."""

from types import SimpleNamespace
from typing import Any

import pytest

from flows import evaluate
from models.params.evaluation import EvaluationParams
from models.params.runtime import Runtime
from models.params.teach import ScorerSpec

SYSTEMS: Any = [{"name": name, "kind": "source", "target": None} for name in ("owl", "fox", "hen")]
JUDGE = ScorerSpec(kind="judge", name="gpt")
CHRF = ScorerSpec(kind="reference", name="chrf")


@pytest.mark.parametrize(("scorers", "answers", "lanes"), [([CHRF], True, 4), ([CHRF, JUDGE], True, 1), ([JUDGE], False, 4)])
def test_systems_spread_over_the_devices_unless_an_endpoint_judges_them(
    monkeypatch: pytest.MonkeyPatch, scorers: list[ScorerSpec], answers: bool, lanes: int
) -> None:
    seen: list[tuple[list[Any], int]] = []
    monkeypatch.setattr(evaluate, "device_lanes", lambda runtime: 4)
    monkeypatch.setattr(evaluate, "_call", lambda ctx, system, split: (split, system["name"]))
    monkeypatch.setattr(evaluate, "gather", lambda calls, *, runtime, lanes: seen.append((calls, lanes)) or calls)
    teach = SimpleNamespace(rewards=SimpleNamespace(scorers=scorers))
    params = SimpleNamespace(runtime=Runtime(), evaluation=EvaluationParams(answers=answers), teach=teach)
    evaluate.evaluated(SimpleNamespace(params=params), SYSTEMS, "test")  # type: ignore[arg-type]
    assert seen == [([("test", "owl"), ("test", "fox"), ("test", "hen")], lanes)]
