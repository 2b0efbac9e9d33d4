"""AutoScale's law: each domain's amount of data lowers the metric by a power of its own, and the effects add up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import numpy as np

from mixopt.errors import InputError
from mixopt.language.atoms import exp, log, stack, sum
from mixopt.language.domains import Domains
from mixopt.language.expression import Expr, constant
from mixopt.runs import Runs

from .curve import Curve, CurveLaw, centred
from .law import At
from .least_squares import Settings

_HELD = (0.5, 2.0)
_POWERS = (0.5, 1.0, 2.0)
_GRID_A, _GRID_B = np.geomspace(0.05, 10, 9), np.geomspace(0.05, 4, 9)


@final
@dataclass(frozen=True, eq=False)
class AutoScaleCurve(Curve):
    """L0 (1 + sum_i (a_i + n_i)^-b_i - (a_i + 1)^-b_i), where n_i = w_i D / unit_i; theta is L0, log a [k], log b [k].

    ``unit`` [k] are the tokens of each domain in the base run, whose metric is L0.
    """

    unit: np.ndarray

    spare: ClassVar[int] = 0
    finalists: ClassVar[int] = 24

    def parameters(self, domains: Domains) -> tuple[str, ...]:
        return ("L0", *(f"log a[{n}]" for n in domains), *(f"log b[{n}]" for n in domains))

    def value(self, theta: np.ndarray, at: At) -> np.ndarray:
        (a, b), n = self._split(theta), self._amounts(at)
        found: np.ndarray = theta[:, :1] * (1 + ((a + n) ** -b - (a + 1) ** -b).sum(axis=2))
        return found

    def jacobian(self, theta: np.ndarray, at: At) -> np.ndarray:
        (a, b), n = self._split(theta), self._amounts(at)
        base = theta[:, :1, None]
        by_a = -base * a * b * ((a + n) ** (-b - 1) - (a + 1) ** (-b - 1))
        by_b = -base * b * (np.log(a + n) * (a + n) ** -b - np.log(a + 1) * (a + 1) ** -b)
        return np.concatenate([(self.value(theta, at) / theta[:, :1])[:, :, None], by_a, by_b], axis=2)

    def bounds(self, at: At, y: np.ndarray) -> np.ndarray:
        found = super().bounds(at, y)
        found[0, 0] = 1e-12
        found[:, 1:] = np.array([[-12.0], [6.0]])
        return found

    def penalty(self, k: int) -> np.ndarray:
        """The log a and the log b about their means: a ridge draws domains together."""
        return np.vstack([np.hstack([centred(k, 1), np.zeros((k, k))]), centred(k, 1 + k)])

    def starts(self, at: At, y: np.ndarray, settings: Settings) -> np.ndarray:
        """The same a and b for every domain, on a grid; with runs to spare the curves nearest to non-negative sums of such curves too.

        Two curves can pass through three amounts; like the source's fit from a = b = 1 it ends at the one with the larger a.
        """
        n, k = self._amounts(at), at.mixtures.shape[1]
        base = float(y[np.abs(n - 1).sum(axis=1).argmin()])
        common = [[base, *[np.log(a)] * k, *[np.log(b)] * k] for a in _HELD for b in _POWERS]
        return np.array(common if len(y) <= 2 * k + 1 else [*common, *_additive_starts(n, y)])

    def expression(self, theta: np.ndarray, w: Expr, names: tuple[str, ...], scale: Mapping[str, float]) -> Expr:
        share, rows = float(scale["tokens"]) / self.unit, []
        for base, a, b in zip(theta[:, 0], *(x[:, 0] for x in self._split(theta)), strict=True):
            offset = float(base) * (1 - float(((a + 1) ** -b).sum()))
            rows.append(offset + float(base) * sum(exp(-(constant(b) * log(constant(a) + constant(share) * w)))))
        return stack(rows, index=names)

    def content(self) -> dict[str, Any]:
        return {"unit": self.unit.tolist()}

    def _amounts(self, at: At) -> np.ndarray:
        """n [R, k]."""
        found: np.ndarray = at.mixtures * np.asarray(at.tokens)[:, None] / self.unit
        return found

    def _split(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """a and b, each [B, 1, k]."""
        a, b = np.split(np.exp(theta[:, None, 1:]), 2, axis=2)
        return a, b


@final
@dataclass(frozen=True, eq=False)
class AutoScale(CurveLaw):
    """L_j(n) = L0_j (1 + sum_i ((a_ji + n_i)^-b_ji - (a_ji + 1)^-b_ji)), where n_i = w_i D / unit_i is the amount of domain i in base runs.

    ``unit`` [k] is the base run's tokens of each domain, at which the metric is L0. With a domain's amount alone changed it is the
    source's (n + N0)^-gamma + l of the relative metric, with l = 1 - (1 + N0)^-gamma, so that the curves of all domains meet in
    the base run. Separable and convex in w. The amplitude of 1 is meant for an *aggregate* metric, in the source the perplexity
    averaged over the domains.

    Source: Kang et al. 2024, arXiv 2407.20177 (DDO); code feiyang-k/AutoScale. The survey's D_0^gamma is read D_{0,j} (T03).
    """

    name: ClassVar[str] = "autoscale"
    needs: ClassVar[tuple[str, ...]] = ("tokens",)

    @classmethod
    def fit(cls, runs: Runs, base: str | None = None, ridge: float | Literal["auto"] = 0.0) -> AutoScale:
        """Fit every target by least squares; the source's 2k + 1 runs, three amounts of each domain, are interpolated.

        ``base`` is the id of the base run; without it a domain's unit is its median amount over the runs, which is that of the base
        run where every other run changes one domain. A ridge, for few runs, draws the domains' curves together.

        Raises:
            InputError: runs without tokens, fewer than 2k + 1 without a ridge, or a metric that is not > 0.
        """
        if runs.tokens is None:
            return cls.fitted_to(runs, AutoScaleCurve(np.ones(len(runs.domains))), Settings(ridge))  # says what lacks
        if "max" in runs.targets.directions or np.nanmin(runs.metrics) <= 0:
            raise InputError("AutoScale's law is of a metric > 0 that falls with more data, such as perplexity or loss; leave others out")
        amounts = runs.mixtures * runs.tokens[:, None]
        unit = np.median(amounts, axis=0) if base is None else amounts[_position(runs, base)]
        if not (unit > 0).all():
            raise InputError(
                "a domain is in fewer than half of the runs, so its usual amount is 0; name a base run that has all domains, base=..."
            )
        return cls.fitted_to(runs, AutoScaleCurve(unit), Settings(ridge))

    @property
    def unit(self) -> np.ndarray:
        """The base run's tokens of each domain [k]."""
        assert isinstance(self.curve, AutoScaleCurve)
        return self.curve.unit

    @property
    def a(self) -> np.ndarray:
        """N0 of each target and domain [m, k], in units."""
        return np.exp(self.theta[:, 1 : 1 + len(self.domains)])

    @property
    def b(self) -> np.ndarray:
        """The exponents gamma [m, k]."""
        return np.exp(self.theta[:, 1 + len(self.domains) :])

    @classmethod
    def shape(cls, content: Mapping[str, Any]) -> AutoScaleCurve:
        return AutoScaleCurve(np.array(content["unit"], dtype=float))


