"""Entropic steps under constraints that tie weights: the Kullback-Leibler projection onto a region, by Newton's method on its dual."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .region import Region
from .simplex import mirror

STEPS, HALVINGS = 100, 40
TOLERANCE = 1e-12
NEAR = 1e-2  # multipliers below it may be held at 0
FLAT = 1e-13  # added to the dual's second derivatives, which vanish where a constraint says what another one says


@dataclass(frozen=True)
class _Dual:
    """The dual at multipliers y [p + q]: its value, its slope (right sides less what the weights give), and the weights [k]."""

    value: float
    slope: np.ndarray
    weights: np.ndarray


def tilted(region: Region, centre: np.ndarray, tilt: np.ndarray) -> np.ndarray:
    """The feasible weights u [k] nearest in KL to v, where v_i is proportional to centre_i exp(-tilt_i).

    argmin over u in the region's linear part of <tilt, u> + KL(u || centre). With multipliers y of the rows M u <= r it is
    u(y) = the same step without the rows at tilt + M'y, in closed form on the simplex and its bounds; y minimises the convex dual
    max_u {-<tilt + M'y, u> - KL(u || centre)} + <r, y>, y >= 0 for inequalities, by projected Newton steps. Where the region has
    no interior that the divergence reaches, the answer is moved the rest of the way by a projection.
    """
    if region.steps is not None:
        return region.steps.tilted(centre, tilt)
    bounds: dict[str, Any] = dict(region.bounds)
    rows, right = np.vstack([region.G, region.A]), np.concatenate([region.h, region.b])
    if not len(rows):
        return mirror(centre, tilt, 1.0, **bounds)
    signed = np.arange(len(rows)) < len(region.G)  # inequalities first
    logs = np.log(np.clip(centre, np.finfo(float).tiny, None))

    def dual(y: np.ndarray) -> _Dual:
        score = tilt + rows.T @ y
        u = mirror(centre, score, 1.0, **bounds)
        used = u > 0
        gain = -float(score @ u) - float((u[used] * (np.log(u[used]) - logs[used])).sum())
        return _Dual(gain + float(right @ y), right - rows @ u, u)

    y = np.zeros(len(rows))
    at = dual(y)
    for _ in range(STEPS):
        away = np.abs(y - _signed(y - at.slope, signed)).max()
        if away <= TOLERANCE:
            break
        held = signed & (y <= min(away, NEAR)) & (at.slope > 0)
        moved = _searched(dual, y, at, _newton(region, rows, at, held), signed)
        if moved is None:
            break
        y, at = moved
    worst = np.where(signed, np.maximum(-at.slope, 0.0), np.abs(at.slope)).max()
    return at.weights if worst <= 1e-10 else region.project(at.weights)


def _signed(y: np.ndarray, signed: np.ndarray) -> np.ndarray:
    """The multipliers of inequalities cut at 0."""
    return np.where(signed, np.maximum(y, 0.0), y)


def _newton(region: Region, rows: np.ndarray, at: _Dual, held: np.ndarray) -> np.ndarray:
    """Newton's direction over the multipliers that are not held near 0, steepest descent for those; weights at their bounds do not move.

    Source: Bertsekas 1982, projected Newton methods, with its rule for which multipliers are held.
    """
    u = at.weights
    free = np.where((u > region.lower) & (u < region.upper), u, 0.0)
    mass = free.sum()
    active = rows[~held]
    mean = active @ free / mass if mass > 0 else np.zeros(len(active))
    second = (active * free) @ active.T - mass * np.outer(mean, mean)
    second.flat[:: len(second) + 1] += FLAT + 1e-10 * np.trace(second) / len(second)
    direction = -at.slope
    direction[~held] = -np.linalg.solve(second, at.slope[~held])
    return direction


def _searched(
    dual: Callable[[np.ndarray], _Dual], y: np.ndarray, at: _Dual, direction: np.ndarray, signed: np.ndarray
) -> tuple[np.ndarray, _Dual] | None:
    """A shorter and shorter step along a direction, cut at 0 where a multiplier has a sign, until the dual falls; None where none does."""
    share = 1.0
    for _ in range(HALVINGS):
        tried = _signed(y + share * direction, signed)
        new = dual(tried)
        if new.value <= at.value + 1e-4 * float(at.slope @ (tried - y)) + 1e-15 * (1 + abs(at.value)):
            return tried, new
        share /= 2
    return None
