"""Prompts without ground truths through the fusion half, to the report and the plan."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from sandbox import Done, Sandbox


@dataclass(frozen=True, slots=True)
class Run:
    """The project, and what `plan` says of its corpus."""

    project: Sandbox
    plan: Done


def few_truths(project: Sandbox) -> Run:
    """Half as many prompts again, without ground truths; equal passes over those there are."""
    project.choose("methods", "sft", "inference_only", "profuser")
    project.edit("profiles/smoke.yaml", "    num_train: 48\n", "    num_train: 48\n    num_prompts_only: 24\n")
    project.edit("profiles/smoke.yaml", "  epochs: 1.0 #", "  budget: ground_truth\n  epochs: 2.0 #")
    project.must("run", "fusion")
    return Run(project, project.must("plan"))


SCENARIOS = {"few truths": few_truths}


@pytest.fixture
def done(outcome: Callable[[str], Any]) -> Run:
    return outcome("few truths")


def rows(done: Run, *place: str, of: str) -> list[dict[str, Any]]:
    found = sorted(done.project.out(*place).rglob(of))
    return [json.loads(line) for path in found for line in path.read_text(encoding="utf-8").splitlines()]


def record(done: Run, method: str) -> dict[str, Any]:
    return json.loads(done.project.out("fuse", method, "solver", "record.json").read_text(encoding="utf-8"))


def test_the_plan_counts_them(done: Run) -> None:
    assert "24 of 72 training prompts have no ground truth" in done.plan.out
    assert "fuse@sft has no phase in inference mode: it does not see them." in done.plan.out


def test_the_sources_are_asked_but_not_scored_on_what_is_not_there(done: Run) -> None:
    train = rows(done, "prepare", "corpus", of="train.jsonl")
    alone = {row["id"] for row in train if "response" not in row}
    assert (len(train), len(alone)) == (72, 24)
    scores = [row for row in rows(done, "teach", "signals", "solver", of="scores.jsonl") if "valid" not in row["id"]]
    assert {row["id"] for row in scores if row["text"] == "ground_truth"} == {row["id"] for row in train} - alone
    assert {row["id"].partition("#")[0] for row in scores if row["text"] == "response"} == {row["id"] for row in train}
    blind = {row["id"]: row["scores"] for row in rows(done, "teach", "rewards", "chrf", of="rewards.jsonl")}
    assert {id_ for id_ in alone if blind[id_]} == set()
    won = {row["id"]: row for row in rows(done, "teach", "advantage", of="advantage.jsonl")}
    assert {id_ for id_, row in won.items() if row["train_winner"] is None} == alone
    assert all(len(won[id_]["train_scores"]) == 0 for id_ in alone)


def test_methods_train_on_the_kinds_they_know(done: Run) -> None:
    sft, inference, ours = (record(done, method) for method in ("sft", "inference_only", "profuser"))
    assert (sft["infer_tokens"], inference["train_tokens"]) == (0, 0)
    assert sft["ground_truth"]["samples"] == ours["ground_truth"]["samples"] == 48
    assert ours["exposure"]["ground_truth"]["passes"] == sft["exposure"]["ground_truth"]["passes"] == 2
    exposure = ours["exposure"]
    won = {row["id"] for row in rows(done, "teach", "advantage", of="advantage.jsonl") if row["infer_winner"]}
    alone = [row["id"] for row in rows(done, "prepare", "corpus", of="train.jsonl") if "response" not in row]
    assert exposure["prompts_only"] == len(won & set(alone)) > 0


def test_the_report_counts_them(done: Run) -> None:
    page = done.project.out("report", "fusion", "index.html").read_text(encoding="utf-8")
    assert "24 of 72 training prompts have no ground truth" in page and "sft, without such a phase, never saw them" in page
    card = done.project.out("report", "fusion", "cards", "profuser-solver.md").read_text(encoding="utf-8")
    assert "48 with a ground truth" in card
