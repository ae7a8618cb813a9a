"""Runs in a real MLflow database: one parent, a child per stage, links instead of empty runs."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.errors import TrackingError
from models.params.runtime import Runtime, Tracking
from tasks import tracking, workspace
from tasks.model_logging import log_model
from tasks.tracking import RunSink, StageRun, compare_page, finish_parent, finish_stage, parent_run
from tasks.tracking_log import flatten


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One database for the module: creating it takes seconds."""
    folder = tmp_path_factory.mktemp("project")
    patch = pytest.MonkeyPatch()
    patch.setenv(workspace.ROOT_VARIABLE, str(folder))
    patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    patch.delenv("MLFLOW_TRACKING_URI", raising=False)
    workspace.project_root.cache_clear()
    yield folder
    patch.undo()
    workspace.project_root.cache_clear()


def parent(key: str) -> str:
    return parent_run(
        Tracking(), experiment="fusion", name="p", key=key, params={"a": {"b": 1}, "c": [1, 2]}, tags={"t": "x"}, note="n"
    )


def stage_run(parent_id: str, name: str) -> StageRun:
    return StageRun(tracking.tracking_uri(Tracking()), "fusion", parent_id, name, progress=False)


def finish(run: StageRun, output: str, **metrics: float) -> str:
    return finish_stage(run, output=output, params={"method": run.name}, metrics={f"final/{k}": v for k, v in metrics.items()})


def read(run_id: str):  # type: ignore[no-untyped-def]
    return tracking._client(tracking.tracking_uri(Tracking())).get_run(run_id)


def test_the_same_pipeline_finds_its_parent_again(project: Path) -> None:
    first = parent("k1")
    assert parent("k1") == first != parent("k2")
    data = read(first).data
    assert data.params == {"a.b": "1", "c": "1,2"}
    assert (project / "mlflow.db").is_file()


def test_a_stage_that_ran_has_its_curves_and_figures(project: Path) -> None:
    run = stage_run(parent("k3"), "fuse-sft")
    with RunSink(run, runtime=Runtime(progress=False), label="x") as sink:
        for step in (1, 2, 3):
            sink.log({"train/loss": 1.0 / step}, step=step)
    run_id = finish(run, "output-a", accuracy_all=0.5)
    data = read(run_id)
    assert data.data.metrics["final/accuracy_all"] == 0.5
    assert data.data.metrics["train/loss"] == pytest.approx(1 / 3)
    assert data.data.tags["mlflow.parentRunId"] == run.parent_id
    assert data.info.status == "FINISHED"
    history = tracking._client(run.uri).get_metric_history(run_id, "train/loss")
    assert [m.step for m in history] == [1, 2, 3]


def test_a_cached_stage_links_the_run_that_did_the_work(project: Path) -> None:
    done = finish(stage_run(parent("k4"), "fuse-x"), "output-b", accuracy_all=0.25)
    later = stage_run(parent("k5"), "fuse-x")
    assert finish(later, "output-b", accuracy_all=0.25, reward_all=2.0) == done
    assert read(later.parent_id).data.tags["linked.fuse-x"] == done
    assert read(done).data.metrics["final/reward_all"] == 2.0
    assert done in compare_page(later.parent_id, tracking=Tracking(), server="http://s", prefixes=("fuse-",))


def test_another_output_is_another_run(project: Path) -> None:
    first = finish(stage_run(parent("k6"), "fuse-y"), "output-c")
    assert finish(stage_run(parent("k7"), "fuse-y"), "output-d") != first


