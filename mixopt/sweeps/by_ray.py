"""Runs of a sweep by Ray: on this machine, or on a cluster by its address."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from mixopt.errors import InputError, MissingExtraError, MixoptError
from mixopt.runtime.fleet import DivergedError

from .executors import Done, Executor, LostError, Take, Tell, of_one_kind
from .job import Finished, Job
from .work import Work, trained


@final
@dataclass(frozen=True)
class Ray(Executor):
    """Each run, or ``together`` runs as one vmapped program, is a task of Ray, given ``cpus`` cores and ``gpus`` GPUs or parts of them.

    ``address`` is a cluster's ("auto" for the one of this machine's node); without one a cluster of this machine is started for the
    sweep and stopped after it, unless Ray runs already. A task whose worker dies is tried ``retries`` times more. As many tasks are
    handed out as the cluster has room for, and two more each time one ends. On a GPU a task sees the one that it was given. A run whose
    losses become NaN or infinite, or that is lost for good, is left behind, and told of when the others are finished.

    Raises:
        MissingExtraError: ray is not installed.
        InputError: a number out of range.
    """

    address: str | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    retries: int = 3
    together: int = 1
    device: str | None = None

    def __post_init__(self) -> None:
        if self.cpus < 0 or self.gpus < 0 or self.cpus + self.gpus == 0:
            raise InputError(f"a task is given {self.cpus} cores and {self.gpus} GPUs; give it some of either")
        if self.retries < 0 or self.together < 1:
            raise InputError(f"retries is {self.retries} and together {self.together}; they are whole numbers, >= 0 and >= 1")

    def carry_out(self, work: Work, take: Take, done: Done, tell: Tell) -> None:
        ray = _ray()
        started = not ray.is_initialized()
        if started:
            ray.init(address=self.address, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        try:
            self._tasks(ray, work, take, done, tell)
        finally:
            if started:
                ray.shutdown()

    def _tasks(self, ray: Any, work: Work, take: Take, done: Done, tell: Tell) -> None:
        shared = ray.put(work.on("cpu"))
        device = self.device or ("cuda" if self.gpus else "cpu")
        task = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=self.retries)(_task)
        room = self._room(ray.cluster_resources())
        running: dict[Any, list[tuple[Job, str]]] = {}
        waiting: list[tuple[Job, str]] = []
        failed: dict[str, MixoptError | None] = {}  # by first key, in the order in which tasks were handed out: they end in any
        finished = False
        try:
            while True:
                while len(running) < room and (waiting := waiting or take(self.together)):
                    some = of_one_kind(waiting)
                    waiting = [run for run in waiting if run not in some]
                    failed[some[0][1]] = None
                    running[task.remote(shared, [job for job, _ in some], [key for _, key in some], device, self.together > 1)] = some
                if not running:
                    break
                ready, _ = ray.wait(list(running), num_returns=1)
                some = running.pop(ready[0])
                try:
                    done(self._result(ray, ready[0], some))
                    finished = True
                except DivergedError as error:
                    done(error.finished)
                    failed[some[0][1]] = error
                except LostError as error:
                    failed[some[0][1]] = error
                    if not finished:
                        break
                tell([key for _, key in some], some[0][0].recipe.steps)
        finally:
            for reference in running:
                ray.cancel(reference, force=True)
        for first in filter(None, failed.values()):
            raise first

    def _result(self, ray: Any, reference: Any, some: Sequence[tuple[Job, str]]) -> list[Finished]:
        try:
            found: list[Finished] = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, MixoptError):  # whose message says it all; others have the task's traceback
                raise error.cause from None
            if isinstance(error.cause, ray.exceptions.RaySystemError):
                raise InputError(
                    f"Ray's workers cannot read what they are sent: {error.cause}; the modules of the factories and mixopt have to be "
                    "importable there: start the cluster with their folder in PYTHONPATH, or install them on its nodes"
                ) from None
            raise error.as_instanceof_cause() from None
        except ray.exceptions.RayError as error:
            names = ", ".join(job.id for job, _ in some)
            raise LostError(
                f"Ray lost the run {names} {self.retries + 1} times: {error}; what finished is kept, and the same sweep goes on from there"
            ) from None
        return found

    def _room(self, resources: dict[str, float]) -> int:
        """How many tasks the cluster runs at once, and two to follow."""
        limits = [resources.get("CPU", 0.0) / self.cpus] if self.cpus else []
        limits += [resources.get("GPU", 0.0) / self.gpus] if self.gpus else []
        if min(limits) < 1 and (self.gpus > resources.get("GPU", 0.0) or self.cpus > resources.get("CPU", 0.0)):
            raise InputError(
                f"a task asks for {self.cpus:g} cores and {self.gpus:g} GPUs, and the cluster has {resources.get('CPU', 0):g} and "
                f"{resources.get('GPU', 0):g}; ask for less"
            )
        return int(min(limits)) + 2


def _task(work: Work, jobs: list[Job], keys: list[str], device: str, together: bool) -> list[Finished]:
    import torch

    torch.set_num_threads(1)
    return trained(work.on(device), jobs, keys, together=together, tell=lambda step: None)


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise MissingExtraError("ray", "ray", "executor='ray'") from None
    return ray
