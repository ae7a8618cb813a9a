"""docs/results/<name>.json from a finished profile, and the tables in README and docs that show them."""

import json
import shlex
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.context import StageContext, git_commit
from flows.params_file import load_params
from flows.summary import agreement_rows, scored_rows

if TYPE_CHECKING:
    from models.reporting.results import ResultRow

_EXECUTION = {"runtime", "tracking", "planning"}


def write_results(ctx: StageContext, name: str) -> Path:
    """Write the figures of a finished profile: those of the dialogue half where the name begins with `dialogue-`.

    Raises:
        ArtifactError: The profile is not finished.
    """
    from models.reporting.results import Result, write_result

    rows, command = (_dialogue if name.startswith("dialogue-") else _fusion)(ctx)
    today = datetime.now(UTC).date().isoformat()
    return write_result(ctx.root / "docs" / "results", Result(name, command, git_commit(ctx.root), today, rows))


def _fusion(ctx: StageContext) -> "tuple[tuple[ResultRow, ...], str]":
    from models.reporting.results import comparison_result_rows, table_result_rows

    table, differences = scored_rows(ctx)
    rows = (*table_result_rows(table), *comparison_result_rows(differences), *agreement_rows(ctx))
    methods = ",".join(ctx.params.methods)
    return rows, f"python -m flows run fusion --profile {ctx.params.profile} -S 'methods=[{methods}]'"


def _dialogue(ctx: StageContext) -> "tuple[tuple[ResultRow, ...], str]":
    from flows.report_dialogue import scored_dialogues
    from models.reporting.dialogue_results import dialogue_comparison_result_rows, dialogue_result_rows

    table, differences, _ = scored_dialogues(ctx)
    rows = (*dialogue_result_rows(table), *dialogue_comparison_result_rows(differences))
    return rows, f"python -m flows run dialogue --profile {ctx.params.profile}{overrides(ctx)}"


def overrides(ctx: StageContext) -> str:
    """Return the ` -S KEY=VALUE` that lead from the profile to these params, execution choices left out."""
    with_options = ctx.params.model_dump(mode="json", exclude=_EXECUTION)
    profile = load_params(ctx.root, profile=ctx.params.profile).params.model_dump(mode="json", exclude=_EXECUTION)
    return "".join(f" -S {shlex.quote(f'{key}={value}')}" for key, value in _changed(with_options, profile))


def _changed(now: Mapping[str, Any], before: Mapping[str, Any], *, place: str = "") -> Iterator[tuple[str, str]]:
    for key, value in now.items():
        if isinstance(value, dict) and isinstance(before.get(key), dict):
            yield from _changed(value, before[key], place=f"{place}{key}.")
        elif value != before.get(key):
            yield f"{place}{key}", value if isinstance(value, str) else json.dumps(value)


def documents(root: Path) -> list[Path]:
    """Return the documents that may hold result tables."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def renew_tables(root: Path, *, write: bool) -> list[str]:
    """Render every result table again, or (without `write`) say which are stale."""
    from models.reporting.documents import check_documents, update_documents

    results = root / "docs" / "results"
    if write:
        return [f"renewed {path.relative_to(root)}" for path in update_documents(documents(root), results=results)]
    return [str(stale) for stale in check_documents(documents(root), results=results)]