def test_curves_are_replayed_into_a_database_that_never_saw_them(project: Path, tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    history.write_text('{"step": 5, "train/loss": 2.0}\n{"step": 10, "train/loss": 1.0}\n')
    run = stage_run(parent("k8"), "fuse-z")
    run_id = finish_stage(run, output="output-e", params={}, metrics={}, history=history)
    points = tracking._client(run.uri).get_metric_history(run_id, "train/loss")
    assert [(m.step, m.value) for m in points] == [(5, 2.0), (10, 1.0)]


def test_the_parent_ends_with_the_headline(project: Path) -> None:
    run_id = parent("k9")
    finish_parent(run_id, tracking=Tracking(), metrics={"accuracy/sft": 0.7})
    assert read(run_id).info.status == "FINISHED"
    assert read(run_id).data.metrics == {"accuracy/sft": 0.7}


def test_flatten_keeps_numbers_as_numbers() -> None:
    tree = {"a": {"b": 1, "c": None}, "d": [{"e": 2.5}], "f": ["x", "y"], "g": True}
    assert flatten(tree) == {"a.b": 1, "a.c": "null", "d.0.e": 2.5, "f": "x,y", "g": True}


def test_no_password_reaches_params_tags_or_notes() -> None:
    canary = "cAnArY"
    address = f"postgresql://me:a/{canary}@{canary}@host/db?token={canary}"
    params = {
        "tracking": {"uri": address},
        "list": [f"http://{canary}@h/v1", "x" * 490 + f" http://u:{canary}@h"],
        "plain": "a@b",
    }
    key = f"secrets-{canary}"[:7]
    run_id = parent_run(Tracking(), experiment="fusion", name="n", key=key, params=params, tags={"from": address}, note=address)
    run = StageRun(tracking.tracking_uri(Tracking()), "fusion", run_id, "prepare")
    child = finish_stage(run, output="o", params={"uri": address}, metrics={}, tags={"data.from": address})
    for kept in (read(run_id), read(child)):
        assert canary not in str(kept.to_dictionary())
    assert read(run_id).data.params["plain"] == "a@b"
    assert read(child).data.tags["data.from"] == "postgresql://***@host/db?token=***"


def test_names_of_any_kind_are_recorded_with_their_original(project: Path) -> None:
    families = ["GSM8K (main)", "C++", "it's", "50%", "a//b", "x" * 260, ""]
    run = stage_run(parent("k10"), 'reward-it\'s "Org/RM"')
    run_id = finish(run, "output-f", **{f"accuracy_{family}": float(n) for n, family in enumerate(families)})
    assert finish(run, "output-f") == run_id, "the run is found by its name"
    data = read(run_id).data
    assert sorted(data.metrics.values()) == [float(n) for n in range(len(families))]
    kept = {value for key, value in data.tags.items() if key.startswith("original.")}
    assert kept == {f"final/accuracy_{family}" for family in families if family}
    assert data.tags["mlflow.runName"] == run.name


@pytest.mark.parametrize("odd", ["it's", 'a"b', "x`y", 'it\'s "both"', "a\\'b", "x" * 300])
def test_keys_and_outputs_of_any_kind_are_found_again(odd: str, project: Path) -> None:
    assert parent(odd) == parent(odd) != parent(f"{odd}!")
    done = finish(stage_run(parent(odd), f"reward-{odd}"), odd, a=1.0)
    assert finish(stage_run(parent(f"{odd}!"), f"reward-{odd}"), odd, a=1.0) == done


def test_artifacts_that_cannot_be_written_are_not_blamed_on_the_store(project: Path) -> None:
    run = stage_run(parent("k-artifacts"), "report")
    folder = project / "mlartifacts"
    folder.rename(project / "aside")
    folder.write_text("a file")
    try:
        with pytest.raises(OSError) as caught:
            finish_stage(run, output="o", params={}, metrics={}, files=[folder])
    finally:
        folder.unlink()
        (project / "aside").rename(folder)
    assert "tracking.uri" not in str(caught.value) and str(folder) in str(caught.value)


def test_params_with_odd_keys_and_values_are_recorded(project: Path) -> None:
    params = {"endpoints": {"gpt-4o (judge)": "http://x"}, "mix": {"a+b": "\ud800\0"}, "long": "x" * 9000}
    run_id = parent_run(Tracking(), experiment="fusion", name="'", key="k11", params=params, tags={"a+": "x" * 9000}, note="n")
    data = read(run_id).data
    assert {value for key, value in data.tags.items() if key.startswith("original.")} == {"endpoints.gpt-4o (judge)", "mix.a+b"}
    assert sorted(data.params.values(), key=len) == ["?�", "http://x", "x" * 500]


def test_a_deleted_experiment_is_reported_with_its_cure(project: Path) -> None:
    uri = f"sqlite:///{project / 'mlflow.db'}"
    client = tracking._client(uri)
    number = client.create_experiment("gone")
    client.delete_experiment(number)
    with pytest.raises(
        TrackingError, match=rf"`gone`.*was deleted. Restore it: `mlflow experiments restore --experiment-id {number}`"
    ):
        parent_run(Tracking(), experiment="gone", name="p", key="k12", params={}, tags={}, note="n")


def test_two_processes_open_a_cold_database_at_once(tmp_path: Path) -> None:
    code = (
        "from models.params.runtime import Tracking; from tasks.tracking import parent_run;"
        "print(parent_run(Tracking(), experiment='fusion', name='p', key='k', params={}, tags={}, note=''))"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    environment |= {workspace.ROOT_VARIABLE: str(tmp_path), "MLFLOW_DISABLE_TELEMETRY": "true"}
    processes = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert len({out for out, _ in said}) == 1, "both found the same run"


def test_a_model_below_a_folder_of_any_name_is_logged(project: Path, tmp_path: Path) -> None:
    """MLflow takes a plain path for an address: it looked for `odd   ` where `odd %20 ` was meant."""
    from mlflow.artifacts import download_artifacts

    folder = tmp_path / "odd %20 'q\" ü#?" / "0a1b"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    run = finish(stage_run(parent("odd"), "fuse-odd"), "o")
    log_model(run, folder, tracking=Tracking(), name="odd")
    place = download_artifacts(read(run).data.tags["fusedial.model"], tracking_uri=tracking.tracking_uri(Tracking()))
    (kept,) = Path(place).rglob("model.safetensors")
    assert kept.read_bytes() == b"weights"
