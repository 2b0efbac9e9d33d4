"""Gradient descent ascent: the model descends and the weights ascend, one step each."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mixopt.forms import Abilities, Form, Saddle, kind
from mixopt.language.curvature import curvature
from mixopt.report.result import Status
from mixopt.runtime.modelled import Modelled
from mixopt.runtime.tree import Leaves, copied
from mixopt.solver import Average, Pace, Solver, State, Task

from .constraints import Geometry, refuses_region
from .steps import Normalised, check_counts, check_settings, move


@dataclass(frozen=True)
class _Memory:
    model: Modelled
    leaves: Leaves
    optimizer: torch.optim.Optimizer
    draw: torch.Generator


@dataclass(frozen=True)
class DescentAscent(Solver):
    r"""Alternating descent ascent on a saddle: the weights move first, and the new ones weight the same batch.

    Entropic: log w' = log w + rate * payoff_i, normalised, then w = (1 - smoothing) w' + smoothing / k. Euclidean: the
    projection of w + rate * payoff. The model takes one step of the learner's optimizer on the descent view.

    ``temperature`` t subtracts t KL(w || uniform) from the payoff, which keeps the weights from collapsing to one
    domain; the check judges the payoff as it is written, without that term. The weights returned are the ``average``:
    "mean" of all after the start (DoReMi's paper), "mean with start" (its code), or "last". An exact learner's run ends
    early once both the best-response gap and the model's gradient are below ``tolerance``.

    Source: Sagawa et al. 2020 (group DRO), Algorithm 1; Xie et al. 2023 (DoReMi), arXiv 2305.10429, Algorithm 1.
    """

    rate: float | Normalised = 1.0
    geometry: Geometry = "entropic"
    smoothing: float = 0.0
    temperature: float = 0.0
    average: Average = "mean"
    steps: int = 1000
    tolerance: float = 1e-8

    def __post_init__(self) -> None:
        check_settings(self.rate, self.smoothing, self.temperature, self.geometry, self.average)
        check_counts(self, steps=1)

    def refuses(self, form: Form, abilities: Abilities | None) -> tuple[str, ...]:
        if not isinstance(form, Saddle):
            return (f"it takes saddles, and this is a {kind(form)}",)
        reasons = list(refuses_region(form.constraints))
        bend = curvature(form.payoff)
        if bend not in ("affine", "concave"):
            what = "convex" if bend == "convex" else "neither convex nor concave"
            reasons.append(f"the payoff is {what} in the weights, so ascent need not find the inner maximum")
        if self.temperature and self.geometry == "euclidean":
            reasons.append("a temperature goes with entropic steps; set geometry='entropic'")
        return tuple(reasons)

    def pace(self, task: Task) -> Pace:
        assert task.model is not None
        return Pace(self.steps, 1 if task.model.exact else 25, self.average)

    def begin(self, task: Task) -> State:
        model = task.model
        assert model is not None
        leaves = copied(model.learner.start(), trainable=True)
        memory = _Memory(model, leaves, model.learner.optimizer(leaves), model.generator(task.seed))
        return State(model.weights(task.start), memory)

    def step(self, task: Task, state: State) -> State:
        memory: _Memory = state.memory
        model = memory.model
        batch = model.learner.draw(memory.draw)
        w = state.weights.detach().requires_grad_()
        env = model.env(w, memory.leaves, batch, state.past)
        payoff = model.first(env)[0]
        (ascent,) = torch.autograd.grad(payoff, w)
        new = move(task, w.detach(), -ascent, self.rate, self.geometry, temperature=self.temperature, smoothing=self.smoothing)
        step = env.at(new, model.draw(new, memory.draw) if model.drawn else None)
        descent = model.second(step)[0]
        memory.optimizer.zero_grad()
        descent.backward()
        model.meter.gradients += 1
        info = {"value": payoff.detach(), "losses": model.domain_losses(env)}
        status = None
        if model.exact:
            slope = torch.stack([leaf.grad.norm() for leaf in memory.leaves if leaf.grad is not None]).norm()
            info |= {"gradient": slope}
            status = Status.STATIONARY if self._settled(task, w.detach(), ascent, float(slope)) else None
        memory.optimizer.step()
        return State(new, memory, info, status, past=env.kept)

    def leaves(self, state: State) -> Leaves:
        found: Leaves = state.memory.leaves
        return found

    def _settled(self, task: Task, w: torch.Tensor, ascent: torch.Tensor, slope: float) -> bool:
        if not slope <= self.tolerance or self.temperature or self.smoothing:
            return False
        g, at = -ascent.cpu().numpy(), w.cpu().numpy()
        return float(g @ at - g @ task.region.lowest(g)) <= self.tolerance
