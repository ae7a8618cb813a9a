"""What runs, and what does not: from nothing, again, and after changes of params, code and files."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sandbox import METHODS, VARIANTS, Done, Sandbox, tamper

STAGES = (
    *("prepare", "sources", "teach", *(f"fuse@{m}" for m in METHODS), "evaluate_fusion", "benchmark"),
    *(f"train_dialogue@{v}" for v in VARIANTS),
    *("evaluate_dialogue", "report"),
)
FirstRuns = tuple[tuple[Sandbox, Done], tuple[Sandbox, Done]]


@dataclass(frozen=True, slots=True)
class Change:
    """Something done to a finished project before a command runs in it."""

    words: tuple[str, ...] = ("run", "pipeline")
    edit: Callable[[Sandbox], None] = lambda _: None


@dataclass(frozen=True, slots=True)
class Again:
    """The outcome: `ran` counts the steps whose bodies ran, by kind."""

    project: Sandbox
    done: Done
    ran: Counter[str]


def comment_everywhere(project: Sandbox) -> None:
    for path in (project.root / "models").rglob("*.py"):
        path.write_text(path.read_text(encoding="utf-8") + "\n# A comment.\n", encoding="utf-8")
    project.edit("models/fusion/losses.py", '"""The fusion loss, ', '"""Explained again: the fusion loss, ')


def edit_helper(project: Sandbox) -> None:
    project.edit("models/fusion/buckets.py", "_PADDED_BELOW = PAD_LOGPROB + 1.0", "_PADDED_BELOW = PAD_LOGPROB + 1.5")


def scores_of(project: Sandbox) -> Path:
    return project.out("teach", "signals", "solver", "shard-00001", "scores.jsonl")


def in_store(project: Sandbox, path: Path) -> Path:
    """Return the name of a materialised file in the artifact store."""
    (found,) = (p for p in (project.root / ".cache" / "artifacts").rglob(path.name) if p.samefile(path))
    return found


def rows_of(project: Sandbox) -> Path:
    return project.out("evaluate_fusion", "test", "source-warden", "rows.jsonl")


def edit_and_tamper(project: Sandbox) -> None:
    """A helper of the training; one file in the store alone, and one by its name in artifacts/ (a hard link to the store's)."""
    edit_helper(project)
    tamper(in_store(project, scores_of(project)), break_link=True)
    tamper(rows_of(project), break_link=False)


def delete_cache(project: Sandbox) -> None:
    shutil.rmtree(project.root / ".cache")
    (project.root / "reports" / "smoke" / "fusion.json").unlink()


CHANGES = {
    "nothing": Change(),
    "irrelevant": Change(("run", "pipeline", "-S", "runtime.threads=2", "-S", "runtime.workers=2"), comment_everywhere),
    "beta": Change(("run", "pipeline", "-S", "fusion.beta=0.2")),
    "edited and tampered": Change(("run", "pipeline"), edit_and_tamper),
    "no cache": Change(("run", "evaluate_fusion"), delete_cache),
}


def run_again(change: Change, project: Sandbox) -> Again:
    """Make the change and run the command."""
    before = project.records()
    change.edit(project)
    # At this level Prefect logs the final state of each task.
    done = project.flows(*change.words, PREFECT_LOGGING_LEVEL="INFO")
    assert done.code == 0, f"{done.out}\n{done.err}"
    return Again(project, done, project.ran_since(before))


def plan_changes(project: Sandbox) -> Again:
    """Ask for the plan after one change of each kind."""
    before = project.records()
    edit_helper(project)
    tamper(scores_of(project), break_link=True)
    done = project.must("plan", "-S", "fusion.beta=0.2")
    return Again(project, done, project.ran_since(before))


SCENARIOS = {**{name: partial(run_again, change) for name, change in CHANGES.items()}, "plan": plan_changes}


def test_the_copied_code_is_what_runs(smoke: Sandbox) -> None:
    assert f"packages: flows, tasks, models from {smoke.root}\n" in smoke.must("check").out


def test_from_nothing_to_results(first_runs: FirstRuns) -> None:
    project, done = first_runs[0]
    # The tiny fused model has a short context: that prompts were cut for it is said, and nothing else.
    assert (done.code, [line for line in done.err.splitlines() if "prompts for solver-profuser were shortened" not in line]) == (
        0,
        [],
    )
    assert re.findall(r"✓ (\S+) +[\d.]+ s\n", done.out) == list(STAGES)
    assert "bits per byte of the ground truth (lower is better)" in done.out
    for system in ("solver", "warden", *METHODS):
        assert re.search(rf"│ {system} .*\d\.\d{{3}} \[", done.out), f"no result of {system}"
    assert "The two modes name the same winner on " in done.out
    page = project.out("report", "fusion", "index.html").read_text(encoding="utf-8")
    assert "artifacts/smoke/report/fusion/index.html" in done.out and all(method in page for method in METHODS)
    assert not re.search(r"(src|href)=\"https?://", page), "the page must be self-contained"
    figures = json.loads((project.root / "reports" / "smoke" / "fusion.json").read_text(encoding="utf-8"))
    assert {"solver", "warden", *METHODS} <= figures.keys()
    assert all(0 < row["bits_per_byte"] < 20 for row in figures.values())
    for name in ("scores.csv", "wins.csv", "agreement.csv", "loss.csv"):
        assert len((project.root / "reports" / "smoke" / name).read_text(encoding="utf-8").splitlines()) > 1, name


def test_two_workers_make_the_same_bytes(first_runs: FirstRuns) -> None:
    (one, _), (two, done) = first_runs
    assert done.code == 0, done.err
    assert one.records().keys() == two.records().keys()
    for stage in ("prepare", "sources", "teach", "fuse", "evaluate_fusion", "train_dialogue", "evaluate_dialogue"):
        assert one.manifests(stage) == two.manifests(stage) != {}, stage


def test_the_second_run_executes_nothing(outcome: Callable[[str], Any], smoke: Sandbox) -> None:
    second: Again = outcome("nothing")
    assert second.ran == {}
    states = Counter(re.findall(r"Finished in state (\w+)", second.done.err))
    assert states.keys() == {"Cached", "Completed"}
    assert states["Cached"] >= len(smoke.records()), "every step of the first run must be asked for"
    assert states["Completed"] == 1, "only the flow run itself"
    assert second.project.manifests() == smoke.manifests()


def test_execution_choices_and_comments_run_nothing_again(outcome: Callable[[str], Any]) -> None:
    """Threads, workers, comments and docstrings decide no result."""
    same: Again = outcome("irrelevant")
    assert same.ran == {}
    rows = [line for line in same.project.must("plan").out.splitlines() if line.startswith("│")]
    assert not any(" yes " in row for row in rows) and sum(" no " in row for row in rows) == len(STAGES)


def test_a_param_runs_what_depends_on_it(outcome: Callable[[str], Any], smoke: Sandbox) -> None:
    beta: Again = outcome("beta")
    # The fused model also answers dialogues (after three steps of training as before, so that is compared already).
    pages = {"fusion-page", "dialogue-page"}
    assert beta.ran.keys() == {"fusion", "evaluation", "comparison", "in-context-evaluation"} | pages
    assert beta.ran["fusion"] == len(METHODS)
    # β plays no part in plain fine-tuning: trained again, it is the same model, and its scores are known.
    assert beta.ran["evaluation"] == 1
    assert beta.project.manifests("teach") == smoke.manifests("teach")
    assert beta.project.manifests("fuse", "sft") == smoke.manifests("fuse", "sft")
    assert beta.project.manifests("fuse", "profuser") != smoke.manifests("fuse", "profuser")


def test_an_edited_helper_runs_its_users_again(outcome: Callable[[str], Any]) -> None:
    """The training uses it; the sources' signals and the alignment do not, but for what was tampered with."""
    assert outcome("edited and tampered").ran == {"fusion": len(METHODS), "cross-entropy": 1, "evaluation": 1}


def test_a_tampered_file_is_made_again_by_its_producer(outcome: Callable[[str], Any], smoke: Sandbox) -> None:
    repaired: Again = outcome("edited and tampered")
    now, before = repaired.project.records(), smoke.records()
    again = {r.kind: r.meta for key, r in now.items() if key in before and r.written_ns != before[key].written_ns}
    assert again == {
        "cross-entropy": {"source": "solver", "texts": 48},
        "evaluation": {"system": "warden", "split": "test", "examples": 12},
    }
    assert repaired.project.manifests() == smoke.manifests()
    for path in (scores_of(smoke), rows_of(smoke)):
        there = repaired.project.root / path.relative_to(smoke.root)
        assert there.read_bytes() == path.read_bytes()
        # At its address in the store too. Where only the store's copy was tampered with, the intact one in artifacts/ is
        # kept, so the two are no longer the same file.
        kept = repaired.project.root / in_store(smoke, path).relative_to(smoke.root)
        assert kept.read_bytes() == path.read_bytes()


def test_outputs_alone_are_enough_to_go_on(outcome: Callable[[str], Any], smoke: Sandbox) -> None:
    """Without caches, as after `dvc pull` on another machine."""
    pulled: Again = outcome("no cache")
    assert pulled.ran.keys() == {"evaluation", "comparison"}
    report = Path("reports") / "smoke" / "fusion.json"
    assert (pulled.project.root / report).read_bytes() == (smoke.root / report).read_bytes()
    assert pulled.project.manifests() == smoke.manifests()


def test_the_plan_names_what_changed(outcome: Callable[[str], Any]) -> None:
    planned: Again = outcome("plan")
    table, _, _ = planned.done.out.partition("needs (")
    rows = {cells[0]: cells for cells in _rows(table)}
    assert [name for name, cells in rows.items() if cells[1] == "yes"] == ["teach", "fuse@sft", "fuse@profuser", "report"]
    assert "output signals/solver/shard-00001/scores.jsonl (edited)" in rows["teach"][2]
    assert "param `fusion.beta`: 0.11 → 0.2" in rows["fuse@sft"][2]
    assert "code models.fusion.buckets (edited)" in rows["fuse@profuser"][2]
    assert "input teach/signals/solver/shard-00001/scores.jsonl (edited)" in rows["report"][2]
    assert rows["evaluate_fusion"][1:] == ["if inputs change", "after fuse"]
    assert planned.ran == {}, "a plan runs nothing"


def _rows(table: str) -> list[list[str]]:
    """Return the rows of a printed table, lines of one cell joined."""
    rows: list[list[str]] = []
    for line in table.splitlines():
        if line.startswith("│"):
            cells = [cell.strip() for cell in line.strip("│").split("│")]
            if cells[0]:
                rows.append(cells)
            else:
                rows[-1] = [f"{a} {b}".strip() for a, b in zip(rows[-1], cells, strict=True)]
    return rows
