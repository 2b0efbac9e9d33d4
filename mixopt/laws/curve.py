"""Laws with a few parameters a target: the curve, its Jacobian and its expression, in one record a law."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np

from mixopt.errors import InputError, listed
from mixopt.language.domains import Domains
from mixopt.language.expression import Expr
from mixopt.runs import Runs, Targets

from .law import At, Fit, Law, array, bound, odd_scales, signs
from .least_squares import Settings, fit_targets

_FARTHEST_FLOOR = 1e2


class Curve(ABC):
    """The shape of a law: L(theta; w, N, D, s) of one target, theta [p] its free parameters, each any real number within bounds.

    Every function takes a batch of parameters theta [B, p] at once. A coefficient that must be positive is held by its
    logarithm, so that bounds are rare.
    """

    by_every_domain: ClassVar[bool] = True
    """Whether it has a slope for every domain, so that the runs must tell all domains apart."""
    spare: ClassVar[int] = 1
    """How many runs more than parameters a fit without a ridge asks for; 0 where the source interpolates."""

    finalists: ClassVar[int] = 1
    """From how many of its starts, the best ones, a fit is carried to its end: more than one only where local optima are known."""

    before_slopes: ClassVar[int | None] = None
    """Where theta is slopes A [k] that mixtures meet as A . w alone: how many parameters stand before them."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Which of params, tokens and steps it needs beside those that its law always does."""
        return ()

    def of(self, index: np.ndarray) -> Curve:
        """The curve of these targets, or rows of theta: itself but for laws in which each target has a domain of its own."""
        return self

    @abstractmethod
    def parameters(self, domains: Domains) -> tuple[str, ...]:
        """The names of theta's p entries, such as "c" and "A[web]"."""

    @abstractmethod
    def value(self, theta: np.ndarray, at: At) -> np.ndarray:
        """Losses [B, R]."""

    @abstractmethod
    def jacobian(self, theta: np.ndarray, at: At) -> np.ndarray:
        """d losses / d theta [B, R, p]."""

    def bend(self, theta: np.ndarray, at: At, pull: np.ndarray) -> np.ndarray | None:
        """sum_r pull_r d2 losses_r / d theta2 [B, p, p] for pull [B, R], which turns Gauss's steps into Newton's; None leaves it out."""
        return None

    @abstractmethod
    def starts(self, at: At, y: np.ndarray, settings: Settings) -> np.ndarray:
        """Where the least squares of y [R] may begin [S, p]; it begins at the best of them (``finalists``)."""

    @abstractmethod
    def expression(self, theta: np.ndarray, w: Expr, names: tuple[str, ...], scale: Mapping[str, float]) -> Expr:
        """Losses as an expression [B] of a mixture, indexed by the targets' names; N, D and s are numbers here."""

    def bounds(self, at: At, y: np.ndarray) -> np.ndarray:
        """The least and the largest of each parameter [2, p]."""
        p = self.size(at.mixtures.shape[1])
        return np.array([np.full(p, -np.inf), np.full(p, np.inf)])

    def penalty(self, k: int) -> np.ndarray:
        """The rows P [q, p] of the ridge: ridge |P theta|^2 is added to the squares; those that are centred shrink to a common slope."""
        return np.eye(self.size(k))

    def wary(self, mixtures: np.ndarray) -> np.ndarray:
        """The rows [q, p] of the ridge that ``ridge="auto"`` takes, which may weigh a domain more that hardly varies in the runs [R, k]."""
        return self.penalty(mixtures.shape[1])

    def of_target(self, j: int) -> Curve:
        """The curve of target j alone."""
        return self.of(np.array([j]))

    def content(self) -> dict[str, Any]:
        """What a file needs to make the curve again, as JSON holds it."""
        return {}

    def size(self, k: int) -> int:
        """How many parameters p there are over k domains."""
        return len(self.parameters(Domains([f"d{i}" for i in range(k)])))


