"""Least squares of a law's curve, target by target: the best of its starts, then steps with the analytic Jacobian."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np

from mixopt.errors import InputError, listed
from mixopt.language.domains import Domains
from mixopt.runs import Runs

from .law import At, Fit

if TYPE_CHECKING:
    from .curve import Curve

_RANK = 1e-9
"""A singular value of the scaled Jacobian below this share of its size is no information on the parameters."""

_Rho = Callable[[np.ndarray], np.ndarray]


@final
@dataclass(frozen=True)
class Settings:
    """How a curve is fitted: ``loss`` "linear" (squares) or "huber" with its width in the targets' unit, and a ridge.

    The objective of each target is sum_r v_r rho(L(w_r) - y_r) + ridge |P theta|^2; rho is the square, or under Huber the square up
    to ``huber_delta`` and linear beyond; v_r is the weight of the run, 1 where the table has none.

    Raises:
        InputError: a ridge that is negative, another loss, or a width that is not > 0.
    """

    ridge: float = 0.0
    loss: str = "linear"
    huber_delta: float = 0.02

    def __post_init__(self) -> None:
        if not (math.isfinite(self.ridge) and self.ridge >= 0):
            raise InputError(f"ridge is {self.ridge}; it must be a finite number >= 0")
        if self.loss not in ("linear", "huber"):
            raise InputError(f"loss is {self.loss!r}; it is 'linear' (least squares) or 'huber'")
        if not (math.isfinite(self.huber_delta) and self.huber_delta > 0):
            raise InputError(f"huber_delta is {self.huber_delta}; it must be a finite number > 0, in the targets' unit")

    def rows(self, curve: Curve, k: int) -> np.ndarray:
        """The rows of the ridge's residuals [q, p], none without a ridge."""
        p = curve.size(k)
        return math.sqrt(self.ridge) * curve.penalty(k) if self.ridge else np.empty((0, p))


@final
@dataclass(frozen=True, eq=False)
class Fitted:
    """The parameters of every target [m, p] and how they were fitted."""

    theta: np.ndarray
    fit: Fit


def fit_targets(curve: Curve, at: At, y: np.ndarray, settings: Settings, runs: Runs) -> Fitted:
    """Fit every target's losses y [R, m], less being better, to the runs that have it.

    Raises:
        InputError: too few runs without a ridge, or a constant target.
    """
    check_runs(runs, curve, settings)
    there = np.stack([_there(column, runs.weights) for column in y.T], axis=1)
    columns = enumerate(zip(y.T, there.T, strict=True))
    found = [_fit_target(curve.of_target(j), at.rows(rows), column[rows], settings) for j, (column, rows) in columns]
    theta = np.array([f[0] for f in found])
    theta.flags.writeable = False
    weights = there * (1 if runs.weights is None else runs.weights[:, None])
    rmse = np.sqrt(np.where(there, weights * (curve.value(theta, at).T - y) ** 2, 0).sum(axis=0) / weights.sum(axis=0))
    fit = Fit(runs.mixtures.max(axis=0), there.sum(axis=0), rmse, np.array([f[1] for f in found]), np.array([f[2] for f in found]))
    return Fitted(theta, fit)


def _there(column: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Which runs of a target's column [R] count: those that have it, with a weight that is not 0."""
    return np.isfinite(column) if weights is None else np.isfinite(column) & (weights > 0)


def _fit_target(curve: Curve, at: At, y: np.ndarray, settings: Settings) -> tuple[np.ndarray, bool, int]:
    """theta [p], whether it converged, and how many parameters the runs identify, for one target [R]."""
    from scipy.optimize import least_squares

    rows = settings.rows(curve, at.mixtures.shape[1])
    rho = rho_of(settings.loss, len(y), at.weights)

    def residuals(theta: np.ndarray) -> np.ndarray:
        return np.concatenate([curve.value(theta[None], at)[0] - y, rows @ theta])

    def jacobian(theta: np.ndarray) -> np.ndarray:
        return np.vstack([curve.jacobian(theta[None], at)[0], rows])

    def cost(theta: np.ndarray) -> float:
        found = float(rho((residuals(theta) / settings.huber_delta) ** 2)[0].sum())
        return found if math.isfinite(found) else math.inf

    tight = {"ftol": 1e-12, "xtol": 1e-12, "gtol": 1e-12, "max_nfev": 500}
    low, high = curve.bounds(at, y)
    with np.errstate(over="ignore", invalid="ignore"):  # a trial step may overflow; least_squares then shortens it
        start = np.clip(min(curve.starts(at, y, settings), key=cost), low, high)
        result = least_squares(residuals, start, jacobian, (low, high), x_scale="jac", loss=rho, f_scale=settings.huber_delta, **tight)
    return result.x, bool(result.status > 0), _rank(curve.jacobian(result.x[None], at)[0])


def _rank(jacobian: np.ndarray) -> int:
    """The numerical rank, columns scaled to one size."""
    sizes = np.linalg.norm(jacobian, axis=0)
    return int(np.linalg.matrix_rank(jacobian / np.where(sizes > 0, sizes, 1), tol=_RANK * math.sqrt(len(jacobian))))


def check_runs(runs: Runs, curve: Curve, settings: Settings) -> None:
    """Refuse runs that cannot be fitted, before any work."""
    k = len(runs.domains)
    p = curve.size(k)
    mend = "give ridge=1e-3, or more runs"
    for name, y in zip(runs.targets.names, runs.metrics.T, strict=True):
        there = _there(y, runs.weights)
        R = int(there.sum())
        if (3 if settings.ridge else p + curve.spare) > R:
            lacking = f"{R} runs with target {name!r}" if len(runs) > R else f"{R} runs"
            raise InputError(f"{lacking} are too few for the {p} parameters of each target ({k} domains); {mend}")
        if np.ptp(y[there]) <= 1e-12 * max(1.0, float(np.abs(y[there]).max())):
            raise InputError(f"target {name!r} is {y[there][0]:.6g} in every run, so there is nothing to fit; leave it out of the table")
        if settings.ridge == 0 and curve.by_every_domain:
            _check_rank(runs.domains, runs.mixtures[there], mend)


def _check_rank(domains: Domains, mixtures: np.ndarray, mend: str) -> None:
    singular = np.linalg.svd(mixtures, compute_uv=False)
    if singular[-1] < 1e-9 * singular[0]:
        unseen = [n for n, top in zip(domains, mixtures.max(0), strict=True) if top == 0]
        why = f"{listed(unseen)} has weight 0 in all of them" if unseen else "some weights always move together"
        raise InputError(f"the {len(mixtures)} runs do not tell all {len(domains)} domains apart: {why}; {mend} in which they differ")


def rho_of(loss: str, R: int, weights: np.ndarray | None = None) -> _Rho:
    """scipy's rho and its two derivatives [3, R + penalties]: Huber and weights [R] on the runs only, so that a ridge stays square."""

    def rho(z: np.ndarray) -> np.ndarray:
        out = np.stack([z, np.ones_like(z), np.zeros_like(z)])
        if loss == "huber":
            far = np.flatnonzero(z[:R] > 1)
            root = np.sqrt(z[far])
            out[:, far] = 2 * root - 1, 1 / root, -0.5 / (root * z[far])
        if weights is not None:
            out[:, :R] *= weights
        return out

    return rho
