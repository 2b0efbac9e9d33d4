"""Executors: where and how the runs of a sweep are trained; all of them give the same numbers."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
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


class Executor(ABC):
    """A way to train the runs of a sweep. A value: settings only."""

    device: str | None

    @abstractmethod
    def carry_out(self, work: Work, take: Take, done: Done, tell: Tell) -> None:
        """Train what ``take`` hands out until it hands out nothing, and hand each run to ``done`` as it finishes."""


@final
@dataclass(frozen=True)
class Sequential(Executor):
    """One run after another, each model as the module that it is: the plain way, for models that nothing else takes."""

    device: str | None = None

    def carry_out(self, work: Work, take: Take, done: Done, tell: Tell) -> None:
        work = work.on(self.device) if self.device else work
        while some := take(1):
            ((job, key),) = some
            done(trained(work, [job], [key], together=False, tell=lambda step, key=key: tell([key], step)))  # type: ignore[misc]


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
            same = _same(waiting)
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


@final
@dataclass(frozen=True)
class Processes(Executor):
    """Each of ``workers`` processes trains one run after another, as many as there are cores unless told; with "cuda" all GPUs in turn.

    The factory has to be importable: a function of a module, no lambda. A worker that dies is replaced, and its run is tried
    ``retries`` times more.
    """

    workers: int | None = None
    device: str | None = None
    retries: int = 2

    def __post_init__(self) -> None:
        count("workers", self.workers, none=True)
        count("retries", self.retries, least=0)

    def carry_out(self, work: Work, take: Take, done: Done, tell: Tell) -> None:
        workers = self.workers or max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
        _refuse_unpicklable(work)
        tries: dict[str, int] = {}
        again: list[tuple[Job, str]] = []
        while True:
            try:
                self._with_a_pool(workers, work, take, done, tell, again)
                return
            except _Lost as lost:
                for job, key in lost.runs:
                    tries[key] = tries.get(key, 0) + 1
                    if tries[key] > self.retries:
                        raise MixoptError(
                            f"run {job.id} was lost {tries[key]} times: its worker died (out of memory, or killed), or could not begin; "
                            "take fewer workers or a smaller model, and call sweep in a script under if __name__ == '__main__':; "
                            "what finished is kept"
                        ) from None
                again[:0] = lost.runs

    def _with_a_pool(self, workers: int, work: Work, take: Take, done: Done, tell: Tell, again: list[tuple[Job, str]]) -> None:
        """Work off ``again``, and then what is taken; raises ``_Lost`` with the runs that were under way where a worker dies."""
        context = multiprocessing.get_context("spawn")
        devices = context.Queue()
        for device in _devices(self.device, workers):
            devices.put(device)
        pool = ProcessPoolExecutor(workers, context, _begin, (work, devices))
        running: dict[Future[list[Finished]], tuple[Job, str]] = {}
        try:
            while True:
                while len(running) < workers:
                    again.extend([] if again else take(1))
                    if not again:
                        break
                    running[pool.submit(_one, *again[0])] = again[0]  # a pool that broke just now leaves it there
                    del again[0]
                if not running:
                    pool.shutdown()
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    found = future.result()
                    job, key = running.pop(future)
                    done(found)
                    tell([key], job.recipe.steps)
        except BrokenProcessPool:
            raise _Lost([run for future, run in running.items() if not _kept(future, done)]) from None
        finally:
            _stopped(pool)


def _stopped(pool: ProcessPoolExecutor) -> None:
    """End the workers at once: what they had under way is nobody's any more."""
    for process in list((pool._processes or {}).values()):
        process.terminate()
    pool.shutdown(wait=True, cancel_futures=True)


class _Lost(Exception):  # noqa: N818  (it is no error of the user's)
    def __init__(self, runs: list[tuple[Job, str]]):
        super().__init__()
        self.runs = runs


def _kept(future: Future[list[Finished]], done: Done) -> bool:
    """Whether a run had finished after all when the pool broke."""
    if future.done() and future.exception() is None:
        done(future.result())
        return True
    return False


_WORK: list[Work] = []  # a worker's own: what it was begun with


def _begin(work: Work, devices: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of a terminal's processes; the sweep ends its workers itself
    threading.Thread(target=_end_with_the_sweep, daemon=True).start()
    torch.set_num_threads(1)
    _WORK[:] = [work.on(devices.get())]


def _end_with_the_sweep() -> None:
    """Wait for the sweep's own process, which may be killed, and leave no worker behind."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _one(job: Job, key: str) -> list[Finished]:
    return trained(_WORK[0], [job], [key], together=False, tell=lambda step: None)


def _devices(asked: str | None, workers: int) -> list[str]:
    """The device of each worker: the one asked for; "cuda" alone means all GPUs in turn."""
    if asked == "cuda" and torch.cuda.is_available():
        return [f"cuda:{i % torch.cuda.device_count()}" for i in range(workers)]
    return [asked or "cpu"] * workers


def _refuse_unpicklable(work: Work) -> None:
    import pickle

    for name, factory in work.factories.items():
        try:
            pickle.dumps(factory)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise InputError(
                f"the factory of {name!r} cannot be sent to another process ({error}); make it a function of a module, or take "
                "executor='ensemble' or 'sequential'"
            ) from None


def _same(waiting: Sequence[tuple[Job, str]]) -> list[tuple[Job, str]]:
    """The runs that may train as one program with the first of them."""
    return [run for run in waiting if run[0].kind == waiting[0][0].kind]


def count(name: str, value: int | None, *, least: int = 1, none: bool = False) -> None:
    """Raise where a setting is no whole number that is large enough."""
    if none and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} is {value!r}; it is a whole number >= {least}{', or None' if none else ''}")
