import sys
from pathlib import Path

import pytest

from models import memory
from models.memory import release_memory, release_memory_after


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc_trim, /proc")
def test_freed_pieces_go_back_to_the_system() -> None:
    # Small pieces, each second one kept: glibc gives none of them back by itself.
    pieces = [b"x" * (100_000 + i % 2) for i in range(2000)]
    full = _resident()
    kept = pieces[::2]
    del pieces
    release_memory()
    assert full - _resident() > 50_000_000
    assert len(kept) == 1000


@pytest.mark.parametrize(("device", "calls"), [("cpu", 1), ("cuda", 0)])
def test_only_steps_on_a_cpu_leave_pieces(device: str, calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[None] = []
    monkeypatch.setattr(memory, "release_memory", lambda: done.append(None))
    release_memory_after(device)
    assert len(done) == calls
