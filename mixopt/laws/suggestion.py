"""Which mixtures to run next: those whose outcome would tell most of the law's parameters."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from mixopt.errors import InputError
from mixopt.runs import Runs

from .curve import CurveLaw
from .laplace import half_hessian
from .law import At, Law
from .posterior import Posterior

_CANDIDATES, _ROUND = 2000, 3


def suggest(law: Law | Posterior, runs: Runs, n: int, *, candidates: ArrayLike | None = None, seed: int = 0) -> np.ndarray:
    """Mixtures [n, k] to run next, one after the other that which adds most to sum_j log det (J_j'J_j + ridge), D-optimal for all targets.

    Of a curve, J_j is the Jacobian of target j at its fit. Of any other law give a ``Posterior``: then the same is said of the
    draws, log(1 + variance / error^2) of what a run would show beyond those already chosen. ``candidates`` [N, k] are the
    mixtures to choose among; by default blends of two runs and draws around them, rounded to a thousandth.

    Source: Fedorov 1972, Theory of Optimal Experiments; greedy by Nemhauser, Wolsey and Fisher 1978.

    Raises:
        InputError: no n >= 1, candidates of another width or fewer than n, or a law that is neither a curve nor has draws.
    """
    table = around(runs, np.random.default_rng(seed)) if candidates is None else np.asarray(candidates, dtype=float)
    if table.ndim != 2 or table.shape[1] != len(runs.domains):
        raise InputError(f"candidates have shape {table.shape}; [N, {len(runs.domains)}] is expected, over the runs' domains")
    if not 1 <= n <= len(table):
        raise InputError(f"{n} mixtures are to be chosen out of {len(table)} candidates; choose from 1 to {len(table)}")
    features = _of_draws(law, table) if isinstance(law, Posterior) else _of_curve(law, runs, table)
    return table[greedy(features, n)]


def greedy(features: np.ndarray, n: int, *, repeats: bool = False) -> list[int]:
    """The places of n rows of features [m, N, p], one after the other that which adds most to sum_j log det (1 + sum_r f_jr f_jr').

    No row is taken twice but with ``repeats``.
    """
    chosen: list[int] = []
    for _ in range(n):
        told = (features**2).sum(axis=2)  # [m, N]
        worth = np.log1p(told).sum(axis=0)
        if not repeats:
            worth[chosen] = -np.inf
        best = int(worth.argmax())
        chosen.append(best)
        along = features[:, best]  # [m, p]
        shrink = (np.sqrt(1 + told[:, best]) - 1) / np.maximum(told[:, best] * np.sqrt(1 + told[:, best]), 1e-300)
        features = features - (features @ along[:, :, None]) * along[:, None] * shrink[:, None, None]
    return chosen


def around(runs: Runs, rng: np.random.Generator, count: int = _CANDIDATES) -> np.ndarray:
    """Candidates [N, k] near the runs: blends of two of them, and Dirichlet draws about such blends, rounded to a thousandth."""
    pairs = rng.integers(0, len(runs), (count, 2))
    share = rng.random((count, 1))
    blends = share * runs.mixtures[pairs[:, 0]] + (1 - share) * runs.mixtures[pairs[:, 1]]
    spread = np.array([rng.dirichlet(0.02 + 20 * row) for row in blends[: count // 2]])
    found = np.round(np.concatenate([blends, spread]), _ROUND)
    found = found[(found.sum(axis=1) > 0)]
    return np.unique(np.round(found / found.sum(axis=1, keepdims=True), 6), axis=0)


def _of_curve(law: Law, runs: Runs, table: np.ndarray) -> np.ndarray:
    """J L [m, N, p] with L L' the inverse of J'J + ridge: the inner products are the covariances of predictions, in shares of the error."""
    if not isinstance(law, CurveLaw):
        raise InputError(f"the {law.name} law has no Jacobian; give suggest its posterior, laws.bootstrap(fit, runs)")
    if law.requires:
        raise InputError(f"the {law.name} law needs {law.requires} of a run; suggestions are of mixtures at one scale")
    found = []
    for j in range(len(law.targets)):
        _, _, inverse = half_hessian(law, runs, j)
        values, vectors = np.linalg.eigh(inverse)
        jacobian = law.curve.of_target(j).jacobian(law.theta[[j]], At(table))[0]
        found.append(jacobian @ (vectors * np.sqrt(np.maximum(values, 0))))
    return np.array(found)


def _of_draws(posterior: Posterior, table: np.ndarray) -> np.ndarray:
    """The draws' deviations [m, N, S] in shares of the error of a run."""
    drawn = posterior.predict(table)
    scaled = posterior.widen * (drawn - drawn.mean(axis=0)) / (np.sqrt(len(drawn)) * posterior.validation.rmse)
    return np.asarray(scaled.transpose(2, 1, 0))
