"""First starts of Prefect in one folder come one after the other; later ones do not wait."""

import threading
from importlib.metadata import version
from pathlib import Path

import pytest

from flows.prefect_start import first_start


def test_first_starts_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    inside, most, starts = [0], [0], [0]
    guard, barrier = threading.Lock(), threading.Barrier(5)

    def start() -> None:
        barrier.wait()
        with first_start():
            with guard:
                inside[0] += 1
                starts[0] += 1
                most[0] = (
                    max(most[0], inside[0]) if starts[0] == 1 or not (tmp_path / "home" / "prefect.db").exists() else most[0]
                )
            (tmp_path / "home" / "prefect.db").write_text("migrated")
            with guard:
                inside[0] -= 1

    threads = [threading.Thread(target=start) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert starts == [5] and most == [1]
    assert (tmp_path / "home" / f"migrated-{version('prefect')}").is_file()


def test_a_first_start_that_fails_is_not_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    with pytest.raises(RuntimeError), first_start():
        (tmp_path / "prefect.db").write_text("half")
        raise RuntimeError
    assert not (tmp_path / f"migrated-{version('prefect')}").exists()
