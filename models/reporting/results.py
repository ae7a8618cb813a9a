"""Measured results as files under `docs/results/`, the only origin of figures in documents."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.errors import ArtifactError, DataError, Problem
from models.evaluation.fusion.scores import ComparisonRow, TableRow
from models.files import write_atomic
from models.reporting.formatting import difference_unit, metric_unit, shown

Scalar = str | int | float | bool | None

_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_FIELDS = ("name", "value", "unit", "low", "high", "n")


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One measured figure.

    Attributes:
        name: The measured quantity or its subject.
        value: The figure.
        unit: Its unit; empty if it has none.
        low: Lower end of its interval, if it has one.
        high: Upper end.
        num: How many examples, repetitions or the like it rests on.
        more: Further columns (family, metric, device, …); they appear in tables after the name.
    """

    name: str
    value: float
    unit: str
    low: float | None = None
    high: float | None = None
    num: int | None = None
    more: Mapping[str, Scalar] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the row with its further columns next to the fixed ones."""
        fixed = dict(zip(_FIELDS, (self.name, self.value, self.unit, self.low, self.high, self.num), strict=True))
        return fixed | dict(self.more)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "ResultRow":
        more = {key: value for key, value in row.items() if key not in _FIELDS}
        return cls(row["name"], row["value"], row["unit"], row["low"], row["high"], row["n"], more)


@dataclass(frozen=True, slots=True)
class Result:
    """Figures of one command at one commit.

    Attributes:
        name: File name without suffix: lower case, digits, hyphens.
        command: Command that reproduces them.
        commit: Commit of the code.
        date: ISO date of the measurement.
        rows: The figures.
        note: Note on all of them, shown below each of their tables; may be empty.
    """

    name: str
    command: str
    commit: str
    date: str
    rows: tuple[ResultRow, ...]
    note: str = ""


def short_commit(commit: str) -> str:
    """Return the first ten characters of a commit; the `+` of a tree with changes of its own stays behind them."""
    return commit.rstrip("+")[:10] + ("+" if commit.endswith("+") else "")


def write_result(folder: Path, result: Result) -> Path:
    """Write `folder/<name>.json`, one row a line and in a fixed order for readable diffs; returns the path.

    Raises:
        DataError: The name is not a valid file name, there are no rows, or a figure is not finite.
    """
    problems = list(_problems(result))
    if problems:
        raise DataError(f"The result `{result.name}` cannot be written", problems)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result.name}.json"
    head = {"name": result.name, "command": result.command, "commit": result.commit, "date": result.date}
    head |= {"note": result.note} if result.note else {}
    lines = [f' "{key}": {_line(value)},' for key, value in head.items()]
    rows = ",\n".join(f"  {_line(row.to_json())}" for row in result.rows)
    write_atomic(path, "\n".join(["{", *lines, ' "rows": [', rows, " ]", "}"]) + "\n")
    return path


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def read_result(path: Path) -> Result:
    """Read what `write_result` wrote.

    Raises:
        ArtifactError: The file is missing or not such a result; names it.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        rows = tuple(ResultRow.from_json(row) for row in raw["rows"])
        return Result(raw["name"], raw["command"], raw["commit"], raw["date"], rows, raw.get("note", ""))
    except FileNotFoundError as err:
        raise ArtifactError(f"The result file `{path}` must exist, but does not. Run the command that measures it.") from err
    except (KeyError, TypeError, ValueError) as err:
        raise ArtifactError(f"`{path}` is not a result file ({err!r}). Run the command that measures it again.") from err


def table_result_rows(rows: Iterable[TableRow]) -> tuple[ResultRow, ...]:
    """Turn the results table into result rows, accuracy in percent."""
    return tuple(
        ResultRow(
            name=row.system.label,
            value=shown(row.metric, row.value),
            unit=metric_unit(row.metric),
            low=shown(row.metric, row.low),
            high=shown(row.metric, row.high),
            num=row.num,
            more={
                "kind": row.system.kind,
                "target": row.system.target,
                "family": row.family,
                "metric": row.metric,
                "left_out": row.left_out,
            },
        )
        for row in rows
    )


def comparison_result_rows(rows: Iterable[ComparisonRow]) -> tuple[ResultRow, ...]:
    """Turn paired differences into result rows, accuracy in percentage points."""
    return tuple(
        ResultRow(
            name=f"{row.a.label} − {row.b.label}",
            value=shown(row.metric, row.value),
            unit=difference_unit(row.metric),
            low=shown(row.metric, row.low),
            high=shown(row.metric, row.high),
            num=row.num,
            more={"family": row.family, "metric": row.metric, "p": row.p, "verdict": row.verdict, "note": row.note},
        )
        for row in rows
    )


def _problems(result: Result) -> Iterable[Problem]:
    if not _NAME.fullmatch(result.name):
        yield Problem("`name`", "must be lower-case letters, digits and hyphens", repr(result.name))
    if not result.rows:
        yield Problem("`rows`", "must hold at least one figure")
    for i, row in enumerate(result.rows):
        for key, value in (("value", row.value), ("low", row.low), ("high", row.high)):
            if value is not None and not math.isfinite(value):
                yield Problem(f"`rows[{i}].{key}` ({row.name})", "must be finite", str(value))
        clash = sorted(set(row.more) & set(_FIELDS))
        if clash:
            yield Problem(f"`rows[{i}]` ({row.name})", "must not repeat fixed columns", ", ".join(clash))
