"""The report: one HTML page without scripts or outside references, for light and dark screens and for paper."""

from pathlib import Path
from typing import Any

from markupsafe import Markup

from models.errors import DataError, Problem
from models.reporting.canvas import themed_svg
from models.reporting.exposure_grids import exposure_grid, token_weight_grid
from models.reporting.formatting import difference_unit, format_interval, format_metric, metric_name
from models.reporting.pages import new_environment, template_digest, write_page
from models.reporting.plots import plot_coverage, plot_losses
from models.reporting.report_data import ReportData
from models.reporting.report_parts import headlines, metric_sections
from models.reporting.scorer_grids import scorer_grid, winner_sentence
from models.reporting.teach_grids import agreement_grid, agreement_sentence, coverage_grid, pair_grid, win_grid
from models.reporting.win_plots import plot_agreement, plot_win_table

__all__ = ["render_report", "template_digest", "write_report"]

_TEMPLATE = "report.html.j2"


def render_report(data: ReportData) -> str:
    """Return the whole page as HTML.

    Raises:
        DataError: The results table is empty.
    """
    if not data.table:
        raise DataError("There is nothing to report", [Problem("`table`", "must hold at least one row")])
    environment = new_environment()
    environment.filters |= {"metric_name": metric_name, "difference_unit": difference_unit}
    environment.globals |= {"format_metric": format_metric, "format_interval": format_interval}
    page = environment.get_template(_TEMPLATE).render(
        data=data,
        headlines=headlines(data.table, data.comparisons),
        metrics=metric_sections(data.table, data.comparisons),
        level=f"{100 * data.confidence:g} %",
        exposures=exposure_grid(data.trainings) if data.trainings else None,
        token_weights=token_weight_grid(data.trainings),
        **_teach_parts(data),
    )
    return page + "\n"


def write_report(data: ReportData, path: Path) -> Path:
    """Render the page into `path`; the file appears whole or not at all. Returns the path."""
    return write_page(path, render_report(data))


def _teach_parts(data: ReportData) -> dict[str, Any]:
    """Return plots and grids of the parts that may be absent, None where they are."""
    parts: dict[str, Any] = dict.fromkeys(("wins", "agreement", "losses", "coverage"))
    told = {"winners": winner_sentence(data.winners) if data.winners else "", "warnings": data.scorers.get("warnings", ())}
    scorers = scorer_grid(data.scorers) if data.scorers.get("scorers") else None
    if data.wins:
        plot = themed_svg(plot_win_table(data.wins), name="wins", description="shares of wins per mode, family and source")
        parts["wins"] = {"plot": plot, "grid": win_grid(data.wins)}
    if data.agreement and data.agreement["overall"]["num_examples"]:
        plot = themed_svg(plot_agreement(data.agreement), name="agreement", description="winners of the two modes, and win rates")
        grids = [agreement_grid(data.agreement), pair_grid(data.agreement)]
        parts["agreement"] = {"plot": plot, "grids": grids, "sentence": agreement_sentence(data.agreement)}
    if data.histories:
        parts["losses"] = {"plot": themed_svg(plot_losses(data.histories), name="losses", description="training curves")}
    if data.coverage:
        plot = themed_svg(plot_coverage(data.coverage), name="coverage", description="share of target positions with a teacher")
        parts["coverage"] = {"plot": plot, "grid": coverage_grid(data.coverage)}
    for part in parts.values():
        if part:
            # Our own SVG; the texts in it are escaped by matplotlib.
            part["plot"] = Markup(part["plot"])
    return parts | told | {"scorers": scorers}
