"""The flows that the command line and deployments run: what their runs are called and hold, and how they end."""

import json
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from prefect import get_client
from support.endpoint import ok, served

from flows import flow_page, flow_runs, pipeline, stages
from flows.context import StageContext
from flows.parallel import Call, engine_name, gather
from flows.stages import Stage
from models.errors import DataError
from models.params.runtime import Runtime
from tasks.artifact import Artifact
from tasks.caching import Work, step

ROOT = Path(__file__).resolve().parents[2]
seen: list[Any] = []


@step("shout")
def shout(word: str, *, work: Work) -> Mapping[str, Any]:
    (work.out / "said").write_text(word)
    return {"word": word}


def prepare_stage(ctx: StageContext, *, halves: tuple[str, ...]) -> None:
    shout(f"{ctx.params.profile} {ctx.params.fusion.beta} {halves}")


def fuse_stage(ctx: StageContext, *, method: str) -> None:
    if method == "reverse":
        raise DataError("Bad rows", [])
    if method == "simul":
        for _ in range(300):  # one long sleep could not be interrupted where a test runner holds the alarm
            time.sleep(0.1)
    calls: list[Call] = [(shout, {"word": f"{method} {i}"}) for i in range(2)]
    made: list[Artifact] = gather(calls, runtime=ctx.params.runtime)
    seen.append((method, [a.meta["word"] for a in made], engine_name()))


@flow_runs.deployable
def prepare(profile: str | None = None, overrides: list[str] | None = None, halves: list[str] | None = None) -> None:
    flow_runs.run_stage("prepare", profile=profile, overrides=overrides, halves=halves)  # type: ignore[arg-type]


@flow_runs.deployable
def fuse(method: str | None = None, profile: str | None = None, overrides: list[str] | None = None) -> None:
    flow_runs.run_stage("fuse", profile=profile, overrides=overrides, item=method)


@pytest.fixture
def tiny(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project whose pipeline has two stages, those above."""
    (project / "profiles").mkdir()
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    text = re.sub(r"(?m)^methods:.*$", "methods: [sft, profuser]", re.sub(r"(?m)^profile:.*$", "profile: small", text))
    (project / "params.yaml").write_text(text)
    (project / "profiles" / "small.yaml").write_text("runtime: {device: cpu}\n")
    here = (
        Stage("prepare", f"{__name__}:prepare_stage", "", sections=(), halves=("fusion", "dialogue")),
        Stage("fuse", f"{__name__}:fuse_stage", "", sections=(), matrix="methods"),
    )
    for module in (stages, pipeline, flow_runs):
        monkeypatch.setattr(module, "STAGES", here)
    monkeypatch.setattr(flow_runs, "write_record", lambda *_, **__: None)
    monkeypatch.setattr(StageContext, "parent", lambda *_: "")
    monkeypatch.setattr(flow_page, "results_markdown", lambda ctx, halves: f"results of {ctx.params.profile}, {halves}")
    seen.clear()
    yield project


def runs_of(since: float) -> dict[str, Any]:
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(limit=50)
    return {run.name: run for run in found if run.created is not None and run.created.timestamp() >= since}


def test_a_pipeline_is_a_flow_run_with_one_below_it_for_each_stage(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    began = time.time()
    overrides = ["fusion.beta=0.2"]
    pipeline.run_in_flow(StageContext.load(overrides=overrides), "fusion")
    runs = runs_of(began)
    assert runs.keys() == {"fusion-small", "prepare-small", "fuse@sft-small", "fuse@profuser-small"}
    assert all(run.state is not None and run.state.is_completed() for run in runs.values())
    assert all({"profile:small", "commit:none"} <= set(run.tags) for run in runs.values())
    common = {"profile": "small", "overrides": overrides}
    assert runs["fusion-small"].parameters == common
    assert runs["prepare-small"].parameters == {**common, "halves": ["fusion"]}
    assert runs["fuse@sft-small"].parameters == {**common, "method": "sft"}
    assert runs["fusion-small"].parent_task_run_id is None and runs["prepare-small"].parent_task_run_id is not None
    with get_client(sync_client=True) as client:
        (shown,) = [a for a in client.read_artifacts() if a.flow_run_id == runs["fusion-small"].id]
        assert (shown.key, shown.data) == ("results-small-fusion", "results of small, ('fusion',)")
    said = capsys.readouterr().out
    assert said.count("✓") == 3 and "(cached)" not in said
    pipeline.run_in_flow(StageContext.load(overrides=overrides), "fusion")
    assert capsys.readouterr().out.count("s  (cached)\n") == 3


def test_a_deployment_run_has_engine_tags_and_profile_of_its_params(tiny: Path) -> None:
    """Prefect calls the flow with nothing but parameters."""
    began = time.time()
    fuse(method="sft", overrides=["runtime.workers=2"])
    fuse(method="profuser", overrides=[])
    assert seen == [("sft", ["sft 0", "sft 1"], "ThreadPoolTaskRunner"), ("profuser", ["profuser 0", "profuser 1"], "")]
    assert {tuple(sorted(run.tags)) for run in runs_of(began).values()} == {("commit:none", "profile:small")}


def test_a_stage_of_several_methods_has_a_run_for_each(tiny: Path) -> None:
    began = time.time()
    pipeline.run_in_flow(StageContext.load(), "fuse")
    assert {"fuse-small", "fuse@sft-small", "fuse@profuser-small"} == runs_of(began).keys()
    assert [method for method, _, _ in seen] == ["sft", "profuser"]


def test_a_stage_that_takes_too_long_is_ended_with_the_setting(tiny: Path) -> None:
    began = time.monotonic()
    with pytest.raises(flow_runs.StageTimeout, match=r"`fuse@simul` must end within `runtime.stage_timeout_s` = 1 s"):
        fuse(method="simul", overrides=["runtime.stage_timeout_s=1"])
    assert time.monotonic() - began < 20


def test_the_webhook_hears_once_of_a_failure_and_never_of_a_stage(tiny: Path) -> None:
    heard: list[dict[str, Any]] = []

    def answer(path: str, body: dict[str, Any], headers: dict[str, str]) -> Any:
        heard.append({"path": path, **body})
        return ok({})

    with served(answer) as url:
        overrides = ["methods=[profuser, reverse]", f"runtime.failure_webhook={url}/hook"]
        with pytest.raises(DataError, match="Bad rows"):
            pipeline.run_in_flow(StageContext.load(overrides=overrides), "fusion")
    (one,) = heard
    assert (one["path"], one["flow"], one["run"], one["profile"]) == ("/hook", "fusion", "fusion-small", "small")
    assert one["state"] == "Failed" and "Bad rows" in one["message"] and json.dumps(one["text"]).count("Bad rows") == 1


def test_a_webhook_that_is_away_hides_no_error(tiny: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(DataError, match="Bad rows"):
        fuse(method="reverse", overrides=["runtime.failure_webhook=http://127.0.0.1:1/secret-path"])
    assert "webhook could not be reached" in caplog.text and "secret-path" not in caplog.text


def test_runtime_alone_knows_the_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks import step_runs

    asked: list[str] = []
    monkeypatch.setattr(step_runs, "_is_limited", lambda: asked.append("limit") or False)
    for name, device in (("fusion", "cpu"), ("fusion", "cuda:1"), ("corpus", "cuda"), ("evaluation", "mps")):
        with step_runs.accelerator_slot(name, {"cfg": 1, "runtime": Runtime(device=device)}):
            pass
    with step_runs.accelerator_slot("comparison", {"cfg": 1}):
        pass
    assert len(asked) == 2, "a CPU, a reader of files and a step without a device ask for no slot"
