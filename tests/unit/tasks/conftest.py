"""A project folder of its own for every test of the task layer."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks import workspace


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv(workspace.ROOT_VARIABLE, str(tmp_path))
    workspace.project_root.cache_clear()
    yield tmp_path
    workspace.project_root.cache_clear()
