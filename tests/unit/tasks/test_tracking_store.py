"""A store that cannot be used is one line, at once."""

import errno
import os
import socket
import time
from pathlib import Path

import pytest

from flows.known_errors import explain
from models.errors import TrackingError
from tasks.tracking_store import explained, open_client


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("./mlruns", "a folder, and MLflow keeps runs in databases only"),
        ("file:///etc", "a folder, and MLflow keeps runs in databases only"),
        ("ftp://x/y", "the scheme `ftp` is none of"),
        ("http://", "no host"),
        ("http://127.0.0.1:port", "Port could not be cast"),
        ("http://127.0.0.1:{port}", "nothing answers at 127.0.0.1:{port}"),
        ("postgresql://me:secret@127.0.0.1:{port}/db", "nothing answers at 127.0.0.1:{port}"),
        ("mysql://me:secret@/db", "No module named"),
        ("sqlite://", "no file is named"),
        ("sqlite:///{folder}", "the path is a folder"),
        ("sqlite:///{folder}/text.db", "file is not a database"),
        ("sqlite:///{folder}/text.db/x.db", "its folder cannot be written"),
        ("sqlite:////proc/x.db", "its folder cannot be written"),
    ],
)
def test_a_store_that_cannot_be_used_is_one_line_at_once(uri: str, why: str, tmp_path: Path) -> None:
    port = _free_port()
    (tmp_path / "text.db").write_bytes(b"no database, but some words of text" * 90)
    uri, why = (text.format(folder=tmp_path, port=port) for text in (uri, why))
    started = time.monotonic()
    with pytest.raises(TrackingError) as caught:
        open_client(uri)
    line = str(caught.value)
    assert time.monotonic() - started < 20
    assert line.startswith("`tracking.uri` must be")
    assert why in line
    assert "Set `tracking.uri`" in line or "Move the file away" in line
    assert "secret" not in line and "\n" not in line
    assert explain(caught.value) == f"TrackingError: {line}"


def test_errors_of_the_client_are_explained(tmp_path: Path) -> None:
    from mlflow.exceptions import MlflowException

    with pytest.raises(TrackingError, match=r"The experiment 1 must be in the 'active' state.*mlflow experiments restore"):
        with explained("sqlite:///x.db"):
            raise MlflowException("The experiment 1 must be in the 'active' state.\nCurrent state is deleted.")


def test_a_full_disk_is_not_the_stores_fault() -> None:
    with pytest.raises(OSError, match="No space"):
        with explained("sqlite:///x.db"):
            raise OSError(28, "No space left on device")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOTDIR])
def test_a_file_that_is_refused_is_not_blamed_on_the_store(number: int) -> None:
    with pytest.raises(OSError) as caught, explained("sqlite:///x.db"):
        raise OSError(number, os.strerror(number), "/project/mlartifacts/fusion")
    line = explain(caught.value)
    assert line is not None and line.startswith("FileError: `/project/mlartifacts/fusion` must") and "tracking.uri" not in line
