"""Tables of measured figures between markers in documents, written and checked; HTML pages written atomically."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

from jinja2 import Environment, FunctionLoader, StrictUndefined

from models.errors import DataError, Problem
from models.files import write_atomic
from models.reporting.formatting import decimals_for, fixed
from models.reporting.grids import Cell, Grid, to_markdown
from models.reporting.results import Result, ResultRow, Scalar, read_result, short_commit

_OPEN = re.compile(r'<!-- results:(?P<name>[a-z0-9-]+)(?P<options>(?: [\w/]+=(?:"[^"\n]+"|[^\s">]+))*) -->')
_OPTION = re.compile(r'([\w/]+)=(?:"([^"]+)"|(\S+))')
_CLOSE = "<!-- /results -->"


@dataclass(frozen=True, slots=True)
class Stale:
    """A document block that differs from its result file."""

    document: Path
    block: str

    def __str__(self) -> str:
        return f"{self.document}: the block `{self.block}` differs from its result file. Render the documents again."


def render_result(result: Result, *, where: Mapping[str, str] | None = None, columns: Iterable[str] | None = None) -> str:
    """Return the Markdown table of a result, with its command, commit, date and note underneath.

    Rows that tell when they were `measured` (date and commit) count by that: oldest and newest of those shown.

    Args:
        result: The measured figures.
        where: Column → value (as text) that rows must have, or several, separated by `|`.
        columns: Columns after the name; None for those that differ between the rows.

    Raises:
        DataError: No row matches, or a column does not exist.
    """
    rows = matching_rows(result, where or {})
    known = list(dict.fromkeys(key for row in rows for key in row.more))
    chosen = (
        list(columns) if columns is not None else [key for key in known if len({_text(row.more.get(key)) for row in rows}) > 1]
    )
    unknown = [key for key in chosen if key not in known]
    if unknown:
        raise DataError(
            f"The result `{result.name}` cannot be shown", [Problem("`columns`", f"must be among {known}", str(unknown))]
        )
    lines = tuple((Cell(row.name), *(Cell(_text(row.more.get(key))) for key in chosen), *_figures(row)) for row in rows)
    header = ("", *chosen, "value", "n") if any(row.num is not None for row in rows) else ("", *chosen, "value")
    named = {key: value for key, value in (where or {}).items() if "|" not in value and key != "name"}
    shown_title = ", ".join(f"{key} {value}" for key, value in named.items()) or result.name
    grid = Grid(shown_title, header, tuple(line[: len(header)] for line in lines), num_text=1 + len(chosen))
    note = f" {result.note}" if result.note else ""
    return f"{to_markdown(grid)}\n\n`{result.command}`, {_measured(result, rows)}.{note}"


def matching_rows(result: Result, where: Mapping[str, str]) -> list[ResultRow]:
    """Return the rows that have one of the wanted values (separated by `|`) in each column, in the order of the file.

    Raises:
        DataError: A wanted value is in none of the rows that match the other columns.
    """
    wanted = {key: value.split("|") for key, value in where.items()}
    if not result.rows:
        raise DataError(f"The result `{result.name}` cannot be shown", [Problem("its rows", "must hold at least one figure")])
    rows = [row for row in result.rows if all(_text(_cell(row, key)) in values for key, values in wanted.items())]
    for key, values in wanted.items():
        absent = set(values) - {_text(_cell(row, key)) for row in rows}
        if absent:
            problem = Problem("its rows", f"must match {dict(where)}, but none does with `{key}`: {sorted(absent)}")
            raise DataError(f"The result `{result.name}` cannot be shown", [problem])
    return rows


def _measured(result: Result, rows: Iterable[ResultRow]) -> str:
    """Return commit and date of the rows, or those of the oldest and the newest."""
    stamps = dict.fromkeys(str(row.more.get("measured") or f"{result.date} {result.commit}") for row in rows)
    dated = [(date, short_commit(commit)) for date, _, commit in (stamp.partition(" ") for stamp in stamps)]
    dated.sort(key=lambda stamp: stamp[0])
    (first, oldest), (last, newest) = dated[0], dated[-1]
    if len(dated) == 1:
        return f"commit {oldest}, {first}"
    return f"commits {oldest} ({first}) to {newest} ({last})"


def render_document(text: str, *, results: Path, document: Path) -> str:
    """Return the document's text with every block rendered from `results/<name>.json`.

    Raises:
        DataError: A block is not closed, or its rows or columns do not exist.
        ArtifactError: Its result file is missing or broken.
    """
    parts: list[str] = []
    at = 0
    while opened := _OPEN.search(text, at):
        closed = text.find(_CLOSE, opened.end())
        following = _OPEN.search(text, opened.end())
        if closed < 0 or (following and following.start() < closed):
            line = text.count("\n", 0, opened.start()) + 1
            problem = Problem(f"{document}:{line} `{opened.group()}`", f"must be closed by `{_CLOSE}`")
            raise DataError("A results block is open", [problem])
        parts += [text[at : opened.end()], "\n", _render_block(opened, results), "\n", _CLOSE]
        at = closed + len(_CLOSE)
    return "".join(parts) + text[at:]


def update_documents(documents: Iterable[Path], *, results: Path) -> list[Path]:
    """Render the blocks of each document; returns those that changed."""
    changed = []
    for document in documents:
        old = document.read_text(encoding="utf-8")
        new = render_document(old, results=results, document=document)
        if new != old:
            write_atomic(document, new)
            changed.append(document)
    return changed


def check_documents(documents: Iterable[Path], *, results: Path) -> list[Stale]:
    """Return the document blocks that differ from their result files; changes nothing."""
    stale = []
    for document in documents:
        old = document.read_text(encoding="utf-8")
        new = render_document(old, results=results, document=document)
        stale += [Stale(document, name) for (name, was), (_, now) in zip(_blocks(old), _blocks(new), strict=True) if was != now]
    return stale


def _blocks(text: str) -> list[tuple[str, str]]:
    return [(m.group(), text[m.end() : text.find(_CLOSE, m.end())]) for m in _OPEN.finditer(text)]


def _render_block(opened: re.Match[str], results: Path) -> str:
    options = {key: quoted or plain for key, quoted, plain in _OPTION.findall(opened["options"])}
    columns = options.pop("columns", None)
    result = read_result(results / f"{opened['name']}.json")
    return render_result(result, where=options, columns=columns.split(",") if columns else None)


def _cell(row: ResultRow, key: str) -> Scalar:
    return row.name if key == "name" else row.unit if key == "unit" else row.more.get(key)


def _text(value: Scalar) -> str:
    if isinstance(value, bool) or not isinstance(value, float):
        return "" if value is None else str(value)
    return fixed(value, decimals_for(value))


def _figures(row: ResultRow) -> tuple[Cell, Cell]:
    seen = [abs(value) for value in (row.value, row.low, row.high) if value is not None]
    decimals = 0 if all(float(value).is_integer() for value in seen) else decimals_for(max(seen))
    bounds = "" if row.low is None or row.high is None else f"[{fixed(row.low, decimals)}, {fixed(row.high, decimals)}]"
    text = f"{fixed(row.value, decimals)} {row.unit}".strip()
    return Cell(text, bounds), Cell("" if row.num is None else f"{row.num:,}")


_PACKAGE = "models.reporting"


class PageData(Protocol):
    """What every result page shows.

    Attributes:
        table: Scores of all systems.
        confidence: Level of the intervals, 0 to 1.
    """

    @property
    def table(self) -> Sequence[Any]: ...
    @property
    def confidence(self) -> float: ...


def render_page(
    template: str, data: PageData, *, functions: Mapping[str, Callable[..., object]], parts: Callable[[], Mapping[str, object]]
) -> str:
    """Render a template of this package, strictly and escaped: it gets `data`, `level` (of the intervals), and the parts.

    Args:
        template: File name.
        data: The figures.
        functions: What the template uses, as a filter or as a function.
        parts: Computes what is shown besides the figures.

    Raises:
        DataError: The results table is empty.
    """
    if not data.table:
        raise DataError("There is nothing to report", [Problem("`table`", "must hold at least one row")])
    loader = FunctionLoader(_read)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"short_commit": short_commit, **functions}
    environment.globals |= functions
    level = f"{100 * data.confidence:g} %"
    return environment.get_template(template).render(data=data, level=level, **parts()) + "\n"


def write_page(path: Path, html: str) -> Path:
    """Write a page; the file appears whole or not at all. Returns the path."""
    write_atomic(path, html)
    return path


def _read(name: str) -> str:
    return files(_PACKAGE).joinpath(name).read_text(encoding="utf-8")
