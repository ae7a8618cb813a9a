"""Telling other processes what to do, and hearing from them."""

import json
import sys
from dataclasses import replace

import pytest

from models.errors import FusedialError, NumericsError, ParamsError, Problem
from models.fusion.train import distributed
from models.fusion.train.distributed import EventSink, FusionJob, launch, launch_command, launched, leave_error
from models.fusion.train.run import run_rank


@pytest.fixture
def job(fusion_call) -> FusionJob:
    return FusionJob(log_every=3, **fusion_call(lora={"rank": 2}, runtime={"nproc": 2}))


def test_job_round_trip(job):
    assert FusionJob.read(job.write()) == job


def test_command_is_torchrun_without_a_port_of_its_own(tmp_path):
    command = launch_command(tmp_path / "it's a job.json", nproc=3)
    assert command[:3] == [sys.executable, "-m", "torch.distributed.run"]
    assert command[command.index("--nproc-per-node") + 1] == "3" and "--standalone" in command
    compile(command[-1], "command", "exec")
    assert repr(str(tmp_path / "it's a job.json")) in command[-1]
    assert not launched()


def run(monkeypatch, job, sink, code: str) -> None:
    """`launch` with a process that runs `code` in place of torchrun."""
    head = f"import json, sys, pathlib; d = pathlib.Path({str(job.resume_dir)!r})\n"
    monkeypatch.setattr(distributed, "launch_command", lambda path, *, nproc: [sys.executable, "-c", head + code])
    launch(job, sink)


def test_metrics_and_progress_arrive_in_order(monkeypatch, job, recording_sink):
    sink = recording_sink()
    job.resume_dir.mkdir(parents=True)
    (job.resume_dir / "events.jsonl").write_text('{"metrics": {"train/loss": 9.0}, "step": 99}\n')  # of an earlier run
    code = """
import time
f = open(d / 'events.jsonl', 'a')
def put(text): f.write(text); f.flush(); time.sleep(0.3)
put('{"metrics": {"train/loss": 0.5}, "st'); put('ep": 3}\\n{"done": 3, "total": 6, "unit": "steps"}\\n')
put('{"metrics": {"train/loss": 0.25}, "step": 6}\\n')
"""
    run(monkeypatch, job, sink, code)
    assert sink.rows == {3: {"train/loss": 0.5}, 6: {"train/loss": 0.25}}
    assert sink.done == [(3, 6, "steps")]


def test_event_sink_writes_what_the_reader_reads(monkeypatch, job, recording_sink):
    sink = recording_sink()
    run(monkeypatch, job, sink, "pass")
    events = EventSink(job.resume_dir)
    events.log({"train/loss": 1 / 3}, step=1)
    events.progress(1, 2, unit="steps")
    with (job.resume_dir / "events.jsonl").open() as file:
        distributed._EventReader(file, sink).forward()
    assert sink.rows == {1: {"train/loss": 1 / 3}} and sink.done == [(1, 2, "steps")]


def test_error_of_the_first_failing_rank_is_raised(monkeypatch, job, recording_sink):
    code = """
for rank in (1, 0):
    (d / f'error-{rank}.json').write_text(json.dumps({'kind': 'NumericsError', 'message': f'rank {rank} diverged'}))
sys.exit(1)
"""
    with pytest.raises(NumericsError, match=r"^rank 0 diverged$"):
        run(monkeypatch, job, recording_sink(), code)


def test_errors_of_problems_keep_their_text(monkeypatch, job, recording_sink):
    job.resume_dir.mkdir(parents=True)
    error = ParamsError("Cannot", [Problem("`a`", "must be b", "c")])
    leave_error(job.resume_dir, 0, error)
    row = json.loads((job.resume_dir / "error-0.json").read_text())
    assert row == {"kind": "ParamsError", "message": str(error)}
    code = f"(d / 'error-0.json').write_text({json.dumps(json.dumps(row))}); sys.exit(3)"
    with pytest.raises(FusedialError, match="`a` must be b, but is c"):
        run(monkeypatch, job, recording_sink(), code)


def test_crash_without_an_error_of_ours_shows_the_log(monkeypatch, job, recording_sink):
    with pytest.raises(FusedialError, match=r"(?s)ended with code 7.*launch.log.*out of memory, sorry"):
        run(monkeypatch, job, recording_sink(), "print('out of memory, sorry'); sys.exit(7)")


def test_processes_end_when_the_waiting_one_fails(monkeypatch, job):
    class FailingSink:
        def log(self, metrics, *, step):
            raise KeyboardInterrupt

    started = []
    popen = distributed.subprocess.Popen
    monkeypatch.setattr(distributed.subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1])
    code = "import time; open(d / 'events.jsonl', 'a').write('{\"metrics\": {}, \"step\": 1}\\n'); time.sleep(60)"
    code = code.replace("; time.sleep", "\nimport time; time.sleep")
    with pytest.raises(KeyboardInterrupt):
        run(monkeypatch, job, FailingSink(), code)
    assert started[0].poll() == -15


def test_rank_leaves_its_error_behind(job):
    path = replace(job, method="alchemy").write()
    with pytest.raises(ParamsError):
        run_rank(path)
    row = json.loads((job.resume_dir / "error-0.json").read_text())
    assert row["kind"] == "ParamsError" and "`alchemy`" in row["message"]
