"""Laws with a few parameters a target: the curve, its Jacobian and its expression, in one record a law."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from mixopt.errors import InputError, listed
from mixopt.language.domains import Domains
from mixopt.language.expression import Expr
from mixopt.runs import Runs, Targets

from .law import At, Fit, Law, array, bound, odd_scales, signs
from .least_squares import Settings, fit_targets


class Curve(ABC):
    """The shape of a law: L(theta; w, N, D, s) of one target, theta [p] its free parameters, each any real number within bounds.

    Every function takes a batch of parameters theta [B, p] at once. A coefficient that must be positive is held by its
    logarithm, so that bounds are rare.
    """

    by_every_domain: ClassVar[bool] = True
    """Whether it has a slope for every domain, so that the runs must tell all domains apart."""
    spare: ClassVar[int] = 1
    """How many runs more than parameters a fit without a ridge asks for; 0 where the source interpolates."""

    @abstractmethod
    def parameters(self, domains: Domains) -> tuple[str, ...]:
        """The names of theta's p entries, such as "c" and "A[web]"."""

    @abstractmethod
    def value(self, theta: np.ndarray, at: At) -> np.ndarray:
        """Losses [B, R]."""

    @abstractmethod
    def jacobian(self, theta: np.ndarray, at: At) -> np.ndarray:
        """d losses / d theta [B, R, p]."""

    @abstractmethod
    def starts(self, at: At, y: np.ndarray, settings: Settings) -> np.ndarray:
        """Where the least squares of y [R] may begin [S, p]; it begins at the best of them."""

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

    def of_target(self, j: int) -> Curve:
        """The curve of target j alone, where targets differ in more than their parameters, such as each in its own domain."""
        return self

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

    @classmethod
    def fitted_to(cls, runs: Runs, curve: Curve, settings: Settings) -> Self:
        """Fit the curve to every target of the runs by least squares.

        Raises:
            InputError: runs that cannot tell the parameters apart, a constant target, or runs without the N, D or s it needs.
        """
        lacking = [n for n in cls.needs if getattr(runs, n) is None]
        if lacking:
            raise InputError(
                f"the {cls.name} law needs {listed(lacking)} of every run, and the table has no such column; "
                f"add it, or give Runs.from_arrays(..., {lacking[0]}=...)"
            )
        found = fit_targets(curve, At.of(runs), signs(runs.targets) * runs.metrics, settings, runs)
        fit = replace(found.fit, notes=(*found.fit.notes, *odd_scales(runs, cls.needs)))
        return cls(runs.domains, runs.targets, fit, curve, found.theta)

    def _losses_at(self, at: At) -> np.ndarray:
        return self.curve.value(self.theta, at).T

    def losses(self, w: Expr, **scale: float) -> Expr:
        """s_j L_j(w) as an expression [m]: metrics with the sign that makes less better."""
        numbers = {n: float(v) for n, v in self.scale(**scale).items()}  # type: ignore[arg-type]
        return self.curve.expression(self.theta, bound(w, self.domains), self.targets.names, numbers)

    def loss_of(self, j: int, w: Expr, **scale: float) -> Expr:
        numbers = {n: float(v) for n, v in self.scale(**scale).items()}  # type: ignore[arg-type]
        name = self.targets.names[j]
        return self.curve.of_target(j).expression(self.theta[[j]], bound(w, self.domains), (name,), numbers)[name]

    def content(self) -> dict[str, Any]:
        return {"theta": self.theta.tolist(), **self.curve.content()}

    @classmethod
    @abstractmethod
    def shape(cls, content: Mapping[str, Any]) -> Curve:
        """The curve of a saved law."""

    @classmethod
    def restored(cls, domains: Domains, targets: Targets, fitted: Fit, content: Mapping[str, Any]) -> Self:
        curve = cls.shape(content)
        theta = array(content["theta"], (len(targets), len(curve.parameters(domains))))
        return cls(domains, targets, fitted, curve, theta)
