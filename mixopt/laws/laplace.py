"""Draws of a curve's parameters about their least-squares fit, by Laplace's approximation."""

from __future__ import annotations

import math

import numpy as np

from mixopt.runs import Runs

from .curve import CurveLaw
from .law import At

_FLAT, _UNSEEN = 1e-9, 1e-6
_HALVINGS = 30


def drawn(law: CurveLaw, runs: Runs, errors: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Parameters [S, m, p], normal about the fit with covariance Sigma (J'J + ridge P'P)^-1, Sigma [m, m] that of ``errors`` [R, m].

    A draw is the answer of the linearised least squares to errors drawn anew, jointly for all targets, so that the covariance
    between targets is that of their errors. Directions of which the runs say nothing stay at the fit; a draw over a bound is
    moved onto it along the covariance; one so long that the curve itself fits the runs much worse than the approximation says is
    shortened.
    """
    anew = rng.multivariate_normal(np.zeros(errors.shape[1]), covariance(errors), (draws, len(runs)), method="eigh")
    found = [_of_target(law, runs, j, anew[:, :, j], rng) for j in range(len(law.targets))]
    return np.stack(found, axis=1)


def covariance(errors: np.ndarray) -> np.ndarray:
    """The covariance about zero [m, m] of errors [R, m]; a pair of targets counts over the runs that have both."""
    there = np.isfinite(errors)
    filled, both = np.where(there, errors, 0.0), there.astype(float)
    found = filled.T @ filled / np.maximum(both.T @ both, 1)
    values, vectors = np.linalg.eigh(found)
    return np.asarray((vectors * np.maximum(values, 0)) @ vectors.T)


def half_hessian(law: CurveLaw, runs: Runs, j: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """J [R, p] at the fit with the roots of the runs' weights, the rows of the ridge [q, p], and the inverse of J'J + their square."""
    curve, theta = law.curve.of_target(j), law.theta[j]
    there = np.isfinite(runs.metrics[:, j])
    weights = there * (1.0 if runs.weights is None else runs.weights)
    jacobian = curve.jacobian(theta[None], At.of(runs))[0] * np.sqrt(weights)[:, None]
    rows = law.ridge_rows(j, At.of(runs))
    both = np.vstack([jacobian, rows])
    size = np.linalg.norm(both, axis=0)
    scale = np.where(size > _UNSEEN * size.max(), 1 / np.where(size > 0, size, 1), 0.0)
    _, values, vectors = np.linalg.svd(both * scale, full_matrices=False)
    inverse = np.where(values > _FLAT * values[0], 1 / np.where(values > 0, values, 1) ** 2, 0.0)
    half = scale[:, None] * vectors.T
    return jacobian, rows, (half * inverse) @ half.T


def _of_target(law: CurveLaw, runs: Runs, j: int, errors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws [S, p] of one target's parameters from errors [S, R] drawn anew."""
    jacobian, rows, inverse = half_hessian(law, runs, j)
    sigma = math.sqrt(float((errors**2).mean()))
    prior = sigma * rng.standard_normal((len(errors), len(rows)))
    steps = (errors @ jacobian + prior @ rows) @ inverse
    curve, at, fit = law.curve.of_target(j), At.of(runs), law.theta[j]
    y = law.sign[j] * runs.metrics[:, j]
    there = np.isfinite(y)
    low, high = curve.bounds(at.rows(there), y[there])
    steps = _within(steps, low - fit, high - fit, inverse)
    for _ in range(_HALVINGS):
        with np.errstate(over="ignore", invalid="ignore"):
            moved = (curve.value(fit + steps, at) - curve.value(fit[None], at))[:, there]
            actual = (moved**2).sum(axis=1)
        linear = ((steps @ jacobian.T) ** 2).sum(axis=1)
        long = ~(actual <= 4 * linear + sigma**2)
        if not long.any():
            break
        steps[long] /= 2
    return np.asarray(np.clip(fit + steps, low, high))


def _within(steps: np.ndarray, low: np.ndarray, high: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Steps [S, p] that go over a bound, moved onto it, the other parameters by what they covary with it."""
    for i in np.flatnonzero(np.isfinite(low) | np.isfinite(high)):
        over = steps[:, i] - np.clip(steps[:, i], low[i], high[i])
        if covariance[i, i] > 0:
            steps = steps - over[:, None] * covariance[i] / covariance[i, i]
    return steps
