"""Grid search: every mixture of a grid under caps, and finer grids about the best, as the data mixing laws are searched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import ClassVar, Literal, final

import numpy as np

from mixopt.errors import InputError
from mixopt.forms import Abilities, Form, Program
from mixopt.language.curvature import curvature
from mixopt.report.result import Status
from mixopt.runtime.region import Region
from mixopt.solver import Pace, Solver, State, Task

from .search import Values, refuses_search

Levels = Sequence[np.ndarray]
"""The weights that each domain may have, as whole numbers of grid steps."""


@dataclass(frozen=True)
class Grid(Solver):
    """The best of all mixtures whose weights are whole numbers of ``1 / parts``, within the caps and other constraints.

    It needs values only, so it takes any program over one mixture of few domains. ``spacing="halving"`` allows each domain only its cap,
    a half of it, a quarter, and so on, and 0 (rounded down to the grid), as the source does; "even" allows every multiple. Each of
    ``rounds`` after the first halves the step and looks at all mixtures within one old step of the best point. Grids of more than
    ``most`` mixtures are refused with their number.

    Ends SEARCHED: a grid proves nothing of what lies between its points.

    Source: Ye et al. 2024, Data Mixing Laws, arXiv 2403.16952; code yegcjs/mixinglaws (halving grids in steps of 1/16 under caps).
    """

    goes_on: ClassVar[bool] = False

    parts: int = 16
    spacing: Literal["even", "halving"] = "even"
    rounds: int = 1
    most: int = 1_000_000

    def __post_init__(self) -> None:
        for name in ("parts", "rounds", "most"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"Grid's {name} is {value!r}; it is a whole number >= 1")
        if self.spacing not in ("even", "halving"):
            raise InputError(f"Grid's spacing is {self.spacing!r}; it is 'even' or 'halving'")

    def refuses(self, form: Form, abilities: Abilities | None) -> tuple[str, ...]:
        reasons = refuses_search(form)
        if reasons or not isinstance(form, Program):
            return reasons
        plain = [r for r in form.constraints if curvature(r.gap) == "affine" and not any(n.op == "parameter" for n in r.gap.walk())]
        region = Region.compile(form.mixture, plain, {})
        count = counted(self._levels(region), self.parts)
        if count <= self.most:
            return ()
        return (f"a grid of steps of 1/{self.parts} over {region.size} domains has {count:,} mixtures, more than {self.most:,}",)

    def _levels(self, region: Region) -> Levels:
        """What each domain may have in the first round."""
        ceiling = np.clip(np.floor(region.upper * self.parts + 1e-9), 0, self.parts).astype(int)
        floor = np.clip(np.ceil(region.lower * self.parts - 1e-9), 0, None).astype(int)
        if self.spacing == "even":
            return [np.arange(low, high + 1) for low, high in zip(floor, ceiling, strict=True)]
        halves = 2.0 ** -np.arange(int(np.log2(self.parts)) + 2)
        found = []
        for cap, low, high in zip(region.upper, floor, ceiling, strict=True):
            levels = np.append(np.floor(min(cap, 1.0) * self.parts * halves + 1e-9).astype(int), 0)
            found.append(np.unique(levels[(levels >= low) & (levels <= high)]))
        return found

    def pace(self, task: Task) -> Pace:
        return Pace(self.rounds)

    def begin(self, task: Task) -> State:
        return State(task.start, _At(Values.of(task), self.parts))

    def step(self, task: Task, state: State) -> State:
        at: _At = state.memory
        if at.best is None:
            levels, parts = self._levels(task.region), self.parts
        else:
            parts = 2 * at.parts
            middle = np.rint(at.best * parts).astype(int)
            bounds = zip(middle, np.rint(task.region.lower * parts), np.rint(task.region.upper * parts), strict=True)
            levels = [np.arange(max(m - 2, low, 0), min(m + 2, high, parts) + 1).astype(int) for m, low, high in bounds]
        count = counted(levels, parts)
        if count > self.most:
            said = f"a finer grid about the best has {count:,} mixtures, more than {self.most:,}; this is the best of steps of 1/{at.parts}"
            return replace(state, status=Status.SEARCHED, message=said)
        mixtures = enumerated(levels, parts) / parts
        mixtures = mixtures[at.values.feasible(mixtures)]
        heights = at.values.at(mixtures)
        tried = at.tried + len(mixtures)
        if not len(mixtures) or not np.isfinite(heights.min()):
            said = f"none of the {count:,} mixtures of the grid meets the constraints with a finite objective; give more parts"
            return replace(state, info={"value": task.objective.value(state.weights)}, status=Status.STUCK, message=said)
        where = int(np.argmin(heights))
        last = int(np.log2(parts // self.parts)) + 1 == self.rounds
        said = f"the best of {tried:,} mixtures, in steps of 1/{parts}"
        after = replace(at, parts=parts, best=mixtures[where], tried=tried)
        return State(mixtures[where], after, {"value": float(heights[where])}, Status.SEARCHED if last else None, said)

    def leaves(self, state: State) -> None:
        return None


@final
@dataclass(frozen=True)
class _At:
    """The best mixture so far, the grid that it is on, and how many were tried."""

    values: Values
    parts: int
    best: np.ndarray | None = None
    tried: int = 0


def counted(levels: Levels, total: int) -> int:
    """How many choices of one level for each domain sum to ``total``."""
    ways = np.zeros(total + 1, dtype=object)
    ways[0] = 1
    for each in levels:
        spread = np.zeros_like(ways)
        for level in each:
            if level <= total:
                spread[level:] += ways[: total + 1 - level]
        ways = spread
    return int(ways[total])


def enumerated(levels: Levels, total: int) -> np.ndarray:
    """All choices of one level for each domain that sum to ``total`` [count, k]."""
    least = np.cumsum([min(each, default=total + 1) for each in levels][::-1])[::-1]
    largest = np.cumsum([max(each, default=0) for each in levels][::-1])[::-1]

    def longer(rows: np.ndarray, i: int) -> np.ndarray:
        """The rows with a level of domain i behind, those left out that the rest cannot complete."""
        sums = rows.sum(axis=1)[:, None] + levels[i][None, :]
        low, high = (least[i + 1], largest[i + 1]) if i + 1 < len(levels) else (0, 0)
        row, level = np.nonzero((sums + low <= total) & (sums + high >= total))
        return np.column_stack([rows[row], levels[i][level]])

    return reduce(longer, range(len(levels)), np.zeros((1, 0), dtype=int))
