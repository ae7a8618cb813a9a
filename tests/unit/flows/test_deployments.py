"""prefect.yaml: every deployment leads to a flow of its name, with parameters that the flow takes."""

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.stages import COMPOSITES, STAGES

ROOT = Path(__file__).resolve().parents[3]
DEPLOYMENTS: list[dict[str, Any]] = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: str(d["name"]))
def test_a_deployment_is_called_as_its_flow_and_gives_what_the_flow_takes(deployment: dict[str, Any]) -> None:
    module, _, name = deployment["entrypoint"].partition(":")
    flow = getattr(importlib.import_module(module), name)
    assert deployment["name"] == flow.name == name
    schema = flow.parameters.properties
    assert deployment["parameters"].keys() <= schema.keys()
    flow.validate_parameters(deployment["parameters"])


def test_the_halves_and_their_long_stages_are_deployed() -> None:
    names = [d["name"] for d in DEPLOYMENTS]
    assert len(names) == len(set(names))
    assert {*COMPOSITES, "fuse", "train_dialogue", "evaluate_fusion", "evaluate_dialogue"} <= set(names)


def test_every_stage_has_a_flow_that_takes_profile_overrides_and_its_item() -> None:
    for stage in STAGES:
        flow: Any = stage.flow()
        wanted = {"profile", "overrides"} | ({stage.item} if stage.matrix else set())
        wanted |= {"halves"} if len(stage.halves) > 1 else set()
        assert flow.name == stage.name and flow.parameters.properties.keys() == wanted
        assert flow.on_failure_hooks and flow.on_crashed_hooks
