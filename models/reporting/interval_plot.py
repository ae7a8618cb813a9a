"""Measured figures with their intervals as a small SVG for documents; the same figures give the same bytes."""

import math
from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from models.reporting.formatting import decimals_for, fixed
from models.reporting.results import ResultRow

_LABELS, _PLOT, _VALUES = 230, 340, 70  # widths in pixels
_TOP, _LINE, _BOTTOM = 50, 22, 34  # heights in pixels
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7f7f7f", "#e69f00")  # distinguishable with colour blindness


def interval_plot(title: str, rows: Sequence[ResultRow], *, group: str, section: str = "") -> str:
    """Return an SVG with a line for each row: its name, a dot at its value, a bar over its interval, the value as text.

    Args:
        title: Heading.
        rows: Figures of one unit, at least one.
        group: Column whose values share a colour; named in the key at the bottom.
        section: Column whose values stand as headings over the rows that have them; rows of one value follow each other.
    """
    ends = [end for row in rows for end in (row.low, row.value, row.high) if end is not None]
    ticks = axis_ticks(min(ends), max(ends))
    colours = {kind: _COLOURS[i % len(_COLOURS)] for i, kind in enumerate(dict.fromkeys(_group(row, group) for row in rows))}
    lines = list(_lines(rows, section))
    width, foot = _LABELS + _PLOT + _VALUES, _TOP + _LINE * len(lines)

    def x(value: float) -> str:
        return f"{_LABELS + _PLOT * (value - ticks[0]) / (ticks[-1] - ticks[0]):.1f}"

    size = f'width="{width}" height="{foot + _BOTTOM}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        f"<title>{escape(title)}</title>",
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="8" y="18" font-size="13" font-weight="bold">{escape(title)}</text>',
    ]
    for tick in ticks:
        parts.append(f'<path d="M{x(tick)} {_TOP - 8}V{foot}" stroke="{"#888" if tick == 0 else "#ddd"}"/>')
        parts.append(f'<text x="{x(tick)}" y="{_TOP - 12}" text-anchor="middle" fill="#555">{fixed(tick, _places(ticks))}</text>')
    for i, row in enumerate(lines):
        y = _TOP + _LINE * i + 10
        if isinstance(row, str):
            parts.append(f'<text x="8" y="{y + 4}" font-weight="bold">{escape(row)}</text>')
            continue
        colour = colours[_group(row, group)]
        parts.append(f'<text x="{_LABELS - 10}" y="{y + 4}" text-anchor="end">{escape(row.name)}</text>')
        if row.low is not None and row.high is not None:
            parts.append(f'<path d="M{x(row.low)} {y}H{x(row.high)}" stroke="{colour}" stroke-width="3"/>')
        parts.append(f'<circle cx="{x(row.value)}" cy="{y}" r="4.5" fill="{colour}"/>')
        shown = f"{fixed(row.value, decimals_for(row.value))} {row.unit}".strip()
        parts.append(f'<text x="{width - 6}" y="{y + 4}" text-anchor="end">{escape(shown)}</text>')
    at = 8
    for kind, colour in colours.items():
        parts.append(f'<circle cx="{at + 5}" cy="{foot + 18}" r="4.5" fill="{colour}"/>')
        parts.append(f'<text x="{at + 14}" y="{foot + 22}" fill="#555">{escape(kind)}</text>')
        at += 30 + 7 * len(kind)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _lines(rows: Sequence[ResultRow], section: str) -> Iterator[str | ResultRow]:
    """Yield the rows, each section's heading before its first."""
    before = ""
    for row in rows:
        heading = _group(row, section) if section else ""
        if heading != before:
            yield heading
        before = heading
        yield row


def axis_ticks(low: float, high: float) -> list[float]:
    """Return four to eleven round numbers in equal steps, the first at most `low`, the last at least `high`."""
    span = (high - low) or abs(high) or 1.0
    size = 10.0 ** math.floor(math.log10(span / 4))
    step = next(size * factor for factor in (1, 2, 5, 10) if span / (size * factor) <= 8)
    return [i * step for i in range(math.floor(low / step), max(math.ceil(high / step), math.floor(low / step) + 1) + 1)]


def _places(ticks: Sequence[float]) -> int:
    return max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))


def _group(row: ResultRow, column: str) -> str:
    return str(row.more.get(column) or "").replace("_", " ")
