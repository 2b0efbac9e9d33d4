"""Executors: where and how the runs of a sweep are trained; all of them give the same numbers."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch

from mixopt.errors import InputError, MixoptError
from mixopt.runtime.ensemble import TOGETHER_ON_CPU
from mixopt.runtime.fleet import DivergedError

from .job import Finished, Job
from .work import Work, planned, trained

Take = Callable[[int], list[tuple[Job, str]]]
"""Hands out at most so many runs that are neither finished nor in other hands, with their keys; none when there are none left."""

Done = Callable[[Sequence[Finished]], None]
Tell = Callable[[Sequence[str], int], None]
"""Hears of the runs in training, by key, and the steps that they have done."""


MANY = 1024  # runs to plan a GPU's share of


class LostError(MixoptError):
    """A run whose workers died each time that it was tried."""


class Executor(ABC):
    """A way to train the runs of a sweep. A value: settings only."""

    device: str | None

    @abstractmethod
    def carry_out(self, work: Work, take: Take, done: Done, tell: Tell) -> None:
        """Train what ``take`` hands out until it hands out nothing, and hand each run to ``done`` as it finishes."""


@final
@dataclass(frozen=True)
class Sequential(Executor):
    """One run after another, each model as the module that it is: the plain way, for models that nothing else takes.

    Runs whose losses become NaN or infinite are left behind, and told of when the others are finished.
    """

    device: str | None = None

    def carry_out(self, work: Work, take: Take, done: Done, tell: Tell) -> None:
        work = work.on(self.device) if self.device else work
        diverged: list[DivergedError] = []
        while some := take(1):
            ((job, key),) = some
            try:
                done(trained(work, [job], [key], together=False, tell=lambda step, key=key: tell([key], step)))  # type: ignore[misc]
            except DivergedError as error:
                diverged.append(error)
        if diverged:
            raise diverged[0]


@final
@dataclass(frozen=True)
class Ensemble(Executor):
    """Runs of one shape as one vmapped program, ``together`` at a time: their parameters and optimiser states stacked.

    Without a number it is planned before anything runs: a few on a CPU, on a GPU what its memory holds by a trial of one and of two
    runs; where that was too many after all, half as many go on, with a word. Runs whose losses become NaN or infinite are left behind,
    and told of when the others are finished. ``compiled`` hands the program to ``torch.compile``,
    which pays for long runs on a GPU.
    """

    together: int | None = None
    device: str | None = None
    compiled: bool = False

    def __post_init__(self) -> None:
        count("together", self.together, none=True)

    def carry_out(self, work: Work, take: Take, done: Done, tell: Tell) -> None:
        work = work.on(self.device) if self.device else work
        fits: dict[Any, int] = {}  # how many runs of a kind go together, where that is less than all of them
        waiting: list[tuple[Job, str]] = []
        diverged: DivergedError | None = None
        while waiting := waiting or take(self._at_once(work)):
            same = of_one_kind(waiting)
            kind = same[0][0].kind
            most = fits.get(kind) or self.together or planned(work, [job for job, _ in same])
            if most < len(same):
                fits[kind] = most
            part = same[:most]
            jobs, keys = [job for job, _ in part], [key for _, key in part]
            try:
                found = trained(work, jobs, keys, together=True, compiled=self.compiled, tell=lambda step, keys=keys: tell(keys, step))  # type: ignore[misc]
            except torch.OutOfMemoryError:
                if len(part) == 1:
                    raise InputError("the GPU's memory does not hold one run; take a smaller model, batch or context") from None
                fits[kind] = len(part) // 2
                warnings.warn(f"the GPU's memory does not hold {len(part)} runs together; {fits[kind]} at a time go on", stacklevel=2)
                continue
            except DivergedError as error:
                diverged, found = diverged or error, error.finished
            done(found)
            waiting = [run for run in waiting if run not in part]
        if diverged is not None:
            raise diverged

    def _at_once(self, work: Work) -> int:
        """How many runs to take in hand."""
        return self.together or (MANY if work.corpus.train.device.type == "cuda" else TOGETHER_ON_CPU)


def of_one_kind(waiting: Sequence[tuple[Job, str]]) -> list[tuple[Job, str]]:
    """The runs that may train as one program with the first of them."""
    return [run for run in waiting if run[0].kind == waiting[0][0].kind]


def count(name: str, value: int | None, *, least: int = 1, none: bool = False) -> None:
    """Raise where a setting is no whole number that is large enough."""
    if none and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} is {value!r}; it is a whole number >= {least}{', or None' if none else ''}")
