"""Least squares of a law's curve, target by target: the best of its starts, then steps with the analytic Jacobian."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, final

import numpy as np

from mixopt.errors import InputError, listed
from mixopt.language.domains import Domains
from mixopt.runs import Runs

from .law import At, Fit
from .levenberg import Squares, descend
from .reduced import directions
from .ridge import chosen

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
    to ``huber_delta`` and linear beyond; v_r is the weight of the run, 1 where the table has none. With ``ridge="auto"`` each
    target's ridge is chosen by cross-validation (``chosen``) and is its ``strength`` here, and P is the curve's ``wary``.

    Raises:
        InputError: a ridge that is negative, another loss, or a width that is not > 0.
    """

    ridge: float | Literal["auto"] = 0.0
    loss: str = "linear"
    huber_delta: float = 0.02
    strength: float = 0.0

    def __post_init__(self) -> None:
        if self.ridge != "auto" and (isinstance(self.ridge, str) or not (math.isfinite(self.ridge) and self.ridge >= 0)):
            raise InputError(f"ridge is {self.ridge!r}; it must be a finite number >= 0, or 'auto'")
        if self.loss not in ("linear", "huber"):
            raise InputError(f"loss is {self.loss!r}; it is 'linear' (least squares) or 'huber'")
        if not (math.isfinite(self.huber_delta) and self.huber_delta > 0):
            raise InputError(f"huber_delta is {self.huber_delta}; it must be a finite number > 0, in the targets' unit")

    @property
    def number(self) -> float:
        """The ridge of a target."""
        return self.strength if self.ridge == "auto" else float(self.ridge)

    def rows(self, curve: Curve, at: At) -> np.ndarray:
        """The rows of the ridge's residuals [q, p], none without a ridge."""
        k = at.mixtures.shape[1]
        if not self.number:
            return np.empty((0, curve.size(k)))
        return math.sqrt(self.number) * (curve.wary(at.mixtures) if self.ridge == "auto" else curve.penalty(k))


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
    basis = directions(at.mixtures) if settings.number and curve.before_slopes is not None and len(runs) < len(runs.domains) else None
    problem = _squares(curve, at if basis is None else replace(at, mixtures=at.mixtures @ basis), y, settings, basis is not None)
    if settings.ridge == "auto":
        problem = replace(problem, ridge=chosen(problem, lambda j, ridge: _start(problem, j, replace(settings, strength=ridge))))
    theta, done = _fitted(problem, settings)
    if basis is not None:
        theta = np.hstack([theta[:, : curve.before_slopes], theta[:, curve.before_slopes :] @ basis.T])
    theta.flags.writeable = False
    there = problem.v > 0
    gaps = np.where(there, curve.value(theta, at) - problem.y, 0)
    rmse = np.sqrt((problem.v * gaps**2).sum(axis=1) / problem.v.sum(axis=1))
    told = np.array([_rank(curve.of_target(j).jacobian(t[None], at)[0][there[j]]) for j, t in enumerate(theta)])
    notes = _notes(settings, problem.ridge, told, theta.shape[1], runs.targets.names)
    fit = Fit(runs.mixtures.max(axis=0), there.sum(axis=1), rmse, done, told, notes, problem.ridge)
    return Fitted(theta, fit)


