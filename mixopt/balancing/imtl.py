"""IMTL: weights under which all domains' unit gradients have the same projection (G), or all scaled losses the same size (L)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixopt.errors import InputError
from mixopt.runtime.region import Region

from .nearest import lengths
from .rule import Direction, GramRule, LossRule, products


@dataclass(frozen=True)
class IMTLG(GramRule):
    r"""The weights with sum 1 under which <sum_j w_j g_j, g_i> / |g_i| is the same for all i; some may be negative.

    They are proportional to G^+ n, with the norms n of the gradients and the pseudo-inverse where gradients are linearly dependent.

    Source: Liu et al. 2021, Towards impartial multi-task learning, ICLR 2021, Eq. 6.

    >>> IMTLG().direction([[1.0, 0.0], [0.0, 4.0]]).coefficients.round(6)
    array([0.666667, 0.333333])
    """

    def direction(self, gram: Any, *, region: Region | None = None, memory: Any = None) -> Direction:
        """As for every rule.

        Raises:
            InputError: a gradient of 0, which has no direction; or gradients of which no weights have equal projections, as g and -g.
        """
        inner = products(gram)
        sizes = lengths(inner)
        if not sizes.min() > 0:
            zero = [int(i) for i in np.flatnonzero(sizes == 0)]
            raise InputError(
                f"the gradients at {zero} are 0, so they have no direction to project on; IMTL-G needs all of them; MGDA does not"
            )
        share = np.linalg.pinv(inner / np.outer(sizes, sizes), rcond=1e-12, hermitian=True) @ np.ones(len(sizes)) / sizes
        if abs(share.sum()) <= 1e-9 * np.abs(share).sum() or not np.abs(share).sum() > 0:
            raise InputError("no weights with sum 1 give these gradients equal projections: they cancel; take MGDA, which then gives 0")
        return Direction(share / share.sum())


@dataclass(frozen=True)
class IMTLL(LossRule):
    r"""min over scales s of sum_i exp(s_i) l_i - s_i beside the model: the direction is sum_i exp(s_i) grad l_i.

    The scales start at 0 and take a gradient step of ``rate`` after each of the model's. ``rate=None`` is the stationary scale at once,
    exp(s_i) = 1 / l_i, which descends sum_i log l_i.

    Source: Liu et al. 2021, ICLR 2021, section 3.2; code median-research-group/LibMTL.

    Raises:
        InputError: a rate that is no finite number > 0; losses <= 0, for which there is no stationary scale.
    """

    rate: float | None = 0.1
    watch: str | None = None

    def __post_init__(self) -> None:
        if self.rate is not None and not (isinstance(self.rate, (int, float)) and 0 < self.rate < math.inf):
            raise InputError(f"the rate is {self.rate!r}; it is a finite number > 0, or None for stationary scales")
        if self.watch is not None:
            raise InputError("IMTL-L scales the losses that the model descends; it watches no others")

    def begin(self, k: int) -> np.ndarray:
        return np.zeros(k)

    def direction(self, memory: np.ndarray, losses: np.ndarray, watched: np.ndarray) -> tuple[Direction, np.ndarray]:
        if losses.min() <= 0:
            raise InputError(f"a loss is {losses.min():.6g}; IMTL-L scales losses > 0")
        if self.rate is None:
            return Direction(1 / losses), -np.log(losses)
        slope = np.exp(memory) * losses - 1
        return Direction(np.exp(memory)), memory - self.rate * slope

    def objective(self, scales: np.ndarray, losses: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """sum_i exp(s_i) l_i - s_i at scales s [k], its slope in the losses [k], and that in the scales [k]."""
        grown = np.exp(scales)
        return float((grown * losses - scales).sum()), grown, grown * losses - 1
