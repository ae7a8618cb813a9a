"""Figures over several seeds: means and paired differences with t-intervals.

One run differs from the next by several points on a small world, so a claim about a method rests on seeds: each varies the world,
the training, or both. A difference is taken within each seed, so that what the seeds differ in cancels.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from models.reporting.results import ResultRow, Scalar

_LEVEL = 0.95


def over_seeds(
    name: str, values: Sequence[float], unit: str, more: Mapping[str, Scalar], *, difference: bool = False
) -> ResultRow:
    """Return mean and 95 % t-interval over seeds; a difference also gets the two-sided p of Student's t-test, uncorrected.

    One seed has neither interval nor p.

    Args:
        name: What was measured.
        values: One value for each seed, at least one.
        unit: Its unit.
        more: Further columns; `by_seed` is added, for differences of several seeds also `p`.
        difference: Whether the values are differences.
    """
    mean = float(np.mean(values))
    decimals = 1 if unit in ("%", "points") else 3
    shown: dict[str, Scalar] = {**more, "by_seed": ", ".join(f"{value:.{decimals}f}" for value in values)}
    if len(values) < 2:
        return ResultRow(name, mean, unit, num=len(values), more=shown)
    error = float(stats.sem(values))
    half_width = float(stats.t.ppf(0.5 + _LEVEL / 2, len(values) - 1)) * error
    if difference:
        shown["p"] = float(stats.ttest_1samp(values, 0.0).pvalue) if error else float(mean == 0)
    return ResultRow(name, mean, unit, low=mean - half_width, high=mean + half_width, num=len(values), more=shown)
