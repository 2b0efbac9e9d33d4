"""What every bilevel solver shares: the outer step on the weights, given an engine for the hypergradient."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mixopt.forms import Abilities, Bilevel, Form, kind
from mixopt.language.curvature import steep
from mixopt.report.result import Status
from mixopt.runtime.descent import Descent, begin, mirror_step, softmax_step
from mixopt.runtime.learner import Batch
from mixopt.runtime.modelled import Modelled
from mixopt.runtime.quasi_newton import quasi_newton_step
from mixopt.runtime.simplex import smoothed
from mixopt.runtime.tilt import tilted
from mixopt.runtime.tree import Leaves, copied, vector
from mixopt.solver import Average, Pace, Solver, State, Task

from .constraints import refuses_region
from .doubts import NEGATIVE, flat
from .outer import Ahead, BilevelGeometry, LineSearch, check_outer, outer_step, refuses_logits
from .steps import Normalised, check_counts

ON_BATCHES = ("rate", "momentum", "smoothing", "average", "warmup", "train")
EXACTLY = ("tolerance", "inner")
"""Settings that are read in runs on batches alone, and with exact learners alone."""
STILL = 1e-10
"""A step that moves no weight farther gets nowhere."""


@dataclass(frozen=True)
class Slope:
    """A hypergradient [k] with what it was computed from: the upper value, and how far the lower level and the system were off.

    ``inner`` is the norm of the lower level's gradient; None leaves it to the training step that follows.
    """

    gradient: Tensor
    value: Tensor
    inner: Tensor | None
    system: float = 0.0
    negative: bool = False
    warm: Any = None


@dataclass(frozen=True)
class Trained:
    """A lower level trained for some weights: the parameters, and the norm of its gradient there.

    ``start`` is where the engine's rule begins, if not at the parameters; ``kept`` what the engine can use again;
    ``doubt`` says why a hypergradient here may be wrong, with the mend, and is empty where there is no reason.
    """

    leaves: Leaves
    inner: float
    start: Leaves | None = None
    kept: Any = None
    doubt: str = ""


@dataclass(frozen=True)
class Sampled:
    """Where a run on batches stands; ``factor`` and ``parts`` are those of a line search."""

    leaves: Leaves
    optimizer: torch.optim.Optimizer
    draw: torch.Generator
    warm: Any = None
    velocity: Tensor | None = None
    factor: float = 1.0
    parts: tuple[Batch, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BilevelSolver(Solver):
    """A bilevel solver: an engine for hypergradients, and the outer step that all engines share.

    With an exact learner the weights move by projected quasi-Newton steps with a line search on the upper value, until
    the Frank-Wolfe gap is below ``tolerance``; by mirror steps with backtracking where the ``geometry`` is entropic, or the
    upper objective has an entropy, a divergence or a logarithm of the weights, whose slope at 0 has no bound; by scaled spectral steps
    of the logits where it is ``softmax``, which never ends in exact zeros. With a sampled
    one each step draws a batch, takes one hypergradient on it, moves the weights by ``rate`` in the given ``geometry`` along the
    hypergradients' running mean (``momentum`` is the share of the past), and trains the model for ``train`` optimizer steps under the
    new weights; the weights returned are the ``average``, while the parameters that come back are the last. ``rate`` is a number,
    ``Normalised(move)`` or ``LineSearch()``, whose steps are judged by what they do to the outcome. Constraints hold in the entropic and
    the Euclidean geometry; logits have none.
    """

    unrolls: ClassVar[bool] = False
    """Whether it differentiates the outcome of so many training steps, and not an argmin."""

    rate: float | Normalised | LineSearch = field(default_factory=Normalised)
    geometry: BilevelGeometry = "euclidean"
    momentum: float = 0.0
    smoothing: float = 0.0
    average: Average = "mean"
    outer_steps: int = 200
    warmup: int = 0
    train: int = 1
    tolerance: float = 1e-7

    def __post_init__(self) -> None:
        first = self.rate.first if isinstance(self.rate, LineSearch) else self.rate
        check_outer(first, self.smoothing, self.geometry, self.average, self.momentum)
        check_counts(self, outer_steps=1, warmup=0, train=1)

    @abstractmethod
    def limits(self, form: Bilevel, abilities: Abilities) -> tuple[str, ...]:
        """What this engine needs of a form and a learner and does not find."""

    @abstractmethod
    def trained(self, model: Modelled, w: Tensor, near: Trained) -> Trained:
        """The lower level solved by this engine's rule at given weights, for an exact learner."""

    @abstractmethod
    def slope(self, model: Modelled, w: Tensor, leaves: Leaves, batch: Batch, warm: Any) -> Slope:
        """The hypergradient at given weights and parameters; ``leaves`` are where the engine's rule starts from."""

    def value_of(self, model: Modelled, w: Tensor, near: Trained) -> float:
        """What an exact run descends, at the lower level as ``trained`` left it: the upper value, or the engine's stand-in for it."""
        with torch.no_grad():
            return float(model.upper(w, near.leaves, None))

    def follow(self, model: Modelled, w: Tensor, leaves: Leaves, batch: Batch, warm: Any) -> Any:
        """What the engine keeps in a run on batches, after it has gone along with one training step of the model at ``leaves``."""
        return warm

    def slope_of(self, model: Modelled, w: Tensor, near: Trained) -> Slope:
        """The hypergradient of an exact learner's lower level as ``trained`` left it."""
        return self.slope(model, w, near.leaves if near.start is None else near.start, None, None)

    @property
    @abstractmethod
    def oracle(self) -> str:
        """The engine in words, for certificates."""

    def oracle_of(self, form: Bilevel) -> str:
        """The engine in words, as it is for a form."""
        return self.oracle

    def refuses(self, form: Form, abilities: Abilities | None) -> tuple[str, ...]:
        if not isinstance(form, Bilevel):
            return (f"it takes bilevel problems, and this is a {kind(form)}",)
        reasons = (*refuses_region(form.constraints), *refuses_logits(form, self.geometry))
        if form.steps and not self.unrolls:
            other = f"its hypergradient is that of an argmin, and '{form.trained}' is where {form.steps} training steps lead"
            reasons = (*reasons, f"{other}; Unrolled is exact for it, or write argmin(...)")
        return reasons if abilities is None else (*reasons, *self.limits(form, abilities))

    def idle(self, form: Form, abilities: Abilities | None) -> tuple[str, ...]:
        if abilities is None:
            return ()
        unread, what = (ON_BATCHES, "an exact learner") if abilities.exact else (EXACTLY, "a learner on batches")
        names = [name for name in self.chosen() if name in unread]
        return (f"{type(self).__name__} does not read {', '.join(names)} with {what}",) if names else ()

    def pace(self, task: Task) -> Pace:
        assert task.model is not None
        return Pace(self.outer_steps, 1, "best") if task.model.exact else Pace(self.outer_steps, 5, self.average)

    def begin(self, task: Task) -> State:
        model = task.model
        assert model is not None
        if model.exact:
            search = _Search(self, model, Trained(model.learner.start(), np.inf))
            first = task.region.start(task.start)
            if self._inside(task.form) and (first == 0).any():  # entropic steps and logits never leave a weight of 0
                first = tilted(task.region, smoothed(first, 1e-3), np.zeros(len(first)))
            at = begin(search, first)
            failed = _unbounded(at, "the starting weights") or self._flat(model, search, at)
            return State(at.w, (search, at), {}, Status.FAILED if failed else None, _joined(failed, search.near.doubt))
        leaves = copied(model.learner.start(), trainable=True)
        memory = Sampled(leaves, model.learner.optimizer(leaves), model.generator(task.seed))
        if isinstance(self.rate, LineSearch):
            fixed = model.generator(task.seed + 1)
            memory = replace(memory, parts=tuple(model.learner.draw(fixed) for _ in range(self.rate.parts)))
        w = model.weights(task.start)
        warm = None
        for _ in range(self.warmup):
            warm = self._trained_on(model, memory, w, model.draw(w, memory.draw), warm)[0]
        return State(w, replace(memory, warm=warm))

    def step(self, task: Task, state: State) -> State:
        return self._exact(task, state) if task.model and task.model.exact else self._sampled(task, state)

    def leaves(self, state: State) -> Leaves:
        memory = state.memory
        found: Leaves = memory.leaves if isinstance(memory, Sampled) else memory[0].near.leaves
        return found

    def _inside(self, form: Form) -> bool:
        """Whether exact runs take steps that never reach a weight of 0: as asked, or for an upper objective that is steep there."""
        assert isinstance(form, Bilevel)
        return self.geometry != "euclidean" or steep(form.upper)

    def _flat(self, model: Modelled, search: _Search, at: Descent) -> str:
        """That there is nothing to descend, where the hypergradient is exactly 0."""
        return "" if at.gradient.any() else flat(model, model.weights(at.w), search.near.leaves)

    def _exact(self, task: Task, state: State) -> State:
        search, at = state.memory
        inside = softmax_step if self.geometry == "softmax" else mirror_step
        take = inside if self._inside(task.form) else quasi_newton_step
        new: Descent = take(search, task.region, at)
        failed, doubt = _unbounded(new, "the weights tried"), _joined(search.near.doubt, NEGATIVE if search.last.negative else "")
        info = {"value": new.value, "gap": np.inf, "inner": search.near.inner, "system": search.last.system}
        if failed:
            return State(at.w, state.memory, info | {"value": at.value}, Status.FAILED, _joined(failed, doubt))
        gap = float(new.gradient @ (new.w - task.region.lowest(new.gradient)))
        settled, stuck = gap <= self.tolerance, new.stuck or float(np.abs(new.w - at.w).max()) <= STILL
        status = Status.STATIONARY if settled and not doubt else Status.STUCK if settled or stuck else None
        message = f"gap {gap:.1e}, inner gradient {search.near.inner:.1e}" if status is Status.STUCK else ""
        return State(new.w, (search, new), info | {"gap": gap}, status, _joined(message, doubt))

    def _sampled(self, task: Task, state: State) -> State:
        model, memory = task.model, state.memory
        assert model is not None
        batch = model.learner.draw(memory.draw)
        with model.learner.second_order():
            slope = self.slope(model, state.weights, memory.leaves, batch, memory.warm)
        ahead = Ahead(model, memory.leaves, memory.optimizer, memory.draw, batch, self.train)
        w, memory = self.moved(task, state.weights, memory, slope.gradient, ahead.end)
        warm, losses, seen = self._trained_on(model, memory, w, model.draw(w, memory.draw, batch), slope.warm)
        for _ in range(self.train - 1):
            warm, losses, _ = self._trained_on(model, memory, w, model.draw(w, memory.draw), warm)
        losses = _measured(model, memory, w, batch) if model.drawn else losses
        inner = seen if slope.inner is None else slope.inner
        system = torch.full_like(slope.value.detach(), slope.system)
        info: Mapping[str, Any] = {"value": slope.value.detach(), "inner": inner, "system": system, "losses": losses}
        info = {**info, **self._factor(memory, system)}
        message = (
            "negative curvature met in the linear system: raise damping, or take Gauss-Newton products" if slope.negative else state.message
        )
        return State(w, replace(memory, warm=warm), info, None, message)

    def _factor(self, memory: Sampled, like: Tensor) -> dict[str, Tensor]:
        """The factor of a line search, for the trace."""
        return {"factor": torch.full_like(like, memory.factor)} if isinstance(self.rate, LineSearch) else {}

    def moved(self, task: Task, w: Tensor, memory: Sampled, gradient: Tensor, ahead: Callable[[Tensor], Leaves]) -> tuple[Tensor, Sampled]:
        """The weights [k] after the outer step along a hypergradient [k], and what the run keeps of it.

        ``ahead`` says where training leads under weights that a line search tries.
        """
        search = self.rate if isinstance(self.rate, LineSearch) else None
        rate = self.rate.first if isinstance(self.rate, LineSearch) else self.rate
        settings: dict[str, Any] = {"geometry": self.geometry, "momentum": self.momentum, "smoothing": self.smoothing}
        new, velocity = outer_step(task, w, gradient, memory.velocity, rate=rate, factor=memory.factor, **settings)
        memory = replace(memory, velocity=velocity)
        if search is None:
            return new, memory
        assert task.model is not None
        after, before = (_outcomes(task.model, u, ahead(u), memory.parts) for u in (new, w))
        taken, factor = search.factor(memory.factor, (after - before).tolist())
        return (new if taken else w), replace(memory, factor=factor, velocity=velocity if taken else None)

    def _trained_on(self, model: Modelled, memory: Sampled, w: Tensor, batch: Batch, warm: Any) -> tuple[Any, Tensor, Tensor]:
        """One training step on a batch, the engine going along: what it keeps, the per-domain losses, and the gradient's norm."""
        warm = self.follow(model, w, memory.leaves, batch, warm)
        return warm, *_advance(model, memory, w, batch)


