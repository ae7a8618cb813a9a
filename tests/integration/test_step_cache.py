"""Cached steps under a real Prefect: what hits, what misses, what a kill or a tampered file does."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from prefect import flow

from models.params.runtime import Runtime
from tasks.artifact import Artifact
from tasks.caching import Work, step
from tasks.workspace import project_root


def ran(name: str) -> int:
    """How often a step's body ran in this project."""
    path = project_root() / f"{name}.count"
    return int(path.read_text()) if path.exists() else 0


def count(name: str) -> None:
    (project_root() / f"{name}.count").write_text(str(ran(name) + 1))


@step("make")
def make(text: str, *, runtime: Runtime, work: Work) -> Mapping[str, Any]:
    count("make")
    (work.out / "text").write_text(text)
    return {"length": len(text)}


@step("use")
def use(made: Artifact, *, runtime: Runtime, work: Work) -> Mapping[str, Any]:
    count("use")
    (work.out / "upper").write_text((made.path / "text").read_text().upper())
    return {}


@step("fragile")
def fragile(*, work: Work) -> Mapping[str, Any]:
    count("fragile")
    (work.resume / f"shard-{ran('fragile')}").touch()
    if ran("fragile") == 1:
        raise RuntimeError("stopped half-way")
    (work.out / "seen").write_text(",".join(sorted(p.name for p in work.resume.iterdir())))
    return {}


@flow
def chain(text: str, runtime: Runtime) -> Artifact:
    return use(make(text, runtime=runtime), runtime=runtime)


@flow
def broken() -> Artifact:
    return fragile()


def test_the_same_inputs_run_nothing_twice(project: Path) -> None:
    first = chain("abc", Runtime())
    again = chain("abc", Runtime(device="cuda", workers=5, threads=2))
    assert first == again
    assert (first.path / "upper").read_text() == "ABC"
    assert (ran("make"), ran("use")) == (1, 1)


def test_a_changed_input_runs_what_depends_on_it(project: Path) -> None:
    chain("abc", Runtime())
    chain("abd", Runtime())
    assert (ran("make"), ran("use")) == (2, 2)


@pytest.mark.parametrize("damage", ["delete", "edit"])
def test_a_damaged_artifact_re_runs_its_producer_only(project: Path, damage: str) -> None:
    chain("abc", Runtime())
    made = [m.parent for m in (project / ".cache" / "artifacts").rglob("text")]
    (made[0] / "text").chmod(0o644)
    if damage == "delete":
        (made[0] / "text").unlink()
    else:
        (made[0] / "text").write_text("xyz")
    chain("abc", Runtime())
    assert (ran("make"), ran("use")) == (2, 1)
    assert (made[0] / "text").read_text() == "abc"


def records(project: Path) -> list[Path]:
    return sorted((project / ".cache" / "results").iterdir())


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\x00" * 60,
        b"\xff\xfe",
        '{"result": "null"}',
        '{"kind": "other"}',
        "half",
        "folder",
        "dangling",
    ],
)
def test_a_damaged_record_runs_its_step_again(project: Path, damage: bytes | str) -> None:
    first = chain("abc", Runtime())
    for record in records(project):
        text = record.read_text()
        record.unlink()
        if damage == "folder":
            record.mkdir()
        elif damage == "dangling":
            record.symlink_to("nowhere")
        elif damage == "half":
            record.write_text(text[: len(text) // 2])
        elif isinstance(damage, bytes):
            record.write_bytes(damage)
        elif "result" in damage:
            record.write_text(json.dumps(json.loads(text) | json.loads(damage)))
        else:
            row = json.loads(text)
            made = json.loads(row["result"])
            made["data"] |= json.loads(damage)
            record.write_text(json.dumps(row | {"result": json.dumps(made)}))
    assert chain("abc", Runtime()) == first
    assert (ran("make"), ran("use")) == (2, 2)
    assert chain("abc", Runtime()) == first
    assert (ran("make"), ran("use")) == (2, 2), "the records are whole again"


def test_leftovers_of_a_killed_attempt_are_not_in_the_artifact(project: Path) -> None:
    right = chain("abc", Runtime())
    keys = [record.name for record in records(project)]
    for record in records(project):
        record.unlink()
    for key in keys:
        out = project / ".cache" / "work" / key / "out"
        (out / "sub").mkdir(parents=True)
        for name in ("half.tmp", ".x.part", "manifest.json.77.tmp", "sub/y"):
            (out / name).write_text("torn")
    assert chain("abc", Runtime()) == right
    assert (ran("make"), ran("use")) == (2, 2)


def test_a_failed_step_finds_its_scratch_again(project: Path) -> None:
    with pytest.raises(RuntimeError, match="half-way"):
        broken()
    done = broken()
    assert (done.path / "seen").read_text() == "shard-1,shard-2"
    assert not any((project / ".cache" / "work").iterdir())
