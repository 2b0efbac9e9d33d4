"""Where fits begin: a grid of floors below the losses, and linear least squares of what remains above them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .curve import lowest
from .least_squares import Settings

_GAPS = np.geomspace(1e-3, 1e2, 16)
_REWEIGHTINGS = 10


def floors(y: np.ndarray, settings: Settings) -> np.ndarray:
    """Trial floors [S] of losses y [R]; under Huber below their lower tenth, so that no low outlier decides."""
    low, high = np.quantile(y, (0.1, 0.9)) if settings.loss == "huber" else (y.min(), y.max())
    return np.maximum(low - _GAPS * (high - low or np.ptp(y)), lowest(y))


def slopes(
    w: np.ndarray,
    z: np.ndarray,
    weights: np.ndarray,
    rows: np.ndarray,
    settings: Settings,
    gaps: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """For each of S weights and values [S, R]: the a [k] of the least sum of weights (w a - z)^2 + |rows a|^2, as [S, k].

    Under Huber the runs whose ``gaps`` [S, R] of a in the target's unit are wide count less, in a few rounds.
    """
    trust = np.ones_like(z)
    for _ in range(_REWEIGHTINGS if settings.loss == "huber" else 1):
        scaled = weights * trust
        gram = (w.T * scaled[:, None]) @ w + rows.T @ rows
        spot = np.arange(w.shape[1])
        gram[:, spot, spot] += 1e-12 * np.trace(gram, axis1=1, axis2=2)[:, None] + np.finfo(float).tiny
        a: np.ndarray = np.linalg.solve(gram, ((scaled * z) @ w)[:, :, None])[:, :, 0]
        if settings.loss == "huber":
            trust = settings.huber_delta / np.maximum(np.abs(gaps(a)), settings.huber_delta)
    return a
