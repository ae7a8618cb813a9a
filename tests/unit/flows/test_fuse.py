"""What a training tells MLflow, `plan` and the model card about its budget."""

from pathlib import Path

import pytest

from flows.cards import budget_text
from flows.context import StageContext
from flows.fuse import exposure_metrics, fuse_stage, schedule_params
from flows.planning import extra_steps
from models.errors import ParamsError
from models.fusion.exposure import exposure
from models.fusion.schedule import plan_steps, resolve_schedule
from models.params.fusion import FusionParams, Phase

MINE = (Phase(w_infer=1, w_train=0, epochs=1), Phase(w_infer=0, w_train=1, epochs=1))


@pytest.fixture
def cfg() -> FusionParams:
    return FusionParams(targets=("one",), epochs=2.0, budget="ground_truth", schedules={"mine": MINE, "other": MINE})


def record(cfg: FusionParams, method: str) -> dict[str, object]:
    plan = plan_steps(resolve_schedule(method, cfg), num_prompts=64, batch_size=cfg.batch_size, budget=cfg.budget)
    told = exposure(plan, cfg).to_json()
    phases = [{"number": 1, "w_infer": 1.0, "w_train": 0.0, "beta": 0.11, "lr": 1e-3}]
    common = {"method": method, "target": "one", "total_steps": plan.total_steps, "budget": cfg.budget, "normalise": "mode"}
    return {**common, "phases": phases, "exposure": told}


def test_a_run_tells_its_budget_and_what_it_spent(cfg: FusionParams) -> None:
    made = record(cfg, "mine")
    assert schedule_params(made).items() >= {"method": "mine", "steps": 6, "budget": "ground_truth", "normalise": "mode"}.items()
    figures = exposure_metrics(made)
    assert (figures["exposure/extra_steps"], figures["exposure/ground_truth_passes"]) == (2.0, 2.0)
    assert figures["exposure/winners_passes"] == 1.0
    assert figures["exposure/ground_truth_lr_sum"] == exposure_metrics(record(cfg, "sft"))["exposure/ground_truth_lr_sum"]
    text = budget_text(made)
    assert text.startswith("`ground_truth`: 2 passes over the ground truth") and "2 steps on winning answers alone" in text
    assert "alone" not in budget_text(record(cfg, "sft"))


def test_other_schedules_are_no_part_of_a_training(cfg: FusionParams) -> None:
    assert set(cfg.for_method("mine").schedules) == {"mine"}
    assert cfg.for_method("sft").schedules == {}
    assert resolve_schedule("mine", cfg.for_method("mine")) == resolve_schedule("mine", cfg)


def test_plan_names_extra_steps() -> None:
    given = ["fusion.budget=ground_truth", "methods=[sft, profuser, mine]", "fusion.schedules.mine=[{w_infer: 1, w_train: 0.5}]"]
    ctx = StageContext.load(profile="embedded", overrides=given)
    (line,) = extra_steps(ctx)
    assert line.startswith("fuse@profuser: ") and "steps on winning answers alone, on top of " in line
    assert extra_steps(StageContext.load(profile="embedded")) == []


@pytest.mark.parametrize("method", ["custom", "../sft"])
def test_an_unknown_method_is_refused_before_any_work(method: str, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="The method must be one of sft, "):
        fuse_stage(StageContext.load(profile="embedded"), method=method)
