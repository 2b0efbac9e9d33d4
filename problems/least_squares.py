"""Least squares of one target's law c + exp(A . w): a variable-projection start, then steps with the analytic Jacobian."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

_START_GAPS = np.geomspace(1e-3, 1e2, 60)
_FARTHEST_FLOOR = 1e2
_REWEIGHTINGS = 10

_Rho = Callable[[np.ndarray], np.ndarray]


def fit_target(weights: np.ndarray, y: np.ndarray, ridge: float, loss: str, delta: float) -> tuple[float, np.ndarray, bool]:
    """c, A [k] and whether it converged, for one target [R] to be minimised; see ``Exponential.fit`` for what is minimised."""
    from scipy.optimize import least_squares

    R, k = weights.shape
    rho = rho_of(loss, R)
    centre = math.sqrt(ridge) * (np.eye(k) - 1 / k)[: k if ridge else 0]

    def residuals(x: np.ndarray) -> np.ndarray:
        return np.concatenate([x[0] + np.exp(weights @ x[1:]) - y, centre @ x[1:]])

    def jacobian(x: np.ndarray) -> np.ndarray:
        top = np.column_stack([np.ones(R), np.exp(weights @ x[1:])[:, None] * weights])
        return np.vstack([top, np.column_stack([np.zeros(len(centre)), centre])])

    def cost(x: np.ndarray) -> float:
        return float(rho((residuals(x) / delta) ** 2)[0].sum())

    lowest = 0.0 if y.min() > 0 else float(y.min() - _FARTHEST_FLOOR * np.ptp(y))
    bounds = np.full((2, k + 1), [[-np.inf], [np.inf]])
    bounds[0, 0] = lowest
    tight = {"ftol": 1e-12, "xtol": 1e-12, "gtol": 1e-12, "max_nfev": 500}
    with np.errstate(over="ignore", invalid="ignore"):  # a trial step may overflow; least_squares then shortens it
        start = min(_starts(weights, y, centre, rho, delta, loss == "huber", lowest), key=cost)
        result = least_squares(residuals, start, jacobian, bounds, x_scale="jac", loss=rho, f_scale=delta, **tight)
    return float(result.x[0]), result.x[1:], bool(result.status > 0)


def _starts(
    weights: np.ndarray, y: np.ndarray, centre: np.ndarray, rho: _Rho, delta: float, robust: bool, lowest: float
) -> list[np.ndarray]:
    """Variable projection: for each trial floor c, log(y - c) is linear in w; least squares weighted by y - c gives A.

    Under a robust rho the least squares are reweighted a few times, and the floor is sought below the lower tenth, so that
    neither a high nor a low outlier decides where the fit begins; runs below the floor do not count.
    """
    low, high = np.quantile(y, (0.1, 0.9)) if robust else (y.min(), y.max())
    starts = []
    for gap in _START_GAPS * (high - low or np.ptp(y)):
        c = max(low - gap, lowest)
        above = np.maximum(y - c, 0)
        logs = np.log(np.where(above > 0, above, 1))
        trust = np.ones_like(y)
        for _ in range(_REWEIGHTINGS if robust else 1):
            rows = weights * (above * trust)[:, None]
            gram = rows.T @ rows + centre.T @ centre
            gram.flat[:: len(gram) + 1] += 1e-12 * np.trace(gram) + np.finfo(float).tiny
            a = np.linalg.solve(gram, rows.T @ (above * trust * logs))
            trust = np.sqrt(rho(((np.exp(weights @ a) - above) / delta) ** 2)[1])
        starts.append(np.append(c, a))
    return starts


def rho_of(loss: str, R: int) -> _Rho:
    """scipy's rho and its two derivatives [3, R + penalties]: Huber on the R runs only, so that a ridge stays square."""

    def rho(z: np.ndarray) -> np.ndarray:
        out = np.stack([z, np.ones_like(z), np.zeros_like(z)])
        if loss == "huber":
            far = np.flatnonzero(z[:R] > 1)
            root = np.sqrt(z[far])
            out[:, far] = 2 * root - 1, 1 / root, -0.5 / (root * z[far])
        return out

    return rho
