"""An ablation from its plan to its figures: resumed, shared, with a failing arm; nothing of a user's own is touched."""

import json
import shutil
import sqlite3
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from flows import context
from flows.ablation.command import run_ablation
from models.reporting.results import read_result

ROOT = Path(__file__).resolve().parents[2]
PLAN = "profiles/ablations/smoke.yaml"
ALL: dict[str, Sequence[Any]] = {"regimes": (), "seeds": (), "arms": ()}


@pytest.fixture
def plans(project: Path) -> Path:
    """A project with params and profiles; nothing has been computed."""
    context._parents.clear()
    shutil.copy2(ROOT / "params.yaml", project)
    shutil.copytree(ROOT / "profiles", project / "profiles")
    (project / "README.md").write_text("# Title\n")
    (project / "docs" / "results").mkdir(parents=True)
    for file in (ROOT / "docs" / "results").glob("*.json"):  # of the plots that are rendered along
        shutil.copy2(file, project / "docs" / "results")
    return project


def run(project: Path, plan: str = PLAN, **more: Any) -> tuple[bool, str]:
    """Run an ablation; return whether nothing failed, and what was printed."""
    said = StringIO()
    given = {"choice": ALL, "dry_run": False, "keep": False, "partial": False} | more
    execution = ["runtime.threads=1", "runtime.device=cpu", "runtime.progress=false"]
    out = Console(file=said, width=200)
    return run_ablation(project, Path(plan), out, execution=execution, **given), said.getvalue()


def records(project: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (project / ".cache" / "results").glob("?" * 64)}


def trained(project: Path, since: dict[str, int]) -> int:
    """Return how many trainings have run since."""
    fresh = [name for name, written in records(project).items() if since.get(name) != written]
    texts = [(project / ".cache" / "results" / name).read_text(encoding="utf-8") for name in fresh]
    return sum(json.loads(json.loads(text)["result"])["data"]["kind"] == "fusion" for text in texts)


@pytest.mark.slow
def test_a_plan_becomes_figures_piece_by_piece(plans: Path) -> None:
    """One project for all of it, as its runs share what they cost."""
    # A part of it: figures are kept, no table is written.
    whole, said = run(plans, choice=ALL | {"regimes": ["passes"], "seeds": [1]})
    assert whole and "3 of 5 runs are missing" in said
    assert trained(plans, {}) == 3  # two candidates of `sft`, of which one is its run, and `oracle`
    assert not (plans / "docs" / "results" / "ablation-smoke.json").exists()

    # The rest.
    before = records(plans)
    whole, said = run(plans)
    assert whole and "wrote docs/results/ablation-smoke.json" in said
    assert trained(plans, before) == 4  # two candidates in the other regime, and the second seed of both

    # Nothing is left to do, and no weights are left; the profile's own folders do not exist.
    before = records(plans)
    whole, said = run(plans)
    assert whole and trained(plans, before) == 0
    kept = {str(path.relative_to(plans / "artifacts")) for path in (plans / "artifacts").rglob("*") if path.is_file()}
    runs = {f"{regime}/{seed}/sft.json" for regime in ("steps", "passes") for seed in (1, 2)} | {"passes/1/oracle.json"}
    assert kept == {f"ablation-smoke/{name}" for name in runs | {"steps/grid-sft.json", "passes/grid-sft.json"}}
    assert not (plans / "reports").exists()
    fused = [json.loads(path.read_text())["kind"] for path in (plans / ".cache" / "artifacts").rglob("manifest.json")]
    assert "fusion" not in fused and "alignment" in fused
    assert "5 runs, 0 left" in run(plans, dry_run=True)[1]

    check_choice(plans)
    check_figures(plans)
    check_tracking(plans)
    check_failure(plans)


def check_choice(project: Path) -> None:
    """The rate was chosen on the validation split, by accuracy and then by likelihood."""
    choice = json.loads((project / "artifacts" / "ablation-smoke" / "steps" / "grid-sft.json").read_text())
    tried = choice["candidates"]
    assert choice["split"] == "valid" and [row["values"] for row in tried] == [{"fusion.lr": 1e-3}, {"fusion.lr": 2e-3}]
    best = max(tried, key=lambda row: (row["accuracy"], -row["bits_per_byte"]))
    assert choice["chosen"] == best["values"] and tried[0]["bits_per_byte"] != tried[1]["bits_per_byte"]
    run_with_it = json.loads((project / "artifacts" / "ablation-smoke" / "steps" / "2" / "sft.json").read_text())
    assert run_with_it["chosen"] == choice["chosen"]


def check_figures(project: Path) -> None:
    rows = read_result(project / "docs" / "results" / "ablation-smoke.json").rows
    found = {(row.more["regime"], row.more["metric"], row.name): row for row in rows}
    sft = found["steps", "bits_per_byte", "sft"]
    gain = found["steps", "bits_per_byte", "sft − untrained target"]
    assert sft.num == gain.num == 2 and sft.low is not None and sft.low < sft.value
    assert gain.value == pytest.approx(sft.value - found["steps", "bits_per_byte", "untrained target"].value)
    oracle = found["passes", "bits_per_byte", "oracle − sft"]
    assert (oracle.num, oracle.low) == (1, None)
    assert ("steps", "accuracy", "oracle") not in found and ("steps", "accuracy", "best single source") in found
    assert "steps" in (project / "docs" / "images" / "ablation-smoke.svg").read_text()
    page = (project / "docs" / "results" / "ablation-smoke.md").read_text()
    assert page.count("| sft − untrained target | difference |") == 4  # two regimes, two metrics


def check_tracking(project: Path) -> None:
    """One MLflow run for each run of the plan, with its params and final scores."""
    with sqlite3.connect(project / "mlflow.db") as database:
        of = "from runs join experiments using (experiment_id) where experiments.name = 'ablation-smoke'"
        names = {name for (name,) in database.execute(f"select runs.name {of}")}
        assert len(names) == 5 and "passes · oracle · seed 1" in names
        where = f"run_uuid in (select run_uuid {of})"
        assert {v for (v,) in database.execute(f"select value from params where key = 'arm' and {where}")} == {"sft", "oracle"}
        scored = database.execute(f"select count(*) from latest_metrics where key = 'final/bits_per_byte_all' and {where}")
        assert scored.fetchone() == (5,)
        others = {name for (name,) in database.execute("select name from experiments")}
        assert "ablation-smoke-stages" in others and "fusion" not in others


def check_failure(project: Path) -> None:
    """An arm that cannot be trained stops no other; figures are written only if asked for, and name what is missing."""
    text = """\
name: broken
seeds: [1]
vary: [fusion.seed]
set:
  corpus.world.num_train: 16
  corpus.world.num_prompts_only: 16
  sources.reward_models: []
  teach.rewards.scorers: [{kind: confidence, name: confidence}]
regimes: {only: {profile: smoke}}
arms:
  large: {method: sft, set: {corpus.world.num_test: 100000}}
  sft: {method: sft}
"""
    (project / "broken.yaml").write_text(text)
    whole, said = run(project, "broken.yaml")
    assert not whole and "failed only · large · seed 1" in said and "world is too small" in said
    assert "1 of 2 runs are missing, so no figures were written" in said
    whole, said = run(project, "broken.yaml", partial=True)
    result = read_result(project / "docs" / "results" / "ablation-broken.json")
    assert result.note == "1 of 2 runs are missing: only (large)."
    assert {row.name for row in result.rows} == {"best single source", "untrained target", "sft"}
