"""What `plan` knows of a stage survives damage to its record and to the stage's outputs."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from flows.context import StageContext
from flows.params.file import load_params
from flows.plan.plan import planned
from flows.stage_record import StageCost, changes, record_path, took, write_record
from flows.stages import STAGES, Stage
from models.params.corpus import CorpusSet
from tasks import workspace
from tasks.artifact import materialise, publish
from tasks.manifest import MANIFEST

PROJECT = Path(__file__).parents[3]
PREPARE = next(s for s in STAGES if s.name == "prepare")
SOURCES = next(s for s in STAGES if s.name == "sources")
COST = StageCost(seconds=3.0, peak_bytes=5, stored_bytes=7, cpu_seconds=2.0)


@pytest.fixture
def ctx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StageContext:
    monkeypatch.setenv(workspace.ROOT_VARIABLE, str(tmp_path))
    workspace.project_root.cache_clear()
    monkeypatch.setattr(Stage, "code", lambda self: {"models.some": "digest"})
    made = StageContext(root=tmp_path, params=load_params(PROJECT, profile="smoke").params)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.txt").write_text("one")
    materialise(publish(tmp_path / "x", "thing", meta={}), made.out("sources", "models"))
    write_record(made, SOURCES, cost=COST)
    return made


def test_a_stage_that_ran_is_up_to_date(ctx: StageContext) -> None:
    assert changes(ctx, SOURCES) == [] and took(ctx, SOURCES) == COST


@pytest.mark.parametrize(
    "damage",
    ["", "{", "null", "[]", "{}", "\x00" * 40, '{"params": 3}', "[" * 100_000, "folder", "pipe"],
)
def test_a_damaged_record_counts_as_absent(ctx: StageContext, damage: str) -> None:
    path = record_path(ctx, SOURCES)
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage == "pipe":
        os.mkfifo(path)
    else:
        path.write_text(damage)
    assert [change.kind for change in changes(ctx, SOURCES)] == ["new"] and took(ctx, SOURCES) is None
    write_record(ctx, SOURCES, cost=COST)
    assert changes(ctx, SOURCES) == [] and took(ctx, SOURCES) == COST


@pytest.mark.parametrize("cost", [3, {"seconds": 1}, {"x": 1}, [1], "x"])
def test_a_malformed_cost_is_ignored_without_the_rest(ctx: StageContext, cost: object) -> None:
    path = record_path(ctx, SOURCES)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"took": cost}))
    assert changes(ctx, SOURCES) == [] and took(ctx, SOURCES) is None


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda out: (out / MANIFEST).write_text("{"), "output models/manifest.json (edited)"),
        (lambda out: (out / "a.txt").write_text("two"), "output models/a.txt (edited)"),
        (lambda out: (out / "b.py").write_text("x"), "output models/b.py (not listed)"),
        (lambda out: None, "output models/a.txt (missing)"),
    ],
)
def test_damage_to_the_outputs_is_reported(ctx: StageContext, damage: object, expected: str) -> None:
    out = ctx.out("sources", "models")
    text = (out / MANIFEST).read_text()
    for name in (MANIFEST, "a.txt"):
        (out / name).unlink()
    if "missing" not in expected:
        (out / "a.txt").write_text("one")
    (out / MANIFEST).write_text(text)
    damage(out)  # type: ignore[operator]
    assert expected in [str(change) for change in changes(ctx, SOURCES)]


def test_data_outside_the_project_is_named_by_its_path(ctx: StageContext, tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("elsewhere")
    (place / "rows").mkdir()
    for name in ("set.jsonl", "rows/part.arrow", "kb.jsonl"):
        (place / name).write_text("1")
    sets = [CorpusSet(name=name, path=str(place / path)) for name, path in (("a", "set.jsonl"), ("b", "rows"))]
    corpus = ctx.params.corpus.model_copy(update={"kind": "files", "sets": tuple(sets)})
    dialogues = ctx.params.dialogues.model_copy(update={"kind": "jsonl", "path": str(place)})
    outside = replace(ctx, params=ctx.params.model_copy(update={"corpus": corpus, "dialogues": dialogues}))
    write_record(outside, PREPARE)
    assert changes(outside, PREPARE) == []
    (place / "rows" / "part.arrow").write_text("22")
    assert [str(change) for change in changes(outside, PREPARE)] == [f"input {place}/rows/part.arrow (edited)"]


def test_an_edited_loss_runs_fuse_and_what_reads_from_it(ctx: StageContext, monkeypatch: pytest.MonkeyPatch) -> None:
    for stage, item, _, _ in planned(ctx):
        write_record(ctx, stage, item=item)
    assert not any(own or upstream for _, _, own, upstream in planned(ctx))
    monkeypatch.setattr(Stage, "code", lambda self: {"models.some": "edited" if self.name == "fuse" else "digest"})
    plan = list(planned(ctx))
    assert {stage.name: [str(change) for change in own] for stage, _, own, _ in plan if own} == {
        "fuse": ["code models.some (edited)"]
    }
    downstream = {stage.name for stage, _, _, upstream in plan if upstream}
    assert downstream == {"evaluate_fusion", "benchmark", "evaluate_dialogue", "report"}
