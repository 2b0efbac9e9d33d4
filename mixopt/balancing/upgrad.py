"""UPGrad: the mean of the gradients, each moved as little as needed so that it goes against none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import nnls

from mixopt.runtime.region import Region

from .nearest import factor, lengths
from .rule import Direction, GramRule, products


@dataclass(frozen=True)
class UPGrad(GramRule):
    r"""mean over i of the projection of g_i onto the cone of directions d with <d, g_j> >= 0 for all j.

    The projection is g_i + sum_j u_j g_j with u >= 0 of least norm: k problems of non-negative least squares. Not in the survey.

    Source: Quinton and Rey 2024, arXiv 2406.16232, Eq. 7.

    >>> UPGrad().direction([[1.0, -1.0], [-1.0, 2.0]]).coefficients.round(6)
    array([1.  , 0.75])
    """

    def direction(self, gram: Any, *, region: Region | None = None, memory: Any = None) -> Direction:
        return Direction(self.projected(gram).mean(axis=0))

    def projected(self, gram: Any) -> np.ndarray:
        """The coefficients [k, k] of each gradient's projection, one a row."""
        inner = products(gram)
        sizes = lengths(inner)
        used = sizes > 0
        unit = factor(inner)[:, used] / sizes[used]
        rows = np.eye(len(inner))
        for i, column in zip(np.flatnonzero(used), unit.T, strict=True):
            added, _ = nnls(unit, -column, maxiter=100 * len(sizes))
            rows[i, used] += added * sizes[i] / sizes[used]
        return rows
