"""The additive power law of data mixing: E + (C . w)^-g for each target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import numpy as np

from mixopt.language.atoms import power, stack
from mixopt.language.domains import Domains
from mixopt.language.expression import Expr, constant
from mixopt.runs import Runs

from .curve import Curve, CurveLaw, centred, lowest, spread
from .law import At
from .least_squares import Settings
from .starts import floors, slopes

_POWERS = (0.3, 1.0, 3.0, 10.0)
_SMALLEST, _LARGEST = 0.02, 100.0
_LEAST_SHARE = 1e-3


@final
@dataclass(frozen=True)
class AdditivePowerCurve(Curve):
    """E + (C . w)^-g with C = exp(-A / g); theta is E, log g and A [k].

    exp(A_i) is what domain i alone loses above E, and (C . w)^-g the weighted power mean of these of order -1/g: the exponential
    law, which is their geometric mean, is the limit of a large g.
    """

    def parameters(self, domains: Domains) -> tuple[str, ...]:
        return ("E", "log g", *(f"A[{name}]" for name in domains))

    def value(self, theta: np.ndarray, at: At) -> np.ndarray:
        found: np.ndarray = theta[:, :1] + np.exp(self._logs(theta, at))
        return found

    def jacobian(self, theta: np.ndarray, at: At) -> np.ndarray:
        logs, shares = self._logs(theta, at), self._shares(theta, at)
        by_power = logs - (shares * theta[:, None, 2:]).sum(axis=2)
        parts = [np.exp(-logs)[:, :, None], by_power[:, :, None], shares]
        return np.exp(logs)[:, :, None] * np.concatenate(parts, axis=2)

    def bend(self, theta: np.ndarray, at: At, pull: np.ndarray) -> np.ndarray:
        logs, shares = self._logs(theta, at), self._shares(theta, at)
        g, a = np.exp(theta[:, 1]), theta[:, None, 2:]
        mean = (shares * a).sum(axis=2, keepdims=True)
        by_power, apart = logs - mean[:, :, 0], a - mean
        p = pull * np.exp(logs)
        found = np.zeros((*theta.shape, theta.shape[1]))
        variance = (shares * apart**2).sum(axis=2)
        found[:, 1, 1] = (p * (by_power**2 + by_power - variance / g[:, None])).sum(axis=1)
        cross = (p[:, :, None] * shares * (by_power[:, :, None] + apart / g[:, None, None])).sum(axis=1)
        found[:, 1, 2:] = found[:, 2:, 1] = cross
        found[:, 2:, 2:] = (1 + 1 / g)[:, None, None] * ((shares * p[:, :, None]).transpose(0, 2, 1) @ shares)
        spot = np.arange(2, theta.shape[1])
        found[:, spot, spot] -= (p[:, :, None] * shares).sum(axis=1) / g[:, None]
        return found

    def bounds(self, at: At, y: np.ndarray) -> np.ndarray:
        found = super().bounds(at, y)
        found[0, 0], found[:, 1] = lowest(y), np.log([_SMALLEST, _LARGEST])
        return found

    def penalty(self, k: int) -> np.ndarray:
        """The A about their mean, as in the exponential law."""
        return centred(k, 2)

    def wary(self, mixtures: np.ndarray) -> np.ndarray:
        return spread(mixtures)[:, None] * centred(mixtures.shape[1], 2)

    def starts(self, at: At, y: np.ndarray, settings: Settings) -> np.ndarray:
        """Variable projection: for trial floors E and powers g, (y - E)^(-1/g) is linear in w; weighted least squares give C."""
        w, found = at.mixtures, []
        e = floors(y, settings)
        above = np.maximum(y - e[:, None], 1e-6 * np.ptp(y))
        level = np.exp(np.log(above).mean(axis=1, keepdims=True))
        for g in _POWERS:
            x = above / level
            weights = np.where(y > e[:, None], x ** (2 + 2 / g), 0)
            gaps = lambda c: level * (x - np.maximum(c @ w.T, 1e-9) ** -g)  # noqa: B023, E731
            c = slopes(w, x ** (-1 / g), weights, np.zeros((0, w.shape[1])), settings, gaps)
            c = np.maximum(c, _LEAST_SHARE * c.max(axis=1, keepdims=True))
            found.append(np.column_stack([e, np.full(len(e), np.log(g)), np.log(level) - g * np.log(np.maximum(c, 1e-300))]))
        return np.concatenate(found)

    def expression(self, theta: np.ndarray, w: Expr, names: tuple[str, ...], scale: Mapping[str, float]) -> Expr:
        rows = []
        for e, log_g, *a in theta:
            g, level = float(np.exp(log_g)), float(min(a))
            c = np.exp(-(np.array(a) - level) / g)
            rows.append(float(e) + float(np.exp(level)) * power(constant(c) @ w, -g))
        return stack(rows, index=names)

    def _logs(self, theta: np.ndarray, at: At) -> np.ndarray:
        """log (C . w)^-g [B, R]."""
        g, a = np.exp(theta[:, 1:2]), theta[:, 2:]
        least = a.min(axis=1, keepdims=True)
        found: np.ndarray = least - g * np.log(np.exp((least - a) / g) @ at.mixtures.T)
        return found

    def _shares(self, theta: np.ndarray, at: At) -> np.ndarray:
        """C_i w_i / (C . w) [B, R, k]."""
        g, a = np.exp(theta[:, 1:2]), theta[:, 2:]
        parts = np.exp((a.min(axis=1, keepdims=True) - a) / g)[:, None] * at.mixtures
        found: np.ndarray = parts / parts.sum(axis=2, keepdims=True)
        return found


@final
@dataclass(frozen=True, eq=False)
class AdditivePower(CurveLaw):
    """L_j(w) = s_j (E_j + (C_j . w)^-g_j) for each target j, in the target's unit, with C_j >= 0 and g_j > 0: convex in w.

    ``E`` [m], ``C`` [m, k], ``g`` [m]; the sign s_j is 1 for a target to be minimised and -1 for one to be maximised, which is
    fitted by its negative. Unlike the exponential law it may be flat where enough of a domain is there, so that one target alone has
    its best mixture at a vertex too, but several share. ``Conic`` takes it by power cones.

    Source: the mixture's part of Apple's law, arXiv 2507.09404, Eq. 3 with one exponent for the sum (its A_h).
    """

    name: ClassVar[str] = "additive-power"

    @classmethod
    def fit(cls, runs: Runs, ridge: float | Literal["auto"] = "auto", loss: str = "linear", huber_delta: float = 0.02) -> AdditivePower:
        """Fit every target by least squares to the runs that have it, from a variable-projection start with analytic derivatives.

        Minimises sum_r rho(L(w_r) - y_r) + ridge sum_i (A_i - mean A)^2, where A_i = -g log C_i is the logarithm of what domain i
        alone loses above E: as g rises it is the objective of ``Exponential.fit``, whose settings these are. g is within
        [0.02, 100]. E is >= 0 where all values (of a target to be minimised) are > 0.

        Raises:
            InputError: no more runs than the k + 2 parameters, or mixtures that do not tell them apart, without a ridge in numbers;
                a constant target; a setting out of range.
        """
        return cls.fitted_to(runs, AdditivePowerCurve(), Settings(ridge, loss, huber_delta))

    @property
    def E(self) -> np.ndarray:  # noqa: N802 - the source's letter
        """The floors [m], in the targets' units, of losses with the sign that makes less better."""
        return self.theta[:, 0]

    @property
    def g(self) -> np.ndarray:
        """The exponents [m]."""
        found: np.ndarray = np.exp(self.theta[:, 1])
        return found

    @property
    def C(self) -> np.ndarray:  # noqa: N802 - the source's letter
        """The coefficients [m, k], in the targets' units to the power -1/g."""
        found: np.ndarray = np.exp(-self.theta[:, 2:] / self.g[:, None])
        return found

    @classmethod
    def shape(cls, content: Mapping[str, Any]) -> AdditivePowerCurve:
        return AdditivePowerCurve()
