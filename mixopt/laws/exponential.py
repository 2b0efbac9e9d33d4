"""The exponential law of data mixing: c + exp(A . w) for each target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import numpy as np

from mixopt.language.atoms import exp
from mixopt.language.domains import Domains
from mixopt.language.expression import Expr, constant
from mixopt.runs import Runs

from .curve import Curve, CurveLaw, centred, lowest, spread
from .law import At
from .least_squares import Settings
from .starts import floors, slopes


@final
@dataclass(frozen=True)
class ExponentialCurve(Curve):
    """c + exp(A . w); theta is c and A [k]."""

    before_slopes: ClassVar[int | None] = 1

    def parameters(self, domains: Domains) -> tuple[str, ...]:
        return ("c", *(f"A[{name}]" for name in domains))

    def value(self, theta: np.ndarray, at: At) -> np.ndarray:
        found: np.ndarray = theta[:, :1] + np.exp(theta[:, 1:] @ at.mixtures.T)
        return found

    def jacobian(self, theta: np.ndarray, at: At) -> np.ndarray:
        risen = np.exp(theta[:, 1:] @ at.mixtures.T)
        return np.concatenate([np.ones((*risen.shape, 1)), risen[:, :, None] * at.mixtures], axis=2)

    def bounds(self, at: At, y: np.ndarray) -> np.ndarray:
        found = super().bounds(at, y)
        found[0, 0] = lowest(y)
        return found

    def bend(self, theta: np.ndarray, at: At, pull: np.ndarray) -> np.ndarray:
        risen = np.exp(theta[:, 1:] @ at.mixtures.T) * pull
        found = np.zeros((*theta.shape, theta.shape[1]))
        found[:, 1:, 1:] = (at.mixtures.T * risen[:, None]) @ at.mixtures
        return found

    def penalty(self, k: int) -> np.ndarray:
        """The slopes about their mean, which a constant added to all of them does not change on the simplex."""
        return centred(k, 1)

    def wary(self, mixtures: np.ndarray) -> np.ndarray:
        return spread(mixtures)[:, None] * centred(mixtures.shape[1], 1)

    def starts(self, at: At, y: np.ndarray, settings: Settings) -> np.ndarray:
        """Variable projection: for each trial floor c, log(y - c) is linear in w; least squares weighted by y - c gives A.

        Under a robust rho the least squares are reweighted a few times, and the floor is sought below the lower tenth, so that
        neither a high nor a low outlier decides where the fit begins; runs below the floor do not count.
        """
        c = floors(y, settings)
        above = np.maximum(y - c[:, None], 0)
        logs = np.log(np.where(above > 0, above, 1))
        rows = settings.rows(self, at)[:, 1:]
        a = slopes(at.mixtures, logs, above**2, rows, settings, lambda a: np.exp(a @ at.mixtures.T) - above)
        return np.column_stack([c, a])

    def expression(self, theta: np.ndarray, w: Expr, names: tuple[str, ...], scale: Mapping[str, float]) -> Expr:
        return constant(theta[:, 0], index=names) + exp(constant(theta[:, 1:]) @ w)


@final
@dataclass(frozen=True, eq=False)
class Exponential(CurveLaw):
    """L_j(w) = s_j (c_j + exp(A_j . w)) for each target j, in the target's unit; s_j L_j is convex in w whatever the signs of A.

    ``c`` [m], ``A`` [m, k]; the sign s_j is 1 for a target to be minimised and -1 for one to be maximised, which is fitted
    by its negative. There is no factor before exp: on the simplex it is the same as a constant added to A_j. One target alone is best at a
    vertex of the simplex (``law[target].vertex``); mixtures come from several targets, a KL term or caps.

    Source: Ye et al. 2024, arXiv 2403.16952, Eq. 7, without the redundant factor; Chen et al. 2026, arXiv 2602.12237.
    """

    name: ClassVar[str] = "exponential"

    @classmethod
    def fit(cls, runs: Runs, ridge: float | Literal["auto"] = "auto", loss: str = "linear", huber_delta: float = 0.02) -> Exponential:
        """Fit every target by least squares to the runs that have it, from a variable-projection start with the analytic Jacobian.

        Minimises sum_r rho(L(w_r) - y_r) + ridge sum_i (A_i - mean A)^2 for each target: rho is the square, or with
        ``loss="huber"`` the square up to ``huber_delta`` (target units) and linear beyond. As in both sources a floor c is
        >= 0 where all values (of a target to be minimised) are > 0; else it stays within 100 times their spread below the
        smallest. A ridge (target units squared) is for few runs: "auto" takes none with 8 runs a parameter or more, and below
        chooses each target's by cross-validation, a slope counting by its domain's spread in the runs. Huber is for runs that went
        wrong; plain squares fit clean tables best.

        Raises:
            InputError: no more runs than the k + 1 parameters, or mixtures that do not tell them apart, without a ridge in numbers;
                a constant target; a setting out of range.
        """
        return cls.fitted_to(runs, ExponentialCurve(), Settings(ridge, loss, huber_delta))

    @classmethod
    def olmix(cls, runs: Runs) -> Exponential:
        """Olmix's log-linear law as its code fits it: Huber of 0.02, and no ridge; the same objective without its 300 random starts.

        Of the fit their code's optimiser takes exp(A . w) alone: the floors c are no part of its objective.

        Source: Chen et al. 2026, arXiv 2602.12237; code allenai/olmix.
        """
        return cls.fit(runs, ridge=0.0, loss="huber", huber_delta=0.02)

    @property
    def c(self) -> np.ndarray:
        """The floors [m], in the targets' units."""
        return self.theta[:, 0]

    @property
    def A(self) -> np.ndarray:  # noqa: N802 - the source's letter
        """The slopes [m, k]."""
        return self.theta[:, 1:]

    @classmethod
    def shape(cls, content: Mapping[str, Any]) -> ExponentialCurve:
        return ExponentialCurve()
