"""V-PBGD: projected gradient descent on the upper objective plus a penalty of the value gap."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mixopt.compiler.value_form import value_form
from mixopt.errors import InputError
from mixopt.forms import Bilevel, Form
from mixopt.runtime.learner import Batch
from mixopt.solver import Task

from .single_loop import Loop, SingleLoop, Turn, descend, lower, lower_over, norm, same_noise, upper
from .steps import check_counts


@dataclass(frozen=True, kw_only=True)
class VPBGD(SingleLoop):
    """min over w and theta of upper + penalty (lower(theta, w) - lower(omega, w)): omega takes ``inner_steps`` steps, then w and theta one.

    The weights' direction is penalty (l_i(theta) - l_i(omega)), plus the direct term; theta descends penalty lower + upper. Both are
    multiplied by min(1 / penalty, 1), as in the released code: a longer step lets theta and omega fall behind w by different ways, and
    the penalty multiplies the difference. So a run takes some multiple of the penalty in steps. Over the first ``ramp`` steps the
    penalty rises linearly from 0.

    The paper has one rate for w and theta; here theta and omega take the learner's optimizer, and w the ``rate``. The code's data
    cleaning has ``penalty=0.2``, ``ramp=30_000`` of 40,000 steps and one inner step.

    Source: Shen and Chen 2023, arXiv 2302.05185, Algorithm 1 (V-PBGD).
    """

    penalty: float = 100.0
    inner_steps: int = 1
    ramp: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, inner_steps=1, ramp=0)
        check_penalty(self.penalty)

    @property
    def stuck(self) -> str:
        return weak(self.penalty, self.rate)

    def rewrites(self, form: Form) -> tuple[str, ...]:
        assert isinstance(form, Bilevel)
        return value_rewrites(form, self.penalty)

    def turn(self, task: Task, loop: Loop, w: Tensor, batch: Batch) -> Turn:
        training = loop.model.draw(w, loop.draw, batch)
        penalty = risen(self.penalty, self.ramp, loop.taken)
        with same_noise(loop.model):
            for _ in range(self.inner_steps):
                below = lower(loop, w, loop.follower, batch, training)
                descend(loop.behind, loop.follower, below.slopes)
        with same_noise(loop.model):
            reached = lower_over(loop, w, loop.follower, batch)
        at = lower(loop, w, loop.leaves, batch, training)
        top = upper(loop, w, loop.leaves, batch)
        scale = min(1 / penalty, 1.0)
        slopes = tuple(scale * (v + penalty * g) for v, g in zip(top.slopes, at.slopes, strict=True))
        descend(loop.optimizer, loop.leaves, slopes)
        size = torch.maximum(norm(slopes), norm(below.slopes))
        return Turn(
            scale * (top.over + penalty * (at.over - reached.over)),
            top.value,
            at.losses,
            size,
            excess=at.value - reached.value,
            scale=min(penalty, 1 / penalty),
        )


def check_penalty(penalty: float) -> None:
    """Refuse a penalty that is no finite number > 0."""
    if not 0 < penalty < math.inf:
        raise InputError(f"the penalty is {penalty!r}; it is a finite number > 0")


def weak(penalty: float, rate: Any) -> str:
    """Why weights may stand still under a penalty, and the mend."""
    if penalty < 1:
        return f"the penalty {penalty:g} is too small to move them, for it multiplies what tells the models apart; raise it to 10 or more"
    return f"the penalty {penalty:g} divides each step; take more steps, a larger rate ({rate}) or a lower penalty"


def risen(penalty: float, ramp: int, taken: int) -> float:
    """The penalty at a step, from 0 to its value in ``ramp`` steps."""
    return penalty * min((taken + 1) / (ramp + 1), 1.0)


def value_rewrites(form: Bilevel, penalty: float) -> tuple[str, str]:
    """What a method on the value gap makes of a form, in words for a plan's route."""
    stated = value_form(form, penalty)
    return (
        f"lower level -> value gap '{stated.gap}' <= 0, '{form.theta}' free",
        f"value gap -> penalty, minimise '{stated.penalised.objective}' (biased by O(1/penalty))",
    )
