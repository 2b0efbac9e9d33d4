"""A ridge chosen from the runs: each target's by cross-validation of the fits along a path of ridges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from .levenberg import Squares, descend

FOLDS = 20
"""At most so many parts of the runs are left out in turn."""
PLENTY = 8
"""With this many runs a parameter a ridge changes little, and none is taken."""
MOVES = 4
"""At most so many steps lead from the fit to all runs to that without a fold."""
_FEWEST, _WORK = 5, 2e8
"""With many runs and domains there are fewer folds and steps: numbers that one step over the folds may touch."""
TIE = 1.02
"""The strongest ridge is taken whose error is within this factor of the least."""
SHARES = (0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5)
"""The ridges that are tried, as shares of the variance of a target's losses, the strongest first. None is not among them: of so few runs
cross-validation now and then likes it best by chance, and between them the law then says ten times the spread of the target and more. On 13
targets of RegMix's training runs, error on unseen ones in spreads of the target, with none and with 1e-5 as the least: 34 runs,
exponential 0.67 and 0.54 (at most 10.4 and 1.9), additive power 1.03 and 0.35 (19.6 and 1.0); 64 runs, additive power 0.49 and 0.28."""


def chosen(problem: Squares, start: Callable[[int, float], np.ndarray]) -> np.ndarray:
    """The ridge of each of the m targets [m] whose fits predict held-out runs best, by their mean squared error over 20 folds.

    ``start(j, ridge)`` tells where a target's fit begins under the strongest ridge; each next ridge begins where the last one
    ended. Under Huber errors count by its rho.
    """
    m, R = problem.y.shape
    p = problem.penalty.shape[0]
    few = np.flatnonzero((problem.v > 0).sum(axis=1) < PLENTY * p)
    if not len(few):
        return np.zeros(m)
    part = problem.rows(few)
    counts = part.v.sum(axis=1)
    means = (part.v * part.y).sum(axis=1) / counts
    spread = (part.v * (part.y - means[:, None]) ** 2).sum(axis=1) / counts
    room = _WORK / (R * p * p)
    folds, moves = int(np.clip(room, _FEWEST, min(FOLDS, R))), int(np.clip(room, 1, MOVES))
    fold = np.random.default_rng(0).permutation(R) % folds
    kept, whose = np.tile(fold[None] != np.arange(folds)[:, None], (len(few), 1)), np.repeat(np.arange(len(few)), folds)
    spread_out = part.rows(whose)
    fitted, left = replace(spread_out, v=spread_out.v * kept), replace(spread_out, v=spread_out.v * ~kept, ridge=np.zeros(len(whose)))
    theta = np.concatenate([start(int(j), SHARES[0] * spread[i])[:1] for i, j in enumerate(few)])
    errors = []
    for share in SHARES:
        theta, _, _ = descend(replace(part, ridge=share * spread), theta, gain=1e-6)
        without, _, _ = descend(replace(fitted, ridge=share * spread[whose]), theta[whose], moves, 1e-4)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            errors.append(left.cost(without).reshape(-1, folds).sum(axis=1))
    found = np.zeros(m)
    found[few] = np.array(SHARES)[np.argmax(np.array(errors) <= TIE * np.min(errors, axis=0), axis=0)] * spread
    return found
