"""What every process of the project needs in its environment, and the choice between a running Prefect server and none."""

import os
import urllib.request
from pathlib import Path
from urllib.error import URLError

SERVER_URL = "http://127.0.0.1:4200/api"


def set_environment(root: Path, *, quiet: bool = True) -> str:
    """Set project-local state folders and off-switches; values already in the environment win.

    Must run before prefect or mlflow are imported.

    Returns:
        The Prefect API in use, or "" for an ephemeral one.
    """
    cache = root / ".cache"
    defaults = {
        "FUSEDIAL_ROOT": str(root),
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_HOME": str(cache / "prefect"),
        "PREFECT_RESULTS_LOCAL_STORAGE_PATH": str(cache / "results"),
        "PREFECT_LOGGING_LEVEL": "WARNING" if quiet else "INFO",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_WAIT_POLICY": "passive",
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    if "PREFECT_API_URL" not in os.environ and _answers(SERVER_URL):
        os.environ["PREFECT_API_URL"] = SERVER_URL
    return os.environ.get("PREFECT_API_URL", "")


def quiet_known_errors() -> None:
    """Keep Prefect's tracebacks of errors that the command line explains itself off the terminal (the API still gets them)."""
    import logging

    import prefect  # noqa: F401 - sets up its loggers

    from models.errors import FusedialError

    def explained(record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, FusedialError) and "Finished in state Failed" not in record.getMessage()

    # Prefect's run loggers pass their records up to the root logger, whose handlers write to the terminal.
    for handler in logging.getLogger().handlers:
        handler.addFilter(explained)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=1.0) as reply:
            return bool(reply.status == 200)
    except (URLError, OSError):
        return False
