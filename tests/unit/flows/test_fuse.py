"""What a training tells MLflow, `plan` and the model card about its budget."""

from pathlib import Path

import pytest

from flows.cards import budget_text
from flows.context import StageContext
from flows.fuse import exposure_metrics, fuse_stage, schedule_params
from flows.fusion_systems import place_of, run_name, systems_of
from flows.plan.plan import extra_steps, planned
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
    seen = exposure(plan, cfg).to_json()
    common = {"w_infer": 1.0, "w_train": 0.5, "beta": 0.11, "lr": 1e-3}
    phases = [{"number": n, "token_weight": w, **common} for n, w in ((1, None), (2, 0.4))]
    about = {"method": method, "target": "one", "total_steps": plan.total_steps, "budget": cfg.budget, "normalise": "mode"}
    return {**about, "phases": phases, "exposure": seen}


def test_a_run_tells_its_budget_and_what_it_spent(cfg: FusionParams) -> None:
    made = record(cfg, "mine")
    assert schedule_params(made).items() >= {"method": "mine", "steps": 6, "budget": "ground_truth", "normalise": "mode"}.items()
    figures = exposure_metrics(made)
    assert (figures["exposure/extra_steps"], figures["exposure/ground_truth_passes"]) == (2.0, 2.0)
    assert figures["exposure/winners_passes"] == 1.0
    assert {k: v for k, v in figures.items() if "token_weight" in k} == {"exposure/phase2_token_weight": 0.4}
    assert figures["exposure/ground_truth_lr_sum"] == exposure_metrics(record(cfg, "sft"))["exposure/ground_truth_lr_sum"]
    text = budget_text(made)
    assert text.startswith("`ground_truth`: 2 passes over the ground truth") and "2 steps on winning answers alone" in text
    assert "alone" not in budget_text(record(cfg, "sft"))


def test_other_schedules_are_no_part_of_a_training(cfg: FusionParams) -> None:
    assert set(cfg.for_method("mine").schedules) == {"mine"}
    assert cfg.for_method("sft").schedules == {}
    assert resolve_schedule("mine", cfg.for_method("mine")) == resolve_schedule("mine", cfg)


def test_a_schedule_is_a_method_everywhere() -> None:
    """In the matrix of DVC, among what is scored, and as a generator of the dialogue half."""
    given = ["methods=[sft, mine]", "fusion.schedules.mine=[{w_infer: 1, w_train: 0.5}]"]
    ctx = StageContext.load(profile="embedded", overrides=[*given, "dialogue_evaluation.in_context[0].model='fused:mine'"])
    assert [item for stage, item, _, _ in planned(ctx, halves=("fusion",)) if stage.name == "fuse"] == ["sft", "mine"]
    assert "method-mine-solver" in [place_of(system) for system in systems_of(ctx)]
    assert run_name(ctx, "mine", "solver") == "fuse-mine"


def test_plan_names_extra_steps() -> None:
    given = ["fusion.budget=ground_truth", "methods=[sft, profuser, mine]", "fusion.schedules.mine=[{w_infer: 1, w_train: 0.5}]"]
    ctx = StageContext.load(profile="embedded", overrides=given)
    (line,) = extra_steps(ctx)
    assert line.startswith("fuse@profuser: ") and "steps on winning answers alone, on top of " in line
    assert extra_steps(StageContext.load(profile="embedded", overrides=["fusion.budget=steps"])) == []


@pytest.mark.parametrize("method", ["custom", "../sft"])
def test_an_unknown_method_is_refused_before_any_work(method: str, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="The method must be one of sft, "):
        fuse_stage(StageContext.load(profile="embedded"), method=method)
