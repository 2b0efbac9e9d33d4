"""The BiMix law: a target's loss against its own domain's share and the training steps."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from mixopt.errors import InputError
from mixopt.language.atoms import power, stack
from mixopt.language.domains import Domains
from mixopt.language.expression import Expr
from mixopt.runs import Runs

from .curve import Curve, CurveLaw
from .dcpt import own_domains
from .law import At
from .least_squares import Settings

_STEP = 1e4
_ALPHAS, _BETAS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0), (0.1, 0.3, 0.6, 1.0)
_STEEPEST = 20.0


@final
@dataclass(frozen=True, eq=False)
class BiMixCurve(Curve):
    """(B (s / 10^4)^-beta + C) r^-alpha, r each target's ``own`` share [m]; theta is alpha, C, B, beta, or alpha, C without steps."""

    own: np.ndarray
    stepped: bool

    by_every_domain: ClassVar[bool] = False
    finalists: ClassVar[int] = 3

    @property
    def needs(self) -> tuple[str, ...]:
        return ("steps",) if self.stepped else ()

    def of(self, index: np.ndarray) -> BiMixCurve:
        return BiMixCurve(self.own[index], self.stepped)

    def parameters(self, domains: Domains) -> tuple[str, ...]:
        return ("alpha", "C", "B", "beta") if self.stepped else ("alpha", "C")

    def value(self, theta: np.ndarray, at: At) -> np.ndarray:
        return self._level(theta, at) * np.exp(-theta[:, :1] * self._logs(at))

    def jacobian(self, theta: np.ndarray, at: At) -> np.ndarray:
        logs = self._logs(at)
        share = np.exp(-theta[:, :1] * logs)
        parts = [-logs * self._level(theta, at) * share, share]
        if self.stepped:
            steps = np.log(np.asarray(at.steps) / _STEP)
            fall = np.exp(-theta[:, 3:4] * steps) * share
            parts += [fall, -theta[:, 2:3] * steps * fall]
        return np.stack(np.broadcast_arrays(*parts), axis=2)

    def bounds(self, at: At, y: np.ndarray) -> np.ndarray:
        found = super().bounds(at, y)
        found[0], found[1, 0::3] = 0, _STEEPEST
        return found

    def starts(self, at: At, y: np.ndarray, settings: Settings) -> np.ndarray:
        """Variable projection: the exponents on a grid, and the two factors by non-negative least squares."""
        from scipy.optimize import nnls

        r, found = at.mixtures[:, self.own[0]], []
        fall = np.asarray(at.steps) / _STEP if self.stepped else np.ones_like(r)
        for alpha, beta in itertools.product(_ALPHAS, _BETAS if self.stepped else (0.0,)):
            columns = [r**-alpha, fall**-beta * r**-alpha] if self.stepped else [r**-alpha]
            factors, _ = nnls(np.stack(columns, axis=1), y)
            found.append([alpha, *factors, beta][: 4 if self.stepped else 2])
        return np.array(found)

    def expression(self, theta: np.ndarray, w: Expr, names: tuple[str, ...], scale: Mapping[str, float]) -> Expr:
        at = At(np.empty((1, 0)), steps=np.array([scale["steps"]]) if self.stepped else None)
        levels = self._level(theta, at)[:, 0]
        pairs = zip(theta[:, 0], levels, self.own, strict=True)
        return stack([float(k) * (power(w[int(i)], -float(a)) if a else 1.0 + 0 * w[int(i)]) for a, k, i in pairs], index=names)

    def content(self) -> dict[str, Any]:
        return {"own": self.own.tolist(), "stepped": self.stepped}

    def _level(self, theta: np.ndarray, at: At) -> np.ndarray:
        """B s^-beta + C [B, R or 1]."""
        if not self.stepped:
            return theta[:, 1:2]
        found: np.ndarray = theta[:, 1:2] + theta[:, 2:3] * np.exp(-theta[:, 3:4] * np.log(np.asarray(at.steps) / _STEP))
        return found

    def _logs(self, at: At) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.log(at.mixtures.T[self.own])


@final
@dataclass(frozen=True, eq=False)
class BiMix(CurveLaw):
    """L_j(r, s) = (A_j / r^alpha_j) (B_j / s^beta_j + C_j) for each target j, r the share of its own domain and s the training steps.

    ``alpha``, ``beta``, ``B``, ``C`` [m], all >= 0, with A_j = 1: the source's fifth parameter is a factor of B and C, so that four can
    be told. From runs of one number of steps (or none known) B / s^beta + C is one number, kept as C. Convex and separable in w;
    it sees no transfer between domains, is infinite at r = 0, and what it calls irreducible grows as r falls.

    Source: Ge et al. 2024, arXiv 2405.14908v4, Eq. 3; Table 2 of the survey. Olmix's regressor of this name is another law,
    sum_i F_i w_i^-alpha_i.
    """

    name: ClassVar[str] = "bimix"

    @classmethod
    def fit(cls, runs: Runs, own: Mapping[str, str] | None = None, loss: str = "linear", huber_delta: float = 0.02) -> BiMix:
        """Fit every target by least squares (or Huber), from variable-projection starts; the source names no loss, starts or bounds.

        ``own`` maps a target to the domain whose text it is; a target named like a domain needs no entry.

        Raises:
            InputError: a target whose domain is not known or has weight 0 in a run that has the target, metrics to be
                maximised or not > 0, no more runs than parameters, or a constant target.
        """
        curve = BiMixCurve(own_domains(runs, own), runs.steps is not None and len(np.unique(runs.steps)) > 1)
        for j, (target, i) in enumerate(zip(runs.targets.names, curve.own, strict=True)):
            there = np.isfinite(runs.metrics[:, j])
            none = np.flatnonzero(there & (runs.mixtures[:, i] <= 0))
            if len(none):
                raise InputError(
                    f"run {runs.ids[none[0]]!r} has weight 0 for {runs.domains.names[i]!r}, where the law of {target!r}, w^-alpha, "
                    "is infinite; leave such runs out (runs.subset), or fit another law, such as additive-power, which takes zeros"
                )
            if runs.targets.directions[j] == "max" or runs.metrics[there, j].min() <= 0:
                raise InputError(f"target {target!r} is no loss > 0, and the law is a product of powers; leave it out, or take another law")
        return cls.fitted_to(runs, curve, Settings(0.0, loss, huber_delta))

    @property
    def alpha(self) -> np.ndarray:
        """The exponents of the own share [m]."""
        return self.theta[:, 0]

    @property
    def C(self) -> np.ndarray:  # noqa: N802 - the source's letter
        """The losses after endless training at r = 1 [m]; with one number of steps, the losses at r = 1."""
        return self.theta[:, 1]

    @property
    def B(self) -> np.ndarray:  # noqa: N802 - the source's letter
        """The factors of s^-beta [m], s in steps; 0 with one number of steps."""
        if not self._curve.stepped:
            return np.zeros(len(self.targets))
        found: np.ndarray = self.theta[:, 2] * _STEP**self.beta
        return found

    @property
    def beta(self) -> np.ndarray:
        """The exponents of the steps [m]; 0 with one number of steps."""
        return self.theta[:, 3] if self._curve.stepped else np.zeros(len(self.targets))

    @property
    def _curve(self) -> BiMixCurve:
        assert isinstance(self.curve, BiMixCurve)
        return self.curve

    @classmethod
    def shape(cls, content: Mapping[str, Any]) -> BiMixCurve:
        return BiMixCurve(np.array(content["own"], dtype=int), bool(content["stepped"]))
