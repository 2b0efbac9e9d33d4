"""GRAPE's rule: domains gain that help the tasks of the moment, tasks gain that the mixture of the moment helps least."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from mixopt.errors import InputError
from mixopt.language.domains import Domains

from .rule import Need, Rule, Scene, Seen, Standing


@final
@dataclass(frozen=True)
class GRAPE(Rule):
    """w_i <- w_i exp(rate sum_n z_n R_in), z_n <- z_n exp(-task_rate sum_i w_i R_in), normalised: R_in = <grad l_i, grad log l_n>.

    R_in is how fast domain i improves task n, relative to the task's loss; tasks that the weights improve least gain. ``tasks`` are their
    names. The task weights z, uniform at first, move at every ``task_every``-th move, before the domains' in it, and are mixed with a
    share ``task_smoothing`` of the uniform ones. The schedule's memory holds them as "tasks", and each move tells them.

    Source: Fan, Glarou and Jaggi 2025, arXiv 2505.20380; code Olivia-fsm/GRAPE_data_mixture_with_multi_target, src/trainer.py.

    Raises:
        InputError: no task, or a number out of range.
    """

    tasks: tuple[str, ...]
    rate: float = 1e-3
    task_rate: float = 1e-4
    task_every: int = 10
    task_smoothing: float = 1e-3
    watch: str = "val"

    def __post_init__(self) -> None:
        if not self.tasks:
            raise InputError("GRAPE weights tasks, and none is named")
        for name in ("rate", "task_rate"):
            if not (isinstance(getattr(self, name), (int, float)) and 0 < getattr(self, name) < math.inf):
                raise InputError(f"{name} is {getattr(self, name)!r}; it is a finite number > 0")
        if isinstance(self.task_every, bool) or not isinstance(self.task_every, int) or self.task_every < 1:
            raise InputError(f"the tasks' weights move at every {self.task_every!r}-th move; it is a whole number >= 1")
        if not 0 <= self.task_smoothing < 1:
            raise InputError(f"the smoothing of the tasks' weights is {self.task_smoothing!r}; it is a share in [0, 1)")

    def needs(self, domains: Domains) -> tuple[Need, ...]:
        return (
            Need("gram", "<grad l_i, grad l_task_n> of every domain i and task n", domains.names, self.tasks),
            Need(self.watch, "losses of the tasks, in nats per token", self.tasks),
        )

    def begin(self, scene: Scene) -> Standing:
        n = len(self.tasks)
        return Standing(scene.start, {"tasks": np.full(n, 1 / n)})

    def move(self, scene: Scene, at: Standing, seen: Seen) -> Standing:
        losses, z = np.asarray(seen[self.watch], dtype=float), at.memory["tasks"]
        if not losses.min() > 0:
            raise InputError(f"the loss of task {self.tasks[int(losses.argmin())]!r} is {losses.min():.6g}; GRAPE divides by it")
        gains = np.asarray(seen["gram"], dtype=float) / losses
        if (seen.move + 1) % self.task_every == 0:
            logits = np.log(np.maximum(z, np.finfo(float).tiny)) - self.task_rate * (at.weights @ gains)
            z = np.exp(logits - logits.max())
            z = (1 - self.task_smoothing) * z / z.sum() + self.task_smoothing / len(z)
        return Standing(scene.step(at.weights, gains @ z, self.rate), {"tasks": z}, {"tasks": z})
