"""The dialogue half's figures as rows of result files (`docs/results/`)."""

from collections.abc import Iterable

from models.evaluation.dialogue_scores import DialogueComparison, DialogueTableRow
from models.reporting.dialogue_formatting import is_percent, shown
from models.reporting.formatting import MINUS
from models.reporting.results import ResultRow


def dialogue_result_rows(rows: Iterable[DialogueTableRow]) -> tuple[ResultRow, ...]:
    """Turn the results table into result rows, shares in percent."""
    return tuple(
        ResultRow(
            name=row.system.label,
            value=shown(row.metric, row.value),
            unit="%" if is_percent(row.metric) else "",
            low=shown(row.metric, row.low),
            high=shown(row.metric, row.high),
            num=row.num,
            more={"kind": row.system.kind, "domain": row.domain, "metric": row.metric, "note": row.note},
        )
        for row in rows
    )


def dialogue_comparison_result_rows(rows: Iterable[DialogueComparison]) -> tuple[ResultRow, ...]:
    """Turn paired differences into result rows, shares in percentage points."""
    return tuple(
        ResultRow(
            name=f"{row.a.label} {MINUS} {row.b.label}",
            value=shown(row.metric, row.value),
            unit="points" if is_percent(row.metric) else "",
            low=shown(row.metric, row.low),
            high=shown(row.metric, row.high),
            num=row.num,
            more={"claim": row.claim, "domain": row.domain, "metric": row.metric, "p": row.p, "verdict": row.verdict},
        )
        for row in rows
    )
