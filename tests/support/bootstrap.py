"""One statistic at a time, where the library computes columns of them."""

import numpy as np
import numpy.typing as npt

from models.evaluation.bootstrap import Difference, Interval, Resampling, ratio_differences, ratio_interval


def mean_interval(values: npt.ArrayLike, *, resampling: Resampling | None = None) -> Interval:
    """A mean is a ratio over ones."""
    return ratio_interval(values, np.ones(len(np.atleast_1d(values))), resampling=resampling)


def paired_difference(
    a: npt.ArrayLike, b: npt.ArrayLike, *, sizes: npt.ArrayLike | None = None, resampling: Resampling | None = None
) -> Difference:
    """One column of `ratio_differences`."""
    gaps = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    shared = np.ones(len(gaps)) if sizes is None else np.asarray(sizes, dtype=np.float64)
    return ratio_differences(gaps[:, None], shared, resampling=resampling)[0]
