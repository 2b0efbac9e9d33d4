"""A Gaussian process a target: smooth interpolation of the runs with a doubt that grows away from them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import cho_solve, cholesky, solve_triangular

from mixopt.errors import InputError, MissingExtraError
from mixopt.language.atoms import exp, stack, sum_squares
from mixopt.language.domains import Domains
from mixopt.language.expression import Expr, constant
from mixopt.runs import Runs, Targets

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

    Needs scikit-learn to be fitted (``pip install 'mixopt[trees]'``), and nothing to predict.

    Source: Rasmussen and Williams 2006, Gaussian Processes for Machine Learning, Eq. 2.25 and 5.8; Olmix's regression "gp".
    """

    mixtures: np.ndarray
    observed: np.ndarray
    kernel: np.ndarray

    name: ClassVar[str] = "gaussian-process"

    @classmethod
    def fit(cls, runs: Runs, *, noise: float = 1e-4, restarts: int = 2, seed: int = 0) -> GaussianProcess:
        """Find amplitude, length and noise of every target by the largest marginal likelihood, from ``restarts`` + 1 starts.

        ``noise`` is where the search for the noise begins, as a share of the target's variance; it ends between 1e-10 and 1.

        Raises:
            InputError: fewer than 5 runs of a target, a constant target, or a setting out of range.
            MissingExtraError: scikit-learn is not installed.
        """
        process, kernels, failed = _sklearn()
        if not 1e-10 <= noise <= 1 or restarts < 0:
            raise InputError(f"noise is {noise!r} and restarts {restarts!r}; noise lies between 1e-10 and 1, and restarts are >= 0")
        losses = signs(runs.targets) * runs.metrics
        found, ended = [], []
        for name, y in zip(runs.targets.names, losses.T, strict=True):
            there = np.isfinite(y)
            if there.sum() < FEWEST or np.ptp(y[there]) == 0:
                raise InputError(f"the target {name!r} has {there.sum()} runs that vary; a Gaussian process needs {FEWEST} at least")
            shape = kernels.ConstantKernel(1.0, (1e-3, 1e5)) * kernels.RBF(0.5, (1e-2, 1e2)) + kernels.WhiteKernel(noise, (1e-10, 1.0))
            model = process(shape, normalize_y=True, n_restarts_optimizer=restarts, random_state=seed)
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                model.fit(runs.mixtures[there], y[there])
            found.append(np.exp(model.kernel_.theta))
            ended.append(not any(issubclass(w.category, failed) and "LIMIT" in str(w.message) for w in said))
        m, counts = len(runs.targets), np.isfinite(losses).sum(axis=0)
        blank = Fit(runs.mixtures.max(axis=0), counts, np.zeros(m), np.array(ended), np.full(m, 3))
        law = cls(runs.domains, runs.targets, blank, runs.mixtures, losses, np.array(found))
        errors = law.predicted(runs.mixtures) - runs.metrics
        return replace(law, fitted=replace(blank, rmse=np.sqrt(np.nanmean(errors**2, axis=0))))

    @cached_property
    def _factors(self) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray, float, float], ...]:
        """Of each target its runs' mixtures, the Cholesky factor of their covariance, K^-1 y, and the mean and spread of y."""
        parts = []
        for y, (amplitude, length, noise) in zip(self.observed.T, self.kernel, strict=True):
            there = np.isfinite(y)
            x, mean, spread = self.mixtures[there], float(y[there].mean()), float(y[there].std())
            covariance = amplitude * _near(x, x, length) + (noise + 1e-10) * np.eye(len(x))
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
    apart = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1)[None] - 2 * x @ y.T
    return np.asarray(np.exp(-np.maximum(apart, 0.0) / (2 * length**2)))


def _sklearn() -> tuple[Any, Any, Any]:
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor, kernels
    except ImportError:
        raise MissingExtraError("scikit-learn", "trees", "the gaussian-process law") from None
    return GaussianProcessRegressor, kernels, ConvergenceWarning
