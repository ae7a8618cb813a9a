"""How figures and systems are written: one place, so that terminal, Markdown, HTML and plots agree."""

from collections.abc import Iterable, Sequence

from models.evaluation.fusion.scores import ACCURACY, BITS_PER_BYTE, REWARD_PREFIX, System, TableRow, higher_is_better

MINUS = "−"


def metric_name(metric: str) -> str:
    """Return a metric's name in running text."""
    if metric == BITS_PER_BYTE:
        return "bits per byte of the ground truth"
    return metric if metric == ACCURACY else f"reward by {metric.removeprefix(REWARD_PREFIX)}"


def metric_title(metric: str) -> str:
    """Return the heading of a metric, its unit and direction included."""
    unit = ", %" if metric == ACCURACY else ""
    return f"{metric_name(metric)}{unit} ({'higher' if higher_is_better(metric) else 'lower'} is better)"


def metric_unit(metric: str) -> str:
    """Return the unit a metric is shown in; empty for the arbitrary scale of a reward."""
    return {ACCURACY: "%", BITS_PER_BYTE: "bits/byte"}.get(metric, "")


def difference_unit(metric: str) -> str:
    """Return the unit of a difference: percentages differ by points."""
    return "points" if metric == ACCURACY else metric_unit(metric)


def shown(metric: str, value: float) -> float:
    """Return `value` in the unit it is shown in: accuracy in percent."""
    return 100 * value if metric == ACCURACY else value


def format_metric(metric: str, value: float, *, signed: bool = False) -> str:
    """Write a figure with a true minus sign: percent with one decimal, bits per byte with three, rewards by size."""
    size = 0.0 if metric == BITS_PER_BYTE else abs(value)
    decimals = 1 if metric == ACCURACY or size >= 10 else 2 if size >= 1 else 3
    return fixed(shown(metric, value), decimals, signed=signed)


def format_interval(metric: str, low: float, high: float, *, signed: bool = False) -> str:
    """Write an interval: `[47.1, 59.4]`."""
    return f"[{format_metric(metric, low, signed=signed)}, {format_metric(metric, high, signed=signed)}]"


def format_p(p: float) -> str:
    """Write a p value: two digits, `< 0.001` below."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def format_share(share: float) -> str:
    """Write a share as percent without decimals: `45 %`."""
    return f"{100 * share:.0f} %"


def decimals_for(value: float) -> int:
    """Return how many decimals show three digits of `value` (none from 100 up), for figures of unknown scale."""
    size = abs(value)
    if size == 0 or size >= 100:
        return 0
    decimals = 0
    while size < 100 and decimals < 8:
        size *= 10
        decimals += 1
    return decimals


def fixed(value: float, decimals: int, *, signed: bool = False) -> str:
    """Write `value` with thousands separators and a true minus sign; a rounded zero has no sign."""
    text = f"{abs(value):,.{decimals}f}"
    if not any(c in "123456789" for c in text):
        return text
    return (MINUS if value < 0 else "+" if signed else "") + text


KIND_NAMES = {"source": "source", "untrained": "source and target", "method": "fused"}


def system_names(systems: Iterable[System]) -> dict[System, str]:
    """Return short names: a method is its name alone where there is one target, else `profuser → scholar`."""
    known = list(dict.fromkeys(systems))
    one_target = len({s.target for s in known if s.kind == "method"}) < 2
    return {s: s.name if s.kind == "method" and one_target else s.label for s in known}


def without_duplicate_target(rows: Sequence[TableRow]) -> list[TableRow]:
    """Drop a source that also stands in the rows as the untrained target, with the same figures: it is the same model."""
    targets = {(row.system.name, row.family, row.metric): row.value for row in rows if row.system.kind == "untrained"}
    return [
        row for row in rows if row.system.kind != "source" or targets.get((row.system.name, row.family, row.metric)) != row.value
    ]
