"""Writing the result pages and their plots. Not cached: it is made in seconds and carries its date."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.reporting.dialogue_report_data import DialogueReportData
    from models.reporting.report_data import ReportData


def report_page(data: "ReportData", out: Path) -> Path:
    """Write `index.html` and one PNG per plot into `out`; returns the page."""
    from models.evaluation.comparison import headline_metric
    from models.reporting.canvas import save_figure
    from models.reporting.plots import plot_comparison, plot_coverage, plot_losses
    from models.reporting.report_html import write_report
    from models.reporting.win_plots import plot_agreement, plot_win_table

    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    metrics = list(dict.fromkeys(row.metric for row in data.table))
    for metric in dict.fromkeys([headline_metric(metrics), "bits_per_byte"]):
        save_figure(plot_comparison(data.table, metric=metric), out / f"scores_{metric.replace('/', '_')}.png")
    save_figure(plot_win_table(data.wins), out / "wins.png")
    save_figure(plot_agreement(data.agreement), out / "agreement.png")
    save_figure(plot_losses(data.histories), out / "losses.png")
    save_figure(plot_coverage(data.coverage), out / "coverage.png")
    return write_report(data, out / "index.html")


def dialogue_page(data: "DialogueReportData", out: Path) -> Path:
    """Write `index.html` and one PNG per plot into `out`; returns the page."""
    from models.reporting.canvas import save_figure
    from models.reporting.dialogue_report import dialogue_figures, write_dialogue_report

    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for name, figure in dialogue_figures(data).items():
        save_figure(figure, out / f"{name}.png")
    return write_dialogue_report(data, out / "index.html")
