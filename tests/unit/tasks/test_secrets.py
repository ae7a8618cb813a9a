"""No log record of the process holds a secret, no matter who wrote it."""

import io
import logging
from collections.abc import Iterator

import pytest

from models import redaction
from models.errors import SourceError
from models.params.runtime import Runtime
from tasks.caching import _guard
from tasks.secrets import guard_secrets
from tasks.tracking import StageRun

CANARY = "cAnArY7"
ENVIRONMENT = {
    "OPENAI_API_KEY": f'k"{CANARY}\\',
    "MLFLOW_TRACKING_URI": f"postgresql://u:p@{CANARY}1/x@host/db",
    "HF_TOKEN": f"{CANARY}2-token",
    "TOKENIZERS_PARALLELISM": "false",
    "KEY_BITS": "2048",
    "SSH_KEY_FILE": "/home/me/key-file",
}


@pytest.fixture(autouse=True)
def guarded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(redaction, "_known", set())
    before = logging.getLogRecordFactory()
    guard_secrets(ENVIRONMENT)
    guard_secrets(ENVIRONMENT)
    yield
    logging.setLogRecordFactory(before)


def logged(*args: object, exc_info: object = None) -> str:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    log = logging.getLogger("somebody.else")
    log.propagate, log.handlers = False, [handler]
    log.warning(*args, exc_info=exc_info)
    return stream.getvalue()


@pytest.mark.parametrize("value", list(ENVIRONMENT.values())[:3])
def test_secrets_of_the_environment_reach_no_log(value: str) -> None:
    assert CANARY not in logged("cannot use %r (%s)", value, {"was": value})


def test_the_text_of_a_logged_error_is_redacted_with_it() -> None:
    try:
        raise RuntimeError(f"no connection to {ENVIRONMENT['MLFLOW_TRACKING_URI']}")
    except RuntimeError as error:
        text = logged("failed", exc_info=error)
    assert CANARY not in text and "Traceback" in text and "no connection to postgresql://***@host/db" in text


def test_switches_numbers_and_paths_are_no_secrets() -> None:
    assert logged("false 2048 /home/me/key-file %d", 3) == "false 2048 /home/me/key-file 3\n"
    assert CANARY not in repr(SourceError(f"the key {CANARY}2-token is wrong"))


def test_a_step_makes_the_addresses_of_its_arguments_known() -> None:
    run = StageRun(uri=f"postgresql://u:{CANARY}3/x@db/mlflow", experiment="fusion", parent_id="p", name="teach")
    runtime = Runtime(endpoints={"judge": f"https://me:{CANARY}4pass@host/v1", "other": "http://127.0.0.1:8001/v1"})
    _guard([runtime, run, "text", 3])
    line = logged("no host %s, no login %s at 127.0.0.1", f"{CANARY}3", f"{CANARY}4pass")
    assert line == "no host ***, no login *** at 127.0.0.1\n"
