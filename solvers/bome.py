"""BOME: the value gap falls by a dynamic barrier, whose multiplier is found at each step, and no penalty is chosen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mixopt.compiler.value_form import value_form
from mixopt.errors import InputError
from mixopt.forms import Bilevel, Form
from mixopt.runtime.learner import Batch
from mixopt.runtime.tree import Leaves
from mixopt.solver import Task

from .single_loop import Loop, Pulled, SingleLoop, Turn, descend, lower, lower_over, norm, same_noise, upper
from .steps import check_counts


@dataclass(frozen=True, kw_only=True)
class BOME(SingleLoop):
    """w and theta descend grad upper + m grad q, q = lower(theta, w) - lower(y, w), y theta after ``inner_steps`` plain steps on lower.

    m = max((psi - <grad upper, grad q>) / |grad q|^2, 0) is the least by which q falls at the rate psi: ``barrier="gradient"`` has
    psi = ``eta`` |grad q|^2 (the paper, and its toy), "gap" psi = ``eta`` q (the code for data cleaning). y is a number to gradients.

    The paper has one rate for w and theta; here theta takes the learner's optimizer, and w the ``rate``. The mean of the weights' part
    of each gradient is left out of the products: weights sum to 1, so that nothing can move along it.
    The model that comes back is y.

    Source: Ye et al. 2022, arXiv 2209.08709, Algorithm 1.
    """

    inner_steps: int = 10
    step_size: float = 0.1
    eta: float = 0.5
    barrier: Literal["gradient", "gap"] = "gradient"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, inner_steps=1)
        if self.barrier not in ("gradient", "gap"):
            raise InputError(f"the barrier is {self.barrier!r}; it is 'gradient' (eta |grad q|^2) or 'gap' (eta q)")
        if not 0 < self.step_size < math.inf or not 0 < self.eta < math.inf:
            raise InputError(f"step_size is {self.step_size} and eta {self.eta}; both are finite numbers > 0")

    def rewrites(self, form: Form) -> tuple[str, ...]:
        assert isinstance(form, Bilevel)
        stated = value_form(form)
        return (f"lower level -> value gap '{stated.gap}' <= 0, '{form.theta}' free", "value gap -> dynamic barrier (a multiplier a step)")

    def turn(self, task: Task, loop: Loop, w: Tensor, batch: Batch) -> Turn:
        training = loop.model.draw(w, loop.draw, batch)
        with same_noise(loop.model):
            y = self._followed(loop, w, batch, training)
            reached = lower_over(loop, w, y, batch)
        at = lower(loop, w, loop.leaves, batch, training)
        top = upper(loop, w, loop.leaves, batch)
        gap = at.value - reached.value
        q = at.over - reached.over
        m = self._multiplier(top, at, q, gap)
        slopes = tuple(v + m.to(v.dtype) * g for v, g in zip(top.slopes, at.slopes, strict=True))
        descend(loop.optimizer, loop.leaves, slopes)
        return Turn(top.over + m * q, top.value, at.losses, norm(slopes), excess=gap, follower=y)

    def _followed(self, loop: Loop, w: Tensor, batch: Batch, training: Batch) -> Leaves:
        """The model after plain steps on the lower objective."""
        y = loop.leaves
        for _ in range(self.inner_steps):
            y = tuple(leaf.detach().requires_grad_() for leaf in y)
            seen = lower(loop, w, y, batch, training)
            y = tuple(leaf.detach() - self.step_size * slope for leaf, slope in zip(y, seen.slopes, strict=True))
        return y

    def _multiplier(self, top: Pulled, at: Pulled, q: Tensor, gap: Tensor) -> Tensor:
        """The multiplier [] of grad q; 0 where that is 0."""
        wq, wf = q - q.mean(), top.over - top.over.mean()
        square = (wq**2).sum() + sum((g.double() ** 2).sum() for g in at.slopes)
        along = (wq * wf).sum() + sum((g.double() * v.double()).sum() for g, v in zip(at.slopes, top.slopes, strict=True))
        psi = self.eta * (square if self.barrier == "gradient" else gap)
        tiny = torch.finfo(square.dtype).tiny
        return torch.where(square > 0, ((psi - along) / square.clamp(min=tiny)).clamp(min=0), torch.zeros_like(square))
