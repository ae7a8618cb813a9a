"""Environment variables of the project's processes, and the choice between a running Prefect server and none."""

import os
import sys
import urllib.request
from io import TextIOWrapper
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from models.errors import FusedialError
from tasks.workspace import address_root

SERVER_URL = "http://127.0.0.1:4200/api"
# On a CPU, oneDNN and torch's layer above it each keep 1,024 compiled kernels, one for every shape of a batch: in time, hundreds
# of megabytes that few batches use again. 64 hold those of one step, and cost no time (docs/performance.md).
KERNEL_CACHES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "64"}


def set_environment(root: Path, *, quiet: bool = True) -> str:
    """Set project-local state folders and off-switches; values already in the environment win.

    Must run before prefect or mlflow are imported. An empty PREFECT_API_URL asks for an ephemeral server of the process.

    Returns:
        The Prefect API in use, or "" for an ephemeral one.
    """
    escape_unencodable_output()
    cache = root / ".cache"
    defaults = {
        "FUSEDIAL_ROOT": str(root),
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_HOME": str(address_root(root) / ".cache" / "prefect"),  # Prefect builds an address of it
        "PREFECT_RESULTS_LOCAL_STORAGE_PATH": str(cache / "results"),
        "PREFECT_LOGGING_LEVEL": "WARNING" if quiet else "INFO",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # A server that goes away is missed after half a minute of attempts, not after four.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "4",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # a server's address may hold a password
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_WAIT_POLICY": "passive",
        **KERNEL_CACHES,
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    if root.is_dir():
        cache.mkdir(exist_ok=True)  # Prefect warns where it cannot make its own folder in it
    given = os.environ.get("PREFECT_API_URL")
    if given == "":  # asks for the ephemeral server; with the variable there but empty, Prefect's events fail
        del os.environ["PREFECT_API_URL"]
    elif given is None and _answers(SERVER_URL):
        os.environ["PREFECT_API_URL"] = SERVER_URL
    return os.environ.get("PREFECT_API_URL", "")


def escape_unencodable_output() -> None:
    """Let output survive a terminal of another encoding: what it does not have is written as an escape."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def require_prefect() -> None:
    """Check that the Prefect server named by PREFECT_API_URL is there; Prefect's own attempts end in a traceback.

    Raises:
        FusedialError: It does not answer, or is something else.
    """
    url = os.environ.get("PREFECT_API_URL", "")
    if not url:
        return
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=5.0):
            return
    except HTTPError as error:
        if error.code != 404 or (urlsplit(url).hostname or "").endswith("prefect.cloud"):
            return  # it is there; its limits show in the calls themselves
        why = "what answers there is no Prefect API (HTTP 404)"
    except (URLError, OSError, ValueError) as error:
        why = f"nothing answers ({getattr(error, 'reason', error)})"
    raise FusedialError(
        f"`PREFECT_API_URL` must be the API of a running Prefect server, but is `{url}`: {why}. "
        "Start the server (`make server`), correct the address, or unset the variable: a run without it serves itself."
    )


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=1.0) as reply:
            return bool(reply.status == 200)
    except (URLError, OSError):
        return False
