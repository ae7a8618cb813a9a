"""docs/results/<name>.json from a finished profile, and the tables in README and docs that show them."""

from datetime import UTC, datetime
from pathlib import Path

from flows.context import StageContext, git_commit
from flows.summary import agreement_rows, scored_rows


def write_results(ctx: StageContext, name: str) -> Path:
    """Write the figures of a finished profile.

    Raises:
        ArtifactError: The profile is not finished.
    """
    from models.reporting.results import Result, comparison_result_rows, table_result_rows, write_result

    table, differences = scored_rows(ctx)
    rows = (*table_result_rows(table), *comparison_result_rows(differences), *agreement_rows(ctx))
    methods = ",".join(ctx.params.methods)
    command = f"python -m flows run pipeline --profile {ctx.params.profile} -S 'methods=[{methods}]'"
    today = datetime.now(UTC).date().isoformat()
    return write_result(ctx.root / "docs" / "results", Result(name, command, git_commit(ctx.root), today, rows))


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
