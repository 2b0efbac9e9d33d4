"""Cross-validation: how well a law predicts the runs that it was not fitted to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from mixopt.errors import InputError
from mixopt.notebook import table
from mixopt.runs import Runs, Targets

from .accuracy import DRAWS, FIGURES, figures, intervals
from .exponential import Exponential
from .law import Law, signs
from .planned import Planned

Loss = Callable[[np.ndarray], np.ndarray]
"""What a mixture is judged by: losses [...], less being better, from metrics [..., m]."""


@final
@dataclass(frozen=True, eq=False)
class CrossValidation:
    """Out-of-fold predictions [R, m] of the runs, the fold of each [R], and figures per target [m].

    rmse and mae are in target units, with Spearman's correlation, R2 and the ``regret``: the metric of the run that the
    predictions call best less that of the best run, as a share of what a run drawn at random loses: 0 is the best run, 1 is no
    better than chance. A value that is not defined is NaN.
    """

    runs: Runs
    predicted: np.ndarray
    folds: np.ndarray
    rmse: np.ndarray
    mae: np.ndarray
    spearman: np.ndarray
    r2: np.ndarray
    regret: np.ndarray

    @property
    def targets(self) -> Targets:
        """The targets of the runs."""
        return self.runs.targets

    @property
    def measured(self) -> np.ndarray:
        """The metrics of the runs [R, m]."""
        return self.runs.metrics

    @property
    def pairs(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Predicted and measured losses [R] of each target, less being better."""
        ways = signs(self.targets)
        return tuple(zip((ways * self.predicted).T, (ways * self.measured).T, strict=True))

    def of(self, loss: Loss) -> dict[str, float]:
        """The figures at the level of an objective, ``loss`` [R] of metrics [R, m], over the runs that have all it needs."""
        return figures(loss(self.predicted), loss(self.measured))

    def intervals(self, level: float = 0.9, draws: int = DRAWS, seed: int = 0) -> dict[str, np.ndarray]:
        """The interval of each figure per target [m, 2], by a bootstrap over the runs.

        Raises:
            InputError: a level that is not between 0 and 1.
        """
        found = [intervals(p, y, level, draws, seed) for p, y in self.pairs]
        return {name: np.array([f[name] for f in found]) for name in FIGURES}

    def table(self, level: float | None = None) -> str:
        """One line a target and one for the mean; with a level each figure has its interval."""
        spans = None if level is None else self.intervals(level)
        width, wide = max(len("target"), *map(len, self.targets.names)), 8 if spans is None else 24
        lines = [f"{'target':<{width}}" + "".join(f"  {c:>{wide}}" for c in FIGURES)]
        for j, name in enumerate(self.targets.names):
            cells = (f"{getattr(self, c)[j]:.4f}" + ("" if spans is None else " [{:.4f}, {:.4f}]".format(*spans[c][j])) for c in FIGURES)
            lines.append(f"{name:<{width}}" + "".join(f"  {cell:>{wide}}" for cell in cells))
        means = "".join(f"  {format(getattr(self, c).mean(), '.4f') + ' ' * (wide - 8):>{wide}}" for c in FIGURES)
        return "\n".join([*lines, f"{'mean':<{width}}{means}"])

    def _repr_html_(self) -> str:
        rows = [[n, *(f"{getattr(self, c)[j]:.4f}" for c in FIGURES)] for j, n in enumerate(self.targets.names)]
        return table(["target", *FIGURES], rows, caption=f"{self.folds.max() + 1} folds of {len(self.folds)} runs")


def cross_validate(
    runs: Runs, folds: int | None = 5, seed: int = 0, *, law: Callable[..., Law] = Exponential.fit, **settings: Any
) -> CrossValidation:
    """Predict every run by the law fitted to the other folds, and measure the errors on the metrics that are there.

    ``law`` is the ``fit`` of a law, called as ``law(runs, **settings)``. ``folds=None`` leaves one run out at a time.

    Raises:
        InputError: fewer than 2 folds or more than runs, or folds whose rest cannot be fitted (see the law's ``fit``).
    """
    fold = folds_of(len(runs), folds, seed)
    predicted = np.empty_like(runs.metrics)
    for f in range(fold.max() + 1):
        left = law(runs.subset(fold != f), **settings)
        predicted[fold == f] = predicted_at(left, runs.subset(fold == f))
    return judged(runs, predicted, fold)


def judged(runs: Runs, predicted: np.ndarray, folds: np.ndarray) -> CrossValidation:
    """The cross-validation of out-of-fold predictions [R, m] in folds [R]."""
    ways = signs(runs.targets)
    found = [figures(p, y) for p, y in zip((ways * predicted).T, (ways * runs.metrics).T, strict=True)]
    each = {name: np.array([f[name] for f in found]) for name in FIGURES}
    return CrossValidation(runs, predicted, folds, **each)


def folds_of(R: int, folds: int | None, seed: int) -> np.ndarray:
    """The fold [R] of each of R runs, drawn at random; each run alone for None.

    Raises:
        InputError: fewer than 2 folds or more than runs.
    """
    count = R if folds is None else folds
    if not 2 <= count <= R:
        raise InputError(f"{count} folds of {R} runs cannot be made; give from 2 to {R}, or more runs")
    fold = np.empty(R, dtype=int)
    fold[np.random.default_rng(seed).permutation(R)] = np.arange(R) % count
    return fold


def predicted_at(law: Law, runs: Runs) -> np.ndarray:
    """A law's metrics [R, m] of the runs, at their own N, D and steps where it needs them, be it planned for others."""
    law = law.law if isinstance(law, Planned) else law
    return law.predicted(runs.mixtures, **{name: getattr(runs, name) for name in law.requires})
