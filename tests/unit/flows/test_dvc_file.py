"""dvc.yaml, the stage table and what stages depend on."""

import ast
import functools
import shutil
from pathlib import Path

import pytest

from flows.dvc_file import SHARED, WHOLE, code_places, render
from flows.stages import MACHINERY, STAGES, Stage
from models.params.root import Params
from tasks.code_identity import PACKAGES, module_path, package_files, reach
from tasks.workspace import project_root

_BY_NAME = {stage.name: stage for stage in STAGES}


def test_dvc_yaml_is_what_the_stage_table_says() -> None:
    assert Path("dvc.yaml").read_text(encoding="utf-8") == render(), "run `python -m flows dvc --write`"


def test_dvc_yaml_can_be_read_in_one_sitting() -> None:
    assert len(render().splitlines()) <= 350


def test_stage_bodies_and_flows_exist() -> None:
    for one in STAGES:
        assert callable(one.body())
        assert module_path(one.module).is_file()


def test_inputs_are_earlier_stages() -> None:
    seen: set[str] = set()
    for one in STAGES:
        assert set(one.upstream) <= seen
        seen.add(one.name)


def test_sections_exist() -> None:
    known = Params.model_fields
    for one in STAGES:
        assert {s.partition(".")[0] for s in one.sections} <= set(known)


MODULES = sorted(p.relative_to(project_root()) for package in PACKAGES for p in (project_root() / package).rglob("*.py"))
CODE = [path for path in MODULES if path.name != "__init__.py"]


def test_package_files_hold_no_code() -> None:
    """Stages depend on folders and modules, not on the files of packages."""
    for path in set(MODULES) - set(CODE):
        body = ast.parse((project_root() / path).read_text(encoding="utf-8")).body
        assert len(body) <= 1 and all(isinstance(node, ast.Expr) for node in body), f"{path} must hold a docstring only"


def _covered(path: Path, places: list[str]) -> bool:
    return any(path == Path(place) or Path(place) in path.parents for place in places)


@functools.cache
def _reached(one: Stage) -> set[Path]:
    return {module_path(name).relative_to(project_root()) for name in one.code()} & {*CODE}


@functools.cache
def _named(one: Stage) -> set[Path]:
    places = code_places(one)
    return {path for path in CODE if _covered(path, places)}


def _below(*folders: str) -> set[Path]:
    return {path for path in CODE if _covered(path, [*folders])}


@pytest.mark.parametrize("one", STAGES, ids=lambda one: one.name)
def test_a_module_is_a_dependency_of_a_stage_if_and_only_if_the_stage_reaches_it(one: Stage) -> None:
    """Shared folders aside: those are a dependency whole as soon as one of their modules is reached."""
    reached, shared = _reached(one), (*SHARED, *WHOLE.get(one.name, ()))
    places = code_places(one)
    assert _named(one) - _below(*shared) == reached - _below(*shared)
    for folder in shared:
        assert (folder in places) == bool(reached & _below(folder)), folder
    assert reached <= _named(one)
    assert not any(_covered(Path(a), [b]) for a in places for b in places if a != b), "no place lies in another"


def test_no_shared_folder_is_a_wing_or_lies_above_the_wings() -> None:
    assert not _below(*SHARED) & _below("models/fusion", "models/dialogue", "models/evaluation", "models/world")
    assert not _below(*SHARED) & _below("models/reporting", "models/planning", "tasks", "flows")
    assert WHOLE.keys() == {STAGES[-1].name}, "only what no other stage follows may depend on more"


@pytest.mark.parametrize(
    ("folder", "stages"),
    [
        ("models/fusion", {"teach", "fuse", "evaluate_fusion", "report"}),
        ("models/dialogue", {"prepare", "train_dialogue", "evaluate_dialogue", "report"}),
        ("models/evaluation", {"sources", "teach", "evaluate_fusion", "benchmark", "evaluate_dialogue", "report"}),
        ("models/world", {"prepare", "sources", "evaluate_dialogue"}),
        ("models/reporting", {"report"}),
        ("models/planning", set()),
    ],
)
def test_which_stages_depend_on_a_wing_or_on_a_folder_above(folder: str, stages: set[str]) -> None:
    assert {one.name for one in STAGES if _named(one) & _below(folder)} == stages


def test_the_other_files_of_a_package_are_dependencies_of_the_stages_that_reach_it() -> None:
    templates = package_files("models.reporting")
    assert len(templates) >= 5
    for one in STAGES:
        places = code_places(one)
        found = [_covered(path.relative_to(project_root()), places) for path in templates]
        assert found == [one.name == "report"] * len(templates)


