"""Agreement of two orders."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman's rank correlation of two vectors [R], ties ranked by their mean; NaN where one is constant."""
    from scipy.stats import rankdata

    x, y = (rankdata(v) - (len(np.asarray(v)) + 1) / 2 for v in (a, b))
    scale = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / scale if scale else math.nan
