"""Drawing surface of all plots: one style, a palette that survives colour blindness, byte-identical files.

Figures are made with the object interface (no pyplot, no global state, no display). Text, lines and paper use four placeholder
colours that a page with a dark mode replaces by its own (`themed_svg`); data colours are mid-tones that read on light and dark.
"""

import io
import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

import matplotlib as mpl
import matplotlib.style
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from models.errors import ArtifactError

INK, MUTED, LINES, PAPER = "#1f2328", "#59636f", "#d0d7df", "#fefefe"
ACCENT, PLAIN, QUIET = "#d55e00", "#3f7fb5", "#8b949e"

# Okabe and Ito's colours, ordered so that the first ones differ most; yellow is left out (no contrast on white).
PALETTE = ("#3f7fb5", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8b949e", "#7b5ea7")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (3, 1, 1, 1, 1, 1)), (0, (8, 3)))

DPI = 100
_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": LINES,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINES,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "auto",
    "svg.hashsalt": "fusedial",
    "svg.fonttype": "none",
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
}

P = ParamSpec("P")
R = TypeVar("R")


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Run `draw` in this module's style, whatever a user's matplotlibrc says."""

    @wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        with matplotlib.style.context(["default", _STYLE]):
            return draw(*args, **kwargs)

    return inside


def new_figure(*, width: float = 900, height: float = 500) -> Figure:
    """Return an empty figure of `width` × `height` pixels."""
    layout = ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.08, hspace=0.04, wspace=0.02)
    figure = Figure(figsize=(width / DPI, height / DPI), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def quiet_axes(axes: Axes, *, grid: Literal["x", "y"] | None) -> None:
    """Leave only the grid lines of one axis (None: of neither) and no frame."""
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.grid(False)
    if grid:
        axes.grid(True, axis=grid)


def text_on(colour: str) -> str:
    """Return black or white, whichever reads better on `colour` (relative luminance of WCAG)."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in mpl.colors.to_rgb(colour))
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "#000000" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "#ffffff"


@styled
def png_bytes(figure: Figure) -> bytes:
    """Return the figure as PNG; equal figures give equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


@styled
def svg_text(figure: Figure) -> str:
    """Return the figure as SVG with real text; equal figures give equal text."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    return buffer.getvalue()


def themed_svg(figure: Figure, *, name: str, description: str) -> Markup:
    """Return an `<svg>` element for an HTML page: ids prefixed by `name`, colours of text and lines as CSS variables.

    The page defines `--ink`, `--muted`, `--lines` and `--page`; `description` is what a screen reader says. Pages take it as it
    is: matplotlib escapes the texts in it.
    """
    body = svg_text(figure)
    body = body[body.index("<svg") :]
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'href="#', f'href="#{name}-', body).replace("url(#", f"url(#{name}-")
    for colour, variable in ((INK, "--ink"), (MUTED, "--muted"), (LINES, "--lines"), (PAPER, "--page")):
        body = body.replace(colour, f"var({variable})")
    # Inside HTML neither namespaces nor a fixed size are needed, and the page's own font reads better.
    body = re.sub(r' xmlns(:\w+)?="[^"]*"', "", body).replace("xlink:href", "href")
    body = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'(<svg[^>]*?) width="[^"]*"', rf'\1 role="img" aria-label="{_attribute(description)}"', body, count=1)
    return Markup(body.replace("'DejaVu Sans'", "inherit").strip())


def save_figure(figure: Figure, path: Path) -> Path:
    """Write PNG or SVG by the suffix of `path`; returns it.

    Raises:
        ArtifactError: Another suffix.
    """
    if path.suffix not in (".png", ".svg"):
        raise ArtifactError(f"`{path}` must end in .png or .svg. Choose one of the two.")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png_bytes(figure) if path.suffix == ".png" else svg_text(figure).encode())
    return path


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
