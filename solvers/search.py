"""What solvers that need values only share: a program evaluated at many mixtures at once, and what of its constraints they keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from mixopt.forms import Form, Program, kind, one_mixture
from mixopt.runtime.batch import Batch
from mixopt.solver import Task

CLOSE = 1e-7
"""A constraint holds up to this much."""


def refuses_search(form: Form) -> tuple[str, ...]:
    """Why a search over one mixture does not take a form."""
    return one_mixture(form) if isinstance(form, Program) else (f"it takes programs, and this is a {kind(form)}",)


@final
@dataclass(frozen=True)
class Values:
    """The objective and the constraints of a program over one mixture, at mixtures [R, k]."""

    objective: Batch
    limits: tuple[tuple[str, bool, Batch], ...]

    @classmethod
    def of(cls, task: Task) -> Values:
        """Those of a task, lowered once."""
        form, layout = task.form, task.region.layout
        assert isinstance(form, Program)
        limits = tuple((r.label, r.sense == "==", Batch(r.gap, layout, task.given)) for r in form.constraints)
        return cls(Batch(form.objective, layout, task.given), limits)

    def feasible(self, mixtures: np.ndarray) -> np.ndarray:
        """Which rows [R] meet all constraints."""
        fits = np.ones(len(mixtures), dtype=bool)
        for _, equality, gap in self.limits:
            off = gap(mixtures).reshape(len(mixtures), -1)
            fits &= ((np.abs(off) if equality else off) <= CLOSE).all(axis=1)
        return fits

    def at(self, mixtures: np.ndarray) -> np.ndarray:
        """The objective [R]; infinite where it is no number, so that such a row is never the best."""
        found = self.objective(mixtures)
        return np.where(np.isnan(found), np.inf, found)
