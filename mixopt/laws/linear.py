"""The linear law of data mixing: A . w for each target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import numpy as np

from mixopt.language.atoms import stack
from mixopt.language.domains import Domains
from mixopt.language.expression import Expr, constant
from mixopt.runs import Runs

from .curve import Curve, CurveLaw, centred, spread
from .law import At
from .least_squares import Settings
from .starts import slopes


@final
@dataclass(frozen=True)
class LinearCurve(Curve):
    """A . w; theta is A [k], the losses on each domain alone."""

    before_slopes: ClassVar[int | None] = 0

    def parameters(self, domains: Domains) -> tuple[str, ...]:
        return tuple(f"A[{name}]" for name in domains)

    def value(self, theta: np.ndarray, at: At) -> np.ndarray:
        found: np.ndarray = theta @ at.mixtures.T
        return found

    def jacobian(self, theta: np.ndarray, at: At) -> np.ndarray:
        return np.broadcast_to(at.mixtures, (len(theta), *at.mixtures.shape))

    def penalty(self, k: int) -> np.ndarray:
        """The slopes about their mean, so that the level is free."""
        return centred(k, 0)

    def wary(self, mixtures: np.ndarray) -> np.ndarray:
        return spread(mixtures)[:, None] * centred(mixtures.shape[1], 0)

    def starts(self, at: At, y: np.ndarray, settings: Settings) -> np.ndarray:
        """The least squares themselves, in closed form; under Huber reweighted a few times."""
        weights = np.ones_like(y) if at.weights is None else at.weights
        return slopes(at.mixtures, y[None], weights[None], settings.rows(self, at), settings, lambda a: a @ at.mixtures.T - y)

    def expression(self, theta: np.ndarray, w: Expr, names: tuple[str, ...], scale: Mapping[str, float]) -> Expr:
        return stack([constant(a) @ w for a in theta], index=names)


@final
@dataclass(frozen=True, eq=False)
class Linear(CurveLaw):
    """L_j(w) = A_j . w for each target j, in the target's unit: the one law that is affine, so that its best mixture is a vertex.

    ``A`` [m, k] are the predicted metrics of each domain alone; on the simplex an intercept would be a constant added to them.
    What is best by it lies at the limits of the problem: give caps or a KL term. It ranks worse than the curved laws.

    Source: Liu et al. 2024, arXiv 2407.01492 (RegMix), section 3.
    """

    name: ClassVar[str] = "linear"

    @classmethod
    def fit(cls, runs: Runs, ridge: float | Literal["auto"] = "auto", loss: str = "linear", huber_delta: float = 0.02) -> Linear:
        """Fit every target by least squares in closed form, sum_r rho(L(w_r) - y_r) + ridge sum_i (A_i - mean A)^2.

        The settings are those of ``Exponential.fit``. RegMix's ridge of scikit-learn is this one with the slopes about 0, not
        about their mean, and an intercept.

        Raises:
            InputError: no more runs than the k parameters, or mixtures that do not tell them apart, without a ridge in numbers;
                a constant target; a setting out of range.
        """
        return cls.fitted_to(runs, LinearCurve(), Settings(ridge, loss, huber_delta))

    @property
    def A(self) -> np.ndarray:  # noqa: N802 - the letter of the other laws
        """The metrics of each domain alone [m, k]."""
        found: np.ndarray = self.sign[:, None] * self.theta
        return found

    @classmethod
    def shape(cls, content: Mapping[str, Any]) -> LinearCurve:
        return LinearCurve()
