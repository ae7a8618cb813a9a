"""`python -m flows.deployments deploy | worker`: this project's deployments (prefect.yaml) on a process work pool.

Both set the project's environment first, so that a flow run on the pool shares cache, records and tracking with the command line.
"""

import os
import subprocess
import sys

from flows.environment import set_environment
from flows.guard import guarded
from flows.servers import ensure
from models.errors import FusedialError
from models.redaction import redact
from tasks.workspace import project_root

POOL = "fusedial"


def prefect(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a Prefect command in the project folder and return what it said."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", *words]
    return subprocess.run(command, cwd=project_root(), capture_output=True, text=True, check=False)


def deploy() -> None:
    """Create the pool if it is missing, and register every deployment of prefect.yaml.

    Raises:
        FusedialError: Prefect refuses; the message is its own.
    """
    if prefect("work-pool", "inspect", POOL).returncode:
        _require(prefect("work-pool", "create", POOL, "--type", "process"))
    _require(prefect("deploy", "--all"))
    sys.stdout.write(
        f"deployed. Start a worker (make worker), then from any folder:\n"
        f"  prefect deployment run 'pipeline/local' -p profile=embedded --watch\n"
        f"with PREFECT_API_URL={redact(os.environ['PREFECT_API_URL'])}\n"
    )


def worker() -> None:
    """Become a worker of the pool."""
    os.chdir(project_root())
    os.execv(sys.executable, [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process"])


def _require(done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode:
        raise FusedialError(f"`{' '.join(done.args[2:])}` failed: {(done.stderr or done.stdout).strip()[-600:]}")


def main(word: str) -> None:
    """Deploy, or start a worker, against the project's Prefect server."""
    address = ensure("prefect")
    set_environment(project_root())
    os.environ.setdefault("PREFECT_API_URL", f"{address}/api")
    {"deploy": deploy, "worker": worker}[word]()


if __name__ == "__main__":
    guarded(lambda: main(sys.argv[1] if sys.argv[1:] else "deploy"))
