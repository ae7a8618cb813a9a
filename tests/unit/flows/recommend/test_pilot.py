"""The pilot's size, and the plan of its candidates."""

import json
import shutil
from pathlib import Path

import pytest

from flows.ablation.plan_file import Item
from flows.params.file import load_params
from flows.recommend.candidates import Candidate
from flows.recommend.pilot import Asked, asked, pilot_settings, write_plan
from models.params.corpus import CorpusParams, CorpusSet

ROOT = Path(__file__).resolve().parents[4]
WORLD = CorpusParams()
FILES = CorpusParams(kind="files", sets=(CorpusSet(name="a", path="a.jsonl"),))


def test_the_world_is_cut_by_its_counts() -> None:
    cut = pilot_settings(WORLD, num_train=1456, num_prompts_only=1200, limit=400)
    assert cut == {"corpus.world.num_train": 70, "corpus.world.num_prompts_only": 330}
    few = pilot_settings(WORLD, num_train=1000, num_prompts_only=990, limit=100)
    assert few == {"corpus.world.num_train": 12, "corpus.world.num_prompts_only": 99}, "a world has 12 ground truths or more"


def test_files_are_cut_by_a_limit() -> None:
    assert pilot_settings(FILES, num_train=1456, num_prompts_only=1200, limit=400) == {"corpus.train_limit": 400}


@pytest.mark.parametrize("cfg", [WORLD, FILES])
def test_small_data_are_not_cut(cfg: CorpusParams) -> None:
    assert pilot_settings(cfg, num_train=400, num_prompts_only=100, limit=400) == {}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from tasks import workspace

    shutil.copy2(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    monkeypatch.setenv(workspace.ROOT_VARIABLE, str(tmp_path))
    workspace.project_root.cache_clear()
    yield tmp_path
    workspace.project_root.cache_clear()


def test_overrides_that_decide_results_stand_in_the_plan(project: Path) -> None:
    overrides = ("runtime.threads=1", "fusion.lr=1e-3", "fusion.budget=steps", "sources.models[0].pico.steps=5", "profile=smoke")
    wanted = asked(project, profile=None, overrides=overrides, limit=48, rates=())
    assert (wanted.profile, wanted.name, wanted.execution) == ("smoke", "recommend-smoke", ("runtime.threads=1",))
    params = load_params(project, overrides=overrides).params
    tried = [Candidate("sft", "sft"), Candidate("profuser_replay_1", "profuser", {"fusion.replay": 1.0})]
    loaded = write_plan(wanted, params, tried, pilot={"corpus.world.num_train": 24}, choose_by="reward")
    assert loaded.file == "artifacts/ablation-recommend-smoke/plan.yaml"
    ctx = loaded.context(Item("pilot", "profuser_replay_1", params.fusion.seed), chosen={"fusion.lr": 2e-3})
    assert (ctx.params.methods, ctx.params.fusion.replay, ctx.params.fusion.lr) == (("profuser",), 1.0, 2e-3)
    assert (ctx.params.fusion.budget, ctx.params.corpus.world.num_train) == ("steps", 24)
    assert (ctx.params.sources.models[0].pico.steps, ctx.params.runtime.threads) == (5, 1)
    assert loaded.plan.grid == {"fusion.lr": (5e-4, 1e-3, 2e-3)} and loaded.plan.choose_by == "reward"


def test_the_budget_is_that_of_equal_passes_and_rates_may_be_given(project: Path) -> None:
    wanted = Asked(project, "smoke", (), 48, (1e-4,))
    params = load_params(project, profile="smoke").params
    written = write_plan(wanted, params, [Candidate("sft", "sft")], pilot={}, choose_by="accuracy")
    content = json.loads((project / written.file).read_text())
    assert content["set"] == {"fusion.budget": "ground_truth", "fusion.targets": ["solver"]}
    assert content["grid"] == {"fusion.lr": [1e-4]} and content["seeds"] == [params.fusion.seed]
    nothing = write_plan(wanted, params, [Candidate("sft", "sft")], pilot={}, choose_by="")
    assert nothing.plan.grid == {}, "what nothing measures is not tuned"
