"""What first-order methods of one loop share: a model under a penalty, a second one that follows the lower level, and the weights."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixopt.forms import Abilities, Bilevel, Form, kind
from mixopt.report.result import Status
from mixopt.runtime.learner import Batch
from mixopt.runtime.modelled import Modelled
from mixopt.runtime.tree import Leaves, copied, vector
from mixopt.solver import Average, Pace, Solver, State, Task

from .constraints import refuses_region
from .outer import BilevelGeometry, check_outer, outer_step, refuses_logits
from .steps import Normalised, check_counts

STILL = 1e-6
"""Weights that have moved no farther in a run have stood still."""


@dataclass(frozen=True)
class Loop:
    """Where a run stands: the model under the penalty, the follower of the lower level alone, their optimizers, and the steps taken.

    ``kept`` is the method's own; the optimizers change the leaves in place.
    """

    model: Modelled
    leaves: Leaves
    optimizer: torch.optim.Optimizer
    follower: Leaves
    behind: torch.optim.Optimizer
    draw: torch.Generator
    taken: int = 0
    kept: Any = None
    velocity: Tensor | None = None


@dataclass(frozen=True)
class Pulled:
    """An objective at some weights and parameters: its value, its gradients over the parameters and the weights [k], the losses [k]."""

    value: Tensor
    slopes: Leaves
    over: Tensor
    losses: Tensor


@dataclass(frozen=True)
class Turn:
    """One step of a method, before the weights move or with it: their direction [k], and what the trace tells.

    The direction is ``scale`` times the gradient in the method's own objective, in which a penalty below 1 counts as 1.
    ``excess`` is lower(model) - lower(follower), ``size`` the norm of the largest gradient that a model descended; ``moved`` are the
    new weights and what is kept of their step, where the method has moved them itself.
    """

    gradient: Tensor
    value: Tensor
    losses: Tensor
    size: Tensor
    excess: Tensor | None = None
    follower: Leaves | None = None
    moved: tuple[Tensor, Loop] | None = None
    scale: float = 1.0


@dataclass(frozen=True, kw_only=True)
class SingleLoop(Solver):
    """A bilevel solver that moves weights and models once a step, by first derivatives at the iterates as they stand.

    For exact and sampled learners alike. Models take steps of the learner's optimizer; the weights move by ``rate`` in the given
    ``geometry``, along the running mean of the directions where there is a ``momentum``. The parameters that come back are those of the
    model that follows the lower level, which no upper objective has bent.
    A run with an exact learner ends early once the models' gradients and the Frank-Wolfe gap of the method's own direction are below
    ``tolerance``: stationary for the method, while ``result.check`` holds the true gap.
    """

    rate: float | Normalised = 0.1
    geometry: BilevelGeometry = "euclidean"
    momentum: float = 0.0
    smoothing: float = 0.0
    average: Average = "last"
    steps: int = 1000
    tolerance: float = 1e-7

    def __post_init__(self) -> None:
        check_outer(self.rate, self.smoothing, self.geometry, self.average, self.momentum)
        check_counts(self, steps=1)

    @abstractmethod
    def turn(self, task: Task, loop: Loop, w: Tensor, batch: Batch) -> Turn:
        """Move the models, and give the direction of the weights, whose losses are measured on a batch that holds every domain alike."""

    def refuses(self, form: Form, abilities: Abilities | None) -> tuple[str, ...]:
        if not isinstance(form, Bilevel):
            return (f"it takes bilevel problems, and this is a {kind(form)}",)
        if form.steps:
            return (f"it is for an argmin, and '{form.trained}' is where {form.steps} training steps lead; use Unrolled(), or argmin(...)",)
        return (*refuses_region(form.constraints), *refuses_logits(form, self.geometry))

    def pace(self, task: Task) -> Pace:
        assert task.model is not None
        return Pace(self.steps, 1 if task.model.exact else 5, self.average)

    def begin(self, task: Task) -> State:
        model = task.model
        assert model is not None
        leaves, follower = (copied(model.learner.start(), trainable=True) for _ in range(2))
        optimizers = model.learner.optimizer(leaves), model.learner.optimizer(follower)
        loop = Loop(model, leaves, optimizers[0], follower, optimizers[1], model.generator(task.seed))
        return State(model.weights(task.start), loop)

    def step(self, task: Task, state: State) -> State:
        loop, w = state.memory, state.weights
        batch = loop.model.learner.draw(loop.draw)
        turn = self.turn(task, loop, w, batch)
        new, loop = self.moved(task, loop, w, turn.gradient) if turn.moved is None else turn.moved
        info = {"value": turn.value, "inner": turn.size, "losses": turn.losses}
        if turn.excess is not None:
            info["excess"] = turn.excess
        loop = replace(loop, taken=loop.taken + 1, follower=loop.follower if turn.follower is None else turn.follower)
        return State(new, loop, info, self._settled(task, w, turn) if loop.model.exact else None)

    def moved(self, task: Task, loop: Loop, w: Tensor, gradient: Tensor) -> tuple[Tensor, Loop]:
        """The weights [k] after a step along a direction, and what the run keeps of it."""
        settings: dict[str, Any] = {"geometry": self.geometry, "momentum": self.momentum, "smoothing": self.smoothing}
        new, velocity = outer_step(task, w, gradient, loop.velocity, rate=self.rate, **settings)
        return new, replace(loop, velocity=velocity)

    def leaves(self, state: State) -> Leaves:
        found: Leaves = state.memory.follower
        return found

    def _settled(self, task: Task, w: Tensor, turn: Turn) -> Status | None:
        if not float(turn.size) <= self.tolerance:
            return None
        g, at = turn.gradient.double().cpu().numpy(), w.cpu().numpy()
        return Status.STATIONARY if float(g @ at - g @ task.region.lowest(g)) <= self.tolerance * turn.scale else None

    def remarks(self, task: Task, weights: np.ndarray) -> str:
        """That the weights have stood still."""
        far = float(np.abs(weights - task.region.start(task.start)).max(initial=0.0))
        if far > STILL:
            return ""
        return f"the weights moved by no more than {far:.0e} in {len(weights)} steps, so nothing was mixed: {self.stuck}"

    @property
    def stuck(self) -> str:
        """Why weights may stand still, and the mend."""
        return f"raise the rate ({self.rate})"


def lower(loop: Loop, w: Tensor, leaves: Leaves, batch: Batch, training: Batch) -> Pulled:
    """The lower objective: gradients of the parameters on the training batch, and all else on the one that holds every domain alike."""
    if training is batch:
        return _pulled(loop.model, loop.model.second, w, leaves, batch)
    seen = _pulled(loop.model, loop.model.second, w, leaves, training)
    return replace(lower_over(loop, w, leaves, batch), slopes=seen.slopes)


def upper(loop: Loop, w: Tensor, leaves: Leaves, batch: Batch) -> Pulled:
    """The upper objective with its gradients."""
    return _pulled(loop.model, loop.model.first, w, leaves, batch)


def lower_over(loop: Loop, w: Tensor, leaves: Leaves, batch: Batch) -> Pulled:
    """The lower objective with its gradient over the weights, by a forward pass alone."""
    free = w.detach().clone().requires_grad_()
    env = loop.model.env(free, tuple(leaf.detach() for leaf in leaves), batch)
    value = loop.model.second(env)[0]
    (over,) = torch.autograd.grad(value, free)
    return Pulled(value.detach(), (), over, loop.model.domain_losses(env))


def _pulled(model: Modelled, objective: Any, w: Tensor, leaves: Leaves, batch: Batch) -> Pulled:
    free = w.detach().clone().requires_grad_()
    live = tuple(leaf for leaf in leaves if leaf.requires_grad)
    env = model.env(free, leaves, batch)
    value = objective(env)[0]
    *slopes, over = model.gradient(value, (*live, free))
    return Pulled(value.detach(), tuple(slopes), over, model.domain_losses(env))


def descend(optimizer: torch.optim.Optimizer, leaves: Leaves, slopes: Leaves) -> None:
    """One optimizer step of the trainable leaves along slopes."""
    optimizer.zero_grad()
    for leaf, slope in zip((leaf for leaf in leaves if leaf.requires_grad), slopes, strict=True):
        leaf.grad = slope
    optimizer.step()


def norm(slopes: Leaves) -> Tensor:
    """The norm of a gradient over the parameters."""
    return vector(slopes).norm()


@contextmanager
def same_noise(model: Modelled) -> Iterator[None]:
    """Within it, what dropout draws is drawn again by what comes after, so that two models on one batch drop the same units."""
    if model.exact:
        yield
        return
    with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []):
        yield
