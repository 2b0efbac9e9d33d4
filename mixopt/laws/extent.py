"""How far a law may be trusted away from its runs: the one place that says when a mixture or a size is far from them.

``Law.predict``, recommendations and their doubts, scores and reports ask here. Distances are total variation, the share of the data that
would have to be another. Within the range of the runs they say little of a law's error: on RegMix's training runs the rank correlation
of the error of unseen runs with the distance to the nearest run is 0.0 (34 runs, three laws), so that intervals go by what the fits
without some of the runs say there, not by distance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np
from numpy.typing import ArrayLike

from mixopt.runs import SCALES, Runs

if TYPE_CHECKING:
    from .law import Law

OUTSIDE = 0.02
"""An optimum so far from every blend of the runs lies outside them."""
FAR_SHARE = 0.25
"""A prediction is far where so much of its data is weight that no run gave to its domain."""
FAR_TIMES = 10.0
"""A prediction is far where N, D or the steps are so many times outside those of the runs."""


class ExtrapolationWarning(UserWarning):
    """A law was asked far outside the runs that it was fitted to."""


@final
@dataclass(frozen=True)
class Extent:
    """Distances in total variation, the share of the data that would have to be another: to the nearest run and to the runs' hull.

    Within the convex hull of the runs (``hull`` 0) the law interpolates.
    """

    run: str
    nearest: float
    hull: float


def strange_share(law: Law, mixtures: np.ndarray) -> np.ndarray:
    """The share of each mixture's data [R] that is weight beyond the largest that any run gave to its domain."""
    found: np.ndarray = np.maximum(np.atleast_2d(mixtures) - law.seen, 0).sum(axis=1)
    return found


def strange_times(law: Law, name: str, values: np.ndarray) -> float:
    """How many times N, D or the steps ``name`` go beyond those of the runs, at most; 1 within them, or where the law knows none."""
    low, high = law.fitted.scales.get(name, (0.0, np.inf))
    return max(1.0, float(np.max(values)) / high, low / float(np.min(values)))


def far(law: Law, mixtures: np.ndarray, scale: Mapping[str, ArrayLike]) -> str:
    """Why predictions for mixtures [R, k] at these N, D and steps are far from the runs, in a sentence; empty where they are not."""
    parts, shares = [], strange_share(law, mixtures)
    if len(shares) and shares.max() > FAR_SHARE:
        i = int((np.atleast_2d(mixtures)[shares.argmax()] - law.seen).argmax())
        most, seen = np.atleast_2d(mixtures)[shares.argmax(), i], law.seen[i]
        parts.append(f"{law.domains.names[i]!r} has weight {most:.2g}, and at most {seen:.2g} in any run")
    for name, values in scale.items():
        times = strange_times(law, name, np.asarray(values, dtype=float))
        if times > FAR_TIMES:
            low, high = law.fitted.scales[name]
            parts.append(f"{SCALES[name]} are {times:.0f} times outside those of the runs, {low:.3g} to {high:.3g}")
    if not parts:
        return ""
    return (
        f"the {law.name} law is asked far from its runs: {'; '.join(parts)}; what it says there is extrapolated, and runs nearby would tell"
    )


def extent(runs: Runs, weights: np.ndarray) -> Extent:
    """The extent of weights [k]: 1/2 sum_i |w_i - u_i| to each run u, and its least value over the convex combinations of runs."""
    distances = 0.5 * np.abs(runs.mixtures - weights).sum(axis=1)
    nearest = int(distances.argmin())
    hull = 0.0 if distances[nearest] < 1e-9 else _to_hull(runs.mixtures, weights)
    return Extent(runs.ids[nearest], float(distances[nearest]), min(hull, float(distances[nearest])))


def _to_hull(mixtures: np.ndarray, weights: np.ndarray) -> float:
    """The least total variation between weights [k] and a convex combination of mixtures [R, k]: a linear program."""
    from scipy.optimize import linprog

    R, k = mixtures.shape
    gaps = np.block([[mixtures.T, -np.eye(k)], [-mixtures.T, -np.eye(k)]])
    found = linprog(
        np.concatenate([np.zeros(R), np.full(k, 0.5)]),
        A_ub=gaps,
        b_ub=np.concatenate([weights, -weights]),
        A_eq=np.concatenate([np.ones(R), np.zeros(k)])[None],
        b_eq=[1.0],
        bounds=(0, None),
        method="highs",
    )
    distance = float(found.fun) if found.status == 0 else np.inf
    return 0.0 if distance < 1e-7 else distance
