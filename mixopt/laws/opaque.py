"""Laws without a formula: predictions only, which enter problems as one opaque atom a target, or one for all."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import final

import numpy as np

from mixopt.language.expression import Expr
from mixopt.language.opaque import opaque

from .law import At, Law, bound


@dataclass(frozen=True, eq=False)
class OpaqueLaw(Law):
    """A law whose predictions have no derivative: its expressions are taken by ``Simulation`` and ``Grid`` alone."""

    @abstractmethod
    def column(self, j: int, mixtures: np.ndarray) -> np.ndarray:
        """Predicted losses [R] of target j for mixtures [R, k], less being better."""

    def _losses_at(self, at: At) -> np.ndarray:
        return np.column_stack([self.column(j, at.mixtures) for j in range(len(self.targets))])

    def losses(self, w: Expr, **scale: float) -> Expr:
        """s_j L_j(w) as one opaque expression [m]: metrics with the sign that makes less better."""
        self.scale(**scale)
        return opaque(bound(w, self.domains), _All(self), self.name, self.targets.names)

    def loss_of(self, j: int, w: Expr, **scale: float) -> Expr:
        """One target as an opaque expression [] of its own, so that no other is predicted."""
        self.scale(**scale)
        return opaque(bound(w, self.domains), _One(self, j), f"{self.name}[{self.targets.names[j]}]")


@final
@dataclass(frozen=True)
class _All:
    """All targets of a law as a function of mixtures."""

    law: OpaqueLaw

    def __call__(self, mixtures: np.ndarray) -> np.ndarray:
        return self.law._losses_at(At(mixtures))


@final
@dataclass(frozen=True)
class _One:
    """One target of a law as a function of mixtures."""

    law: OpaqueLaw
    j: int

    def __call__(self, mixtures: np.ndarray) -> np.ndarray:
        return self.law.column(self.j, mixtures)
