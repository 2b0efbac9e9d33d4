"""MGDA: the direction of least norm in the convex hull of the domains' gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from mixopt.errors import InputError
from mixopt.runtime.region import Region

from .nearest import lengths, min_norm
from .rule import Direction, GramRule, products


@dataclass(frozen=True)
class MGDA(GramRule):
    r"""min over mixtures w of |sum_i w_i g_i|^2, exactly: the largest improvement of the worst domain, per unit of length squared.

    It is the dual of max over d of min over w of sum_i w_i <g_i, d> - |d|^2 / 2, the first-order model of Equation 6. Libraries iterate
    (Frank-Wolfe) and stop short; here the answer is exact but for rounding. ``normalise="norm"`` takes unit gradients instead, which
    moves weight from the shortest gradient, which plain MGDA follows; the coefficients are again those of the gradients as they are,
    w_i / |g_i|, and no mixture. A gradient of 0 makes the direction 0.

    Source: Désidéri 2012; Sener and Koltun 2018, arXiv 1810.04650, Eq. 3.

    >>> MGDA().direction([[1.0, 0.0], [0.0, 4.0]]).coefficients
    array([0.8, 0.2])
    """

    normalise: Literal["none", "norm"] = "none"
    constrained: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.normalise not in ("none", "norm"):
            raise InputError(f"normalise is {self.normalise!r}; it is 'none', or 'norm' for unit gradients")

    def direction(self, gram: Any, *, region: Region | None = None, memory: Any = None) -> Direction:
        inner = products(gram)
        if self.normalise == "none":
            w = min_norm(inner, region)
            return Direction(w, w)
        sizes = lengths(inner)
        safe = np.where(sizes > 0, sizes, 1.0)
        w = min_norm(inner / np.outer(safe, safe), region)
        return Direction(w / safe, w)
