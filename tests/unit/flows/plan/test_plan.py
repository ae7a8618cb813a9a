"""Lines and seconds of `plan`."""

import pytest

from flows.plan import plan
from flows.plan.plan import judged, planned_seconds
from models.params.runtime import Planning, Runtime
from models.planning.footprint import JudgingCost
from models.planning.stage_estimate import START_SECONDS, StageEstimate


def test_stages_of_sources_are_divided_by_the_devices_they_spread_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "device_lanes", lambda runtime: 4)

    def seconds(stage: str, **runtime: object) -> float:
        estimate = StageEstimate(stage, 0, 0, 0, 8e10)
        return planned_seconds(estimate, runtime=Runtime.model_validate(runtime), planning=Planning(flops_per_second=1e10))

    assert seconds("teach") == seconds("evaluate_fusion") == START_SECONDS + 2
    assert seconds("fuse") == START_SECONDS + 8
    assert seconds("teach", workers=2) == START_SECONDS + 4, "workers take the place of lanes"


def test_judges_are_told_stage_by_stage() -> None:
    asking = StageEstimate("teach", 0, 0, 0, 0.0, judging=JudgingCost(300, 36_000, 76_800))
    (line,) = judged([StageEstimate("fuse", 0, 0, 0, 0.0), asking])
    assert line.startswith("teach asks judges 300 times (answers × judges): about 36,000 tokens sent, at most 76,800 in replies")
