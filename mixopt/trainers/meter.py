"""Between a training loop and a schedule: sums by domain over micro-batches, then over processes, then observed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from torch import Tensor

from mixopt.errors import InputError, unknown
from mixopt.schedules.schedule import Schedule

from .ranks import check_ranks, reduce_sums


@final
class Meter:
    """Adds up what the micro-batches of a step have by domain, and tells the schedule once a step.

    ``group`` is the torch.distributed group over which sums add up, without one all processes that there are; ``reduce`` adds a tensor
    up in a way of its own, such as Accelerate's ``accelerator.reduce``. After each ``check`` moves of the weights all processes make
    sure that they have the same ones; 0 never does. Nothing waits for a GPU until the weights are due to move.

    >>> import torch
    >>> import mixopt as mx
    >>> domains = mx.Domains(["web", "code"])
    >>> w, theta = mx.Mixture(domains), mx.model()
    >>> schedule = mx.online(mx.minimize(mx.maximize(w @ mx.losses(theta, domains), over=w), over=theta))
    >>> meter = Meter(schedule)
    >>> meter.add(torch.tensor([6.0, 8.0]), torch.tensor([2, 4]))
    >>> meter.step(), [round(weight, 3) for weight in schedule.weights.values()]
    (True, [0.731, 0.269])
    """

    def __init__(self, schedule: Schedule, *, group: Any = None, reduce: Callable[[Tensor], Tensor] | None = None, check: int = 100):
        if not isinstance(schedule, Schedule):
            raise InputError(f"a schedule is expected, as mx.online makes one, and {type(schedule).__name__} was given")
        self.schedule = schedule
        self._group, self._reduce, self._check = group, reduce, check
        self._sums: dict[str, tuple[Tensor, Tensor]] = {}

    def add(self, sums: Tensor, counts: Tensor, name: str = "train") -> None:
        """One micro-batch's loss sums [k] in nats and token counts [k], as ``cross_entropy`` and ``domain_sums`` give them.

        Raises:
            InputError: the schedule needs nothing of this name, or of another shape.
        """
        if name not in self.schedule.needs:
            raise unknown("measurement of this schedule", name, self.schedule.needs)
        shape = self.schedule.needs[name].shape
        if tuple(sums.shape) != shape or tuple(counts.shape) != shape:
            raise InputError(
                f"{name} has sums {list(sums.shape)} and counts {list(counts.shape)}; the schedule expects {list(shape)} of both"
            )
        before = self._sums.get(name)
        sums, counts = sums.detach(), counts.detach()
        self._sums[name] = (sums, counts) if before is None else (before[0] + sums, before[1] + counts)

    @property
    def waiting(self) -> tuple[str, ...]:
        """The measurements that were added since the last step."""
        return tuple(self._sums)

    def clear(self) -> None:
        """Forget what was added since the last step."""
        self._sums = {}

    def step(self, step: int | None = None, **measured: Any) -> bool:
        """The end of a training step: every process calls it; returns whether the weights moved.

        ``step`` and further ``measured`` numbers, which have to be the same on every process, go to the schedule as they are.

        Raises:
            InputError: nothing was added or measured; what ``Schedule.observe`` refuses; processes whose weights differ.
        """
        if not self._sums and not measured:
            raise InputError("the step ends before anything was added; call add(sums, counts) after each forward pass")
        summed = {n: reduce_sums(*self._sums[n], group=self._group, reduce=self._reduce) for n in sorted(self._sums)}
        device = next(iter(summed.values()))[0].device if summed else "cpu"
        self._sums = {}
        measured |= {name: both[0] for name, both in summed.items()}
        moved = self.schedule.observe(counts={n: both[1] for n, both in summed.items()}, summed=True, step=step, **measured)
        if moved and self._check and self.schedule.moves % self._check == 0:
            check_ranks(self.schedule.w.tobytes(), group=self._group, device=device)
        return moved
