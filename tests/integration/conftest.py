"""One Prefect test server, a project folder for each test, and the fixtures of `tests/fusion_fixtures.py`."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fusion import fusion_call, fusion_inputs, recording_sink  # noqa: F401 (fixtures)

from tasks import workspace


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=180):
        yield


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect_server: None) -> Iterator[Path]:
    from prefect.settings import PREFECT_RESULTS_LOCAL_STORAGE_PATH, temporary_settings

    monkeypatch.setenv(workspace.ROOT_VARIABLE, str(tmp_path))
    workspace.project_root.cache_clear()
    with temporary_settings({PREFECT_RESULTS_LOCAL_STORAGE_PATH: tmp_path / ".cache" / "results"}):
        yield tmp_path
    workspace.project_root.cache_clear()
