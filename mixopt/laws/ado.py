"""ADO's law of one domain's training curve: a floor and a power of the tokens seen so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, final

import numpy as np

from mixopt.errors import InputError
from mixopt.runs import Runs

from .curve import CurveLaw
from .law import signs
from .least_squares import Settings
from .scaling import BILLION, ScaleCurve

_GRID = (np.arange(-2.0, 6.0), np.arange(-2.0, 2.0, 0.5), np.arange(0.0, 0.75, 0.1))
_FINALISTS = 8
_DELTA = 1e-3


@final
@dataclass(frozen=True, eq=False)
class ADO(CurveLaw):
    """L_i(n) = epsilon_i + beta_i / n^alpha_i, n in billions of tokens that the run has seen in all, whatever the mixture.

    The runs are the checkpoints of one run, their ``tokens`` what it had seen and their targets the losses by domain. The slope
    d L_i / d n is what ADO weighs domains by. Short curves say little about alpha: read ``fitted.identified`` and the error of a
    prediction further on.

    Source: Jiang et al. 2024, arXiv 2410.11820, section 3; code yidingjiang/ado (where n counts the samples of all domains).
    """

    name: ClassVar[str] = "ado"
    needs: ClassVar[tuple[str, ...]] = ("tokens",)

    @classmethod
    def fit(cls, runs: Runs, *, faithful_to: Literal["code"] | None = None, context: int = 1024) -> ADO:
        """Fit every domain's curve: by default least squares of the losses, from a grid over alpha with the rest by NNLS.

        ``faithful_to="code"`` minimises what the released code does: Huber of width 1e-3 on log losses, plus the excess of alpha over
        0.8, of a over 6.5, of 0.5 over e and of 0 over alpha, where the law is exp(e) + exp(a) / n^alpha and n counts samples of
        ``context`` tokens. So no floor lies much below exp(0.5) = 1.65 nats, too high for code and mathematics. Its 512
        starts of L-BFGS are replaced by the best 8 of them and a method for kinks. Its smoothing (Savitzky-Golay of width 101 and
        order 3, every tenth step, without the first 1000) is the caller's.

        Raises:
            InputError: runs without tokens, fewer than 4, losses that are not > 0 (code), or a constant target.
        """
        law = cls.fitted_to(runs, ScaleCurve(("tokens",)), Settings())
        if faithful_to is None:
            return law
        if faithful_to != "code":
            raise InputError(f"faithful_to is {faithful_to!r}; it is 'code', or left out for least squares of the losses")
        losses = signs(runs.targets) * runs.metrics
        if np.nanmin(losses) <= 0:
            raise InputError("the code of ADO fits log losses, and some are not > 0; leave those targets out, or leave faithful_to out")
        samples = np.asarray(runs.tokens) / context
        theta = np.array([as_in_code(samples[there], y[there]) for y in losses.T for there in (np.isfinite(y),)])
        a, e, alpha = theta.T
        theta = np.stack([np.exp(e), a - alpha * np.log(BILLION / context), alpha], axis=1)
        found = replace(law, theta=theta)
        rmse = np.sqrt(np.nanmean((found.predicted(runs.mixtures, tokens=runs.tokens) - runs.metrics) ** 2, axis=0))
        return replace(found, fitted=replace(law.fitted, rmse=rmse))

    @classmethod
    def shape(cls, content: Mapping[str, Any]) -> ScaleCurve:
        return ScaleCurve(("tokens",))

    def slopes(self, tokens: float) -> np.ndarray:
        """d L_i / d n at this many tokens seen [m], in the targets' units per billion tokens."""
        n = tokens / BILLION
        _, a, alpha = self.theta.T
        found: np.ndarray = -self.sign * alpha * np.exp(a) * n ** (-alpha - 1)
        return found


def code_objective(theta: np.ndarray, samples: np.ndarray, y: np.ndarray, weight: float = 1.0) -> np.ndarray:
    """What ADO's code minimises [B] over a, e and alpha [B, 3], for losses y [T] after so many samples [T], each ``weight`` times."""
    a, e, alpha = theta.T
    hinges = np.stack([alpha - 0.8, a - 6.5, 0.5 - e])
    return weight * _huber(theta, samples, y) + np.maximum(hinges, 0).sum(axis=0) + np.maximum(-alpha, -0.001)


def _huber(theta: np.ndarray, samples: np.ndarray, y: np.ndarray) -> np.ndarray:
    a, e, alpha = theta.T[:, :, None]
    gap = np.abs(np.logaddexp(a - alpha * np.log(samples), e) - np.log(y))
    return np.where(gap > _DELTA, _DELTA * (gap - _DELTA / 2), gap**2 / 2).sum(axis=1)


def as_in_code(samples: np.ndarray, y: np.ndarray, weight: float = 1.0) -> np.ndarray:
    """a, e and alpha [3] of one curve: the least of ``code_objective``.

    Each kink of a penalty is a slack variable, so that the objective is smooth.
    """
    from scipy.optimize import minimize

    grid = np.stack(np.meshgrid(*_GRID, indexing="ij"), axis=-1).reshape(-1, 3)
    starts = grid[np.argsort(code_objective(grid, samples, y, weight))[:_FINALISTS]]
    sides = np.array([[0, 0, 1], [1, 0, 0], [0, -1, 0], [0, 0, -1]])  # hinge h = sides @ (a, e, alpha) - at
    at = np.array([0.8, 6.5, -0.5, 0.0])
    least = np.array([0, 0, 0, -0.001])

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        a, e, alpha = x[:3]
        powers = a - alpha * np.log(samples)
        total = np.logaddexp(powers, e)
        gap = total - np.log(y)
        pull, share = weight * np.clip(gap, -_DELTA, _DELTA), np.exp(powers - total)
        slope = [(pull * share).sum(), (pull * (1 - share)).sum(), -(pull * share * np.log(samples)).sum()]
        return float(weight * _huber(x[None, :3], samples, y)[0] + x[3:].sum()), np.array([*slope, 1, 1, 1, 1])

    above = {"type": "ineq", "fun": lambda x: x[3:] - sides @ x[:3] + at, "jac": lambda x: np.hstack([-sides, np.eye(4)])}
    found = []
    for start in starts:
        x = np.append(start, np.maximum(sides @ start - at, least))
        bounds = [(None, None)] * 3 + [(low, None) for low in least]
        tight = {"ftol": 1e-14, "maxiter": 300}
        end = minimize(objective, x, jac=True, method="SLSQP", bounds=bounds, constraints=above, options=tight)
        found.append(end.x[:3])
    ends = np.array(found)
    best: np.ndarray = ends[np.argmin(code_objective(ends, samples, y, weight))]
    return best
