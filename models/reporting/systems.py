"""How systems are named and which rows are shown, the same way in tables, plots and pages."""

from collections.abc import Iterable, Sequence

from models.evaluation.scores import System, TableRow

KIND_NAMES = {"source": "source", "untrained": "source and target", "method": "fused"}


def system_names(systems: Iterable[System]) -> dict[System, str]:
    """Return short names: a method is its name alone where there is one target, else `profuser → scholar`."""
    known = list(dict.fromkeys(systems))
    one_target = len({s.target for s in known if s.kind == "method"}) < 2
    return {s: s.name if s.kind == "method" and one_target else s.label for s in known}


def without_twins(rows: Sequence[TableRow]) -> list[TableRow]:
    """Drop a source that also stands in the rows as the untrained target, with the same figures: it is the same model."""
    targets = {(row.system.name, row.family, row.metric): row.value for row in rows if row.system.kind == "untrained"}
    return [
        row for row in rows if row.system.kind != "source" or targets.get((row.system.name, row.family, row.metric)) != row.value
    ]
