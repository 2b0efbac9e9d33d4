"""G-PBGD: projected gradient descent on the upper objective plus a penalty of the lower level's squared gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mixopt.forms import Abilities, Bilevel, Form
from mixopt.runtime.learner import Batch
from mixopt.solver import Task

from .single_loop import Loop, SingleLoop, Turn, descend, norm
from .steps import check_counts
from .vpbgd import check_penalty, risen, weak


@dataclass(frozen=True, kw_only=True)
class GPBGD(SingleLoop):
    """min over w and theta of upper + penalty / 2 |grad lower(theta, w)|^2: one model, and one Hessian product a step.

    d/dw_i is penalty <grad l_i, grad lower>, plus the direct term; both steps are multiplied by min(1 / penalty, 1), as in the released
    code. On batches the square of the gradient's noise is penalised too, so the batches are to be large. Over the first ``ramp`` steps
    the penalty rises linearly from 0.

    The paper has one rate for w and theta; here theta takes the learner's optimizer, and w the ``rate``. The released code goes up to
    ``penalty=37``.

    Source: Shen and Chen 2023, arXiv 2302.05185, section 3 (G-PBGD).
    """

    penalty: float = 100.0
    ramp: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, ramp=0)
        check_penalty(self.penalty)

    def refuses(self, form: Form, abilities: Abilities | None) -> tuple[str, ...]:
        reasons = super().refuses(form, abilities)
        if not reasons and abilities is not None and not abilities.double_backward:
            return ("the learner's losses cannot be differentiated twice; use VPBGD() or ValueFunction()",)
        return reasons

    @property
    def stuck(self) -> str:
        return weak(self.penalty, self.rate)

    def rewrites(self, form: Form) -> tuple[str, ...]:
        assert isinstance(form, Bilevel)
        return (
            f"lower level -> |grad over '{form.theta}' of '{form.lower}'|^2 = 0, '{form.theta}' free",
            f"lower gradient -> penalty {self.penalty:g}/2 of its square (biased by O(1/penalty))",
        )

    def turn(self, task: Task, loop: Loop, w: Tensor, batch: Batch) -> Turn:
        model, penalty = loop.model, risen(self.penalty, self.ramp, loop.taken)
        free = w.detach().clone().requires_grad_()
        with model.learner.second_order():
            env = model.env(free, loop.leaves, batch)
            slopes = model.gradient(model.second(env)[0], loop.leaves, create_graph=True)
            square = torch.stack([(slope**2).sum() for slope in slopes]).sum()
            value = model.upper(free, loop.leaves, batch)
            *raw, over = model.gradient(value + penalty / 2 * square, (*loop.leaves, free))
        model.meter.hessian_products += 1
        scale = min(1 / penalty, 1.0)
        pull = tuple(scale * part for part in raw)
        descend(loop.optimizer, loop.leaves, pull)
        return Turn(
            scale * over, value.detach(), model.domain_losses(env), norm(pull), follower=loop.leaves, scale=min(penalty, 1 / penalty)
        )
