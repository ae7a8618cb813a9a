"""Plans of ablations: their runs, the params of each, and every error with file and line."""

from pathlib import Path

import pytest

from flows.ablation.plan_file import Item, LoadedPlan, candidates, read_plan
from flows.params.file import available_profiles
from models.errors import ParamsError

ROOT = Path(__file__).resolve().parents[4]
PLANS = sorted((ROOT / "profiles" / "ablations").glob("*.yaml"))
PLAN = """\
name: try
seeds: [1, 2]
set: {evaluation.limit: 6}
regimes:
  few: {profile: plentiful-truths}
  smoke: {profile: smoke, set: {fusion.lr: 1.0e-3, evaluation.limit: 5}}
arms:
  sft: {method: sft}
  oracle: {method: profuser, set: {teach.rewards.winner: oracle, evaluation.limit: 4}, seeds: [2], regimes: [smoke]}
"""


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedPlan:
    return read(tmp_path, PLAN)


def read(folder: Path, text: str, *execution: str) -> LoadedPlan:
    (folder / "plan.yaml").write_text(text)
    return read_plan(ROOT, folder / "plan.yaml", execution=execution)


def problems(folder: Path, text: str, *execution: str) -> list[str]:
    with pytest.raises(ParamsError) as caught:
        read(folder, text, *execution)
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]


def test_runs_that_share_data_follow_each_other(loaded: LoadedPlan) -> None:
    runs = [(item.regime, item.seed, item.arm) for item in loaded.items()]
    assert runs == [
        ("few", 1, "sft"), ("few", 2, "sft"), ("smoke", 1, "sft"), ("smoke", 2, "sft"), ("smoke", 2, "oracle"),
    ]  # fmt: skip
    assert [item.label for item in loaded.items(regimes=["smoke"], seeds=[2], arms=["oracle"])] == ["smoke · oracle · seed 2"]


def test_parts_that_are_not_in_the_plan_are_refused(loaded: LoadedPlan) -> None:
    with pytest.raises(ParamsError, match=r"`--only-regime` must be one of few, smoke .*, but is fex") as caught:
        loaded.items(regimes=["fex"], seeds=[3])
    assert "`--only-seed` must be one of 1, 2" in str(caught.value)


def test_an_arm_is_laid_over_its_regime_over_the_plan_over_the_profile(loaded: LoadedPlan) -> None:
    sft = loaded.context(Item("few", "sft", 2))
    assert (sft.params.profile, sft.params.methods, sft.params.fusion.budget) == ("plentiful-truths", ("sft",), "ground_truth")
    assert (sft.params.evaluation.limit, sft.params.corpus.world.seed, sft.params.fusion.seed) == (6, 2, 2)
    ours = loaded.context(Item("smoke", "oracle", 2), chosen={"fusion.beta": 0.5}).params
    assert (ours.evaluation.limit, ours.fusion.lr, ours.teach.rewards.winner, ours.fusion.beta) == (4, 1e-3, "oracle", 0.5)
    assert loaded.context(Item("smoke", "sft", 1)).params.evaluation.limit == 5


def test_outputs_do_not_go_where_the_profile_has_its_own(loaded: LoadedPlan) -> None:
    ctx = loaded.context(Item("smoke", "sft", 1), place="grid-0")
    assert ctx.out("fuse") == ROOT / "artifacts" / "ablation-try" / "smoke" / "1" / "sft" / "grid-0" / "fuse"
    assert ctx.experiment == "ablation-try-stages"


def test_every_error_at_once_with_its_line(tmp_path: Path) -> None:
    text = PLAN.replace("name: try", "name: try\ncompar: []").replace("seeds: [2]", "seeds: [3]")
    assert problems(tmp_path, text.replace("{method: sft}", "{method: sft, gird: {}}")) == [
        "`arms.sft.gird` is not a known key (plan.yaml:9). Did you mean `grid`?",
        "`compar` is not a known key (plan.yaml:2). Did you mean `compare`?",
        "`arms.oracle.seeds` must be among `seeds` (1, 2), but has [3] (plan.yaml:10).",
    ]


def test_params_that_are_wrong_in_some_run(tmp_path: Path) -> None:
    text = (
        PLAN.replace("winner: oracle", "winner: oracel")
        .replace("fusion.lr: 1.0e-3", "fusion.lr: -1")
        .replace("plentiful-truths", "plentiful")
    )
    found = problems(tmp_path, text)
    assert len(found) == 3
    assert found[0].startswith('regime `few`, arm `sft`: `profile` must name a file of profiles/, but is "plentiful"')
    assert found[1] == "regime `smoke`, arm `sft`: `fusion.lr` must be greater than 0, but is -1 (plan.yaml:6)."
    assert "regime `smoke`, arm `oracle`: `teach.rewards.winner`" in found[2] and "(plan.yaml:9)" in found[2]


def test_every_value_of_a_grid_is_checked(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, PLAN + "grid: {fusion.lr: [1.0e-3, -1.0]}\n")
    assert found.startswith("regime `few`, arm `sft`: `fusion.lr` must be greater than 0, but is -1")


def test_only_execution_may_be_given_from_outside(tmp_path: Path) -> None:
    assert read(tmp_path, PLAN, "runtime.threads=1").context(Item("few", "sft", 1)).params.runtime.threads == 1
    (found,) = problems(tmp_path, PLAN, "fusion.lr=1e-3")
    assert "must begin with `runtime.` or `tracking.`" in found


def test_a_grid_has_every_combination() -> None:
    assert candidates({}) == [{}]
    assert candidates({"a": [1, 2], "b": [3]}) == [{"a": 1, "b": 3}, {"a": 2, "b": 3}]


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_the_plans_of_the_project_are_valid(path: Path) -> None:
    loaded = read_plan(ROOT, path)
    assert loaded.plan.name == path.stem and loaded.items()


def test_plans_are_not_profiles() -> None:
    assert PLANS and not {path.stem for path in PLANS if path.stem != "smoke"} & set(available_profiles(ROOT))
