"""One-step hypergradients in a single loop: weights follow the alignment of each domain's gradient with the target's, as DoGE's do."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mixopt.errors import InputError
from mixopt.forms import Abilities, Form
from mixopt.runtime.learner import Batch
from mixopt.runtime.modelled import Modelled
from mixopt.runtime.tree import Leaves, vector
from mixopt.solver import Average, Task

from .outer import BilevelGeometry
from .products import cross_term
from .single_loop import Loop, SingleLoop, Turn, descend, lower, norm
from .steps import Normalised


@dataclass(frozen=True, kw_only=True)
class OneStep(SingleLoop):
    """w moves along step_size <grad l_i, grad upper>, then the model takes one step of the learner's optimizer under the new w.

    It is the K = 1 unroll at the model as it stands, first order in ``step_size``, for exact and sampled learners; curvature is left
    out, so the point where it rests is another than the optimum (``result.check`` of an exact learner holds the true gap). With
    ``geometry="entropic"`` and ``rate`` 1 / mu it is DoGE's rule. What DoGE's released code does besides: ``normalised`` divides the
    products by the domains' mean gradient norm + 1e-6, ``floor`` and ``ceiling`` clip them then, ``clip`` is the largest norm of a
    domain's gradient in them, and ``own=False`` leaves out a domain's product with itself, for an upper level that is the sum of the
    training losses. These need one backward pass a domain; without them all products are one forward-mode product.

    Source: Fan, Pagliardini and Jaggi 2024, arXiv 2310.15393, Algorithm 1; code Olivia-fsm/DoGE, src/trainer.py.
    """

    rate: float | Normalised = field(default_factory=Normalised)
    geometry: BilevelGeometry = "entropic"
    average: Average = "mean"
    step_size: float = 1e-3
    normalised: bool = False
    floor: float | None = None
    ceiling: float | None = None
    clip: float | None = None
    own: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.step_size < math.inf or (self.clip is not None and not 0 < self.clip < math.inf):
            raise InputError(f"step_size is {self.step_size} and clip {self.clip}; both are finite numbers > 0, or clip None")
        low, high = -math.inf if self.floor is None else self.floor, math.inf if self.ceiling is None else self.ceiling
        if not low < high:
            raise InputError(f"the floor of the scores is {self.floor} and their ceiling {self.ceiling}; the floor is below the ceiling")

    def refuses(self, form: Form, abilities: Abilities | None) -> tuple[str, ...]:
        reasons = super().refuses(form, abilities)
        able = abilities is None or abilities.double_backward or abilities.gauss_newton or self._by_domain
        if not reasons and not able:
            return ("the learner has neither a forward mode nor a double backward; set own=False or normalised=True, or use VPBGD()",)
        return reasons

    def rewrites(self, form: Form) -> tuple[str, ...]:
        return ("lower level -> one gradient step from the model as it stands (curvature left out)",)

    def turn(self, task: Task, loop: Loop, w: Tensor, batch: Batch) -> Turn:
        model = loop.model
        with model.learner.second_order():
            value, gradient = self._direction(model, w, loop.leaves, batch)
        moved = self.moved(task, loop, w, gradient)
        new = moved[0]
        at = lower(loop, new, loop.leaves, batch, model.draw(new, loop.draw, batch))
        descend(loop.optimizer, loop.leaves, at.slopes)
        return Turn(gradient, value, at.losses, norm(at.slopes), follower=loop.leaves, moved=moved)

    @property
    def _by_domain(self) -> bool:
        return self.normalised or self.clip is not None or not self.own

    def _direction(self, model: Modelled, w: Tensor, leaves: Leaves, batch: Batch) -> tuple[Tensor, Tensor]:
        """The upper value [], and the one-step gradient [k] with the direct term."""
        at = tuple(leaf.detach().requires_grad_() for leaf in leaves)
        free = w.detach().clone().requires_grad_()
        value = model.upper(free, at, batch)
        *v, direct = model.gradient(value, (*at, free))
        if not self._by_domain:
            score = cross_term(model, w, at, batch, tuple(v))
        else:
            rows = self._rows(model, w, at, batch)
            score = rows @ vector(tuple(v)).to(rows.dtype)
            if not self.own:
                score = score - (rows**2).sum(1)
            if self.normalised:
                score = score / (rows.norm(dim=1).mean() + 1e-6)
        if self.floor is not None or self.ceiling is not None:
            score = score.clamp(self.floor, self.ceiling)
        return value.detach(), direct - self.step_size * score

    def _rows(self, model: Modelled, w: Tensor, at: Leaves, batch: Batch) -> Tensor:
        """The gradients of the k losses [k, P], by one backward pass each."""
        free = w.detach().clone().requires_grad_()
        (over,) = torch.autograd.grad(model.lower(free, at, batch), free, create_graph=True)
        rows = []
        for i in range(len(over)):
            row = vector(model.gradient(over[i], at, retain_graph=True))
            rows.append(row if self.clip is None else row * (self.clip / (row.norm() + 1e-6)).clamp(max=1))
        return torch.stack(rows)
