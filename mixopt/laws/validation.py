"""Cross-validation: how well a law predicts the runs that it was not fitted to."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from mixopt.errors import InputError
from mixopt.report.ranks import spearman
from mixopt.runs import Runs, Targets

from .exponential import Exponential
from .law import Law, signs


@final
@dataclass(frozen=True, eq=False)
class CrossValidation:
    """Errors of out-of-fold predictions [R, m], per target [m]: rmse and mae in target units, Spearman, R2 and regret.

    ``regret`` is the metric of the run that the predictions call best less that of the best run, as a share of what a
    run drawn at random loses: 0 is the best run, 1 is no better than chance. A value that is not defined is NaN.
    """

    targets: Targets
    predicted: np.ndarray
    folds: np.ndarray
    rmse: np.ndarray
    mae: np.ndarray
    spearman: np.ndarray
    r2: np.ndarray
    regret: np.ndarray

    def table(self) -> str:
        """One line a target and one for the mean."""
        width = max(len("target"), *map(len, self.targets.names))
        columns = ("rmse", "mae", "spearman", "r2", "regret")
        values = np.stack([getattr(self, c) for c in columns], 1)
        lines = [f"{'target':<{width}}" + "".join(f"  {c:>8}" for c in columns)]
        for name, row in zip((*self.targets.names, "mean"), (*values, values.mean(0)), strict=True):
            lines.append(f"{name:<{width}}" + "".join(f"  {v:8.4f}" for v in row))
        return "\n".join(lines)


def cross_validate(
    runs: Runs, folds: int = 5, seed: int = 0, *, law: Callable[..., Law] = Exponential.fit, **settings: Any
) -> CrossValidation:
    """Predict every run by the law fitted to the other folds, and measure the errors on the metrics that are there.

    ``law`` is the ``fit`` of a law, called as ``law(runs, **settings)``.

    Raises:
        InputError: fewer than 2 folds or more than runs, or folds whose rest cannot be fitted (see the law's ``fit``).
    """
    if not 2 <= folds <= len(runs):
        raise InputError(f"{folds} folds of {len(runs)} runs; give from 2 to {len(runs)}")
    fold = np.empty(len(runs), dtype=int)
    fold[np.random.default_rng(seed).permutation(len(runs))] = np.arange(len(runs)) % folds
    predicted = np.empty_like(runs.metrics)
    for f in range(folds):
        left = law(runs.subset(fold != f), **settings)
        predicted[fold == f] = predicted_at(left, runs.subset(fold == f))
    ways, y = signs(runs.targets), runs.metrics
    figures = np.array([_figures(s * p, s * t) for s, p, t in zip(ways, predicted.T, y.T, strict=True)])
    return CrossValidation(runs.targets, predicted, fold, *figures.T)


def _figures(predicted: np.ndarray, y: np.ndarray) -> tuple[float, float, float, float, float]:
    """rmse, mae, Spearman, R2 and regret of one target [R] to be minimised, over the runs that have it."""
    there = np.isfinite(y)
    predicted, y = predicted[there], y[there]
    errors, scatter = predicted - y, y - y.mean()
    taken = y[predicted.argmin()]
    return (
        math.sqrt((errors**2).mean()),
        float(np.abs(errors).mean()),
        spearman(predicted, y),
        float(1 - (errors**2).sum() / (scatter**2).sum()),
        float((taken - y.min()) / (y.mean() - y.min())),
    )


def predicted_at(law: Law, runs: Runs) -> np.ndarray:
    """A law's metrics [R, m] of the runs, at their own N, D and steps where it needs them."""
    return law.predict(runs.mixtures, **{name: getattr(runs, name) for name in law.needs})
