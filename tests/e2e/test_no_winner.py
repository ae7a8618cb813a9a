"""A gate that refuses every vote: what trains on winners alone says so, the rest trains on the ground truth alone to the end."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from sandbox import Done, Sandbox

NEEDS_WINNERS = ("inference_only", "profuser")
TRAINS = ("sft", "fusellm", "simul", "reverse")


@dataclass(frozen=True, slots=True)
class Refused:
    """The project and what its commands said."""

    project: Sandbox
    fused: dict[str, Done]
    rest: Done


def refuse_all(project: Sandbox) -> Refused:
    """Vote behind a gate that nobody passes, train every method, then go on to the report without those that could not be."""
    # Three hot answers a source, cut ones included, are nowhere the same: there is always one to lead by the margin.
    hot = "responses: {max_new_tokens: 16, temperature: 2.0, num_samples: 3}"
    gate = "rewards: {accept: margin, accept_margin: 1.0e+6, truncated_may_win: true}"
    project.edit("profiles/smoke.yaml", "responses: {max_new_tokens: 16}", f"{hot}\n  {gate}")
    project.choose("methods", *NEEDS_WINNERS, *TRAINS)
    project.must("run", "teach")
    fused = {method: project.flows("run", "fuse", "--method", method) for method in (*NEEDS_WINNERS, *TRAINS)}
    project.choose("methods", *TRAINS)
    project.edit("profiles/smoke.yaml", "fused:profuser", "fused:simul")
    return Refused(project, fused, project.flows("run", "pipeline"))


SCENARIOS = {"nobody wins": refuse_all}


@pytest.fixture
def refused(outcome: Callable[[str], Any]) -> Refused:
    return outcome("nobody wins")


def test_the_gate_refuses_every_prompt(refused: Refused) -> None:
    votes = refused.project.out("teach", "advantage").rglob("advantage.jsonl")
    rows = [json.loads(line) for path in votes for line in path.read_text(encoding="utf-8").splitlines()]
    assert Counter(row["without_winner"] for row in rows) == {"gate": 48}
    assert all(row["infer_winner"] is None and row["train_winner"] for row in rows)


@pytest.mark.parametrize("method", NEEDS_WINNERS)
def test_a_method_that_starts_on_winners_alone_is_refused(refused: Refused, method: str) -> None:
    done = refused.fused[method]
    assert done.code == 2 and "Traceback" not in done.err
    assert f"Phase 1 of {1 + (method == 'profuser')} must have prompts with a winning answer, but is without any." in done.err


@pytest.mark.parametrize("method", TRAINS)
def test_the_others_train_on_the_ground_truth_alone(refused: Refused, method: str) -> None:
    assert refused.fused[method].code == 0, refused.fused[method].err
    record = json.loads(refused.project.out("fuse", method, "solver", "record.json").read_text(encoding="utf-8"))
    assert (record["infer_tokens"], record["response"]["samples"], record["response"]["missing"]) == (0, 0, 48)
    assert record["train_tokens"] > 0 == record["ground_truth"]["missing"]


def test_the_pipeline_goes_on_to_the_report(refused: Refused) -> None:
    assert refused.rest.code == 0, refused.rest.err
