"""Online mixing laws: what one round of training at a mixture makes of the losses that the model has now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, final

import numpy as np

from mixopt.errors import InputError, listed
from mixopt.language.atoms import exp
from mixopt.language.domains import Domains
from mixopt.language.expression import Expr, constant
from mixopt.runs import Runs

from .curve import Curve, CurveLaw, centred, lowest
from .law import At, signs
from .least_squares import Settings
from .starts import floors, slopes

Sigma = Literal["identity", "exp"]


@final
@dataclass(frozen=True, eq=False)
class OnlineCurve(Curve):
    """c + b sigma(-A . w); theta is A [k], and before it, where sigma is exp, the floor c.

    ``now`` [m] are the targets' losses before the round. With them b is now - c under exp, and under the identity c is now and b either
    now (``relative``: A are shares of the loss) or 1; without them b is 1, and c is 0 under the identity.
    """

    sigma: Sigma
    now: np.ndarray | None = None
    relative: bool = True

    spare: ClassVar[int] = 0

    def of(self, index: np.ndarray) -> OnlineCurve:
        return self if self.now is None else replace(self, now=self.now[index])

    def parameters(self, domains: Domains) -> tuple[str, ...]:
        return (*(("c",) if self.sigma == "exp" else ()), *(f"A[{name}]" for name in domains))

    def parts(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """c [B], b [B] and A [B, k]."""
        ones = np.ones(len(theta))
        if self.sigma == "exp":
            c = theta[:, 0]
            return c, ones if self.now is None else self.now - c, theta[:, 1:]
        if self.now is None:
            return 0 * ones, ones, theta
        return self.now * ones, (self.now if self.relative else 1.0) * ones, theta

    def value(self, theta: np.ndarray, at: At) -> np.ndarray:
        c, b, a = self.parts(theta)
        inner = -a @ at.mixtures.T
        found: np.ndarray = c[:, None] + b[:, None] * (np.exp(inner) if self.sigma == "exp" else inner)
        return found

    def jacobian(self, theta: np.ndarray, at: At) -> np.ndarray:
        _, b, a = self.parts(theta)
        by_a = -b[:, None, None] * at.mixtures
        if self.sigma == "identity":
            return by_a
        grown = np.exp(-a @ at.mixtures.T)[:, :, None]
        return np.concatenate([np.ones_like(grown) if self.now is None else 1 - grown, by_a * grown], axis=2)

    def bounds(self, at: At, y: np.ndarray) -> np.ndarray:
        found = super().bounds(at, y)
        if self.sigma == "exp":
            found[0, 0] = lowest(y)
            if self.now is not None:
                found[:, 0] = np.minimum(found[0, 0], self._ceiling()), self._ceiling()
        return found

    def penalty(self, k: int) -> np.ndarray:
        """The effects about their mean."""
        return centred(k, 1 if self.sigma == "exp" else 0)

    def starts(self, at: At, y: np.ndarray, settings: Settings) -> np.ndarray:
        """Trial floors c under exp, as for the exponential law; then linear least squares of A, which under the identity are the fit."""
        rows, weights = settings.rows(self, at), np.ones_like(y) if at.weights is None else at.weights
        if self.sigma == "identity":
            c, b, _ = self.parts(np.zeros((1, at.mixtures.shape[1])))
            fall, scaled = y - c, weights[None] * b**2
            return -slopes(at.mixtures, fall[None] / b, scaled, rows, settings, lambda a: b * (a @ at.mixtures.T) - fall)
        c = floors(y, settings)
        c = c if self.now is None else np.minimum(c, self._ceiling())
        b = np.ones_like(c) if self.now is None else self.now - c
        above = np.maximum(y - c[:, None], 0)
        logs = np.log(np.where(above > 0, above / b[:, None], 1))
        gaps = lambda a: b[:, None] * np.exp(a @ at.mixtures.T) - above  # noqa: E731
        found = slopes(at.mixtures, logs, weights * above**2, rows[:, 1:], settings, gaps)
        return np.column_stack([c, -found])

    def expression(self, theta: np.ndarray, w: Expr, names: tuple[str, ...], scale: Mapping[str, float]) -> Expr:
        c, b, a = self.parts(theta)
        if self.sigma == "identity":
            return constant(c, index=names) - constant(b[:, None] * a) @ w
        return constant(c, index=names) + constant(b) * exp(-(constant(a) @ w))

    def content(self) -> dict[str, Any]:
        return {"sigma": self.sigma, "now": None if self.now is None else self.now.tolist(), "relative": self.relative}

    def _ceiling(self) -> float:
        """The highest floor of one target: below its loss now, so that b > 0."""
        assert self.now is not None
        return float(self.now[0] - 1e-6 * max(1.0, abs(self.now[0])))


@final
@dataclass(frozen=True, eq=False)
class Online(CurveLaw):
    """L_j(w) = c_j + b_j sigma(-sum_i A_ij w_i), sigma the identity or exp: the losses after one more round at the mixture w.

    ``A`` [k, m] is the effect of training on domain i on target j, in the survey's orientation; ``now`` [m] are the losses at the round's
    beginning. sigma = identity: c_j = now_j, and b_j = now_j (``relative``, Skill-It: A are the shares by which losses fall) or 1 (Aioli: A
    are the falls). sigma = exp: c_j are fitted floors and b_j = now_j - c_j. Without ``now``, one static round: b_j = 1, and the law
    is the linear or the exponential one by another name. ``after`` moves the law on to the losses of the next round.

    Source: section 4.2 of the survey (arXiv 2505.21598), with the sign of its unified law (misprint T17); Chen et al. 2023, arXiv
    2307.14430 (Skill-It); Chen et al. 2024, arXiv 2411.05735 (Aioli).
    """

    name: ClassVar[str] = "online"

    @classmethod
    def fit(
        cls,
        runs: Runs,
        now: Mapping[str, float] | Sequence[float] | np.ndarray | None = None,
        sigma: Sigma = "identity",
        relative: bool = True,
        ridge: float | Literal["auto"] = 0.0,
    ) -> Online:
        """Fit by least squares to short runs that all begin at one model, whose losses are ``now`` [m] or by target; runs [R, m] hold
        the losses at their ends.

        One run a domain, on it alone, is enough under the identity: then A_ij = (now_j - L_j after i) / now_j is Skill-It's graph. Smoothed
        one-hot mixtures with ``relative=False`` are Aioli's LearnParams. Under exp it takes one run more.

        Raises:
            InputError: too few runs to tell the domains apart without a ridge, another ``sigma``, losses ``now`` that are not one finite
                number a target, or not > 0 where they are divided by.
        """
        if sigma not in ("identity", "exp"):
            raise InputError(f"sigma is {sigma!r}; it is 'identity' or 'exp'")
        start = None if now is None else signs(runs.targets) * _by_target(now, runs.targets.names)
        if start is not None and sigma == "identity" and relative and not start.min() > 0:
            raise InputError(f"the losses before the round are {start.tolist()}; shares of them need losses > 0, or give relative=False")
        return cls.fitted_to(runs, OnlineCurve(sigma, start, relative), Settings(ridge))

    @classmethod
    def shape(cls, content: Mapping[str, Any]) -> OnlineCurve:
        now = content["now"]
        return OnlineCurve(content["sigma"], None if now is None else np.array(now, dtype=float), bool(content["relative"]))

    @property
    def sigma(self) -> Sigma:
        """Which of the two forms it has."""
        return self._curve.sigma

    @property
    def relative(self) -> bool:
        """Whether the effects are shares: of the losses, or under exp of what is above the floors."""
        return self.sigma == "exp" or self._curve.relative

    @property
    def now(self) -> np.ndarray | None:
        """The losses before the round [m], in the targets' units; None of a static law."""
        return None if self._curve.now is None else self.sign * self._curve.now

    @property
    def A(self) -> np.ndarray:  # noqa: N802 - the survey's letter
        """The effect of training on domain i on target j [k, m]."""
        return self._curve.parts(self.theta)[2].T

    @property
    def c(self) -> np.ndarray:
        """The part of each target that the round does not change [m]."""
        return self._curve.parts(self.theta)[0]

    @property
    def b(self) -> np.ndarray:
        """What each target's effects are multiplied by [m]."""
        return self._curve.parts(self.theta)[1]

    def after(self, now: Mapping[str, float] | Sequence[float] | np.ndarray) -> Online:
        """The law of a round that begins at these losses [m], with the same A and floors.

        Raises:
            InputError: losses that are not one finite number for each target, or at which b would not be > 0, so that what helped would
                harm; a law of one static round, whose effects are no shares of the losses before it.
        """
        if self.now is None:
            raise InputError(
                "the law is of one static round, and knows no losses before it; fit it with now=..., those at the round's begin"
            )
        given = _by_target(now, self.targets.names)
        law = replace(self, curve=replace(self._curve, now=self.sign * given))
        low = np.flatnonzero(law.b <= 0)
        if len(low):
            j = int(low[0])
            floor = self.sign[j] * self.c[j] if self.sigma == "exp" else 0.0
            raise InputError(
                f"{self.targets.names[j]!r} is {given[j]:.6g} before the round, and the effects are shares of what it can still "
                f"gain to {floor:.6g}; fit the law again, to rounds that begin there"
            )
        return law

    def score(self, w: Mapping[str, float] | Sequence[float] | np.ndarray) -> np.ndarray:
        """-d/dw_i of sum_j L_j at a mixture [k]: what one exponentiated step, w_i <- w_i exp(rate score_i), ascends."""
        return score_of(self.A, self.b, self.domains.weights(w), self.sigma)

    @property
    def _curve(self) -> OnlineCurve:
        assert isinstance(self.curve, OnlineCurve)
        return self.curve


def score_of(effects: np.ndarray, b: np.ndarray, w: np.ndarray, sigma: Sigma) -> np.ndarray:
    """sum_j b_j sigma'(-(A' w)_j) A_ij [k] of effects A [k, m]: how fast the sum of an online law's targets falls with each weight."""
    return np.asarray(effects @ (b if sigma == "identity" else b * np.exp(-w @ effects)))


def _by_target(given: Mapping[str, float] | Sequence[float] | np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Finite numbers [m] in the order of the targets."""
    if isinstance(given, Mapping):
        if set(given) != set(names):
            raise InputError(f"losses are given for {listed(given)}; one for each of {listed(names)} is expected")
        given = [given[n] for n in names]
    found = np.asarray(given, dtype=float)
    if found.shape != (len(names),) or not np.isfinite(found).all():
        raise InputError(f"the losses before the round are {found.tolist()}; a finite number for each of {listed(names)} is expected")
    return found
