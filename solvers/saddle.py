"""What every saddle solver shares: how the model descends, how the weights ascend, steps of both, restarts and remarks."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from mixopt.errors import InputError
from mixopt.forms import Abilities, Form, Saddle, kind
from mixopt.language.curvature import curvature
from mixopt.report.result import Status
from mixopt.runtime.evaluate import Env
from mixopt.runtime.learner import Batch
from mixopt.runtime.modelled import Modelled
from mixopt.runtime.simplex import entropy, namespace
from mixopt.runtime.tree import Leaves
from mixopt.solver import Average, Pace, Solver, State, Task

from .constraints import Geometry, refuses_region
from .schedules import AdaGradNorm, Backtracking, Schedule, factor
from .steps import Normalised, check_counts, check_settings, move
from .trainee import Trainee, begun

Absent = Literal["zero", "carry", "last loss", "batch mean"]
Slopes = Sequence[Tensor | None]
HEAVY = 0.9
"""A weight above it is remarked on where the run is not solved."""


@dataclass(frozen=True, kw_only=True)
class Climbing:
    """What the weights' half of a step leaves for the next one, in torch, or in numpy where the model is trained elsewhere.

    ``taken`` counts steps since the start or the last restart; ``squares`` are the sums of the squared gradients of weights and model;
    ``scores`` [k] the last ones of each domain, NaN before one was seen, ``ascent`` [k] the gradient that the last step followed.
    """

    taken: int = 0
    squares: tuple[Any, Any] = (0.0, 0.0)
    scores: Any = None
    ascent: Any = None


C = TypeVar("C", bound=Climbing)


@dataclass(frozen=True)
class Playing(Climbing, Trainee):
    """Where a run stands: the model, what the weights' half of a step leaves, and what the method keeps between steps.

    ``kept`` is the method's own, ``total`` the sums of both players since the last restart, ``shown`` the trace's last entries.
    """

    kept: Any = None
    total: tuple[Tensor, Leaves] | None = None
    shown: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Look:
    """The payoff at one point, its gradient [k] in the weights, and which domains [k] the batch holds, None where all.

    They are tensors at an evaluation of the learner, ``env``; where the model is trained elsewhere, arrays, and None in its place.
    """

    env: Any
    value: Any
    ascent: Any
    there: Any = None


class SaddleSolver(Solver):
    """A method for min over the model of max over the weights; a subclass says what one step is.

    The model takes steps of the learner's optimizer, or, with a ``model_rate``, plain gradient steps of that rate times the factor of
    the ``schedule``, as the classical methods do; the weights' rate has the factor in any case.
    """

    average: Average
    steps: int
    tolerance: float
    model_rate: float | None
    schedule: Schedule | None

    def __post_init__(self) -> None:
        check_counts(self, steps=1)
        if self.model_rate is not None and not 0 < self.model_rate < math.inf:
            raise InputError(f"the model's rate is {self.model_rate!r}; it is a finite number > 0, or None for the learner's optimizer")
        if self.schedule is not None and not isinstance(self.schedule, Schedule):
            raise InputError(f"the schedule is {self.schedule!r}; it is Decaying(...), AdaGradNorm(...), Backtracking(...) or None")

    @abstractmethod
    def turn(self, task: Task, state: State) -> State:
        """One step of both players."""

    @abstractmethod
    def knobs(self, k: int) -> list[str]:
        """The settings that keep k weights from collapsing and that are not in use, as they are written."""

    def refuses(self, form: Form, abilities: Abilities | None) -> tuple[str, ...]:
        if not isinstance(form, Saddle):
            return (f"it takes saddles, and this is a {kind(form)}",)
        reasons = list(refuses_region(form.constraints))
        bend = curvature(form.payoff)
        if bend not in ("affine", "concave"):
            what = "convex" if bend == "convex" else "neither convex nor concave"
            mend = "give one that is linear or concave in them, such as w @ losses less a divergence"
            reasons.append(f"the payoff is {what} in the weights, so ascent need not find the inner maximum; {mend}")
        return tuple(reasons)

    def pace(self, task: Task) -> Pace:
        assert task.model is not None
        return Pace(self.steps, 1 if task.model.exact else 25, self.average)

    def begin(self, task: Task) -> State:
        play = Playing(*begun(task))
        return State(play.model.weights(task.start), play)

    def step(self, task: Task, state: State) -> State:
        new = self.turn(task, state)
        return replace(new, memory=replace(new.memory, taken=new.memory.taken + 1))

    def leaves(self, state: State) -> Leaves:
        found: Leaves = state.memory.leaves
        return found

    def remarks(self, task: Task, weights: np.ndarray) -> str:
        """A warning while one domain takes nearly all the weight, with the settings that help."""
        k, last = weights.shape[1], weights[-1]
        if k == 1:
            return "there is one domain only, whose weight is 1 whatever the payoff"
        if last.max() <= HEAVY:
            return ""
        name = (task.form.mixture.index or ())[int(last.argmax())]
        since = 2 + max(np.flatnonzero(weights.max(axis=1) <= HEAVY), default=-1)
        effective = np.exp(entropy(last))
        return (
            f"the weights are collapsing on {name!r}: it has {last.max():.3g} at the end, and more than {HEAVY} since step "
            f"{since} (effective number of domains {effective:.2f} of {k}). If that is not meant, {', '.join(self.knobs(k))}"
        )

    def look(self, model: Modelled, w: Tensor, leaves: Leaves, batch: Batch, state: State) -> Look:
        """The payoff and its gradient in the weights, with history as the last step left it."""
        at = w.detach().requires_grad_()
        env = model.env(at, leaves, batch, state.past)
        value = model.first(env)[0]
        (ascent,) = torch.autograd.grad(value, at)
        return Look(env, value.detach(), ascent, model.present(env))

    def slopes(self, play: Playing, env: Env, w: Tensor) -> Slopes:
        """The gradient of the model's view at weights [k], on a batch drawn by them where the learner does so; None for unused leaves."""
        model = play.model
        at = env.at(w, model.draw(w, play.draw) if model.drawn else None)
        model.meter.gradients += 1
        return torch.autograd.grad(model.second(at)[0], play.leaves, allow_unused=True)

    def descend(self, play: Playing, slopes: Slopes, scale: Any = None) -> None:
        """Move the model along slopes, by the learner's optimizer or by the plain rate times the schedule's factor."""
        if self.model_rate is None:
            for leaf, slope in zip(play.leaves, slopes, strict=True):
                leaf.grad = slope
            play.optimizer.step()
            play.optimizer.zero_grad()
            return
        rate = self.model_rate * (factor(self.schedule, play.taken, play.squares[1]) if scale is None else scale)
        with torch.no_grad():
            for leaf, slope in zip(play.leaves, slopes, strict=True):
                if slope is not None:
                    leaf.sub_(rate * slope)

    def told(self, play: Playing, look: Look, slopes: Slopes) -> dict[str, Tensor]:
        """What goes into the trace of a step."""
        info = {"value": look.value, "losses": play.model.domain_losses(look.env)}
        if play.model.exact:
            info["gradient"] = size(slopes)
        return info

    def settled(self, task: Task, w: Tensor, look: Look, info: dict[str, Tensor]) -> Status | None:
        """STATIONARY where an exact learner's best-response gap and gradient are both below the tolerance."""
        if "gradient" not in info or not float(info["gradient"]) <= self.tolerance:
            return None
        g, at = -look.ascent.cpu().numpy(), w.cpu().numpy()
        return Status.STATIONARY if float(g @ at - g @ task.region.lowest(g)) <= self.tolerance else None


