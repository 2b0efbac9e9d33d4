"""One Newton step over the constraints that bind, which takes an interior-point answer from six digits to eleven."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mixopt.report.kinks import told
from mixopt.runtime.program import Function
from mixopt.runtime.region import Limit, Region, dense

MOST = 40
"""With more domains, second derivatives by differences cost more than they bring."""
STEP = 1e-6
BETTER = 0.1
OFF = 1e-9


def polished(function: Function, region: Region, w: np.ndarray, duals: Mapping[str, Any]) -> np.ndarray:
    """The weights [k] after the step, or as they were where it does not bring the Lagrangian's slope to a tenth.

    A constraint binds where its multiplier exceeds its slack, and a weight is 0 where its own does; those hold with equality. Along
    the other directions Z the Lagrangian's second derivatives are differences of its gradients.

    Source: Nocedal and Wright 2006, Numerical Optimization, section 18.1 (one step of SQP on the active set).
    """
    if not region.layout.alone or region.size > MOST:
        return w
    limits = region.limits
    forces = [told(duals[limit.relation.label], limit.equality) for limit in limits]
    force, gap = np.concatenate([[0.0], *forces]), _gaps(limits, w)
    rows = np.vstack([np.ones((1, len(w))), *(dense(limit.rows(w)) for limit in limits)])
    equal = np.concatenate([[True], *(np.full(len(f), limit.equality) for limit, f in zip(limits, forces, strict=True))])
    slope = function.gradient(w) + force @ rows
    binding, zero = equal | (force > -gap), slope - slope @ w > w
    point, Z = _face(np.vstack([rows[binding], np.eye(len(w))[zero]]), np.concatenate([-gap[binding], -w[zero]]), w)
    bent = [(limit, f) for limit, f in zip(limits, forces, strict=True) if not limit.linear and f.any()]

    def free(x: np.ndarray) -> np.ndarray:
        """The Lagrangian's slope along Z, in which linear constraints that bind have no part."""
        return np.asarray(Z.T @ sum((limit.rows(x).T @ f for limit, f in bent), function.gradient(x)))

    if Z.size:
        here = free(point)
        second = np.array([free(point + STEP * z) - here for z in Z.T]) / STEP
        if not np.isfinite(second).all():
            return w
        point = point - Z @ np.linalg.lstsq(second, here, rcond=1e-12)[0]
    point = np.where((point < 0) & (point > -OFF), 0.0, point)
    gap = np.where(equal, np.abs(_gaps(limits, point)), _gaps(limits, point))
    worse = (point < 0).any() or (gap > OFF).any()
    return w if worse or np.linalg.norm(free(point)) > BETTER * np.linalg.norm(Z.T @ slope) else point


def _gaps(limits: tuple[Limit, ...], w: np.ndarray) -> np.ndarray:
    """The sum's distance to 1 and the gaps of all constraints, one behind the other."""
    return np.concatenate([[w.sum() - 1], *(limit.gaps(w) for limit in limits)])


def _face(rows: np.ndarray, right: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The point nearest to w with rows (point - w) = right, and a basis of the directions that keep it so."""
    left, sizes, across = np.linalg.svd(rows)
    rank = int((sizes > 1e-10).sum())
    return w + across[:rank].T @ ((left[:, :rank].T @ right) / sizes[:rank]), across[rank:].T
