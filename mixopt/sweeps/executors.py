"""Executors: where and how the runs of a sweep are trained; all of them give the same numbers."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, final

import torch

from mixopt.errors import InputError, MixoptError
from mixopt.runtime.fleet import DivergedError
from mixopt.runtime.lanes import Lanes, Later, Task
from mixopt.runtime.room import split

from .job import Finished, Job
from .work import Group, Pattern, Work, planned, side_by_side, trained

Run = tuple[Job, str]
"""A run and its key."""

Take = Callable[[int], list[Run]]
"""Hands out at most so many runs that are neither finished nor in other hands, with their keys; none when there are none left."""

Done = Callable[[Sequence[Finished]], None]
Tell = Callable[[Sequence[str], int], None]
"""Hears of the runs in training, by key, and the steps that they have done."""


class LostError(MixoptError):
    """A run whose workers died each time that it was tried."""


class Executor(ABC):
    """A way to train the runs of a sweep. A value: settings only."""

    device: str | None

    @abstractmethod
    def carry_out(self, work: Work, take: Take, done: Done, tell: Tell) -> None:
        """Train what ``take`` hands out until it hands out nothing, and hand each run to ``done`` as it finishes."""

    def stops(self) -> dict[str, Any]:
        """What decides which runs are stopped early, as plain values: "at", shares of the steps, and the like; none are if it is empty."""
        return {}


@final
@dataclass(frozen=True)
class Sequential(Executor):
    """One run after another, each model as the module that it is: the plain way, for models that nothing else takes.

    Runs whose losses become NaN or infinite are left behind, and told of when the others are finished. ``compiled`` trains by
    ``torch.compile``.
    """

    device: str | None = None
    compiled: bool = False

    def carry_out(self, work: Work, take: Take, done: Done, tell: Tell) -> None:
        work = replace(work.on(self.device) if self.device else work, compiled=self.compiled)
        diverged: list[DivergedError] = []
        while some := take(1):
            ((job, key),) = some
            try:
                done(trained(work, [job], [key], together=False, tell=lambda step, key=key: tell([key], step)))  # type: ignore[misc]
            except DivergedError as error:
                diverged.append(error.with_traceback(None))  # whose frames would keep the model
        if diverged:
            raise diverged[0]


@final
@dataclass(frozen=True)
class Ensemble(Executor):
    """Runs of one shape as one vmapped program, at most ``together`` at a time: their parameters and optimiser states stacked.

    Without a number it is planned before anything runs: on a CPU as many as keep 36 MiB for a step's backward pass, on a GPU what its
    memory holds by a trial of one and of two runs; where that was too many after all, half as many go on, with a word. On a CPU several
    programs train at once, one for each of torch's threads. Runs whose losses become NaN or infinite are left behind, and told of when
    the others are finished. ``compiled`` hands the program to ``torch.compile``, which pays for long runs on a GPU; on a CPU one program
    then has all threads.
    """

    together: int | None = None
    device: str | None = None
    compiled: bool = False

    def __post_init__(self) -> None:
        count("together", self.together, none=True)

    def carry_out(self, work: Work, take: Take, done: Done, tell: Tell) -> None:
        work = replace(work.on(self.device) if self.device else work, compiled=self.compiled)
        plans: dict[Any, tuple[Pattern, int, Lanes]] = {}
        waiting: list[Run] = []
        failed: dict[str, DivergedError | None] = {}  # by first key, in the order in which groups were made: lanes end in any
        while waiting := waiting or take(1):
            kind = waiting[0][0].kind
            pattern, most, lanes = plans[kind] = plans.get(kind) or self._planned(work, waiting[0][0])
            task = partial(self._task, work, pattern, done, tell, failed)
            waiting += take(max(0, most * lanes.count - len(waiting)))
            try:
                lanes.at_most(len(of_one_kind(waiting))).carry_out(map(task, _parts(waiting, most, lanes.count, take)))
            except torch.OutOfMemoryError:
                most = min(most, len(of_one_kind(waiting)))
                if most == 1:
                    raise
                plans[kind] = pattern, most // 2, lanes
                warnings.warn(f"the GPU's memory does not hold {most} runs together; {most // 2} at a time go on", stacklevel=2)
        for first in filter(None, failed.values()):
            raise first

    def _planned(self, work: Work, job: Job) -> tuple[Pattern, int, Lanes]:
        """What runs like this one train by, how many of them together at most, and how many such groups at once."""
        pattern = side_by_side(work, job)
        return pattern, *planned(work, job, pattern, self.together)

    def _task(
        self, work: Work, pattern: Pattern, done: Done, tell: Tell, failed: dict[str, DivergedError | None], part: Sequence[Run]
    ) -> Task:
        """What a lane does with some runs that train together, made in the thread of the sweep."""
        jobs, keys = [job for job, _ in part], [key for _, key in part]
        group = Group(work, jobs, keys, together=True, pattern=pattern)
        failed[keys[0]] = None

        def ended() -> None:
            failed[keys[0]] = group.diverged
            done(group.finished())

        def carried_out(say: Callable[[Later], None]) -> Later:
            group.advance(jobs[0].recipe.steps, lambda step: say(partial(tell, keys, step)))
            return ended

        return carried_out


def _parts(waiting: list[Run], most: int, lanes: int, take: Take) -> Iterator[list[Run]]:
    """The runs like the first that waits, at most so many together, and then those that are taken, until one is of another kind."""
    kind = waiting[0][0].kind
    while waiting and waiting[0][0].kind == kind:
        same = of_one_kind(waiting)
        for part in split(len(same), most, lanes):
            yield [same[i] for i in part]
            waiting[:] = [run for run in waiting if run not in same[: part.stop]]
        waiting += [] if waiting else take(most * lanes)


def of_one_kind(waiting: Sequence[Run]) -> list[Run]:
    """The runs that may train as one program with the first of them."""
    return [run for run in waiting if run[0].kind == waiting[0][0].kind]


def count(name: str, value: int | None, *, least: int = 1, none: bool = False) -> None:
    """Raise where a setting is no whole number that is large enough."""
    if none and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} is {value!r}; it is a whole number >= {least}{', or None' if none else ''}")