def _additive_starts(n: np.ndarray, y: np.ndarray) -> np.ndarray:
    """theta whose curves are, each for itself, the nearest to sums of many curves fitted to y [R] at amounts n [R, k]; and with one of
    the domains at the nearest curve of another kind, since a steep and a flat one may look alike."""
    from scipy.optimize import nnls

    R, k = n.shape
    a, b = (x.ravel() for x in np.meshgrid(_GRID_A, _GRID_B))
    curves = (a + n[:, :, None]) ** -b - (a + 1) ** -b  # [R, k, grid]
    table = np.concatenate([np.ones((R, 1)), curves.reshape(R, -1)], axis=1)
    factors, _ = nnls(table, y, maxiter=10 * table.shape[1])
    sums = (curves * factors[1:].reshape(k, -1)).sum(axis=2) / max(factors[0], 1e-12 * float(y.max()))
    gaps = ((curves - sums[:, :, None]) ** 2).sum(axis=0)
    best = gaps.argmin(axis=1)
    other = np.where(np.abs(np.log(a / a[best][:, None])) > 1, gaps, np.inf).argmin(axis=1)
    chosen = np.vstack([best, np.where(np.eye(k, dtype=bool), other, best)])
    return np.column_stack([np.full(k + 1, factors[0]), np.log(a[chosen]), np.log(b[chosen])])


def _position(runs: Runs, base: str) -> int:
    if base not in runs.ids:
        raise InputError(f"no run is called {base!r}, to be the base; the runs are {runs.ids[0]!r} to {runs.ids[-1]!r}")
    return runs.ids.index(base)
