"""Weights that are known beforehand: one mixture throughout, stages one after another, and curricula that pass from one to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from mixopt.errors import InputError, listed
from mixopt.language.domains import Domains

from .rule import Need, Rule, Scene, Seen, Standing


@final
@dataclass(frozen=True)
class Stages(Rule):
    """The weights of the last of the ``marks`` that is reached, or on the straight line to the next one.

    ``marks`` [T] are counts of steps or tokens that rise (``by``), ``rows`` [T] the weights from each on, k numbers that sum to 1; before
    the first mark the first row holds. ``between`` is "hold", or "linear" from mark to mark, and the last row holds to the end.

    Raises:
        InputError: marks that do not rise, rows that are no mixtures, another unit or way between them.
    """

    marks: tuple[float, ...]
    rows: tuple[tuple[float, ...], ...]
    by: Literal["steps", "tokens"] = "steps"
    between: Literal["hold", "linear"] = "hold"

    def __post_init__(self) -> None:
        if self.by not in ("steps", "tokens"):
            raise InputError(f"stages are counted by 'steps' or 'tokens', not {self.by!r}")
        if self.between not in ("hold", "linear"):
            raise InputError(f"between is {self.between!r}; it is 'hold' or 'linear'")
        if not self.marks or len(self.marks) != len(self.rows) or not (np.diff(self.marks) > 0).all() or not np.isfinite(self.marks).all():
            raise InputError(f"the marks are {listed(self.marks)} for {len(self.rows)} mixtures; they are finite, rise, and are as many")
        for mark, row in zip(self.marks, self.rows, strict=True):
            if len(row) != len(self.rows[0]) or not (np.isfinite(row).all() and min(row) >= 0 and abs(sum(row) - 1) <= 1e-9):
                raise InputError(f"the weights from {mark:g} {self.by} on are {list(row)}; they are >= 0, sum to 1, one for each domain")

    def needs(self, domains: Domains) -> tuple[Need, ...]:
        return ()

    def begin(self, scene: Scene) -> Standing:
        if len(self.rows[0]) != len(scene):
            raise InputError(f"the stages have {len(self.rows[0])} weights each, and there are {len(scene)} domains")
        return Standing(scene.nearest(self.at(0.0)))

    def move(self, scene: Scene, at: Standing, seen: Seen) -> Standing:
        return Standing(scene.nearest(self.at(seen.tokens if self.by == "tokens" else float(seen.step))))

    def at(self, count: float) -> np.ndarray:
        """The weights [k] after so many steps or tokens."""
        rows = np.array(self.rows)
        if self.between == "linear":
            return np.array([np.interp(count, self.marks, column) for column in rows.T])
        return np.asarray(rows[max(int(np.searchsorted(self.marks, count, side="right")) - 1, 0)])
