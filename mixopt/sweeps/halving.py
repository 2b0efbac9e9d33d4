"""Successive halving: after some shares of the steps, only the runs whose final losses are predicted lowest go on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, final

import numpy as np

from mixopt.errors import InputError
from mixopt.runtime.lanes import Later, Task, nothing
from mixopt.runtime.room import split

from .executors import Done, Executor, Take, Tell, count
from .work import Group, Work, alike, planned, side_by_side

POWERS = np.linspace(0.05, 1.5, 30)


@final
@dataclass(frozen=True)
class Halving(Executor):
    """An ensemble in which, after each share of the steps in ``at``, only the best ``keep`` of the runs go on.

    Best is by the final loss predicted from the curve so far, averaged over the targets with the ``weights`` (by name; all alike if left
    out). Runs that are stopped are kept in the journal with the losses that they had, and are not in the table: a law of the mixture
    alone must not see them. All runs are held in memory until they end. ``together`` and ``compiled`` are as those of an ``Ensemble``.

    Source: Karnin, Koren and Somekh 2013; Jamieson and Talwalkar 2016, arXiv 1502.07943.
    """

    at: tuple[float, ...] = (0.25, 0.5)
    keep: float = 0.5
    weights: dict[str, float] = field(default_factory=dict)
    together: int | None = None
    device: str | None = None
    compiled: bool = False

    def __post_init__(self) -> None:
        if not self.at or list(self.at) != sorted(set(self.at)) or not all(0 < share < 1 for share in self.at):
            raise InputError(f"runs are stopped at the shares {self.at} of their steps; they rise, and lie between 0 and 1")
        if not 0 < self.keep < 1:
            raise InputError(f"the share of runs kept is {self.keep}; it lies between 0 and 1")
        if self.weights and not (min(self.weights.values()) >= 0 and 0 < sum(self.weights.values()) < math.inf):
            raise InputError(f"halving weighs the targets by {self.weights}; weights are >= 0, and not all 0")
        count("together", self.together, none=True)

    def stops(self) -> dict[str, Any]:
        return {"at": list(self.at), "keep": self.keep, "weights": self.weights}

    def carry_out(self, work: Work, take: Take, done: Done, tell: Tell) -> None:
        work = replace(work.on(self.device) if self.device else work, compiled=self.compiled)
        some = take(10**9)
        if not some:
            return
        jobs = [job for job, _ in some]
        if not alike(jobs):
            raise InputError("successive halving compares runs of one model and one recipe; sweep each size by itself")
        shares = self._shares(work.corpus.targets.names)
        pattern = side_by_side(work, jobs[0])
        most, lanes = planned(work, jobs[0], pattern, self.together)
        parts = [some[part.start : part.stop] for part in split(len(some), most, lanes.count)]
        groups = [Group(work, [job for job, _ in part], [key for _, key in part], together=True, pattern=pattern) for part in parts]
        every = list(groups)
        steps = jobs[0].recipe.steps
        for rung, share in enumerate((*self.at, 1.0), 1):
            until = max(1, round(share * steps))
            lanes.at_most(len(groups)).carry_out(_task(group, until, tell) for group in groups)
            groups = [group for group in groups if group.keys]
            if groups and until < steps:
                groups = self._halved(work, groups, rung, shares, done)
        for group in groups:
            done(group.finished())
        if sick := [group.diverged for group in every if group.diverged is not None]:
            raise sick[0]

    def _halved(self, work: Work, groups: list[Group], rung: int, shares: np.ndarray, done: Done) -> list[Group]:
        """The groups with the best runs alone; the others are done.

        How many is by the whole sweep, so that one that was cut stops the very runs that it would have stopped.
        """
        steps, now = groups[0].fleet.recipe.steps, groups[0].fleet.step
        left_over = math.ceil(work.runs * self.keep**rung) - sum(step > now for step in work.before)
        scores = np.concatenate([predicted(group.curves, steps) @ shares for group in groups])
        kept = set(np.argsort(scores, kind="stable")[: max(0, left_over)].tolist())
        first, left = 0, []
        for group in groups:
            mine = [i for i in range(len(group.keys)) if first + i in kept]
            done([f for i, f in enumerate(group.finished(stopped=True)) if i not in mine])
            first += len(group.keys)
            group.keep(mine)
            left += [group] if mine else []
        return left

    def _shares(self, names: Sequence[str]) -> np.ndarray:
        unknown = [name for name in self.weights if name not in names]
        if unknown:
            raise InputError(f"halving weighs {unknown[0]!r}, and the targets are {', '.join(names)}")
        shares = np.array([self.weights.get(name, 0.0) for name in names]) if self.weights else np.ones(len(names))
        return np.asarray(shares / shares.sum())


def _task(group: Group, until: int, tell: Tell) -> Task:
    """What a lane does with a group between two rungs."""

    def carried_out(say: Callable[[Later], None]) -> Later:
        group.advance(until, lambda step: say(partial(tell, list(group.keys), step)))
        return nothing

    return carried_out


def predicted(curves: Sequence[Sequence[tuple[int, Sequence[float]]]], steps: int) -> np.ndarray:
    """Losses [R, m] predicted after all steps, from curves of (step, losses [m]) at the same steps.

    Each curve is E + A s^-b with A >= 0, and one b for all of them, the one of least squares on a grid; with fewer than three points the
    last losses stand for the prediction.
    """
    at = np.array([step for step, _ in curves[0]], dtype=float)
    rows = np.array([[losses for _, losses in curve] for curve in curves])  # [R, c, m]
    if len(at) < 3:
        return np.asarray(rows[:, -1])
    best: tuple[float, Any] = (math.inf, rows[:, -1])
    for power in POWERS:
        x = at**-power
        slope = np.maximum(((x - x.mean())[None, :, None] * rows).sum(1) / ((x - x.mean()) ** 2).sum(), 0.0)
        level = rows.mean(1) - slope * x.mean()
        error = float(((level[:, None] + slope[:, None] * x[None, :, None] - rows) ** 2).sum())
        if error < best[0]:
            best = (error, level + slope * steps**-power)
    return np.asarray(best[1])
