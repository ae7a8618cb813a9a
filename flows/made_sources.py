"""Sources that another profile makes: a model folder below artifacts/, and what to run where it is not there yet."""

from pathlib import Path

from models.params.root import Params

ARTIFACTS = "artifacts"


def making_command(model: str) -> str | None:
    """Return the command that makes a folder below artifacts/; None for any other place.

    `artifacts/<profile>/fuse/<method>/<target>/model` is made by the fusion half with that method.
    """
    parts = Path(model).parts
    if len(parts) < 3 or parts[0] != ARTIFACTS:
        return None
    method = f" -S 'methods=[{parts[3]}]'" if parts[2] == "fuse" and len(parts) > 3 else ""
    return f"python -m flows run fusion --profile {parts[1]}{method}"


def unmade_sources(params: Params, *, root: Path) -> list[str]:
    """Return a line for each source that another profile makes and has not made yet."""
    return [
        f"source {spec.name}: {spec.model} is not there yet. Make it first: {command}"
        for spec in params.sources.models
        if (command := making_command(spec.model)) is not None and not (root / spec.model).is_dir()
    ]
