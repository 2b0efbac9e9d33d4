"""Many small least-squares problems at once: Levenberg-Marquardt steps within bounds, vectorised over targets, folds and starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np

from .law import At

if TYPE_CHECKING:
    from .curve import Curve

STEPS = 200
"""After how many steps a problem that has not converged is left to another method."""
ROOM = 2_000_000
"""The most numbers that the Jacobians of the problems that move at a time may have."""
_ORTHOGONAL = 1e-10
_GAIN = 1e-15
_LEAST_DAMPING, _FIRST_DAMPING = 1e-13, 1e-3


@final
@dataclass(frozen=True, eq=False)
class Squares:
    """B least squares of one curve, at the same R runs: sum_r v_r rho(L(theta; w_r) - y_r) + ridge theta' Q theta, within bounds.

    ``y`` and ``v`` [B, R], where v = 0 leaves a run out; ``ridge`` [B], ``penalty`` Q [p, p], ``bounds`` [2, B, p]; rho is the square,
    or with a ``huber`` width the square up to it and linear beyond.
    """

    curve: Curve
    at: At
    y: np.ndarray
    v: np.ndarray
    ridge: np.ndarray
    penalty: np.ndarray
    bounds: np.ndarray
    huber: float | None

    def rows(self, index: np.ndarray) -> Squares:
        """Only these of the B problems; an entry may occur more than once."""
        picked = (self.y[index], self.v[index], self.ridge[index], self.penalty, self.bounds[:, index])
        return Squares(self.curve.of(index), self.at, *picked, self.huber)

    def cost(self, theta: np.ndarray) -> np.ndarray:
        """The objective [B], infinite where the curve is not finite."""
        gap, q = np.abs(self._gap(theta)), theta @ self.penalty
        squares = gap**2 if self.huber is None else np.where(gap <= self.huber, gap**2, self.huber * (2 * gap - self.huber))
        found = (self.v * squares).sum(axis=1) + self.ridge * (q * theta).sum(axis=1)
        return np.where(np.isfinite(found), found, np.inf)

    def slope(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Half the gradient [B, p] and half the Hessian [B, p, p]: Newton's where the curve tells it and it is positive, or Gauss's."""
        gap, jacobian = self._gap(theta), self.curve.jacobian(theta, self.at)
        jacobian = np.where(self.v[:, :, None] > 0, jacobian, 0)
        pull, curved = self.v * gap, self.v
        if self.huber is not None:
            size = np.maximum(np.abs(gap), self.huber)
            pull, curved = pull * self.huber / size, self.v * np.where(size > self.huber, 0.1 * self.huber / size, 1)
        gradient = (jacobian.transpose(0, 2, 1) @ pull[:, :, None])[:, :, 0] + self.ridge[:, None] * (theta @ self.penalty)
        hessian = jacobian.transpose(0, 2, 1) @ (jacobian * curved[:, :, None]) + self.ridge[:, None, None] * self.penalty
        bend = self.curve.bend(theta, self.at, pull)
        if bend is not None:
            newton = hessian + bend
            scale = np.sqrt(np.diagonal(hessian, axis1=1, axis2=2)) + np.finfo(float).tiny
            scaled = newton / (scale[:, :, None] * scale[:, None, :])
            fit = np.isfinite(scaled).all(axis=(1, 2)) & (np.abs(scaled).max(axis=(1, 2)) < 1e100)
            fit[fit] = np.linalg.eigvalsh(scaled[fit])[:, 0] > 0
            hessian[fit] = newton[fit]
        return gradient, hessian

    def _gap(self, theta: np.ndarray) -> np.ndarray:
        return np.where(self.v > 0, self.curve.value(theta, self.at) - self.y, 0)


def descend(problem: Squares, start: np.ndarray, steps: int = STEPS, gain: float = _GAIN) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """From starts [B, p]: the parameters [B, p], the objective [B], and whether each converged [B].

    A problem has converged when its residuals are orthogonal to the columns of its Jacobian, but for those at a bound (a cosine of
    1e-10), or when a step promises no more than rounding. Damping as in Nielsen 1999 (report IMM-REP-1999-05), columns scaled by
    their largest size so far (Moré 1978); a bounded parameter that would leave its bound is held there for the step.
    """
    start, size = np.clip(start, *problem.bounds), max(1, ROOM // (problem.y.shape[1] * start.shape[1]))
    found = []
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # a trial step may overflow; the next is shorter
        for first in range(0, len(start), size):
            rows = np.arange(first, min(first + size, len(start)))
            found.append(_descend(problem.rows(rows), start[rows], steps, gain))
    theta, cost, done = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return theta, cost, done


def _descend(problem: Squares, theta: np.ndarray, steps: int, least: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    B, floor = len(theta), 1e-30 * (problem.v * problem.y**2).sum(axis=1)
    cost, done = problem.cost(theta), np.zeros(len(theta), dtype=bool)
    gradient, hessian = problem.slope(theta)
    size = np.zeros_like(theta)
    damping, growth = np.full(B, _FIRST_DAMPING), np.full(B, 2.0)
    for _ in range(steps):
        left = np.flatnonzero(~done)
        part = problem.rows(left)
        here, g, h, (low, high) = theta[left], gradient[left], hessian[left], part.bounds
        size[left] = np.maximum(size[left], np.diagonal(h, axis1=1, axis2=2))
        held = ((here <= low) & (g > 0)) | ((here >= high) & (g < 0))
        level = cost[left] + floor[left]
        cosine = np.where(held, 0, np.abs(g) / np.sqrt(np.maximum(size[left] * level[:, None], np.finfo(float).tiny))).max(axis=1)
        there = here + _step(np.where(held, 0, g), h, held, size[left], damping[left])
        move = np.clip(there, low, high) - here
        cut = ((there < low) | (there > high)).any(axis=1)  # a step that a bound cuts may promise nothing; a shorter one will
        promised = -(2 * g * move).sum(axis=1) - (move[:, None] @ h @ move[:, :, None])[:, 0, 0]
        reached = part.cost(here + move)
        gain = (cost[left] - reached) / promised
        done[left] = (cosine <= _ORTHOGONAL) | ((promised <= least * level) & ~cut)
        better = (gain > 1e-4) & (reached < cost[left])
        taken, refused = left[better], left[~better]
        damping[taken] = np.maximum(damping[taken] * np.maximum(1 / 3, 1 - (2 * gain[better] - 1) ** 3), _LEAST_DAMPING)
        damping[refused] *= growth[refused]
        growth[taken], growth[refused] = 2, 2 * growth[refused]
        theta[taken], cost[taken] = (here + move)[better], reached[better]
        if done.all():
            break
        if len(taken):
            gradient[taken], hessian[taken] = problem.rows(taken).slope(theta[taken])
    return theta, cost, done


def _step(gradient: np.ndarray, hessian: np.ndarray, held: np.ndarray, size: np.ndarray, damping: np.ndarray) -> np.ndarray:
    """The damped Gauss-Newton steps [B, p] of the parameters that are not held, their columns scaled to one size."""
    scale = np.sqrt(np.maximum(size, 1e-32 * size.max(axis=1, keepdims=True) + np.finfo(float).tiny))
    system = np.where(held[:, :, None] | held[:, None, :], 0, hessian / (scale[:, :, None] * scale[:, None, :]))
    spot = np.arange(size.shape[1])
    system[:, spot, spot] += np.where(held, 1, damping[:, None])
    return -np.linalg.solve(system, (gradient / scale)[:, :, None])[:, :, 0] / scale
