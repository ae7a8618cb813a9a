"""Which Prefect server a process uses, and what it finds in its environment."""

import io
import os
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from flows import environment
from models.errors import FusedialError

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


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """The address of a server that is no Prefect."""

    class NotFound(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), NotFound)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_prefect_server_that_is_away_is_one_line(elsewhere: str) -> None:
    for url, why in (
        ("http://127.0.0.1:9/api", "nothing answers"),
        ("nonsense", "nothing answers"),
        (f"{elsewhere}/api", r"no Prefect API \(HTTP 404\)"),
    ):
        os.environ["PREFECT_API_URL"] = url
        with pytest.raises(FusedialError, match=rf"`PREFECT_API_URL` must be .*{why}.*make server") as caught:
            environment.require_prefect()
        assert "\n" not in str(caught.value)
    del os.environ["PREFECT_API_URL"]
    environment.require_prefect()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_output_survives_a_terminal_of_another_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    environment.escape_unencodable_output()
    Console().print("✓ 完 \ud83d…")
    sys.stdout.flush()
    assert raw.getvalue().endswith(b"\n")
