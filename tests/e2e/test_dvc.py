"""The same stages under DVC: reproduced, left alone, experimented with, compared."""

import csv
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from sandbox import Done, Record, Sandbox

STAGES = [
    *("prepare", "sources", "teach", "fuse@profuser", "evaluate_fusion", "benchmark"),
    *("train_dialogue@none", "train_dialogue@prompt", "evaluate_dialogue", "report"),
]


@dataclass(frozen=True, slots=True)
class Step:
    """One command of the story, the stages it ran, and the cached steps that it computed."""

    done: Done
    stages: list[str]
    ran: Counter[str]


class Story:
    """A DVC project of one method; its commands build on each other, so they run once, in order."""

    def __init__(self, project: Sandbox) -> None:
        self.project = project
        self.steps: dict[str, Step] = {}
        self._seen: Mapping[str, Record] = project.records()

    def run(self, name: str, *words: str, **changes: str) -> None:
        """Run a command, which must succeed."""
        done = self.project.run(*words, **changes)
        assert done.code == 0, f"{words} ended with {done.code}:\n{done.out}\n{done.err}"
        self.steps[name] = Step(done, re.findall(r"Running stage '(\S+)'", done.out), self.project.ran_since(self._seen))
        self._seen = self.project.records()

    def commit(self) -> None:
        """Commit what DVC leaves to git."""
        for words in (("add", "-A"), ("commit", "-q", "-m", "state")):
            done = self.project.run("git", *words)
            assert done.code == 0, done.err


def from_clone_to_experiment(project: Sandbox) -> Story:
    """From a fresh clone with a warm cache to an experiment that is compared with its baseline."""
    project.choose("methods", "profuser")
    project.edit(".gitignore", "/reports/smoke/", "")  # as for every other profile, its figures are versioned
    shutil.rmtree(project.root / "artifacts")
    shutil.rmtree(project.root / "reports")
    story = Story(project)
    story.run("git", "git", "init", "-q")
    story.commit()
    # An empty address: no server, as on a machine where none was started.
    story.run("bare", "dvc", "repro", "prepare", PREFECT_API_URL="")
    story.run("repro", "dvc", "repro")
    story.run("again", "dvc", "repro")
    story.commit()
    story.run("experiment", "dvc", "exp", "run", "-S", "fusion.beta=0.2")
    story.run("diff", "dvc", "metrics", "diff", "--json")
    story.run("plots", "dvc", "plots", "show")
    story.run("show", "dvc", "exp", "show", "--csv")
    return story


SCENARIOS = {"story": from_clone_to_experiment}


@pytest.fixture
def story(outcome: Callable[[str], Any]) -> Story:
    return cast(Story, outcome("story"))


def test_repro_runs_every_stage(story: Story) -> None:
    assert story.steps["bare"].stages == ["prepare"]
    assert story.steps["repro"].stages == STAGES[1:]
    project = story.project
    assert project.out("report", "fusion", "index.html").is_file() and (project.root / "dvc.lock").is_file()
    tracked = project.run("git", "ls-files").out.splitlines()
    assert "reports/smoke/fusion.json" in tracked and not any(name.startswith("artifacts/") for name in tracked)


def test_repro_after_a_run_of_the_pipeline_is_all_cache_hits(story: Story) -> None:
    """Only the comparison and the pages are new: they are of one method, those of the pipeline's run were of two."""
    assert story.steps["bare"].ran == {}
    assert story.steps["repro"].ran == {"comparison": 1, "fusion-page": 1, "dialogue-page": 1}


def test_the_second_repro_does_nothing(story: Story) -> None:
    again = story.steps["again"]
    assert again.stages == [] and again.ran == {}
    assert "Data and pipelines are up to date." in again.done.out


def test_an_experiment_runs_only_what_depends_on_it(story: Story, smoke: Sandbox) -> None:
    experiment = story.steps["experiment"]
    assert experiment.stages == [s for s in STAGES[3:] if not s.startswith("train_dialogue")]
    # The fused model answers dialogues too, with and without meta knowledge in its prompt. After three steps of training it
    # says the same as before, so there is nothing new to compare.
    pages = {"fusion-page": 1, "dialogue-page": 1}
    assert experiment.ran == {"fusion": 1, "evaluation": 1, "comparison": 1, "in-context-evaluation": 2, **pages}
    assert story.project.manifests("teach") == smoke.manifests("teach")
    assert story.project.manifests("fuse", "profuser") != smoke.manifests("fuse", "profuser")


def test_metrics_are_compared_with_the_baseline(story: Story) -> None:
    rows = json.loads(story.steps["diff"].done.out)["reports/smoke/fusion.json"]
    assert "profuser.bits_per_byte" in rows and all(key.startswith("profuser.") for key in rows), "only the method has changed"
    row = rows["profuser.bits_per_byte"]
    assert 0 < abs(row["diff"]) < 1 and row["new"] == pytest.approx(row["old"] + row["diff"])


def test_plots_are_one_page(story: Story) -> None:
    page = Path(re.sub(r"^file://", "", story.steps["plots"].done.out.strip())).read_text(encoding="utf-8")
    for title in ("Held-out scores", "Who wins, by mode", "Agreement of the two modes", "Training loss"):
        assert title in page, title


def test_experiments_stand_in_one_table(story: Story) -> None:
    rows = list(csv.DictReader(story.steps["show"].done.out.splitlines()))
    (experiment,) = (row for row in rows if row["typ"].startswith("branch"))
    (baseline,) = (row for row in rows if row["typ"] == "baseline" and row["rev"] != "workspace")
    assert (experiment["fusion.beta"], baseline["fusion.beta"]) == ("0.2", "0.11")
    assert experiment["profuser.bits_per_byte"] != baseline["profuser.bits_per_byte"]
