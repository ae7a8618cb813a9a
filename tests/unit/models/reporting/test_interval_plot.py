"""Plots for documents: every row is drawn, to scale, and the same figures give the same bytes."""

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from models.reporting.interval_plot import axis_ticks, interval_plot
from models.reporting.results import ResultRow

_ROWS = (
    ResultRow("sft → a & b", 80.0, "%", 70.0, 90.0, 5, {"kind": "method"}),
    ResultRow("warm start", 20.0, "%", more={"kind": "warm_start"}),
)


def test_every_row_is_drawn_to_scale() -> None:
    text = interval_plot("Title <1>", _ROWS, group="kind")
    root = ElementTree.fromstring(text)
    said = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"Title <1>", "sft → a & b", "80.0 %", "20.0 %", "method", "warm start"} <= set(said)
    centres = [float(at) for at in re.findall(r'circle cx="([\d.]+)" cy="(?:60|82)"', text)]
    ticks = axis_ticks(20.0, 90.0)
    scale = (centres[0] - centres[1]) / 60.0
    (low, high) = map(float, re.findall(r'd="M([\d.]+) 60H([\d.]+)"', text)[0])
    assert high - low == pytest.approx(20 * scale, abs=0.2)
    assert centres[1] == pytest.approx(230 + (20 - ticks[0]) * scale, abs=0.2)
    assert interval_plot("Title <1>", _ROWS, group="kind") == text


def test_sections_have_headings_of_their_own_lines() -> None:
    rows = [ResultRow(name, 10.0, "%", more={"kind": "method", "regime": regime}) for regime in ("few", "all") for name in "ab"]
    root = ElementTree.fromstring(interval_plot("Map", rows, group="kind", section="regime"))
    said = {node.text: float(node.get("y", 0)) for node in root.iter("{http://www.w3.org/2000/svg}text")}
    assert said["all"] - said["few"] == 3 * 22  # a heading and two rows
    assert float(root.get("height", 0)) == 50 + 6 * 22 + 34


@pytest.mark.parametrize(("low", "high"), [(20.0, 90.0), (-3.4, 0.2), (0.011, 0.013), (5.0, 5.0), (0.0, 0.0), (74.6, 98.4)])
def test_ticks_enclose_the_figures(low: float, high: float) -> None:
    ticks = axis_ticks(low, high)
    assert ticks[0] <= low + 1e-12 and ticks[-1] >= high - 1e-12
    assert 2 <= len(ticks) <= 11
    assert all(b > a for a, b in pairwise(ticks))
