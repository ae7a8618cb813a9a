"""One Prefect test server, a project folder for each test, and the fixtures of `tests/fusion_fixtures.py`."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks import workspace

_spec = importlib.util.spec_from_file_location("fusion_fixtures", Path(__file__).parents[1] / "fusion_fixtures.py")
assert _spec and _spec.loader
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
fusion_inputs, fusion_call, recording_sink = _module.fusion_inputs, _module.fusion_call, _module.recording_sink


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
