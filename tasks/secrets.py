"""What this process must never show: keys and addresses of its environment, taken out of every log record it makes."""

import functools
import logging
import os
import re
import traceback
from collections.abc import Callable, Mapping

from models.redaction import redact, register_address, register_secrets

_SECRET_NAME = re.compile(r"(?i)(?:.*_)?(?:key|token|secret|password|passwd|passphrase|credentials?)(?:_.*)?|.*apikey")
_SHORTEST = 6  # a shorter value of such a name is a switch or a number
_Factory = Callable[..., logging.LogRecord]


def guard_secrets(environ: Mapping[str, str] | None = None) -> None:
    """Make the secrets of the environment known to `redact`, and keep them and those of later out of all logs.

    Every logger of the process is covered (MLflow's, SQLAlchemy's and Prefect's too), whatever its handlers are, and the text of
    the errors that are logged with it.
    """
    for name, value in (os.environ if environ is None else environ).items():
        if _SECRET_NAME.fullmatch(name) and len(value) >= _SHORTEST and not os.path.isabs(value):
            register_secrets(value)
        if "://" in value:
            register_address(value)
    present = logging.getLogRecordFactory()
    if not (isinstance(present, functools.partial) and present.func is _record):
        logging.setLogRecordFactory(functools.partial(_record, present))


def _record(made_by: _Factory, *args: object, **kwargs: object) -> logging.LogRecord:
    record = made_by(*args, **kwargs)
    try:
        text = record.getMessage()
    except (TypeError, ValueError, KeyError):  # logging itself tells of arguments that do not fit
        return record
    kept = redact(text)
    if kept != text:
        record.msg, record.args = kept, ()
    if record.exc_info and record.exc_info[0] is not None:
        trace = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
        kept = redact(trace)
        if kept != trace:  # a formatter takes this text instead of making its own
            record.exc_text = kept
    return record
