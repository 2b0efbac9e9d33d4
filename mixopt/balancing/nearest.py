"""The mixture of k gradients that is nearest to 0, exactly: an active-set method on the inner products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from mixopt.runtime.descent import Oracle, begin
from mixopt.runtime.newton import newton_step
from mixopt.runtime.region import Region

STEPS, STILL = 5000, 100
"""How many steps at most, and how many in which the gap is not halved."""
GAP = 1e-13  # of the longest squared gradient; below it steps are rounding


def factor(gram: np.ndarray) -> np.ndarray:
    """A matrix [k, k] whose columns have these inner products, columns of any length alike exact."""
    sizes = lengths(gram)
    safe = np.where(sizes > 0, sizes, 1.0)
    values, vectors = np.linalg.eigh(gram / np.outer(safe, safe))
    return np.asarray((np.sqrt(np.clip(values, 0, None))[:, None] * vectors.T) * sizes)


def lengths(gram: np.ndarray) -> np.ndarray:
    """The norms [k] of the gradients."""
    return np.asarray(np.sqrt(np.clip(np.diag(gram), 0, None)))


def min_norm(gram: np.ndarray, region: Region | None = None) -> np.ndarray:
    """argmin over mixtures w of |sum_i w_i g_i|, for the inner products [k, k]; over a region where one is given.

    On the simplex by non-negative least squares of [g_1 ... g_k; s ... s] u against (0, s), whose solution is a multiple of w: an
    active-set method, exact but for rounding; then once more by the linear equations of the gradients that have weight.

    Source: Lawson and Hanson 1974, chapter 23 (NNLS); Wolfe 1976 for the problem.
    """
    sizes = lengths(gram)
    if region is not None and region.kind != "simplex":
        return within(_Squared(gram / max(float(sizes.max()) ** 2, 1e-300)), region)
    if not sizes.min() > 0:
        return np.asarray((sizes == 0) / (sizes == 0).sum())
    unit = factor(gram) / sizes
    system = np.vstack([unit, sizes.min() / sizes])
    u, _ = nnls(system, np.append(np.zeros(len(unit)), 1.0), maxiter=100 * len(sizes))
    w = u / sizes
    w = w / w.sum()
    return _polished(gram, sizes, w)


def gap(gram: np.ndarray, w: np.ndarray) -> float:
    """<g_w, g_w> - min_i <g_i, g_w>: 0 at the mixture nearest to 0, and an upper bound on what is left to gain elsewhere."""
    slope = gram @ w
    return float(w @ slope - slope.min())


def _polished(gram: np.ndarray, sizes: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The mixture of the same gradients whose products with their mixture are all equal, where that is nearer."""
    used = w > 0
    unit = sizes[used]
    angles = gram[np.ix_(used, used)] / np.outer(unit, unit)
    if np.linalg.cond(angles) > 1e12:
        return w
    share = np.linalg.solve(angles, unit.min() / unit) / unit
    if not (share > 0).all():
        return w
    new = np.zeros_like(w)
    new[used] = share / share.sum()
    return new if gap(gram, new) <= gap(gram, w) else w


@dataclass(frozen=True)
class _Squared:
    """|sum_i w_i g_i|^2 / 2 as an objective of the weights."""

    gram: np.ndarray

    def value(self, w: np.ndarray) -> float:
        return float(w @ self.gram @ w) / 2

    def gradient(self, w: np.ndarray) -> np.ndarray:
        return np.asarray(self.gram @ w)


def within(oracle: Oracle, region: Region, start: np.ndarray | None = None) -> np.ndarray:
    """The minimum of a convex objective of size about 1 over a region: Newton steps to a gap of ``GAP``, or as near as they come."""
    at = begin(oracle, region.start(start))
    best, least, mark, last = at.w, np.inf, np.inf, 0
    for taken in range(STEPS):
        left = float(at.gradient @ (at.w - region.lowest(at.gradient)))
        best, least = (at.w, left) if left < least else (best, least)
        mark, last = (left, taken) if left < mark / 2 else (mark, last)
        if left <= GAP or at.stuck or taken - last > STILL:
            break
        at = newton_step(oracle, region, at)
    return best
