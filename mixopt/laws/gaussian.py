"""A Gaussian process a target: smooth interpolation of the runs with a doubt that grows away from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import cho_solve, cholesky, solve_triangular

from mixopt.errors import InputError
from mixopt.language.atoms import exp, stack, sum_squares
from mixopt.language.domains import Domains
from mixopt.language.expression import Expr, constant
from mixopt.runs import Runs, Targets

from .evidence import JITTER, distances, kernels
from .law import At, Fit, Law, array, bound, signs

FEWEST = 5


@final
@dataclass(frozen=True, eq=False)
class GaussianProcess(Law):
    """L_j(w) = s_j (mean_j + scale_j sum_r a_jr exp(-|w - w_r|^2 / (2 l_j^2))): the posterior mean of a process with a Gaussian kernel.

    ``kernel`` [m, 3] are the amplitude, the length l and the noise of each target, in units of the target's spread and of weights,
    found by the marginal likelihood; ``mixtures`` [R, k] and ``observed`` [R, m] are the runs and their losses (NaN where one lacks
    the target). The mean is smooth and not convex: ``Projected`` descends it to a local optimum, ``Simulation`` and ``Grid`` search
    it. ``deviation`` tells the doubt, which is large away from the runs, where the mean falls back to that of all runs.

    Source: Rasmussen and Williams 2006, Gaussian Processes for Machine Learning, Eq. 2.25 and 5.8; Olmix's regression "gp".
    """

    mixtures: np.ndarray
    observed: np.ndarray
    kernel: np.ndarray

    name: ClassVar[str] = "gaussian-process"

    @classmethod
    def fit(cls, runs: Runs) -> GaussianProcess:
        """Find amplitude, length and noise of every target by the largest marginal likelihood (``evidence.kernels``).

        Every run counts the same; where the table has weights, a note says that they were left aside.

        Raises:
            InputError: fewer than 5 runs of a target, or a constant target.
        """
        losses = signs(runs.targets) * runs.metrics
        there = np.isfinite(losses)
        for name, y, known in zip(runs.targets.names, losses.T, there.T, strict=True):
            if known.sum() < FEWEST or np.ptp(y[known]) == 0:
                raise InputError(f"the target {name!r} has {known.sum()} runs that vary; a Gaussian process needs {FEWEST} at least")
        m = len(runs.targets)
        kernel, ended = np.empty((m, 3)), np.empty(m, dtype=bool)
        for rows in np.unique(there, axis=1).T:  # targets that the same runs have share their distances
            own = (there == rows[:, None]).all(axis=0)
            y = losses[rows][:, own]
            kernel[own], ended[own] = kernels(runs.mixtures[rows], (y - y.mean(axis=0)) / y.std(axis=0))
        aside = (
            () if runs.weights is None or not np.ptp(runs.weights) else ("the weights of the runs were left aside: each counts the same",)
        )
        blank = Fit(runs.mixtures.max(axis=0), there.sum(axis=0), np.zeros(m), ended, np.full(m, 3), aside)
        law = cls(runs.domains, runs.targets, blank, runs.mixtures, losses, kernel)
        errors = law.predicted(runs.mixtures) - runs.metrics
        return replace(law, fitted=replace(blank, rmse=np.sqrt(np.nanmean(errors**2, axis=0))))

    @cached_property
    def _factors(self) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray, float, float], ...]:
        """Of each target its runs' mixtures, the Cholesky factor of their covariance, K^-1 y, and the mean and spread of y."""
        parts = []
        for y, (amplitude, length, noise) in zip(self.observed.T, self.kernel, strict=True):
            there = np.isfinite(y)
            x, mean, spread = self.mixtures[there], float(y[there].mean()), float(y[there].std())
            covariance = amplitude * _near(x, x, length) + (noise + JITTER) * np.eye(len(x))
            lower = cholesky(covariance, lower=True)
            parts.append((x, lower, cho_solve((lower, True), (y[there] - mean) / spread), mean, spread))
        return tuple(parts)

    def _losses_at(self, at: At) -> np.ndarray:
        columns = [
            mean + spread * amplitude * (_near(at.mixtures, x, length) @ solved)
            for (x, _, solved, mean, spread), (amplitude, length, _) in zip(self._factors, self.kernel, strict=True)
        ]
        return np.column_stack(columns)

    def deviation(self, mixtures: ArrayLike) -> np.ndarray:
        """The standard deviation [R, m] of the metric without noise at mixtures [R, k], in the targets' units."""
        rows, columns = np.atleast_2d(np.asarray(mixtures, dtype=float)), []
        for (x, lower, _, _, spread), (amplitude, length, _) in zip(self._factors, self.kernel, strict=True):
            known = solve_triangular(lower, amplitude * _near(x, rows, length), lower=True)
            columns.append(spread * np.sqrt(np.maximum(amplitude - (known**2).sum(axis=0), 0.0)))
        return np.column_stack(columns)

    def losses(self, w: Expr, **scale: float) -> Expr:
        """s_j L_j(w) as a smooth expression [m]: metrics with the sign that makes less better."""
        self.scale(**scale)
        return stack([self.loss_of(j, w) for j in range(len(self.targets))], self.targets.names)

    def loss_of(self, j: int, w: Expr, **scale: float) -> Expr:
        """One target as a smooth expression [] of its own."""
        self.scale(**scale)
        own = bound(w, self.domains)
        (x, _, solved, mean, spread), (amplitude, length, _) = self._factors[j], self.kernel[j]
        at = constant(x / length**2) @ own - constant((x**2).sum(axis=1) / (2 * length**2)) - sum_squares(own) / (2 * length**2)
        return constant(spread * amplitude * solved) @ exp(at) + mean

    def content(self) -> dict[str, Any]:
        told = [[None if np.isnan(v) else v for v in row] for row in self.observed.tolist()]
        return {"mixtures": self.mixtures.tolist(), "losses": told, "kernel": self.kernel.tolist()}

    @classmethod
    def restored(cls, domains: Domains, targets: Targets, fitted: Fit, content: Mapping[str, Any]) -> GaussianProcess:
        count, m = len(content["mixtures"]), len(targets)
        kernel = array(content["kernel"], (m, 3))
        if not (np.isfinite(kernel) & (kernel > 0)).all():
            raise ValueError("a kernel is not > 0")
        return cls(
            domains, targets, fitted, array(content["mixtures"], (count, len(domains))), array(content["losses"], (count, m)), kernel
        )


def _near(x: np.ndarray, y: np.ndarray, length: float) -> np.ndarray:
    """exp(-|x_i - y_j|^2 / (2 l^2)) [n, q]."""
    return np.asarray(np.exp(-distances(x, y) / (2 * length**2)))
