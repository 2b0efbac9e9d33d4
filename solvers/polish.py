"""Newton steps over the constraints that bind, which take an answer from a few digits to eleven."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from mixopt.report.kinks import told
from mixopt.runtime.program import Function
from mixopt.runtime.region import Limit, Region, dense

MOST = 40
"""With more domains, second derivatives by differences cost more than they bring to an answer that is good already."""
STEP = 1e-6
BETTER = 0.1
OFF = 1e-9


@dataclass(frozen=True)
class Newton:
    """A step: the point it leads to [k]; the Lagrangian's slope along the free directions, as a function and before it; its bend."""

    point: np.ndarray
    free: Callable[[np.ndarray], np.ndarray]
    before: np.ndarray
    second: np.ndarray

    @property
    def minimum(self) -> bool:
        """Whether no free direction bends downwards, as at a minimum."""
        return self.second.size == 0 or bool(np.linalg.eigvalsh(self.second + self.second.T)[0] >= 0)


def newton(function: Function, region: Region, w: np.ndarray, duals: Mapping[str, Any]) -> Newton | None:
    """One step from weights w [k] with multipliers by constraint name; None where derivatives are not finite.

    A constraint binds where its multiplier exceeds its slack, and a weight is 0 where its own does; those hold with equality to
    first order. Along the other directions Z the Lagrangian's second derivatives are differences of its gradients.

    Source: Nocedal and Wright 2006, Numerical Optimization, section 18.1 (one step of SQP on the active set).
    """
    limits, names = region.limits, [limit.relation.label for limit in region.limits]
    forces = [told(duals[name], limit.equality) for name, limit in zip(names, limits, strict=True)]
    force, gap = np.concatenate([[0.0], *forces]), _gaps(limits, w)
    rows = np.vstack([np.ones((1, len(w))), *(dense(limit.rows(w)) for limit in limits)])
    slope = function.gradient(w) + force @ rows
    if not np.isfinite(slope).all() or not np.isfinite(rows).all():
        return None
    binding, zero = _equal(limits) | (force > -gap), slope - slope @ w > w
    point, Z = _face(np.vstack([rows[binding], np.eye(len(w))[zero]]), np.concatenate([-gap[binding], -w[zero]]), w)
    bent = [(limit, f) for limit, f in zip(limits, forces, strict=True) if not limit.linear and f.any()]

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")  # off the simplex anything may happen; it is seen below
    def free(x: np.ndarray) -> np.ndarray:
        """The Lagrangian's slope along Z, in which linear constraints that bind have no part."""
        return np.asarray(Z.T @ sum((limit.rows(x).T @ f for limit, f in bent), function.gradient(x)))

    second = np.empty((0, 0))
    if Z.size:
        here = free(point)
        second = np.array([free(point + STEP * z) - here for z in Z.T]) / STEP
        if not np.isfinite(here).all() or not np.isfinite(second).all():
            return None
        point = point - Z @ np.linalg.lstsq(second, here, rcond=1e-12)[0]
    return Newton(point, free, Z.T @ slope, second)


def polished(function: Function, region: Region, w: np.ndarray, duals: Mapping[str, Any]) -> np.ndarray:
    """The weights [k] after one step, or as they were where it breaks a constraint or leaves over a tenth of the Lagrangian's slope."""
    step = newton(function, region, w, duals) if region.layout.alone and region.size <= MOST else None
    if step is None:
        return w
    point = np.where((step.point < 0) & (step.point > -OFF), 0.0, step.point)
    if (point < 0).any():  # far from the simplex a constraint may overflow
        return w
    gap = _gaps(region.limits, point)
    worse = (np.where(_equal(region.limits), np.abs(gap), gap) > OFF).any()
    return w if worse or np.linalg.norm(step.free(point)) > BETTER * np.linalg.norm(step.before) else point


def _gaps(limits: tuple[Limit, ...], w: np.ndarray) -> np.ndarray:
    """The sum's distance to 1 and the gaps of all constraints, one behind the other."""
    return np.concatenate([[w.sum() - 1], *(limit.gaps(w) for limit in limits)])


def _equal(limits: tuple[Limit, ...]) -> np.ndarray:
    """Which of those gaps must be 0."""
    return np.concatenate([[True], *(np.full(prod(limit.gap.shape), limit.equality) for limit in limits)])


def _face(rows: np.ndarray, right: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The point nearest to w with rows (point - w) = right, and a basis of the directions that keep it so."""
    left, sizes, across = np.linalg.svd(rows)
    rank = int((sizes > 1e-10).sum())
    return w + across[:rank].T @ ((left[:, :rank].T @ right) / sizes[:rank]), across[rank:].T
