"""A project folder of its own, for tests of what keeps state in one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.endpoint import endpoint, replies  # noqa: F401 (fixtures)
from support.fusion import fusion_call, fusion_inputs, recording_sink  # noqa: F401 (fixtures)

from tasks import workspace


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that FUSEDIAL_ROOT names during the test."""
    monkeypatch.setenv(workspace.ROOT_VARIABLE, str(tmp_path))
    workspace.project_root.cache_clear()
    yield tmp_path
    workspace.project_root.cache_clear()
