"""The exponential law of data mixing: c + exp(A . w) for each target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from mixopt.language.atoms import exp
from mixopt.language.domains import Domains
from mixopt.language.expression import Expr, constant
from mixopt.runs import Runs

from .curve import Curve, CurveLaw
from .law import At
from .least_squares import Settings, rho_of

_START_GAPS = np.geomspace(1e-3, 1e2, 60)
_FARTHEST_FLOOR = 1e2
_REWEIGHTINGS = 10


@final
@dataclass(frozen=True)
class ExponentialCurve(Curve):
    """c + exp(A . w); theta is c and A [k]."""

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
        found[0, 0] = _lowest(y)
        return found

    def penalty(self, k: int) -> np.ndarray:
        """The slopes about their mean, which a constant added to all of them does not change on the simplex."""
        return np.hstack([np.zeros((k, 1)), np.eye(k) - 1 / k])

    def starts(self, at: At, y: np.ndarray, settings: Settings) -> np.ndarray:
        """Variable projection: for each trial floor c, log(y - c) is linear in w; least squares weighted by y - c gives A.

        Under a robust rho the least squares are reweighted a few times, and the floor is sought below the lower tenth, so that
        neither a high nor a low outlier decides where the fit begins; runs below the floor do not count.
        """
        robust = settings.loss == "huber"
        w, centre = at.mixtures, settings.rows(self, at.mixtures.shape[1])[:, 1:]
        rho, delta, lowest = rho_of(settings.loss, len(y)), settings.huber_delta, _lowest(y)
        low, high = np.quantile(y, (0.1, 0.9)) if robust else (y.min(), y.max())
        starts = []
        for gap in _START_GAPS * (high - low or np.ptp(y)):
            c = max(low - gap, lowest)
            above = np.maximum(y - c, 0)
            logs = np.log(np.where(above > 0, above, 1))
            trust = np.ones_like(y)
            for _ in range(_REWEIGHTINGS if robust else 1):
                rows = w * (above * trust)[:, None]
                gram = rows.T @ rows + centre.T @ centre
                gram.flat[:: len(gram) + 1] += 1e-12 * np.trace(gram) + np.finfo(float).tiny
                a = np.linalg.solve(gram, rows.T @ (above * trust * logs))
                trust = np.sqrt(rho(((np.exp(w @ a) - above) / delta) ** 2)[1])
            starts.append(np.append(c, a))
        return np.array(starts)

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
    def fit(cls, runs: Runs, ridge: float = 0.0, loss: str = "linear", huber_delta: float = 0.02) -> Exponential:
        """Fit every target by least squares to the runs that have it, from a variable-projection start with the analytic Jacobian.

        Minimises sum_r rho(L(w_r) - y_r) + ridge sum_i (A_i - mean A)^2 for each target: rho is the square, or with
        ``loss="huber"`` the square up to ``huber_delta`` (target units) and linear beyond. As in both sources a floor c is
        >= 0 where all values (of a target to be minimised) are > 0; else it stays within 100 times their spread below the
        smallest. A ridge of 1e-4 to 1e-3 (target units squared) is for few runs, Huber for runs that went wrong; plain
        squares fit clean tables best.

        Raises:
            InputError: no more runs than the k + 1 parameters, or mixtures that do not tell them apart, without a ridge;
                a constant target; a setting out of range.
        """
        return cls.fitted_to(runs, ExponentialCurve(), Settings(ridge, loss, huber_delta))

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


def _lowest(y: np.ndarray) -> float:
    """The least floor of a target's losses y [R]."""
    return 0.0 if y.min() > 0 else float(y.min() - _FARTHEST_FLOOR * np.ptp(y))
