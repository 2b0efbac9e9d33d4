"""Figures of predictions against measurements: error, rank correlation, R2 and the regret of the decision, with intervals."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from mixopt.errors import InputError
from mixopt.report.ranks import spearman

Figure = Literal["rmse", "mae", "spearman", "r2", "regret"]
FIGURES: tuple[Figure, ...] = ("rmse", "mae", "spearman", "r2", "regret")
DRAWS = 500


def figures(predicted: np.ndarray, measured: np.ndarray) -> dict[str, float]:
    """rmse, mae, Spearman, R2 and regret of predicted against measured losses [R], less being better, over the runs that have both.

    The regret is the loss of the run that the predictions call best less that of the best run, as a share of what a run drawn at
    random loses: 0 is the best run, 1 is no better than chance. A value that is not defined is NaN.
    """
    there = np.isfinite(measured) & np.isfinite(predicted)
    p, y = predicted[there], measured[there]
    if len(y) == 0:
        return dict.fromkeys(FIGURES, math.nan)
    errors, scatter = p - y, y - y.mean()
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # a law may be off by more than squares can tell
        squares = errors**2
        r2 = 1 - np.divide(squares.sum(), (scatter**2).sum())
        regret = np.divide(y[p.argmin()] - y.min(), y.mean() - y.min())
    return {
        "rmse": math.sqrt(squares.mean()),
        "mae": float(np.abs(errors).mean()),
        "spearman": spearman(p, y),
        "r2": float(r2),
        "regret": float(regret),
    }


def expected_regret(predicted: np.ndarray, measured: np.ndarray, pool: int | None = None) -> float:
    """The regret expected of ``pool`` runs drawn at random with replacement, as many as there are by default, without drawing any.

    One regret is one decision and tells little. Of runs in the order of their predictions, the i-th of R is the best of q that are
    drawn with probability ((R - i)/R)^q - ((R - i - 1)/R)^q, i = 0, ..., R - 1; so is the i-th in the order of the measurements,
    and the regret expected is the difference of the two means, in shares of what a random run loses. Losses [R], NaN left out.

    Raises:
        InputError: a pool of fewer than 2 runs.
    """
    if pool is not None and pool < 2:
        raise InputError(f"a pool of {pool} runs leaves nothing to choose; give at least 2")
    there = np.isfinite(measured) & np.isfinite(predicted)
    p, y = predicted[there], measured[there]
    if len(y) < 2 or np.ptp(y) == 0:
        return math.nan
    left = np.linspace(1, 0, len(y) + 1) ** (len(y) if pool is None else pool)
    first = left[:-1] - left[1:]
    best = first @ np.sort(y)
    return float((first @ _by_prediction(p, y) - best) / (y.mean() - best))


def _by_prediction(predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Measurements [R] in the order of their predictions; runs that are predicted alike each count by the mean of them."""
    _, group = np.unique(predicted, return_inverse=True)
    means = np.bincount(group, measured) / np.bincount(group)
    return np.asarray(means[np.sort(group)])


def intervals(
    predicted: np.ndarray, measured: np.ndarray, level: float = 0.9, draws: int = DRAWS, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """The interval of each figure: what lies between its quantiles when the runs [R] are drawn again with replacement.

    Raises:
        InputError: a level that is not between 0 and 1, or fewer than 2 draws.
    """
    if not 0 < level < 1:
        raise InputError(f"the level is {level}; it is a share between 0 and 1, such as 0.9")
    if draws < 2:
        raise InputError(f"{draws} draws tell no interval; give at least 2, or 500 as by default")
    rng = np.random.default_rng(seed)
    found = [figures(predicted[again], measured[again]) for again in rng.integers(0, len(measured), (draws, len(measured)))]
    sides = ((1 - level) / 2, (1 + level) / 2)
    kept = {name: np.array([f[name] for f in found]) for name in FIGURES}
    return {name: _span(values[np.isfinite(values)], sides) for name, values in kept.items()}


def _span(values: np.ndarray, sides: tuple[float, float]) -> tuple[float, float]:
    if len(values) == 0:
        return math.nan, math.nan
    low, high = np.quantile(values, sides)
    return float(low), float(high)
