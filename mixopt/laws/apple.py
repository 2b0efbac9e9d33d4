"""Apple's laws of mixture and scale: the mixture's own term beside those of N and D, or inside them too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self, final

import numpy as np

from mixopt.language.atoms import stack
from mixopt.language.domains import Domains
from mixopt.language.expression import Expr, constant
from mixopt.runs import Runs

from .curve import Curve, CurveLaw, centred, lowest
from .law import At
from .least_squares import Settings
from .scaling import billions, logs, projected

_POWERS = (0.1, 0.2, 0.35, 0.6, 1.0)
_GAPS = np.geomspace(1e-2, 10, 8)
_GAMMAS = (0.2, 0.4, 0.7, 0.95)
_STEEPEST, _FLATTEST = 10.0, 0.1


@final
@dataclass(frozen=True)
class AppleCurve(Curve):
    """E + 1 / sum_i C_i w_i^gamma_i + A / N^alpha + B / D^beta, N and D in billions.

    theta is E, alpha, beta, log C [k] and t [k], of which gamma is the sigmoid (exp where it is not ``convex``), then log A and log B;
    in the ``joint`` law A = (C_A . w)^gamma_A and B alike, and theta ends with log C_A [k], gamma_A, log C_B [k], gamma_B. A convex
    joint law has each of these two exponents >= 1; it is fitted with those < 0 that are ``falling``.
    """

    joint: bool = False
    convex: bool = True
    falling: tuple[bool, bool] = (False, False)

    by_every_domain: ClassVar[bool] = True
    finalists: ClassVar[int] = 4

    def parameters(self, domains: Domains) -> tuple[str, ...]:
        own = ("E", "alpha", "beta", *(f"log C[{n}]" for n in domains), *(f"t[{n}]" for n in domains))
        if not self.joint:
            return (*own, "log A", "log B")
        return own + tuple(part for x in "AB" for part in (*(f"log C_{x}[{n}]" for n in domains), f"gamma_{x}"))

    def value(self, theta: np.ndarray, at: At) -> np.ndarray:
        found: np.ndarray = theta[:, :1] + 1 / self._mixed(theta, at).sum(axis=2)
        for j, size in enumerate(_sizes(at)):
            found = found + self._factor(theta, at.mixtures, j)[0] * size ** -theta[:, 1 + j, None]
        return found

    def jacobian(self, theta: np.ndarray, at: At) -> np.ndarray:
        k, w = at.mixtures.shape[1], at.mixtures
        parts, slope = self._mixed(theta, at), self._gamma_slope(theta[:, 3 + k : 3 + 2 * k])
        own = -parts / parts.sum(axis=2, keepdims=True) ** 2
        powers, factors = [], []
        for j, size in enumerate(_sizes(at)):
            factor, inner = self._factor(theta, w, j)
            term = factor * size ** -theta[:, 1 + j, None]
            powers.append(-term * np.log(size))
            if self.joint:
                coefficients, gamma = np.exp(inner[:, :-1]), inner[:, -1, None]
                total = coefficients @ w.T
                factors.append((term * gamma / total)[:, :, None] * coefficients[:, None] * w)
                factors.append((term * np.log(total))[:, :, None])
            else:
                factors.append(term[:, :, None])
        front = np.stack([np.ones_like(powers[0]), *powers], axis=2)
        return np.concatenate([front, own, own * np.log(np.where(w > 0, w, 1)) * slope[:, None], *factors], axis=2)

    def bounds(self, at: At, y: np.ndarray) -> np.ndarray:
        found, k = super().bounds(at, y), at.mixtures.shape[1]
        found[0, 0], found[:, 1:3] = lowest(y), np.array([[0.0], [_STEEPEST]])
        found[:, 3 : 3 + k] = np.array([[-20.0], [20.0]])
        found[:, 3 + k : 3 + 2 * k] = np.array([[-5.0], [8.0]]) if self.convex else np.array([[-5.0], [3.0]])
        if self.joint:
            found[:, 3 + 2 * k :] = np.array([[-10.0], [10.0]])
            for spot, falls in zip((3 + 3 * k, 4 + 4 * k), self.falling, strict=True):
                found[:, spot] = (-_STEEPEST, -_FLATTEST) if falls else (1.0 if self.convex else _FLATTEST, _STEEPEST)
        return found

    def penalty(self, k: int) -> np.ndarray:
        """The log C and the t about their means, and in the joint law the log C_A and log C_B: a ridge draws domains together."""
        blocks = [3, 3 + k] + ([3 + 2 * k, 4 + 3 * k] if self.joint else [])
        right = [self.size(k) - before - k for before in blocks]
        return np.vstack([np.hstack([centred(k, b), np.zeros((k, r))]) for b, r in zip(blocks, right, strict=True)])

    def starts(self, at: At, y: np.ndarray, settings: Settings) -> np.ndarray:
        """Two variable projections: the exponents of N and D on a grid, the rest linear in w; then E and one gamma on a grid, C linear."""
        from scipy.optimize import nnls

        (n, d), w = _sizes(at), at.mixtures
        k, wide = w.shape[1], w if self.joint else np.ones((len(y), 1))
        columns = lambda a, b: [*w.T, *(wide * n[:, None] ** -a).T, *(wide * d[:, None] ** -b).T]  # noqa: E731
        rows = []
        for (alpha, beta), _, factors in projected(columns, (_POWERS, _POWERS), at, y, keep=4):
            a, b = np.split(factors[k:], 2)
            rest = y - wide @ a * n**-alpha - wide @ b * d**-beta
            for gap in _GAPS * max(float(np.ptp(rest)), 1e-6 * float(np.ptp(y))):
                e = max(rest.min() - gap, lowest(y))
                above = np.maximum(rest - e, 1e-3 * gap)
                for gamma in _GAMMAS:
                    c = nnls(w**gamma * above[:, None], np.ones_like(y), maxiter=50 * k)[0]
                    t = np.full(k, np.log(gamma / (1 - gamma)) if self.convex else np.log(gamma))
                    rows.append(np.concatenate([[e, alpha, beta], logs(c), t, *self._factor_start(a, 0), *self._factor_start(b, 1)]))
        return np.unique(rows, axis=0)

    def expression(self, theta: np.ndarray, w: Expr, names: tuple[str, ...], scale: Mapping[str, float]) -> Expr:
        k, at = theta.shape[1] // (4 if self.joint else 2) - (1 if self.joint else 2), At(np.empty((0, 0)))
        at = replace(at, **{n: np.array([float(scale[n])]) for n in ("params", "tokens")})
        rows = []
        for row in theta:
            gamma = self._gamma(row[3 + k : 3 + 2 * k])
            mixed = constant(np.exp(row[3 : 3 + k])) @ stack([w[i] ** float(g) for i, g in enumerate(gamma)])
            found = float(row[0]) + mixed**-1
            for j, size in enumerate(_sizes(at)):
                shrunk = float(size[0] ** -row[1 + j])
                inner = self._inner(row[None], k, j)[0]
                risen = (constant(np.exp(inner[:-1])) @ w) ** float(inner[-1]) if self.joint else float(np.exp(inner[0]))
                found = found + shrunk * risen
            rows.append(found)
        return stack(rows, index=names)

    def content(self) -> dict[str, Any]:
        return {"convex": self.convex}

    def _gamma(self, t: np.ndarray) -> np.ndarray:
        found: np.ndarray = 1 / (1 + np.exp(-t)) if self.convex else np.exp(t)
        return found

    def _gamma_slope(self, t: np.ndarray) -> np.ndarray:
        gamma = self._gamma(t)
        return gamma * (1 - gamma) if self.convex else gamma

    def _mixed(self, theta: np.ndarray, at: At) -> np.ndarray:
        """C_i w_i^gamma_i [B, R, k]."""
        k = at.mixtures.shape[1]
        found: np.ndarray = np.exp(theta[:, None, 3 : 3 + k]) * at.mixtures ** self._gamma(theta[:, None, 3 + k : 3 + 2 * k])
        return found

    def _inner(self, theta: np.ndarray, k: int, j: int) -> np.ndarray:
        """The parameters of the factor of N (j = 0) or D (1): log A [B, 1], or log C_A and gamma_A [B, k + 1]."""
        wide = k + 1 if self.joint else 1
        return theta[:, 3 + 2 * k + j * wide : 3 + 2 * k + (j + 1) * wide]

    def _factor(self, theta: np.ndarray, w: np.ndarray, j: int) -> tuple[np.ndarray, np.ndarray]:
        """The factor of N or D [B, R], and its parameters."""
        inner = self._inner(theta, w.shape[1], j)
        if not self.joint:
            return np.exp(inner), inner
        return (np.exp(inner[:, :-1]) @ w.T) ** inner[:, -1, None], inner

    def _factor_start(self, factors: np.ndarray, j: int) -> Iterator[np.ndarray]:
        """From the factor at each vertex (or one for all): itself, as it is where gamma is 1 or -1."""
        least = np.maximum(factors, 1e-3 * max(float(factors.max()), 1e-3))
        yield (-1 if self.joint and self.falling[j] else 1) * np.log(least)
        if self.joint:
            yield np.array([-1.0 if self.falling[j] else 1.0])


@dataclass(frozen=True, eq=False)
class _Apple(CurveLaw):
    """What both laws share: E + 1 / sum_i C_i w_i^gamma_i + A / N^alpha + B / D^beta."""

    needs: ClassVar[tuple[str, ...]] = ("params", "tokens")

    @property
    def gamma(self) -> np.ndarray:
        """The exponents gamma_i of each target [m, k]; a law is convex in its own term where they are <= 1."""
        k = len(self.domains)
        assert isinstance(self.curve, AppleCurve)
        return self.curve._gamma(self.theta[:, 3 + k : 3 + 2 * k])


@final
@dataclass(frozen=True, eq=False)
class AppleAdditive(_Apple):
    """L_j(w, N, D) = E + 1 / sum_i C_i w_i^gamma_i + A / N^alpha + B / D^beta, N and D in billions; 5 + 2k parameters a target.

    The best mixture is the same at every N and D. Convex in w as it is fitted here, for gamma_i is a sigmoid and so < 1.

    Source: Shukor et al. 2025, arXiv 2507.09404 (additive law); code apple/ml-scalefit.
    """

    name: ClassVar[str] = "apple-additive"

    @classmethod
    def fit(
        cls, runs: Runs, *, convex: bool = True, ridge: float | Literal["auto"] = 0.0, loss: str = "linear", huber_delta: float = 1e-3
    ) -> Self:
        """Fit every target by least squares (Huber of width 1e-3 in the source), from the best four of 512 projected starts.

        The source starts at random and hops between basins. ``convex=False`` lets gamma_i exceed 1, as the source does: it is seldom
        better and may run off. A ridge, for few runs, draws the domains' coefficients together.

        Raises:
            InputError: runs without params or tokens, or no more of them than parameters without a ridge.
        """
        return cls.fitted_to(runs, AppleCurve(False, convex), Settings(ridge, loss, huber_delta))

    @classmethod
    def shape(cls, content: Mapping[str, Any]) -> AppleCurve:
        return AppleCurve(False, bool(content["convex"]))


@final
@dataclass(frozen=True, eq=False)
class AppleJoint(_Apple):
    """The additive law with A = (C_A . w)^gamma_A and B = (C_B . w)^gamma_B, so that the best mixture moves with N and D; 5 + 4k
    parameters a target.

    Source: Shukor et al. 2025, arXiv 2507.09404 (joint law); code apple/ml-scalefit.
    """

    name: ClassVar[str] = "apple-joint"

    @classmethod
    def fit(
        cls, runs: Runs, *, convex: bool = True, ridge: float | Literal["auto"] = 0.0, loss: str = "linear", huber_delta: float = 1e-3
    ) -> Self:
        """Fit every target by least squares, from projected starts; a convex law tries gamma_A and gamma_B >= 1 and < 0, each with each.

        The best of the four is kept for each target. ``convex=False`` takes exponents > 0 of any size.

        Raises:
            InputError: runs without params or tokens, or no more of them than parameters without a ridge.
        """
        pairs = [(a, b) for a in (False, True) for b in (False, True)] if convex else [(False, False)]
        found = [cls.fitted_to(runs, AppleCurve(True, convex, pair), Settings(ridge, loss, huber_delta)) for pair in pairs]
        best = np.argmin([law.rmse for law in found], axis=0)
        parts = ("rmse", "converged", "identified")
        fitted: dict[str, Any] = {n: np.array([getattr(found[i].fitted, n)[j] for j, i in enumerate(best)]) for n in parts}
        theta = np.array([found[i].theta[j] for j, i in enumerate(best)])
        return replace(found[0], fitted=replace(found[0].fitted, **fitted), theta=theta)

    @classmethod
    def shape(cls, content: Mapping[str, Any]) -> AppleCurve:
        return AppleCurve(True, bool(content["convex"]))


def _sizes(at: At) -> tuple[np.ndarray, np.ndarray]:
    return billions(at, "params"), billions(at, "tokens")
