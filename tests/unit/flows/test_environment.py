"""Which Prefect server a process uses, and what it finds in its environment."""

import os
from pathlib import Path

import pytest

from flows import environment

GIVEN = "http://127.0.0.1:1/api"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment of the test's own."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    os.environ.pop("PREFECT_API_URL", None)


def prefer(monkeypatch: pytest.MonkeyPatch, *, running: bool, given: str | None, root: Path) -> str:
    monkeypatch.setattr(environment, "_answers", lambda url: running)
    if given is not None:
        os.environ["PREFECT_API_URL"] = given
    return environment.set_environment(root)


@pytest.mark.parametrize(
    ("running", "given", "used"),
    [
        (True, None, environment.SERVER_URL),
        (False, None, ""),
        (True, GIVEN, GIVEN),
        (True, "", ""),  # an empty address asks for the ephemeral server
    ],
)
def test_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, running: bool, given: str | None, used: str) -> None:
    assert prefer(monkeypatch, running=running, given=given, root=tmp_path) == used
    assert os.environ.get("PREFECT_API_URL") == (used or None), "an empty variable would break Prefect's events"


def test_the_cache_folder_is_there_before_prefect_wants_to_write_in_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    os.environ.pop("PREFECT_HOME", None)
    prefer(monkeypatch, running=False, given=None, root=tmp_path)
    assert (tmp_path / ".cache").is_dir()
    assert os.environ["PREFECT_HOME"] == str(tmp_path / ".cache" / "prefect")
    prefer(monkeypatch, running=False, given=None, root=tmp_path / "none")
    assert not (tmp_path / "none").exists(), "a folder that is no project is not made one"


def test_what_the_user_has_set_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    os.environ["PREFECT_LOGGING_LEVEL"] = "DEBUG"
    prefer(monkeypatch, running=False, given=None, root=tmp_path)
    assert os.environ["PREFECT_LOGGING_LEVEL"] == "DEBUG"


def test_kernel_caches_are_small_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    os.environ.pop("ONEDNN_PRIMITIVE_CACHE_CAPACITY", None)
    os.environ["LRU_CACHE_CAPACITY"] = "512"
    prefer(monkeypatch, running=False, given=None, root=tmp_path)
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "64"
    assert os.environ["LRU_CACHE_CAPACITY"] == "512"
