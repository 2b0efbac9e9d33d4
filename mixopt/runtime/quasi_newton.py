"""Projected quasi-Newton steps, for objectives of the weights that are dear: fewer of them, at the price of a small program a step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import numpy as np

from .descent import Descent, Oracle, begin, searched, spectral_step
from .region import Region

PAIRS, TURNS = 20, 300
"""How many changes of the gradient are remembered, and the most steps of the small program."""
WIDE, TIED = 512, 64
"""The most weights for which a matrix is kept: with bounds alone, and under constraints that tie weights, whose projections cost more."""


@final
@dataclass(frozen=True)
class _Model:
    """The quadratic model of an objective at weights w [k]: gradient g [k] and Hessian B [k, k]; 0 at w."""

    w: np.ndarray
    g: np.ndarray
    B: np.ndarray

    def value(self, u: np.ndarray) -> float:
        """The model at u."""
        d = u - self.w
        return float(self.g @ d + d @ (self.B @ d) / 2)

    def gradient(self, u: np.ndarray) -> np.ndarray:
        """Its gradient [k] at u."""
        return np.asarray(self.g + self.B @ (u - self.w))


def quasi_newton_step(oracle: Oracle, region: Region, at: Descent) -> Descent:
    """One step to the minimum of a BFGS model over the feasible weights, with a non-monotone line search; the first is spectral.

    Where the values differ by no more than their own noise, the slope along the step decides (the approximate Wolfe conditions of Hager
    and Zhang 2005). Many weights, or constraints that are not linear, whose projections are dear, take spectral steps throughout.

    Source: Schmidt, van den Berg, Friedlander and Murphy 2009 (projected quasi-Newton).
    """
    narrow = len(at.w) <= (WIDE if region.boxed else TIED) and region.kind != "nonlinear"
    new = _modelled(oracle, region, at) if at.pairs and narrow else spectral_step(oracle, region, at)
    if new.stuck and at.pairs:
        return spectral_step(oracle, region, replace(at, pairs=()))
    moved, change = new.w - at.w, new.gradient - at.gradient
    change = change - change.mean()
    bends = float(moved @ change) > 1e-10 * float(moved @ moved)
    return replace(new, pairs=(*at.pairs, (moved, change))[-PAIRS:]) if bends and narrow else replace(new, pairs=at.pairs)


def _modelled(oracle: Oracle, region: Region, at: Descent) -> Descent:
    """The step to the minimum of the model."""
    B = _bfgs(at.pairs)
    model = _Model(at.w, at.gradient - at.gradient.mean(), B)
    inner = replace(begin(model, at.w), length=len(B) / float(np.trace(B)))
    for _ in range(TURNS):
        inner = spectral_step(model, region, inner)
        gap = float(inner.gradient @ (inner.w - region.lowest(inner.gradient)))
        if inner.stuck or gap <= 1e-3 * max(-inner.value, 0.0) + 1e-15:
            break
    path = inner.w - at.w
    slope, ceiling = float(at.gradient @ path), max(at.values)
    return searched(
        oracle,
        at,
        lambda share: at.w + share * path,
        lambda share, _: ceiling + 1e-4 * share * slope,
        lambda old, new, share: old.length,
        lambda share, u, gradient: float(gradient @ path) <= (2e-4 - 1) * slope,
    )


def _bfgs(pairs: tuple[tuple[np.ndarray, np.ndarray], ...]) -> np.ndarray:
    """The BFGS matrix [k, k] of moves and changes of the gradient, from a multiple of the identity."""
    s, y = pairs[-1]
    B = np.eye(len(s)) * float(y @ y) / float(s @ y)
    for s, y in pairs:
        Bs = B @ s
        B = B - np.outer(Bs, Bs) / float(s @ Bs) + np.outer(y, y) / float(y @ s)
    return B
