"""Best response: at each step the weights are the inner maximum in closed form, or a smoothed one, and the model descends it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from mixopt.errors import InputError
from mixopt.forms import Abilities, Form
from mixopt.language.curvature import curvature
from mixopt.report.result import Status
from mixopt.runtime.simplex import namespace
from mixopt.solver import Average, State, Task

from .saddle import C, Look, Playing, SaddleSolver
from .schedules import Backtracking, Schedule
from .steps import hosted, like, move


@dataclass(frozen=True)
class Entropic:
    """max over w of <w, s> - temperature KL(w || centre), a softmax: its value is temperature logsumexp(s / temperature)."""

    temperature: float

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise InputError(f"the temperature is {self.temperature}; it is a finite number > 0 in the payoff's unit")


@dataclass(frozen=True)
class Tail:
    """max of <w, s> over w <= centre / share: the mean (CVaR) of the worst share of the domains, at share 1 the mean of all."""

    share: float

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InputError(f"the tail is the share {self.share} of the domains; it is in (0, 1]")


@dataclass(frozen=True)
class ChiSquare:
    """max of <w, s> over the w with sum_i (w_i - centre_i)^2 / centre_i <= radius: near 0 the mean plus sqrt(radius) deviations."""

    radius: float

    def __post_init__(self) -> None:
        if not 0 < self.radius < math.inf:
            raise InputError(f"the radius of a chi-square ball is {self.radius}; it is a finite number > 0")


@dataclass(frozen=True)
class BestResponse(SaddleSolver):
    """The model descends the inner maximum, max over w of the payoff, by the gradient at the weights that attain it (Danskin).

    For payoffs that are linear in the weights. Without a ``ball`` the weights are a corner, and the steps are those of a subgradient
    method on the worst loss: the mean of the corners nears the saddle's weights, with ``schedule=Decaying()``. ``Entropic(temperature)``,
    ``Tail(share)`` and ``ChiSquare(radius)`` keep the weights near the start, uniform if none is given; the inner maximum is
    smooth then under ``Entropic``, and the check still judges the payoff as it is written.

    Source: Danskin 1967; Levy et al. 2020, arXiv 2010.05893 (CVaR and chi-square balls); Duchi and Namkoong 2019, arXiv 1610.02581.
    """

    ball: Entropic | Tail | ChiSquare | None = None
    average: Average = "mean"
    steps: int = 1000
    tolerance: float = 1e-8
    model_rate: float | None = None
    schedule: Schedule | None = None

    def refuses(self, form: Form, abilities: Abilities | None) -> tuple[str, ...]:
        reasons = super().refuses(form, abilities)
        if reasons:
            return reasons
        if curvature(form.payoff) != "affine":  # type: ignore[union-attr]
            reasons += ("the payoff is not linear in the weights, so its best response has no closed form; put a KL term into Entropic()",)
        if isinstance(self.ball, ChiSquare) and form.constraints:
            reasons += ("a chi-square ball has its closed form on the whole simplex, without further constraints; take Entropic or Tail",)
        if self.schedule is not None and (isinstance(self.schedule, Backtracking) or self.model_rate is None):
            reasons += ("its schedule is of the model's steps, which take a model_rate, and it does not backtrack",)
        return reasons

    def knobs(self, k: int) -> list[str]:
        return ["ball=Entropic(0.1)", "ball=Tail(0.5)"] if self.ball is None else ["a wider share or a higher temperature of its ball"]

    def turn(self, task: Task, state: State) -> State:
        play: Playing = state.memory
        model = play.model
        look = self.look(model, state.weights, play.leaves, model.learner.draw(play.draw), state)
        play, look, w = self.climbed(task, play, state.weights, look)
        slopes = self.slopes(play, look.env, w)
        if self.model_rate is not None:
            play = replace(play, squares=(0.0, play.squares[1] + sum((s**2).sum() for s in slopes if s is not None)))
        info = self.told(play, look, slopes)
        self.descend(play, slopes)
        status = self.settled(task, w, look, info)
        said = f"stationary for the payoff under {self.ball}" if status is not None and self.ball is not None else ""
        return State(w, play, info, status, said, past=look.env.kept)

    def climbed(self, task: Task, at: C, w: Any, look: Look) -> tuple[C, Look, Any]:
        """The weights' half of a step: what it leaves, which is nothing, the look, and the new weights [k]."""
        return at, look, self.best(task, look.ascent)

    def best(self, task: Task, scores: Any) -> Any:
        """The weights [k] that attain the maximum for these scores [k] of the domains, in float64 beside them."""
        xp, centre, ball = namespace(scores), like(task.start, scores), self.ball
        if isinstance(ball, Entropic):
            return move(task, centre, -scores, 1 / ball.temperature, "entropic")
        if isinstance(ball, ChiSquare):
            return _chi_square(scores, centre, ball.radius)
        caps = centre / ball.share if isinstance(ball, Tail) else xp.ones_like(centre)
        if task.region.kind == "simplex":
            order = _falling(scores)
            before = caps[order].cumsum(0) - caps[order]
            return _put_back(xp.minimum(xp.clip(1 - before, 0, None), caps[order]), order)
        region = replace(task.region, upper=np.minimum(task.region.upper, hosted(caps)))
        return like(region.lowest(-hosted(scores)), scores)

    def settled(self, task: Task, w: Tensor, look: Look, info: dict[str, Tensor]) -> Status | None:
        """STATIONARY where the gradient of the inner maximum is below the tolerance: a smooth one's, or at a corner."""
        return Status.STATIONARY if "gradient" in info and float(info["gradient"]) <= self.tolerance else None


def _falling(scores: Any) -> Any:
    """The order [k] from the highest score to the lowest, that of the domains among equals."""
    return np.argsort(-scores, kind="stable") if isinstance(scores, np.ndarray) else scores.argsort(descending=True, stable=True)


def _put_back(values: Any, order: Any) -> Any:
    """Values [k] that stand in an order, in that of the domains."""
    found = namespace(values).zeros_like(values)
    found[order] = values
    return found


def _chi_square(scores: Any, centre: Any, radius: float) -> Any:
    """The maximum over a chi-square ball: w_i = centre_i / U (1 + c (s_i - M)) on the domains of the highest scores, 0 on the others.

    U is the centre's mass on them, M and V the mean and variance of s there, c = sqrt((U (1 + radius) - 1) / V); they are as many as
    leave no weight below 0.
    """
    xp, order = namespace(scores), _falling(scores)
    s, u = (scores - scores.max())[order], centre[order]
    mass, first, second = u.cumsum(0), (u * s).cumsum(0), (u * s * s).cumsum(0)
    mean = first / mass
    variance = xp.clip(second / mass - mean**2, 0, None)
    wide = mass * (1 + radius) - 1
    c = xp.where(variance > 0, xp.sqrt(xp.clip(wide, 0, None) / xp.clip(variance, float(xp.finfo(s.dtype).tiny), None)), xp.zeros_like(s))
    fits = (1 + c * (s - mean) >= 0) & (wide >= 0)
    place = xp.ones_like(order).cumsum(0) - 1
    at = xp.clip(xp.where(fits, place, xp.zeros_like(place)).max(), 0, None)
    w = xp.clip(u / mass.take(at) * (1 + c.take(at) * (s - mean.take(at))), 0, None)
    w = xp.where(place <= at, w, xp.zeros_like(w))
    return _put_back(w / w.sum(), order)
