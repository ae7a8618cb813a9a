"""docs/results/<name>.json from a finished profile, and the tables and plots in README and docs that show them."""

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.context import StageContext, git_commit
from flows.params.file import load_params
from flows.stages import Half
from flows.summary import agreement_rows, scored_benchmarks, scored_rows

if TYPE_CHECKING:
    from models.reporting.results import ResultRow

_EXECUTION = {"runtime", "tracking", "planning"}


def write_results(ctx: StageContext, name: str) -> Path:
    """Write the figures of a finished profile: those of the dialogue half where the name begins with `dialogue-`.

    Raises:
        ArtifactError: The profile is not finished.
    """
    from models.reporting.results import Result, write_result

    half: Half = "dialogue" if name.startswith("dialogue-") else "fusion"
    command = f"python -m flows run {half} --profile {ctx.params.profile}{overrides(ctx)}"
    today = datetime.now(UTC).date().isoformat()
    return write_result(ctx.root / "docs" / "results", Result(name, command, git_commit(ctx.root), today, rows_of(ctx, half)))


def annotate(root: Path, name: str, note: str) -> Path:
    """Put a note under the tables of figures that stand, such as what has changed since; measuring them again takes it away.

    Raises:
        ArtifactError: There are no such figures.
    """
    from models.reporting.results import read_result, write_result

    folder = root / "docs" / "results"
    return write_result(folder, replace(read_result(folder / f"{name}.json"), note=note))


def rows_of(ctx: StageContext, half: Half) -> "tuple[ResultRow, ...]":
    """Return all figures of a finished half: systems, paired differences, agreement of the modes.

    Raises:
        ArtifactError: The half is not finished.
    """
    return (_dialogue if half == "dialogue" else _fusion)(ctx)


def _fusion(ctx: StageContext) -> "tuple[ResultRow, ...]":
    from models.reporting.fusion.benchmarks import benchmark_result_rows
    from models.reporting.results import comparison_result_rows, table_result_rows

    table, differences = scored_rows(ctx)
    standard = benchmark_result_rows(*scored_benchmarks(ctx))
    return (*table_result_rows(table), *comparison_result_rows(differences), *standard, *agreement_rows(ctx))


def _dialogue(ctx: StageContext) -> "tuple[ResultRow, ...]":
    from flows.report_dialogue import scored_dialogues
    from models.reporting.dialogue.data import dialogue_comparison_result_rows, dialogue_result_rows

    table, differences, _ = scored_dialogues(ctx)
    return (*dialogue_result_rows(table), *dialogue_comparison_result_rows(differences))


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
    return [root / "README.md", *sorted((root / "docs").glob("*.md")), *sorted((root / "docs" / "results").glob("*.md"))]


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot of measured figures, `docs/images/<name>.svg`: the rows of a result with these values in their columns.

    Attributes:
        name: File name without suffix.
        result: Name of the result.
        title: Heading.
        where: Column → wanted values, separated by `|`.
        section: Column whose values become headings.
    """

    name: str
    result: str
    title: str
    where: Mapping[str, str]
    section: str = ""

    def render(self, results: Path) -> str:
        """Return the SVG.

        Raises:
            ArtifactError: The result file is missing or broken.
            DataError: It has no such rows.
        """
        from models.reporting.documents import matching_rows
        from models.reporting.interval_plot import interval_plot
        from models.reporting.results import read_result

        rows = matching_rows(read_result(results / f"{self.result}.json"), self.where)
        return interval_plot(self.title, rows, group="kind", section=self.section)


PLOTS = (
    Plot(
        "dialogue-real-mwoz",
        "dialogue-real-mwoz",
        "MultiWOZ 2.1: turns with all gold values among seven entities",
        {"metric": "recall_value@7", "unit": "%", "domain": "all", "kind": "variant|warm_start|floor|unseen"},
    ),
)


def plots(root: Path) -> "Iterator[Plot]":
    """Yield the plots of the project: those above, and one for each ablation that has figures."""
    from models.reporting.results import read_result

    yield from PLOTS
    for file in sorted((root / "docs" / "results").glob("ablation-*.json")):
        rows = read_result(file).rows
        metric = "accuracy" if any(row.more.get("metric") == "accuracy" for row in rows) else "bits_per_byte"
        drawn = {"metric": metric, "kind": "method|untrained|source"}
        shown = {"accuracy": "right answers", "bits_per_byte": "bits per byte of the ground truth"}[metric]
        title = (
            f"{file.stem.removeprefix('ablation-').replace('-', ' ').capitalize()}: {shown}, mean and 95 % interval over seeds"
        )
        yield Plot(file.stem, file.stem, title, drawn, section="regime")


def renew_tables(root: Path, *, write: bool) -> list[str]:
    """Render every result table and plot again, or (without `write`) say which are stale."""
    from models.files import write_atomic
    from models.reporting.documents import check_documents, update_documents

    results, lines = root / "docs" / "results", []
    for plot in plots(root):
        path, now = root / "docs" / "images" / f"{plot.name}.svg", plot.render(results)
        if not path.is_file() or path.read_text(encoding="utf-8") != now:
            lines.append(
                f"renewed {path.relative_to(root)}" if write else f"{path.relative_to(root)} differs from its result file."
            )
            if write:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(path, now)
    if write:
        return lines + [f"renewed {path.relative_to(root)}" for path in update_documents(documents(root), results=results)]
    return lines + [str(stale) for stale in check_documents(documents(root), results=results)]