@pytest.mark.parametrize(
    ("name", "never"),
    [
        ("prepare", ["models/lm", "models/fusion", "models/evaluation", "models/training", "models/params/fusion.py"]),
        ("sources", ["models/fusion", "models/training/trainer.py", "models/dialogue", "models/params/fusion.py"]),
        ("teach", ["models/dialogue", "models/world", "models/training", "models/fusion/train", "models/params/fusion.py"]),
        ("fuse", ["models/evaluation", "models/dialogue", "models/world", "models/params/evaluation.py"]),
        ("evaluate_fusion", ["models/dialogue", "models/world", "models/training", "models/reporting"]),
        ("evaluate_fusion", ["models/evaluation/benchmarks", "models/params/benchmark.py"]),
        ("benchmark", ["models/evaluation/fusion/comparison.py", "models/params/evaluation.py", "models/fusion"]),
        ("train_dialogue", ["models/fusion", "models/evaluation", "models/world", "models/params/dialogue_evaluation.py"]),
        ("evaluate_dialogue", ["models/fusion/train", "models/dialogue/train", "models/training", "models/reporting"]),
        ("report", ["models/fusion/train", "models/dialogue/train", "models/training", "models/dialogue/generators"]),
    ],
)
def test_editing_later_code_never_dirties_an_earlier_stage(name: str, never: list[str]) -> None:
    """Params and shared folders too: DVC may run such a stage, but its steps come from the cache."""
    one = _BY_NAME[name]
    assert not _reached(one) & _below(*never)
    assert not _named(one) & _below(*never) - _below(*SHARED, *WHOLE.get(name, ()))


@pytest.mark.parametrize(
    ("name", "always"),
    [
        ("fuse", "models/fusion/losses.py"),
        ("fuse", "models/tokenization/alignment.py"),
        ("teach", "models/fusion/teacher_forcing.py"),
        ("teach", "models/lm/answers.py"),
        ("teach", "models/lm/source_file.py"),
        ("prepare", "models/corpus/split.py"),
        ("evaluate_fusion", "models/evaluation/bootstrap.py"),
        ("benchmark", "models/evaluation/benchmarks/table.py"),
        ("report", "models/reporting/canvas.py"),
    ],
)
def test_code_of_a_stage_is_among_its_dependencies(name: str, always: str) -> None:
    assert _below(always) <= _named(_BY_NAME[name])
    assert _below(always)


@pytest.mark.parametrize(
    ("file", "old", "new", "dirty"),
    [
        ("models/fusion/losses.py", "\n\n\n", "\n\n\n# a comment\n", set()),
        ("models/fusion/losses.py", '"""', '"""Edited. ', set()),
        ("models/fusion/losses.py", "\n\n\n", "\n\n\nEDITED = 1\n", {"fuse"}),
        ("models/evaluation/fusion/comparison.py", "\n\n\n", "\n\n\nEDITED = 1\n", {"evaluate_fusion", "report"}),
        ("tasks/evaluation.py", 'SCORES = "', 'SCORES = "x', {"evaluate_fusion", "report"}),
        ("models/evaluation/benchmarks/local.py", "\n\n\n", "\n\n\nEDITED = 1\n", {"benchmark"}),
        ("models/reporting/style.css.j2", "{", "{ ", {"report"}),
    ],
)
def test_which_stages_an_edit_dirties(copied: Path, file: str, old: str, new: str, dirty: set[str]) -> None:
    before = {one.name: one.code() for one in STAGES}
    text = (copied / file).read_text(encoding="utf-8")
    assert old in text
    (copied / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    after = {one.name: reach(one.entry, without=MACHINERY, root=copied).code for one in STAGES}
    (copied / file).write_text(text, encoding="utf-8")
    assert {name for name in before if before[name] != after[name]} == dirty


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three packages in a folder where they may be edited."""
    folder = tmp_path_factory.mktemp("copied")
    for package in PACKAGES:
        shutil.copytree(project_root() / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_runtime_is_no_section_of_any_stage() -> None:
    assert not {"runtime", "tracking", "planning"} & {s.partition(".")[0] for one in STAGES for s in one.sections}


def test_every_section_stands_in_params_yaml() -> None:
    """DVC refuses a stage whose params are not in the file, although the defaults would do."""
    from ruamel.yaml import YAML

    given = YAML(typ="safe").load(Path("params.yaml"))
    for section in (s for one in STAGES for s in one.sections):
        value = given
        for part in section.split("."):
            assert part in value, f"`{section}` of the stage table is missing in params.yaml"
            value = value[part]
