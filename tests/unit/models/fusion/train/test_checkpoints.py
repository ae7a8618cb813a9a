"""Resume state on disk: complete or not there, of this training or passed over."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
from transformers import TrainerControl

from models.fusion.train.record import fingerprint
from models.fusion.train.trainer import CheckpointClock, PhaseSwitch
from models.params.fusion import CheckpointParams, FusionParams
from models.training.checkpoints import (
    HISTORY,
    MARKER,
    CheckpointFolder,
    Execution,
    is_whole,
    place_folder,
    seal,
)


def folder_of(tmp_path, *, mark="f" * 64, keep=2):
    return CheckpointFolder(tmp_path, fingerprint=mark, keep=keep)


def commit(checkpoints: CheckpointFolder, step: int) -> Path:
    place = checkpoints.writing / f"checkpoint-{step}"
    place.mkdir(parents=True)
    (place / "model.safetensors").write_bytes(b"weights" * step)
    return checkpoints.commit(step)


def names(tmp_path):
    return sorted(p.name for p in tmp_path.glob("checkpoint-*"))


def test_newest_complete_checkpoint_is_found(tmp_path):
    checkpoints = folder_of(tmp_path)
    assert checkpoints.newest() is None
    commit(checkpoints, 9)
    assert commit(checkpoints, 10) == checkpoints.newest() == tmp_path / "checkpoint-10"


def test_what_was_being_written_is_not_found_and_is_removed(tmp_path):
    checkpoints = folder_of(tmp_path)
    commit(checkpoints, 5)
    torn = checkpoints.writing / "checkpoint-10"
    torn.mkdir(parents=True)
    (torn / "optimizer.pt").write_bytes(b"half")
    assert checkpoints.newest() == tmp_path / "checkpoint-5"
    checkpoints.discard_torn()
    assert not checkpoints.writing.exists() and checkpoints.newest() == tmp_path / "checkpoint-5"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda p: (p / MARKER).unlink(), f"it has no readable {MARKER}"),
        (lambda p: (p / MARKER).write_text('{"fing'), f"it has no readable {MARKER}"),
        (lambda p: (p / "model.safetensors").write_bytes(b"w"), "model.safetensors must have 70 bytes, but has 1"),
        (lambda p: (p / "model.safetensors").unlink(), "model.safetensors must have 70 bytes, but has None"),
        (lambda p: (p / "model.safetensors").write_bytes(b"weighty" * 10), "model.safetensors must have the sha256"),
        (lambda p: (p / MARKER).write_bytes(b"\x00" * 99), f"it has no readable {MARKER}"),
        (
            lambda p: (p / MARKER).write_text('{"fingerprint": "%s", "files": {"a": 3}}' % ("f" * 64)),
            f"it has no readable {MARKER}",
        ),
        (lambda p: (p / MARKER).write_text("[]"), f"it has no readable {MARKER}"),
    ],
)
def test_damaged_checkpoint_is_passed_over_with_its_reason(tmp_path, caplog, damage, reason):
    checkpoints = folder_of(tmp_path)
    commit(checkpoints, 5)
    damage(commit(checkpoints, 10))
    with caplog.at_level(logging.WARNING):
        assert checkpoints.newest() == tmp_path / "checkpoint-5"
    assert "checkpoint-10" in caplog.text and reason in caplog.text


def test_checkpoint_of_another_training_is_passed_over_then_overtaken(tmp_path, caplog):
    commit(folder_of(tmp_path, mark="a" * 64), 40)
    commit(folder_of(tmp_path, mark="a" * 64), 60)
    ours = folder_of(tmp_path, mark="b" * 64)
    with caplog.at_level(logging.WARNING):
        assert ours.newest() is None
    assert "it belongs to other parameters, another target or other signals" in caplog.text
    commit(ours, 50)
    assert names(tmp_path) == ["checkpoint-50"]


@pytest.mark.parametrize(("keep", "left"), [(1, [3]), (2, [2, 3]), (5, [1, 2, 3])])
def test_retention(tmp_path, keep, left):
    checkpoints = folder_of(tmp_path, keep=keep)
    for step in (1, 2, 3):
        commit(checkpoints, step)
    assert names(tmp_path) == [f"checkpoint-{step}" for step in left]


def test_checkpoint_after_a_phase_needs_its_model(tmp_path, caplog):
    checkpoints = folder_of(tmp_path)
    commit(checkpoints, 4)
    commit(checkpoints, 6)
    assert checkpoints.newest(phase_ends={6: 1}) == tmp_path / "checkpoint-4"
    assert "the model of phase 1 is missing" in caplog.text
    checkpoints.phase(1).mkdir(parents=True)
    (checkpoints.phase(1) / "model.safetensors").write_bytes(b"weights")
    seal(checkpoints.phase(1))
    assert checkpoints.newest(phase_ends={6: 1}) == tmp_path / "checkpoint-6"
    (checkpoints.phase(1) / "model.safetensors").write_bytes(b"weighty")
    assert not is_whole(checkpoints.phase(1))
    assert checkpoints.newest(phase_ends={6: 1}) == tmp_path / "checkpoint-4"


def test_checkpoint_whose_curves_are_lost_is_passed_over(tmp_path, caplog):
    checkpoints, curves = folder_of(tmp_path), tmp_path / HISTORY
    curves.write_text('{"step": 1}\n')
    commit(checkpoints, 1)
    curves.write_text('{"step": 1}\n{"step": 2}\n')
    commit(checkpoints, 2)
    curves.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"ste')
    assert checkpoints.newest() == tmp_path / "checkpoint-2", "later rows do not matter"
    curves.write_text('{"step": 1}\n{"st')
    assert checkpoints.newest() == tmp_path / "checkpoint-1" and "lost curves" in caplog.text
    curves.unlink()
    assert checkpoints.newest() is None


# --- what belongs together ---------------------------------------------------------------------------------------------------


def mark(method="profuser", target="t", stores=("a", "b"), **params):
    cfg = FusionParams(**({"targets": ("x",)} | params))
    return fingerprint(cfg, method=method, target_digest=target, store_digests=stores)


def test_fingerprint_changes_with_what_decides_the_result():
    base = mark()
    others = [
        mark(method="reverse"),
        mark(target="u"),
        mark(stores=("b", "a")),
        mark(lr=1e-4),
        mark(seed=1),
        mark(dtype="bfloat16"),
    ]
    assert len({base, *others}) == 7


def test_fingerprint_ignores_what_does_not():
    assert mark() == mark(checkpoints={"every_steps": 3}) == mark(targets=("x", "y")) == mark(micro_batch_size=8)


def execution(**changes):
    return Execution(
        **(
            {"fingerprint": "f" * 64, "threads": 2, "micro_batch_size": 4, "world_size": 1, "dtype": "float32", "device": "cpu"}
            | changes
        )
    )


def test_first_execution_is_kept_and_differences_are_logged(tmp_path, caplog):
    checkpoints = folder_of(tmp_path)
    first, later = execution(), execution(threads=8, micro_batch_size=16)
    assert checkpoints.execution(first) == first
    with caplog.at_level(logging.WARNING):
        assert checkpoints.execution(later) == first
    assert "threads 2 (now 8), micro_batch_size 4 (now 16)" in caplog.text
    caplog.clear()
    assert checkpoints.execution(first) == first and not caplog.text
    (tmp_path / "execution.json").unlink()
    assert checkpoints.execution(later) == later


def test_execution_of_another_training_is_replaced(tmp_path):
    folder_of(tmp_path).execution(execution())
    other = execution(fingerprint="b" * 64, threads=8)
    assert folder_of(tmp_path, mark="b" * 64).execution(other) == other


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1}', '{"fingerprint": "%s"}' % ("f" * 64), "\x00\x00"])
def test_execution_that_cannot_be_read_is_written_again(tmp_path, text):
    (tmp_path / "execution.json").write_text(text)
    assert folder_of(tmp_path).execution(execution()) == execution()
    assert folder_of(tmp_path).execution(execution(threads=64)) == execution()


# --- folders -----------------------------------------------------------------------------------------------------------------


def test_placed_folder_outlives_its_source(tmp_path):
    (tmp_path / "source" / "sub").mkdir(parents=True)
    (tmp_path / "source" / "sub" / "a").write_text("1")
    (tmp_path / "final").mkdir()
    (tmp_path / "final" / "stale").write_text("0")
    place_folder(tmp_path / "source", tmp_path / "final")
    (tmp_path / "source" / "sub" / "a").unlink()
    assert [p.relative_to(tmp_path / "final").as_posix() for p in (tmp_path / "final").rglob("*")] == ["sub", "sub/a"]
    assert (tmp_path / "final" / "sub" / "a").read_text() == "1"


# --- when --------------------------------------------------------------------------------------------------------------------


def saved_steps(clock: CheckpointClock, now: list[float], *, total: int, seconds_a_step: float) -> list[int]:
    saved = []
    for step in range(1, total + 1):
        clock.due = clock.minutes_passed()  # as the trainer does before the step
        now[0] += seconds_a_step
        control, state = TrainerControl(), SimpleNamespace(global_step=step, max_steps=total)
        clock.on_step_end(None, state, control)
        if control.should_save:
            clock.on_save(None, state, control)
            saved.append(step)
    return saved


@pytest.mark.parametrize(
    ("every_steps", "every_minutes", "steps"),
    [(4, 1e9, [4, 8]), (100, 1.0, [4, 8]), (5, 1.0, [4, 5, 9, 10]), (6, 1e9, [6]), (100, 1e9, [])],
)
def test_steps_or_minutes_whichever_comes_first(every_steps, every_minutes, steps):
    now = [0.0]
    params = CheckpointParams(every_steps=every_steps, every_minutes=every_minutes)
    clock = CheckpointClock(params, clock=lambda: now[0])
    assert saved_steps(clock, now, total=12, seconds_a_step=20.0) == steps


@pytest.mark.parametrize("restart", [True, False])
def test_phase_switch(restart):
    saved, optimizer = [], SimpleNamespace(state={"p": 1})
    switch = PhaseSwitch({3: 1, 5: 2}, save_phase=saved.append, restart_optimiser=restart)
    for step in range(1, 8):
        switch.on_step_end(None, SimpleNamespace(global_step=step), TrainerControl(), optimizer=optimizer)
        assert optimizer.state == ({} if restart and step >= 3 else {"p": 1})
        assert saved == [n for at, n in ((3, 1), (5, 2)) if at <= step]
