"""The D-CPT law: the loss on a domain's text against the domain's share of the corpus, the model's size and its tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from mixopt.errors import InputError
from mixopt.language.atoms import stack
from mixopt.language.domains import Domains
from mixopt.language.expression import Expr
from mixopt.runs import Runs

from .curve import Curve, CurveLaw, lowest
from .law import At
from .least_squares import Settings
from .scaling import billions, logs, projected

_GRIDS = ((0.2, 0.5), (0.2, 0.5), (1.0, 1.6, 2.5), (0.25, 0.75, 1.5), (0.005, 0.05, 0.3))
_STEEPEST = 20.0


@final
@dataclass(frozen=True, eq=False)
class DCPTCurve(Curve):
    """E + A N^-alpha + B r^eta D^-beta + C (r + epsilon)^-gamma; r is each target's ``own`` share [m], N and D are in billions.

    theta is E, log A, alpha, log B, eta, beta, log C, log epsilon, gamma.
    """

    own: np.ndarray
    convex: bool = True

    by_every_domain: ClassVar[bool] = False
    finalists: ClassVar[int] = 3

    def of(self, index: np.ndarray) -> DCPTCurve:
        return DCPTCurve(self.own[index], self.convex)

    def parameters(self, domains: Domains) -> tuple[str, ...]:
        return ("E", "log A", "alpha", "log B", "eta", "beta", "log C", "log epsilon", "gamma")

    def value(self, theta: np.ndarray, at: At) -> np.ndarray:
        a, b, c = self._terms(theta, at)
        found: np.ndarray = theta[:, :1] + a + b + c
        return found

    def jacobian(self, theta: np.ndarray, at: At) -> np.ndarray:
        (a, b, c), r = self._terms(theta, at), self._share(theta, at)
        epsilon = np.exp(theta[:, 7:8])
        log_r = np.log(np.where(r > 0, r, 1))
        sizes = np.log(billions(at, "params")), np.log(billions(at, "tokens"))
        slope = -theta[:, 8:9] * c * epsilon / (r + epsilon)
        parts = [np.ones_like(a), a, -a * sizes[0], b, b * log_r, -b * sizes[1], c, slope, -c * np.log(r + epsilon)]
        return np.stack(parts, axis=2)

    def bounds(self, at: At, y: np.ndarray) -> np.ndarray:
        found = super().bounds(at, y)
        found[0, 0], found[0, [2, 5, 8]], found[0, 4] = lowest(y), 0, 1.0 if self.convex else 0.0
        found[:, 7] = np.log(1e-6), 0.0
        found[1, [2, 4, 5, 8]] = _STEEPEST
        return found

    def starts(self, at: At, y: np.ndarray, settings: Settings) -> np.ndarray:
        """Variable projection: the five nonlinear numbers on a grid, and E, A, B and C by non-negative least squares."""
        n, d, r = billions(at, "params"), billions(at, "tokens"), at.mixtures[:, self.own[0]]
        columns = lambda alpha, beta, eta, gamma, epsilon: [n**-alpha, r**eta * d**-beta, (r + epsilon) ** -gamma]  # noqa: E731
        rows = []
        for (alpha, beta, eta, gamma, epsilon), e, factors in projected(columns, _GRIDS, at, y):
            a, b, c = logs(factors)
            rows.append([e, a, alpha, b, eta, beta, c, np.log(epsilon), gamma])
        return np.array(rows)

    def expression(self, theta: np.ndarray, w: Expr, names: tuple[str, ...], scale: Mapping[str, float]) -> Expr:
        n, d = float(scale["params"]) / 1e9, float(scale["tokens"]) / 1e9
        rows = []
        for t, i in zip(theta, self.own, strict=True):
            e, a, alpha, b, eta, beta, c, epsilon, gamma = (float(x) for x in t)
            r, left = w[i], np.exp(c) * (w[i] + float(np.exp(epsilon))) ** -gamma if gamma else np.exp(c)
            rows.append(e + np.exp(a) * n**-alpha + np.exp(b) * d**-beta * (r**eta if eta else 1.0) + left)
        return stack(rows, index=names)

    def content(self) -> dict[str, Any]:
        return {"own": self.own.tolist(), "convex": self.convex}

    def _share(self, theta: np.ndarray, at: At) -> np.ndarray:
        """The share of each target's domain [B, R]."""
        return np.broadcast_to(at.mixtures.T[self.own], (len(theta), len(at.mixtures)))

    def _terms(self, theta: np.ndarray, at: At) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        a, alpha, b, eta, beta, c, epsilon, gamma = theta.T[1:, :, None]
        n, d, r = billions(at, "params"), billions(at, "tokens"), self._share(theta, at)
        return np.exp(a) * n**-alpha, np.exp(b) * r**eta * d**-beta, np.exp(c) * (r + np.exp(epsilon)) ** -gamma


@final
@dataclass(frozen=True, eq=False)
class DCPT(CurveLaw):
    """L_j(w, N, D) = E + A / N^alpha + B r^eta / D^beta + C / (r + epsilon)^gamma, r = w_own(j), N and D in billions.

    One law a target, whose text is that of one training domain: with a general corpus and a domain's, r is the domain's share for the
    domain's loss and the general corpus's for the general loss. Convex in w where eta >= 1 (and then the loss falls all the way
    as r rises from 0, where D is large); ``problems.dcpt`` chooses the share by it.

    Source: Que et al. 2024, arXiv 2406.01375; Eq. 5 of the survey, which prints the last term without gamma (reading T07).
    """

    name: ClassVar[str] = "dcpt"
    needs: ClassVar[tuple[str, ...]] = ("params", "tokens")

    @classmethod
    def fit(
        cls, runs: Runs, own: Mapping[str, str] | None = None, *, convex: bool = True, loss: str = "linear", huber_delta: float = 1e-3
    ) -> DCPT:
        """Fit every target by least squares (or Huber, as in the source), from a variable-projection start.

        ``own`` maps a target to the domain whose text it is; a target named like a domain needs no entry. ``convex=False`` lets eta be
        anything >= 0, as the source does.

        Raises:
            InputError: runs without params or tokens, a target whose domain is not known, or no more runs than the 9 parameters.
        """
        curve = DCPTCurve(own_domains(runs, own), convex)
        return cls.fitted_to(runs, curve, Settings(0.0, loss, huber_delta))

    @classmethod
    def shape(cls, content: Mapping[str, Any]) -> DCPTCurve:
        return DCPTCurve(np.array(content["own"], dtype=int), bool(content["convex"]))


def own_domains(runs: Runs, own: Mapping[str, str] | None) -> np.ndarray:
    """The position of each target's own domain [m].

    Raises:
        InputError: a target or domain that is not there, or a target whose domain is not known.
    """
    named = dict(own or {})
    for target in named:
        runs.targets.index(target)
    lacking = [t for t in runs.targets.names if t not in named and t not in runs.domains.names]
    if lacking:
        raise InputError(
            f"the law sees the share of each target's own domain, and no domain is called {lacking[0]!r}; "
            f"give own={{{lacking[0]!r}: ...}}, one of {runs.domains}"
        )
    return np.array([runs.domains.index(named.get(t, t)) for t in runs.targets.names])
