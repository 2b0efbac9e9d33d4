"""What a check of hypergradients says: each engine against finite differences, and in words which of them is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mixopt.notebook import table

from .result import Cost

_HEAD = ("engine", "error", "own error", "cosine", "Euler", "inner", "gradients", "Hv", "passes", "ms")


@dataclass(frozen=True)
class EngineCheck:
    """One engine's hypergradient [k] against finite differences; numbers that were not taken are NaN.

    ``error`` is relative, against the differences of the problem's own objective; ``own`` against those of the objective that
    the engine descends, its outcome after K steps or its penalised one. ``cosine`` is taken on the simplex. ``euler`` is the
    residual of Euler's identity, relative to |w| |gradient|. ``inner`` is the norm of the lower level's gradient, ``verdict``
    what follows, in words; ``cost`` that of one hypergradient, training included where the learner is exact.
    """

    engine: str
    verdict: str
    gradient: np.ndarray | None = None
    error: float = np.nan
    own: float = np.nan
    cosine: float = np.nan
    euler: float = np.nan
    inner: float = np.nan
    cost: Cost = field(default_factory=Cost)


@dataclass(frozen=True)
class HypergradientCheck:
    """A check of hypergradients at weights ``at`` [k]; ``print`` shows the table and the verdicts.

    ``differences`` [k] are the slopes of ``target`` by finite differences, and ``precision`` how far they can be trusted, relatively
    (for a sampled learner: 1 - the mean cosine between the slopes of different seeds). ``curvature`` is the least eigenvalue of the
    objective's Hessian along the simplex of the weights that are used: of a minimum it is not negative (of a maximisation's largest
    value, not positive); NaN where it was not taken.
    """

    at: np.ndarray
    target: str
    differences: np.ndarray
    precision: float
    rows: tuple[EngineCheck, ...]
    curvature: float = np.nan

    @property
    def wrong(self) -> tuple[EngineCheck, ...]:
        """The engines whose gradient is neither that of the problem nor that of what they descend."""
        return tuple(row for row in self.rows if row.verdict.startswith("wrong"))

    def __str__(self) -> str:
        rows = [_HEAD, *map(_cells, self.rows)]
        widths = [max(len(row[j]) for row in rows) for j in range(len(_HEAD))]
        lines = [
            "  ".join(c.ljust(n) if j == 0 else c.rjust(n) for j, (c, n) in enumerate(zip(row, widths, strict=True))).rstrip()
            for row in rows
        ]
        return "\n".join([self._against, *lines, *self._verdicts()])

    def _repr_html_(self) -> str:
        return table(_HEAD, [_cells(row) for row in self.rows], caption=self._against, notes=self._verdicts())

    @property
    def _against(self) -> str:
        return f"against finite differences of {self.target}, good to {_brief(self.precision)}"

    def _verdicts(self) -> list[str]:
        bent = (
            []
            if np.isnan(self.curvature)
            else [f"second order: the least (of a maximisation: greatest) curvature along the weights used is {self.curvature:.3g}"]
        )
        return [*(f"{row.engine}: {row.verdict}" for row in self.rows), *bent]


def _cells(row: EngineCheck) -> tuple[str, ...]:
    told = [_brief(value) for value in (row.error, row.own)]
    cosine = "-" if np.isnan(row.cosine) else f"{row.cosine:.4f}"
    spent = (
        (str(row.cost.gradients), str(row.cost.hessian_products), str(row.cost.forward_passes), f"{1e3 * row.cost.seconds:.1f}")
        if row.gradient is not None
        else ("-",) * 4
    )
    return (row.engine, *told, cosine, _brief(row.euler), _brief(row.inner), *spent)


def _brief(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.1e}"
