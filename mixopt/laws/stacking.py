"""How much each of several laws counts in a blend of them: half by the errors, half by the decisions of their held-out predictions."""

from __future__ import annotations

import numpy as np

from mixopt.errors import InputError

from .accuracy import expected_regret

LEAST = 0.05
"""A law that would count for less is left out."""
_FLOOR = 0.01
"""Regrets below this, in shares of what a random run loses, are much the same: the decisions of so few runs tell them no better."""
_FARTHEST = 1e3


def shares_of(predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """The share [L] of each of L laws, from held-out losses [L, P, R] in P repetitions of the folds, and those measured [R].

    Half are the weights on the simplex whose blend has the least squared error (stacking); half go by 1 / (regret + 0.01)^2, with the
    expected regret of each law's decisions (``accuracy.expected_regret``). The first alone favours laws that are right on average,
    the second laws that happened to decide well; each is poor somewhere, and their mean decides about as well as the best single law,
    whichever that is.

    The rule was settled on RegMix's training runs alone: of some forty rules, by the regret on the training runs outside subsets of 34
    (14 of them), 64 (8) and 128 (3) runs, on single targets and on their mean.

    Source: Breiman 1996, Stacked regressions, Machine Learning 24, 49-64, for the first half.

    Raises:
        InputError: fewer than 3 runs that have all that the objective needs.
    """
    there = np.isfinite(measured)
    if there.sum() < 3:
        raise InputError(f"only {int(there.sum())} runs have all targets of the objective; drop the targets that most runs lack")
    y = measured[there]
    reach = _FARTHEST * (np.ptp(y) or 1.0)
    p = np.nan_to_num(predicted[:, :, there], nan=y.max() + reach, posinf=y.max() + reach, neginf=y.min() - reach)
    p = np.clip(p, y.min() - reach, y.max() + reach)
    errors = _least_squares((p - y).reshape(len(p), -1))
    regrets = np.array([np.mean([expected_regret(one, y) for one in each]) for each in p])
    decisions = 1 / (regrets + _FLOOR) ** 2
    found = (errors + (decisions / decisions.sum() if np.isfinite(decisions).all() else errors)) / 2
    found = np.where(found < LEAST, 0.0, found)
    return np.asarray(found / found.sum())


def _least_squares(errors: np.ndarray) -> np.ndarray:
    """The point a [L] of the simplex of the least |a' errors|^2, errors [L, n]: non-negative least squares with a row for the sum.

    The least |a' errors|^2 + (1 - sum a)^2 over a >= 0 is at a multiple of it.
    """
    from scipy.optimize import nnls

    size = np.sqrt((errors**2).mean()) or 1.0
    found, _ = nnls(np.vstack([errors.T / size, np.ones(len(errors))]), np.append(np.zeros(errors.shape[1]), 1.0))
    return np.asarray(found / found.sum())
