"""dvc.yaml, the stage table and what stages depend on."""

from pathlib import Path

import pytest

from flows.dvc_file import render
from flows.stages import STAGES
from models.params.root import Params
from tasks.code_closure import module_path

_BY_NAME = {stage.name: stage for stage in STAGES}


def test_dvc_yaml_is_what_the_stage_table_says() -> None:
    assert Path("dvc.yaml").read_text(encoding="utf-8") == render(), "run `python -m flows dvc --write`"


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


@pytest.mark.parametrize(
    ("name", "never"),
    [
        ("fuse", "models.params.evaluation"),
        ("fuse", "models.evaluation.fusion.comparison"),
        ("teach", "models.fusion.train.run"),
        ("prepare", "models.params.fusion"),
        ("sources", "models.fusion.losses"),
    ],
)
def test_editing_later_code_never_dirties_an_earlier_stage(name: str, never: str) -> None:
    assert never not in _BY_NAME[name].code()


@pytest.mark.parametrize(
    ("name", "always"),
    [
        ("fuse", "models.fusion.losses"),
        ("fuse", "models.tokenization.alignment"),
        ("teach", "models.fusion.teacher_forcing"),
        ("teach", "models.lm.answers"),
        ("prepare", "models.corpus.split"),
        ("evaluate_fusion", "models.evaluation.bootstrap"),
    ],
)
def test_code_of_a_stage_is_among_its_dependencies(name: str, always: str) -> None:
    assert always in _BY_NAME[name].code()


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