class _Search:
    """The upper objective as a function of the weights [k] on the host; the lower level starts from the last solution."""

    def __init__(self, solver: BilevelSolver, model: Modelled, near: Trained):
        self.solver, self.model, self.near = solver, model, near
        self.last: Slope

    def value(self, w: np.ndarray) -> float:
        """What is descended [], after training at w."""
        weights = self.model.weights(w)
        self.near = self.solver.trained(self.model, weights, self.near)
        return self.solver.value_of(self.model, weights, self.near)

    def gradient(self, w: np.ndarray) -> np.ndarray:
        """Hypergradient [k] at the weights whose value was asked for last."""
        self.last = self.solver.slope_of(self.model, self.model.weights(w), self.near)
        return self.last.gradient.detach().double().cpu().numpy()


def _unbounded(at: Descent, where: str) -> str:
    """That a value or a gradient is NaN or infinite, in words; empty where both are finite."""
    if np.isfinite(at.value) and np.isfinite(at.gradient).all():
        return ""
    return f"the upper objective is {at.value:.6g} and the norm of its hypergradient {np.linalg.norm(at.gradient):.3g} at {where}"


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def _advance(model: Modelled, memory: Sampled, w: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """One optimizer step on the lower objective; the per-domain losses it saw, and the norm of its gradient."""
    memory.optimizer.zero_grad()
    env = model.env(w.detach(), memory.leaves, batch)
    model.second(env)[0].backward()
    model.meter.gradients += 1
    size = vector(tuple(leaf.grad for leaf in memory.leaves if leaf.grad is not None)).norm()
    memory.optimizer.step()
    return model.domain_losses(env), size


def _outcomes(model: Modelled, w: Tensor, leaves: Leaves, parts: Sequence[Batch]) -> Tensor:
    """The upper value on each part."""
    with torch.no_grad(), model.learner.second_order():
        return torch.stack([model.upper(w, leaves, part) for part in parts])


def _measured(model: Modelled, memory: Sampled, w: Tensor, batch: Batch) -> Tensor:
    """The per-domain losses [k] on a stratified batch, where training steps read others."""
    env = model.env(w.detach(), memory.leaves, batch)
    with torch.no_grad():
        model.second(env)
    return model.domain_losses(env)
