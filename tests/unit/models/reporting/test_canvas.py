"""Files of figures: equal bytes, own style, themed SVG."""

import re
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from models.errors import ArtifactError
from models.reporting.canvas import INK, PALETTE, new_figure, png_bytes, save_figure, styled, svg_text, text_on, themed_svg


@styled
def _draw() -> Figure:
    figure = new_figure(width=300, height=200)
    axes = figure.subplots()
    axes.plot([1, 2, 3], [1, 4, 9], label="a < b & c")
    axes.set_title("title", color=INK)
    axes.legend()
    return figure


def test_equal_figures_give_equal_bytes() -> None:
    assert png_bytes(_draw()) == png_bytes(_draw())
    assert svg_text(_draw()) == svg_text(_draw())


def test_a_users_style_does_not_get_in() -> None:
    plain = png_bytes(_draw())
    with mpl.rc_context({"font.size": 30, "lines.linewidth": 9, "savefig.dpi": 33, "svg.fonttype": "path"}):
        assert png_bytes(_draw()) == plain
    assert mpl.rcParams["svg.fonttype"] == mpl.rcParamsDefault["svg.fonttype"]


def test_the_size_is_in_pixels(tmp_path: Path) -> None:
    data = save_figure(_draw(), tmp_path / "plots" / "a.png").read_bytes()
    assert (int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")) == (300, 200)
    assert b"matplotlib" not in data.lower()
    assert save_figure(_draw(), tmp_path / "a.svg").read_text(encoding="utf-8").startswith("<?xml")


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"must end in \.png or \.svg"):
        save_figure(_draw(), tmp_path / "a.pdf")


def test_a_themed_svg_follows_the_page_and_points_nowhere() -> None:
    svg = themed_svg(_draw(), name="demo", description='a "curve" < b')
    assert svg.startswith("<svg") and svg.endswith("</svg>")
    assert "var(--ink)" in svg and INK not in svg
    assert "http" not in svg and "xlink" not in svg and "<metadata" not in svg
    assert 'aria-label="a &quot;curve&quot; &lt; b"' in svg
    assert "a &lt; b &amp; c" in svg
    ids = re.findall(r'\bid="([^"]+)"', svg)
    assert ids and all(i.startswith("demo-") for i in ids)
    for reference in re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg):
        assert (reference[0] or reference[1]) in ids


def test_text_reads_on_every_colour() -> None:
    assert text_on("#ffffff") == "#000000"
    assert text_on("#1f5f99") == "#ffffff"
    assert {text_on(colour) for colour in PALETTE} <= {"#000000", "#ffffff"}