def _there(column: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Which runs of a target's column [R] count: those that have it, with a weight that is not 0."""
    return np.isfinite(column) if weights is None else np.isfinite(column) & (weights > 0)


def _squares(curve: Curve, at: At, y: np.ndarray, settings: Settings, reduced: bool) -> Squares:
    """The least squares of all targets [m, R]; reduced, the slopes are those in ``directions``."""
    m = y.shape[1]
    v = np.isfinite(y.T) * (1.0 if at.weights is None else at.weights)
    bounds = [curve.of_target(j).bounds(at.rows(v[j] > 0), column[v[j] > 0]) for j, column in enumerate(y.T)]
    if reduced:
        penalty = np.diag((np.arange(len(bounds[0][0])) > (curve.before_slopes or 0)).astype(float))
    else:
        rows = replace(settings, strength=1.0).rows(curve, at) if settings.ridge == "auto" else curve.penalty(at.mixtures.shape[1])
        penalty = rows.T @ rows
    huber = settings.huber_delta if settings.loss == "huber" else None
    ridge = np.full(m, settings.number)
    return Squares(curve, at, np.where(v > 0, y.T, 0), v, ridge, penalty, np.stack(bounds, axis=1), huber)


def _start(problem: Squares, j: int, settings: Settings) -> np.ndarray:
    """The best starts of a target [finalists, p], the best first."""
    there, curve = problem.v[j] > 0, problem.curve.of_target(j)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        starts = np.clip(curve.starts(problem.at.rows(there), problem.y[j, there], settings), *problem.bounds[:, j])
        alone = replace(problem.rows(np.full(len(starts), j)), ridge=np.full(len(starts), settings.number))
        return starts[np.argsort(alone.cost(starts), kind="stable")[: curve.finalists]]


def _fitted(problem: Squares, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """The parameters of every target [m, p], from the finalists among its starts, and whether each converged [m]."""
    starts = [_start(problem, j, replace(settings, strength=float(r))) for j, r in enumerate(problem.ridge)]
    whose = np.repeat(np.arange(len(starts)), [len(s) for s in starts])
    theta, cost, done = descend(problem.rows(whose), np.concatenate(starts))
    best = [rows[np.argmin(cost[rows])] for j in range(len(starts)) for rows in (np.flatnonzero(whose == j),)]
    theta, done = theta[best], done[best]
    for j in np.flatnonzero(~done):
        theta[j], done[j] = _finished(problem.rows(np.array([j])), theta[j], settings)
    return theta, done


def _finished(problem: Squares, start: np.ndarray, settings: Settings) -> tuple[np.ndarray, bool]:
    """One target by scipy's trust region, for what Levenberg-Marquardt did not bring to its end."""
    from scipy.optimize import least_squares

    curve, there = problem.curve, problem.v[0] > 0
    at, y = problem.at.rows(there), problem.y[0, there]
    values, vectors = np.linalg.eigh(problem.ridge[0] * problem.penalty)
    rows = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T
    try:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # a step that is too long is shortened
            result = least_squares(
                lambda theta: np.concatenate([curve.value(theta[None], at)[0] - y, rows @ theta]),
                start,
                lambda theta: np.vstack([curve.jacobian(theta[None], at)[0], rows]),
                tuple(problem.bounds[:, 0]),
                x_scale="jac",
                loss=rho_of(settings.loss, len(y), at.weights),
                f_scale=settings.huber_delta,
                ftol=1e-12,
                xtol=1e-12,
                gtol=1e-12,
                max_nfev=500,
            )
    except ValueError:  # a derivative is not finite
        return start, False
    return result.x, bool(result.status > 0)


def _notes(settings: Settings, ridge: np.ndarray, told: np.ndarray, p: int, names: tuple[str, ...]) -> tuple[str, ...]:
    """What people should know of the ridges [m] and of how many parameters the runs tell apart [m]."""
    found = []
    if settings.ridge == "auto" and ridge.any():
        span = f"{ridge.min():.2g}" + (f" to {ridge.max():.2g}" if np.ptp(ridge) else "")
        found.append(f"ridge chosen by cross-validation: {span}")
    if (told < p).any():
        least = int(told.argmin())
        found.append(
            f"of the {p} parameters of {names[least]!r} the runs tell {told[least]} apart, so that other values fit as well; "
            "trust predictions near the runs more than parameters"
        )
    return tuple(found)


def _rank(jacobian: np.ndarray) -> int:
    """The numerical rank, columns scaled to one size; one that is not finite tells nothing."""
    columns = np.where(np.isfinite(jacobian).all(axis=0), jacobian, 0)
    sizes = np.linalg.norm(columns, axis=0)
    columns = columns / np.where(sizes > 0, sizes, 1)
    if len(columns) < len(sizes):
        return int(np.linalg.matrix_rank(columns @ columns.T, hermitian=True))
    return int(np.linalg.matrix_rank(columns, tol=_RANK * math.sqrt(len(jacobian))))


def check_runs(runs: Runs, curve: Curve, settings: Settings) -> None:
    """Refuse runs that cannot be fitted, before any work."""
    k = len(runs.domains)
    p = curve.size(k)
    mend = "give ridge=1e-3, or more runs"
    for name, y in zip(runs.targets.names, runs.metrics.T, strict=True):
        there = _there(y, runs.weights)
        R = int(there.sum())
        if (p + curve.spare if settings.ridge in (0, "auto") else 3) > R:
            lacking = f"{R} runs with target {name!r}" if len(runs) > R else f"{R} runs"
            raise InputError(f"{lacking} are too few for the {p} parameters of each target ({k} domains); {mend}")
        if np.ptp(y[there]) <= 1e-12 * max(1.0, float(np.abs(y[there]).max())):
            raise InputError(f"target {name!r} is {y[there][0]:.6g} in every run, so there is nothing to fit; leave it out of the table")
        if settings.ridge in (0, "auto") and curve.by_every_domain:
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