@dataclass(frozen=True, eq=False)
class CurveLaw(Law):
    """A law of one curve a target; ``theta`` [m, p] are the fitted parameters, named by ``curve.parameters``."""

    curve: Curve
    theta: np.ndarray
    settings: Settings = field(default_factory=Settings)

    @classmethod
    def fitted_to(cls, runs: Runs, curve: Curve, settings: Settings) -> Self:
        """Fit the curve to every target of the runs by least squares.

        Raises:
            InputError: runs that cannot tell the parameters apart, a constant target, or runs without the N, D or s it needs.
        """
        lacking = [n for n in (*cls.needs, *curve.needs) if getattr(runs, n) is None]
        if lacking:
            raise InputError(
                f"the {cls.name} law needs {listed(lacking)} of every run, and the table has no such column; "
                f"add it, or give Runs.from_arrays(..., {lacking[0]}=...)"
            )
        found = fit_targets(curve, At.of(runs), signs(runs.targets) * runs.metrics, settings, runs)
        sizes = {n: np.asarray(getattr(runs, n)) for n in (*cls.needs, *curve.needs)}
        spans = {n: (float(values.min()), float(values.max())) for n, values in sizes.items()}
        fit = replace(found.fit, notes=(*found.fit.notes, *odd_scales(runs, cls.needs)), scales=spans)
        return cls(runs.domains, runs.targets, fit, curve, found.theta, settings)

    @property
    def requires(self) -> tuple[str, ...]:
        return (*self.needs, *self.curve.needs)

    def ridge_rows(self, j: int, at: At) -> np.ndarray:
        """The rows [q, p] of target j's ridge, whose squared product with theta was added to the squares over the runs ``at``."""
        ridge = 0.0 if self.fitted.ridge is None else float(self.fitted.ridge[j])
        return replace(self.settings, strength=ridge).rows(self.curve.of_target(j), at)

    def _losses_at(self, at: At) -> np.ndarray:
        return self.curve.value(self.theta, at).T

    def losses(self, w: Expr, **scale: float) -> Expr:
        """s_j L_j(w) as an expression [m]: metrics with the sign that makes less better."""
        numbers = {n: float(v) for n, v in self.scale(**scale).items()}  # type: ignore[arg-type]
        return self.curve.expression(self.theta, bound(w, self.domains), self.targets.names, numbers)

    def loss_of(self, j: int, w: Expr, **scale: float) -> Expr:
        numbers = {n: float(v) for n, v in self.scale(**scale).items()}  # type: ignore[arg-type]
        name = self.targets.names[j]
        found = self.curve.of_target(j).expression(self.theta[[j]], bound(w, self.domains), (name,), numbers)
        return found.args[0] if found.op == "stack" else found[name]

    def content(self) -> dict[str, Any]:
        return {"theta": self.theta.tolist(), "settings": asdict(self.settings), **self.curve.content()}

    @classmethod
    @abstractmethod
    def shape(cls, content: Mapping[str, Any]) -> Curve:
        """The curve of a saved law."""

    @classmethod
    def restored(cls, domains: Domains, targets: Targets, fitted: Fit, content: Mapping[str, Any]) -> Self:
        curve = cls.shape(content)
        theta = array(content["theta"], (len(targets), len(curve.parameters(domains))))
        return cls(domains, targets, fitted, curve, theta, Settings(**content["settings"]))


def lowest(y: np.ndarray) -> float:
    """The least floor of a target's losses y [R]: 0 where all are > 0, else 100 times their spread below the smallest."""
    return 0.0 if y.min() > 0 else float(y.min() - _FARTHEST_FLOOR * np.ptp(y))


def centred(k: int, before: int) -> np.ndarray:
    """The rows [k, before + k] that take the mean from the last k parameters; those before them are left out."""
    return np.hstack([np.zeros((k, before)), np.eye(k) - 1 / k])


def spread(mixtures: np.ndarray) -> np.ndarray:
    """How much more than others a domain's slope is held back by a wary ridge [k]: the mean of all domains' spreads over its own.

    A domain whose weight hardly varies in the runs [R, k] tells little of its slope; it counts at most a hundredfold.
    """
    sizes = mixtures.std(axis=0)
    return np.asarray(sizes.mean() / np.maximum(sizes, 0.01 * sizes.mean())) if sizes.any() else np.ones(len(sizes))
