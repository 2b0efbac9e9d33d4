"""The second order of a point: the curvature along the weights that are free to move there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.linalg import null_space

from mixopt.runtime.region import Region, dense

from .check import ACTIVE

MOST = 16
"""The most domains whose curvature is taken."""


def free_directions(region: Region, w: np.ndarray, near: float) -> np.ndarray | None:
    """An orthonormal basis [k, r] of the moves of w [k] that keep its sums and every bound and linear constraint that is met there.

    A weight within ``near`` of a bound counts as at it. None for more than 16 domains, several unknowns or a constraint that is not
    linear, whose own bend would count.
    """
    if len(w) > MOST or not region.layout.alone or region.kind == "nonlinear":
        return None
    held = (w - region.lower <= near) | (region.upper - w <= near)
    tight = dense(region.G)[region.G @ w > region.h - ACTIVE] if len(region.h) else np.empty((0, len(w)))
    return np.asarray(null_space(np.vstack([region.layout.sums, dense(region.A), tight, np.eye(len(w))[held]])))


def least_curvature(gradient: Callable[[np.ndarray], np.ndarray], w: np.ndarray, basis: np.ndarray | None, shift: float) -> float | None:
    """The least eigenvalue of the Hessian along a basis [k, r], by central differences of 2 r gradients [k]; None without directions."""
    if basis is None or not basis.shape[1]:
        return None
    bent = np.stack([(gradient(w + shift * b) - gradient(w - shift * b)) / (2 * shift) for b in basis.T])
    reduced = bent @ basis
    return float(np.linalg.eigvalsh((reduced + reduced.T) / 2)[0]) if np.isfinite(reduced).all() else None
