"""Runs of a sweep by processes of this machine, each with one run in hand at a time."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as ready
from typing import Any, final

import torch

from mixopt.errors import InputError, MixoptError
from mixopt.runtime.fleet import DivergedError

from .executors import Done, Executor, LostError, Take, Tell, count
from .job import Job
from .work import Work, trained

TELL = 0.5
"""Seconds between two words of a worker on how far its run is."""

_LOST = (
    "run {} was lost {} times: its worker died (out of memory, or killed), or could not begin; take fewer workers or a smaller model, "
    "and call sweep in a script under if __name__ == '__main__':; what finished is kept"
)

Run = tuple[Job, str]
Pipe = Connection


@final
@dataclass(frozen=True)
class Processes(Executor):
    """Each of ``workers`` processes trains one run after another, as many as there are cores unless told; with "cuda" all GPUs in turn.

    The factory has to be importable: a function of a module, no lambda. A worker that dies is replaced, and its run is tried
    ``retries`` times more; the other workers go on meanwhile. A run whose losses become NaN or infinite, or that is lost for good, is
    left behind, and told of when the others are finished. With ``compiled`` each worker trains by ``torch.compile``, which takes it some
    tens of seconds before its first run.
    """

    workers: int | None = None
    device: str | None = None
    retries: int = 2
    compiled: bool = False

    def __post_init__(self) -> None:
        count("workers", self.workers, none=True)
        count("retries", self.retries, least=0)

    def carry_out(self, work: Work, take: Take, done: Done, tell: Tell) -> None:
        _refuse_unpicklable(work)
        work = replace(work, compiled=self.compiled)
        idle = [_Worker(work, device) for device in _devices(self.device, self.workers or _cores())]
        busy: dict[Pipe, tuple[_Worker, Run]] = {}
        again: list[Run] = []
        tries: dict[str, int] = {}
        failed: dict[str, Exception | None] = {}  # by key, in the order in which runs were handed out: they end in any
        finished = False
        try:
            while True:
                while idle and (some := again or take(1)):
                    worker, run = idle.pop(), some.pop(0)
                    failed.setdefault(run[1])
                    busy[worker.begin(run)] = worker, run
                if not busy:
                    break
                for pipe, answer in _answers(busy):
                    worker, (job, key) = busy[pipe]
                    if isinstance(answer, int):
                        tell([key], answer)
                        continue
                    del busy[pipe]
                    idle.append(worker)
                    if answer is None:
                        worker.end()
                        tries[key] = tries.get(key, 0) + 1
                        if tries[key] <= self.retries:
                            again.append((job, key))
                            continue
                        answer = LostError(_LOST.format(job.id, tries[key]))
                    if isinstance(answer, list):
                        done(answer)
                        finished = True
                    elif isinstance(answer, DivergedError) or (finished and isinstance(answer, LostError)):
                        failed[key] = answer
                    else:
                        raise answer
        finally:
            for worker in [*idle, *(worker for worker, _ in busy.values())]:
                worker.end()
        for first in filter(None, failed.values()):
            raise first


@final
class _Worker:
    """A place for a process that trains the runs that come through its pipe; it is begun with its first run, and again after its death."""

    def __init__(self, work: Work, device: str):
        self.work, self.device = work, device
        self.process: Any = None

    def begin(self, run: Run) -> Pipe:
        """Give it a run; what becomes of that comes from the pipe."""
        if self.process is None:
            context = multiprocessing.get_context("spawn")
            self.pipe, theirs = context.Pipe()
            self.process = context.Process(target=_serve, args=(theirs, self.work, self.device))
            self.process.start()
            theirs.close()
        with suppress(OSError):  # one that died at rest answers by its end
            self.pipe.send(run)
        return self.pipe

    def end(self) -> None:
        """End the process at once: what it had in hand is nobody's any more."""
        if self.process is not None:
            self.process.terminate()
            self.process.join()
            self.pipe.close()
            self.process = None


def _answers(busy: Iterable[Pipe]) -> list[tuple[Pipe, Any]]:
    """What has come from workers, at least one of them: the steps done so far, the finished run, an error, or None where one died."""
    found: list[tuple[Pipe, Any]] = []
    for pipe in ready(list(busy)):
        assert isinstance(pipe, Connection)
        try:
            found.append((pipe, pipe.recv()))
        except (EOFError, OSError):
            found.append((pipe, None))
    return found


def _serve(pipe: Pipe, work: Work, device: str) -> None:
    """A worker's life: runs in, and out what they left, or the error; on the way the steps done."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of a terminal's processes; the sweep ends its workers itself
    threading.Thread(target=_end_with_the_sweep, daemon=True).start()
    torch.set_num_threads(1)
    here = work.on(device)
    told = time.monotonic()

    def tell(step: int) -> None:
        nonlocal told
        if time.monotonic() - told > TELL:
            told = time.monotonic()
            pipe.send(step)

    while True:
        job, key = pipe.recv()
        answer: Any
        try:
            answer = trained(here, [job], [key], together=False, tell=tell)
        except Exception as error:
            answer = _portable(error)
        pipe.send(answer)


def _portable(error: Exception) -> Exception:
    """The error as it can be sent, with its traceback where it is none of ours."""
    if not isinstance(error, MixoptError):
        error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return MixoptError(f"a worker failed with {type(error).__name__}: {error}")
    return error


def _end_with_the_sweep() -> None:
    """Wait for the sweep's own process, which may be killed, and leave no worker behind."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _cores() -> int:
    """The cores that this process may use."""
    return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _devices(asked: str | None, workers: int) -> list[str]:
    """The device of each worker: the one asked for; "cuda" alone means all GPUs in turn."""
    if asked == "cuda" and torch.cuda.is_available():
        return [f"cuda:{i % torch.cuda.device_count()}" for i in range(workers)]
    return [asked or "cpu"] * workers


def _refuse_unpicklable(work: Work) -> None:
    for name, factory in work.factories.items():
        try:
            pickle.dumps(factory)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise InputError(
                f"the factory of {name!r} cannot be sent to another process ({error}); make it a function of a module, or take "
                "executor='ensemble' or 'sequential'"
            ) from None
