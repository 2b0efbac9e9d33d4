"""How far a mixture lies from the runs that a law was fitted to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from mixopt.runs import Runs


@final
@dataclass(frozen=True)
class Extent:
    """Distances in total variation, the share of the data that would have to be another: to the nearest run and to the runs' hull.

    Within the convex hull of the runs (``hull`` 0) the law interpolates.
    """

    run: str
    nearest: float
    hull: float


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