@dataclass(frozen=True)
class Ascent(SaddleSolver):
    """A saddle solver whose weights move by steps: their rate, geometry, smoothing and temperature, and what an absent domain scores.

    ``restart`` n lets both players go on from the mean of their last n steps, with a new optimizer and schedule; it is for exact
    problems, whose mean model means something.

    Where a batch lacks a domain (``Learner.present``), its entry of the payoff's gradient is ``absent``: "zero"; "carry", its last one,
    ``unseen`` before the first; "last loss", the same with the mean of those present before the first; "batch mean", that mean always.
    """

    rate: float | Normalised = 1.0
    geometry: Geometry = "entropic"
    smoothing: float = 0.0
    temperature: float = 0.0
    average: Average = "mean"
    steps: int = 1000
    tolerance: float = 1e-8
    model_rate: float | None = None
    schedule: Schedule | None = None
    restart: int | None = None
    absent: Absent = "zero"
    unseen: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self.rate, self.smoothing, self.temperature, self.geometry, self.average)
        if self.restart is not None:
            check_counts(self, restart=2)
        if self.absent not in ("zero", "carry", "last loss", "batch mean"):
            raise InputError(f"absent is {self.absent!r}; it is 'zero', 'carry', 'last loss' or 'batch mean'")

    def refuses(self, form: Form, abilities: Abilities | None) -> tuple[str, ...]:
        reasons = super().refuses(form, abilities)
        if self.temperature and self.geometry == "euclidean":
            reasons += ("a temperature goes with entropic steps; set geometry='entropic'",)
        if self.restart is not None and abilities is not None and not abilities.exact:
            reasons += ("restarts go on from the mean of the model's parameters, which means something for exact learners only",)
        if isinstance(self.schedule, Backtracking) and not self.backtracks:
            reasons += ("it does not backtrack; Extragradient does, or take Decaying() or AdaGradNorm()",)
        return reasons

    @property
    def backtracks(self) -> bool:
        """Whether the method takes the schedule Backtracking."""
        return False

    def knobs(self, k: int) -> list[str]:
        unused = [] if self.smoothing else ["smoothing=1e-2"]
        unused += [] if self.temperature or self.geometry == "euclidean" else ["temperature=0.1"]
        unused += ["average='mean'"] if self.average == "last" else []
        return [*unused, f"a floor such as w >= {0.1 / k:.2g}", "a lower rate"]

    def step(self, task: Task, state: State) -> State:
        new = super().step(task, state)
        return new if self.restart is None else self._restarted(new)

    def raised(self, task: Task, at: Climbing, w: Any, ascent: Any, scale: Any = None) -> Any:
        """The weights [k] after a step of ascent, with the schedule's factor on the rate."""
        scale = factor(self.schedule, at.taken, at.squares[0]) if scale is None else scale
        return move(task, w, -ascent, self.rate, self.geometry, temperature=self.temperature, smoothing=self.smoothing, factor=scale)

    def counted(self, play: C, ascent: Any = None, slopes: Slopes = ()) -> C:
        """With the squares of one more gradient for AdaGradNorm; a constant in the weights' gradient moves nothing."""
        if not isinstance(self.schedule, AdaGradNorm):
            return play
        own = 0.0 if ascent is None else ((ascent - ascent.mean()) ** 2).sum()
        theirs = sum((s**2).sum() for s in slopes if s is not None) if self.model_rate else 0.0
        return replace(play, squares=(play.squares[0] + own, play.squares[1] + theirs))

    def filled(self, at: C, look: Look) -> tuple[C, Look]:
        """The gradient with the entries of domains that the batch lacks, and what is kept for later ones."""
        there, score, last = look.there, look.ascent, at.scores
        if there is None:
            return replace(at, scores=score), look
        xp = namespace(score)
        zero = xp.zeros_like(score)
        mean = zero + (score * there).sum() / xp.clip(there.sum(), 1, None)
        if last is None:
            last = zero + (self.unseen if self.absent == "carry" else float("nan"))
        fill = {"zero": zero, "batch mean": mean}.get(self.absent, last)
        filled = xp.where(there, score, xp.where(xp.isnan(fill), mean, fill))
        return replace(at, scores=xp.where(there, score, last)), replace(look, ascent=filled)

    def settled(self, task: Task, w: Tensor, look: Look, info: dict[str, Tensor]) -> Status | None:
        return None if self.temperature or self.smoothing else super().settled(task, w, look, info)

    def _restarted(self, state: State) -> State:
        """The state, or the mean of both players since the last restart where the time has come."""
        play: Playing = state.memory
        w, leaves = play.total or (torch.zeros_like(state.weights), tuple(torch.zeros_like(leaf) for leaf in play.leaves))
        w = w + state.weights
        with torch.no_grad():
            for mine, leaf in zip(leaves, play.leaves, strict=True):
                mine.add_(leaf)
            if play.taken != self.restart:
                return replace(state, memory=replace(play, total=(w, leaves)))
            for mine, leaf in zip(leaves, play.leaves, strict=True):
                leaf.copy_(mine / self.restart)
        again = Playing(play.model, play.leaves, play.model.learner.optimizer(play.leaves), play.draw, scores=play.scores, shown=play.shown)
        return replace(state, weights=w / self.restart, memory=again)


def size(slopes: Slopes) -> Tensor:
    """The norm of a gradient."""
    return torch.stack([slope.norm() for slope in slopes if slope is not None]).norm()


def ahead(now: Sequence[Any], before: Sequence[Any]) -> list[Any]:
    """2 g - the last g, entry by entry; None where a leaf is not used."""
    return [None if g is None else 2 * g - last for g, last in zip(now, before, strict=True)]
