"""Comparisons: several solvers on one problem, as a table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixopt.errors import unknown
from mixopt.notebook import table

from .result import Result

_HEAD = ("solver", "seed", "status", "value", "error", "gap", "inner", "gradients", "Hv", "seconds")


@dataclass(frozen=True)
class Row:
    """One run: the solver, the seed, and its result or the reason for which it refused."""

    solver: str
    seed: int
    result: Result | None = None
    refusal: str = ""


@dataclass(frozen=True)
class Comparison:
    """The runs of a comparison; ``print`` shows them as a table, ``results`` are those that were not refused.

    ``reference`` are the weights [k] that each answer's ``error`` is its largest difference from, where some were given.
    """

    problem: str
    rows: tuple[Row, ...]
    reference: np.ndarray | None = None

    @property
    def results(self) -> tuple[Result, ...]:
        """The results of the runs that were not refused."""
        return tuple(row.result for row in self.rows if row.result is not None)

    def error(self, result: Result) -> float | None:
        """The largest difference of an answer's weights from the reference; None without either."""
        return None if self.reference is None or result.vector is None else float(np.abs(result.vector - self.reference).max())

    def spread(self, solver: str) -> np.ndarray:
        """Standard deviation of each weight over a solver's seeds [k]; raises InputError where it has no weights here."""
        found = [(row.solver, row.result.vector) for row in self.rows if row.result is not None and row.result.vector is not None]
        own = [vector for name, vector in found if name == solver]
        if not own:
            raise unknown("solver with weights", solver, dict(found))
        return np.std(own, axis=0)

    def __str__(self) -> str:
        rows = [self._head, *self._lines()]
        names = [_brief(row[0]) for row in rows]
        widths = [max(len(n) for n in names), *(max(len(row[j]) for row in rows) for j in range(1, len(self._head)))]
        texts = [
            "  ".join(
                cell.ljust(w) if j < 3 else cell.rjust(w) for j, (cell, w) in enumerate(zip((name, *row[1:]), widths, strict=True))
            ).rstrip()
            for name, row in zip(names, rows, strict=True)
        ]
        return "\n".join([*texts, *self._refusals()])

    def _repr_html_(self) -> str:
        return table(self._head, self._lines(), notes=self._refusals())

    @property
    def _head(self) -> tuple[str, ...]:
        return tuple(name for name in _HEAD if name != "error" or self.reference is not None)

    def _lines(self) -> list[tuple[str, ...]]:
        """The cells of each run."""
        lines: list[tuple[str, ...]] = []
        for row in self.rows:
            r = row.result
            if r is None:
                lines.append((row.solver, str(row.seed), "refused", *("-" for _ in self._head[3:])))
                continue
            gap, inner = (r.check.gap, r.check.inner) if r.check else (None, None)
            counts = (str(r.cost.gradients), str(r.cost.hessian_products), f"{r.cost.seconds:.2f}")
            error = () if self.reference is None else (_short(self.error(r), 1),)
            lines.append((row.solver, str(row.seed), r.status.name, _short(r.value), *error, _short(gap, 1), _short(inner, 1), *counts))
        return lines

    def _refusals(self) -> list[str]:
        return [row.refusal for row in self.rows if row.result is None]


def _short(value: float | None, digits: int = 6) -> str:
    return "-" if value is None else f"{value:.{digits}e}" if digits == 1 else f"{value:.{digits}g}"


def _brief(text: str) -> str:
    return text if len(text) <= 48 else text[:45] + "..."
