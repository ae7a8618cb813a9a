"""The way to MLflow's store: is it there, and what to tell a user where it is not or refuses. One line each, within seconds."""

import errno
import os
import socket
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from models.errors import TrackingError
from models.redaction import excerpt
from tasks.database_file import make_ready

if TYPE_CHECKING:
    from mlflow import MlflowClient

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_ANSWER_S = 5.0
_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
_SET = "Set `tracking.uri` or MLFLOW_TRACKING_URI"
_CURE = f"{_SET} to a database (`sqlite:///mlflow.db`, `postgresql://…`) or to a server that runs (`http://host:port`)."
_RIGHT = "Give yourself the right to write there."
_PROFILES = ("databricks", "databricks-uc", "uc")


def open_client(uri: str) -> "MlflowClient":
    """Return a client of the store at `uri`, each call of which explains its errors.

    Raises:
        TrackingError: The store cannot be used.
    """
    _check(uri)
    with explained(uri):
        make_ready(uri)
        from mlflow import MlflowClient

        return cast("MlflowClient", _Explaining(MlflowClient(tracking_uri=uri), uri))


class _Explaining:
    """An MLflow client whose errors are `TrackingError`s."""

    def __init__(self, client: "MlflowClient", uri: str) -> None:
        self._client, self._uri = client, uri

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found):
            return found

        @wraps(found)
        def call(*args: Any, **kwargs: Any) -> Any:
            with explained(self._uri):
                return found(*args, **kwargs)

        return call


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn errors of MLflow, its database and its server into one line.

    A full disk, and a file that the system refuses (an artifact, say, not the store itself), are left to the command line.
    """
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, RequestException, SQLAlchemyError, ImportError, OSError) as error:
        if _disk_is_full(error) or _is_of_a_file(error):
            raise
        raise _refused(uri, str(error), cure=_cure(str(error))) from error


def _disk_is_full(error: Exception) -> bool:
    number = error.errno if isinstance(error, OSError) else None
    return number in _FULL or "database or disk is full" in str(error) or "No space left on device" in str(error)


def _is_of_a_file(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno is not None and isinstance(error.filename, str | bytes)


def _refused(uri: str, why: str, *, cure: str = _CURE) -> TrackingError:
    return TrackingError(f"`tracking.uri` must be a store that MLflow can use, but is `{uri}`: {excerpt(why, 200)}. {cure}")


def _cure(why: str) -> str:
    if "'active' state" in why or "lifecycle" in why:
        return "Restore it (`mlflow experiments restore`, `mlflow runs restore`), or remove it for good (`mlflow gc`)."
    if "out-of-date database schema" in why or "Can't locate revision" in why:
        return "Save a copy and run `mlflow db upgrade URI`, or name another database in `tracking.uri`."
    if "malformed" in why or "not a database" in why:
        return "Move the file away (a fresh one is made), or name another database in `tracking.uri`."
    return _CURE


@cache
def _check(uri: str) -> None:
    """Look whether the store can be there at all: MLflow's own attempts take minutes."""
    scheme = urlsplit(uri).scheme.partition("+")[0]
    if uri in _PROFILES or scheme in _PROFILES:
        return
    if scheme in ("", "file"):
        raise _refused(
            uri, "a folder, and MLflow keeps runs in databases only", cure=f"{_CURE} `mlflow migrate-filestore` moves runs"
        )
    if scheme == "sqlite":
        _check_file(uri)
    elif scheme in ("http", "https"):
        _check_listens(uri, *_address(uri, scheme), proxied=True)
    elif scheme in _PORTS:
        _check_database(uri, scheme)
    else:
        known = ", ".join(("http", "https", "sqlite", *list(_PORTS)[2:]))
        raise _refused(uri, f"the scheme `{scheme}` is none of {known}")


def _address(uri: str, scheme: str) -> tuple[str, int]:
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname or "", parts.port or _PORTS[scheme]
    except ValueError as error:
        raise _refused(uri, str(error)) from error
    if not host and scheme.startswith("http"):
        raise _refused(uri, "no host")
    return host, port


def _check_listens(uri: str, host: str, port: int, *, proxied: bool = False) -> None:
    if proxied and getproxies().get(urlsplit(uri).scheme) and not proxy_bypass(host):
        return  # only the proxy can tell
    try:
        socket.create_connection((host, port), timeout=_ANSWER_S).close()
    except (OSError, UnicodeError) as error:
        raise _refused(
            uri, f"nothing answers at {host}:{port} ({error})", cure=f"Start the server, or check host and port. {_CURE}"
        ) from error


def _check_database(uri: str, scheme: str) -> None:
    import sqlalchemy

    host, port = _address(uri, scheme)
    if host:
        _check_listens(uri, host, port)
    with explained(uri):
        engine = sqlalchemy.create_engine(uri)
        engine.connect().close()
        engine.dispose()


def _check_file(uri: str) -> None:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        name = make_url(uri).database
    except ArgumentError as error:
        raise _refused(uri, str(error)) from error
    if not name or name == ":memory:":
        raise _refused(uri, "no file is named, and every process would have its own store")
    if name.startswith("file:"):
        return
    path = Path(name)
    if path.is_dir():
        raise _refused(uri, "the path is a folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        if error.errno in _FULL:
            raise
        raise _refused(uri, f"its folder cannot be written ({error.strerror})", cure=f"{_RIGHT} {_CURE}") from error
    if path.exists() and not os.access(path, os.W_OK):
        raise _refused(uri, "it cannot be written", cure=f"{_RIGHT} {_CURE}")
    if path.exists():
        _check_content(uri, path)


def _check_content(uri: str, path: Path) -> None:
    connection = sqlite3.connect(path, timeout=_ANSWER_S)
    try:
        connection.execute("SELECT name FROM sqlite_master").fetchall()
    except sqlite3.OperationalError:
        pass  # locked by another process, which MLflow waits for
    except sqlite3.DatabaseError as error:
        raise _refused(uri, str(error), cure=_cure(str(error))) from error
    finally:
        connection.close()
