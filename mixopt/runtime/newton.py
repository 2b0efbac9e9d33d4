"""Projected Newton steps, for objectives of few weights whose gradient costs little: second derivatives are differences of it."""

from __future__ import annotations

import numpy as np

from .descent import Descent, Oracle, searched, spectral_length, spectral_step
from .region import InfeasibleError, Region

MOST = 40
"""With more weights a step costs more than it saves where spectral ones are quick, as under bounds on a quadratic."""
STEP, FLOOR = 1e-6, 1e-3
"""A difference is over this share of a weight, or of the floor where the weight is less."""
FLAT = 1e-6
"""So much of a weight's own curvature is added to it, so that rounding bends no flat direction downwards."""
SHORT = 0.1


def newton_step(oracle: Oracle, region: Region, at: Descent, most: int = MOST) -> Descent:
    """One step to the minimum of the second-order model over the feasible weights, with a non-monotone line search.

    Where the model has no minimum, there are more than ``most`` weights or a constraint is not linear, the step is spectral.

    Source: Bertsekas 1982 (projected Newton methods); Nocedal and Wright 2006, section 18.1 (sequential quadratic programming).
    """
    path = _path(oracle, region, at) if len(at.w) <= most and region.kind != "nonlinear" else None
    slope = 0.0 if path is None else float(at.gradient @ path)
    if path is None or slope >= 0:
        return spectral_step(oracle, region, at)
    ceiling = max(at.values)
    new = searched(oracle, at, lambda share: at.w + share * path, lambda share, _: ceiling + 1e-4 * share * slope, spectral_length)
    return spectral_step(oracle, region, at) if new.stuck else new


def _path(oracle: Oracle, region: Region, at: Descent) -> np.ndarray | None:
    """From the weights [k] to the minimum of the model; None where there is none, or derivatives are not finite.

    Where a weight falls below a tenth of itself and the model is wrong about its slope there, as about a logarithm's, all keep a tenth.
    """
    w, g, H = at.w, at.gradient, curvatures(oracle, at.w, at.gradient)
    if not np.isfinite(H).all():
        return None
    H += FLAT * np.diag(np.abs(np.diag(H)))
    try:
        u = region.bottom(w, g, H, region.lower)
        bent = H @ (u - w)
        sure = np.abs(oracle.gradient(u) - g - bent) <= np.abs(bent)
        return (u if sure[u < SHORT * w].all() else region.bottom(w, g, H, np.maximum(region.lower, SHORT * w))) - w
    except (np.linalg.LinAlgError, InfeasibleError, RuntimeError):  # no minimum, or too uneven for it to be found
        return None


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # what is not finite is seen by who asked
def curvatures(oracle: Oracle, w: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Second derivatives [k, k] at w, by differences that shorten small weights no more than others."""
    steps = STEP * np.maximum(np.abs(w), FLOOR) * np.where(w > 0.5, -1, 1)
    rows = (
        np.array([oracle.gradient(w + step * unit) - gradient for step, unit in zip(steps, np.eye(len(w)), strict=True)]) / steps[:, None]
    )
    return (rows + rows.T) / 2
