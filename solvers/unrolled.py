"""Hypergradients by unrolling: the derivative of the loss after K plain gradient steps of the lower level."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mixopt.errors import InputError
from mixopt.forms import Abilities, Bilevel
from mixopt.runtime.learner import Batch
from mixopt.runtime.modelled import Modelled
from mixopt.runtime.tree import Leaves, vector

from .bilevel import BilevelSolver, Slope, Trained
from .implicit import cross_term
from .steps import check_counts


@dataclass(frozen=True, kw_only=True)
class Unrolled(BilevelSolver):
    """d/dw of upper(theta_K), theta_{t+1} = theta_t - ``step`` grad lower(theta_t, w), differentiated in reverse.

    With an exact learner theta_0 is the learner's start, and the answer is exact for the K-step outcome: a different
    problem from the argmin's. With a sampled one theta_0 is the model as it stands, and ``steps=1`` needs no second
    derivative: dF/dw_i = -step <grad l_i, grad upper>, all k by one forward-mode product; upper's gradient is taken at
    theta_0, first order in ``step`` (DoGE, arXiv 2310.15393, Eq. 4).

    Source: section B.2.1 of the survey (gradient unrolling).
    """

    steps: int = 1
    step_size: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, steps=1)
        if not self.step_size > 0:
            raise InputError(f"the step_size of Unrolled is {self.step_size}; it is > 0")

    @property
    def oracle(self) -> str:
        return f"{self.steps} unrolled step{'s' if self.steps > 1 else ''} of {self.step_size:g}"

    def limits(self, form: Bilevel, abilities: Abilities) -> tuple[str, ...]:
        if abilities.double_backward or (self.steps == 1 and not abilities.exact and abilities.gauss_newton):
            return ()
        one = " or, with a sampled learner that has a forward mode, steps=1" if self.steps > 1 else ""
        return (f"the learner's losses cannot be differentiated twice; use ValueFunction(){one}",)

    def trained(self, model: Modelled, w: Tensor, near: Trained) -> Trained:
        start = model.learner.start()
        leaves = tuple(leaf.requires_grad_() for leaf in start)
        for _ in range(self.steps):
            leaves = self._stepped(model, w, leaves, None, graph=False)
        slope = vector(model.gradient(model.lower(w, leaves, None), leaves))
        inner = float(slope.norm())
        doubt = "" if inner < math.inf else f"the {self.steps} unrolled steps of {self.step_size:g} diverged; lower step_size"
        return Trained(leaves, inner, start, doubt=doubt)

    def slope(self, model: Modelled, w: Tensor, leaves: Leaves, batch: Batch, warm: Any) -> Slope:
        if self.steps == 1 and batch is not None:
            return self._one_step(model, w, leaves, batch)
        free = w.detach().clone().requires_grad_()
        at = tuple(leaf.detach().requires_grad_() for leaf in leaves)
        for _ in range(self.steps):
            at = self._stepped(model, free, at, batch, graph=True)
        value = model.upper(free, at, batch)
        (gradient,) = model.gradient(value, (free,))
        still = tuple(leaf.detach().requires_grad_() for leaf in at)
        inner = vector(model.gradient(model.lower(w, still, batch), still)).norm()
        return Slope(gradient, value.detach(), inner)

    def _stepped(self, model: Modelled, w: Tensor, at: Leaves, batch: Batch, graph: bool) -> Leaves:
        slope = model.gradient(model.lower(w, at, batch), at, create_graph=graph)
        moved = tuple(leaf - self.step_size * g for leaf, g in zip(at, slope, strict=True))
        return moved if graph else tuple(leaf.detach().requires_grad_() for leaf in moved)

    def _one_step(self, model: Modelled, w: Tensor, leaves: Leaves, batch: Batch) -> Slope:
        at = tuple(leaf.detach().requires_grad_() for leaf in leaves)
        free = w.detach().clone().requires_grad_()
        value = model.upper(free, at, batch)
        *v, direct = model.gradient(value, (*at, free))
        cross = cross_term(model, w, at, batch, tuple(v))
        return Slope(direct - self.step_size * cross, value.detach(), None)
