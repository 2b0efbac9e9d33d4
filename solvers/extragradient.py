"""Extragradient and mirror-prox: a look ahead, and then the step that the gradients there ask for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mixopt.errors import InputError
from mixopt.forms import Abilities, Form
from mixopt.runtime.tree import Leaves, copied
from mixopt.solver import Average, State, Task

from .saddle import Ascent, Look, Playing, Slopes
from .schedules import AdaGradNorm, Backtracking, factor
from .steps import Normalised

GROW, TRIES = 1.25, 40


@dataclass(frozen=True)
class _Ahead:
    """The point ahead: its weights, leaves, payoff and slopes, and the factor it was reached by."""

    w: Tensor
    leaves: Leaves
    look: Look
    slopes: Slopes
    factor: Any


@dataclass(frozen=True)
class Extragradient(Ascent):
    """Both players look one step ahead, and step from where they were by the gradients found there, on the same batch.

    z' = step(z, F(z)), z+ = step(z, F(z')), F the slopes of the model's view and of minus the payoff. With entropic weights it is
    mirror-prox; it converges on convex-concave saddles, bilinear ones too, at constant rates below 1 / (the Lipschitz constant of F).
    A step costs two gradients. With the learner's optimizer its state is moved twice a step (extra-Adam); with ``model_rate`` the model
    takes plain gradient steps. ``schedule=Backtracking()`` finds the rates by itself, and ``rate`` to ``model_rate`` is their ratio.

    Source: Korpelevich 1976; Nemirovski 2004 (mirror-prox); Gidel et al. 2019, arXiv 1802.10551 (with optimizers).
    """

    average: Average = "last"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.schedule, Backtracking):
            return
        if self.model_rate is None or isinstance(self.rate, Normalised) or self.temperature or self.smoothing:
            raise InputError(
                "Backtracking finds one factor of two plain rates; give a model_rate and a number as rate, without temperature or smoothing"
            )

    @property
    def backtracks(self) -> bool:
        return True

    def refuses(self, form: Form, abilities: Abilities | None) -> tuple[str, ...]:
        reasons = super().refuses(form, abilities)
        if isinstance(self.schedule, Backtracking) and abilities is not None and not abilities.exact:
            reasons += ("backtracking needs an exact learner: a sampled one's gradients change with the batch; take AdaGradNorm()",)
        return reasons

    def turn(self, task: Task, state: State) -> State:
        play: Playing = state.memory
        w, here = state.weights, copied(play.leaves)
        batch = play.model.learner.draw(play.draw)
        play, look = self.filled(play, self.look(play.model, w, play.leaves, batch, state))
        slopes = self.slopes(play, look.env, w.detach())
        info = self.told(play, look, slopes)
        status = self.settled(task, w, look, info)
        for tried in range(TRIES):
            scale = self._scale(play, tried)
            ahead = self._ahead(task, state, play, (look, slopes), batch, scale)
            _put(play.leaves, here)
            new = self.raised(task, play, w, ahead.look.ascent, scale)
            self.descend(play, ahead.slopes, scale)
            if not isinstance(self.schedule, Backtracking) or self._bounded(w, here, look, slopes, ahead, new, play.leaves):
                break
            _put(play.leaves, here)
        change = [None if a is None or b is None else a - b for a, b in zip(ahead.slopes, slopes, strict=True)]
        play = self.counted(play, ahead.look.ascent - look.ascent, change)
        return State(new, replace(play, kept=ahead.factor), info, status, past=look.env.kept)

    def _scale(self, play: Playing, tried: int) -> Any:
        """The factor of both rates, where they share one; None where each player has its own."""
        if isinstance(self.schedule, Backtracking):
            return (1.0 if play.kept is None else GROW * play.kept) * self.schedule.shrink**tried
        return None if isinstance(self.schedule, AdaGradNorm) else factor(self.schedule, play.taken, 0.0)

    def _ahead(self, task: Task, state: State, play: Playing, at: tuple[Look, Slopes], batch: Any, scale: Any) -> _Ahead:
        """The point that a plain step leads to; the model's leaves are moved there."""
        look, slopes = at
        w = self.raised(task, play, state.weights, look.ascent, scale)
        self.descend(play, slopes, scale)
        there = self.look(play.model, w, play.leaves, batch, state)
        _, there = self.filled(play, there)
        return _Ahead(w, copied(play.leaves), there, self.slopes(play, there.env, w), scale)

    def _bounded(self, w: Tensor, here: Leaves, look: Look, slopes: Slopes, ahead: _Ahead, new: Tensor, leaves: Leaves) -> bool:
        """Nemirovski's condition on a step: <F(z') - F(z), z' - z+> <= D(z', z) + D(z+, z')."""
        assert isinstance(self.rate, (int, float))
        assert self.model_rate is not None
        gain = float(((look.ascent - ahead.look.ascent) @ (ahead.w - new)).detach())
        room = (self._apart(ahead.w, w) + self._apart(new, ahead.w)) / (ahead.factor * self.rate)
        for before, mid, after, first, second in zip(here, ahead.leaves, leaves, slopes, ahead.slopes, strict=True):
            if first is not None and second is not None:
                gain += float(((second - first) * (mid - after.detach())).sum())
            far = ((mid - before) ** 2).sum() + ((after.detach() - mid) ** 2).sum()
            room += float(far) / (2 * ahead.factor * self.model_rate)
        return gain <= room

    def _apart(self, a: Tensor, b: Tensor) -> float:
        """The divergence of the geometry between weights [k]."""
        if self.geometry == "euclidean":
            return float(((a - b) ** 2).sum()) / 2
        away = (a - b) / b.clamp(min=torch.finfo(b.dtype).tiny)
        log = away.clamp(min=-1 + torch.finfo(b.dtype).eps).log1p()  # sums of (1 + d) log(1 + d) - d: no rounding where d is small
        return float((b * ((1 + away) * log - away)).sum())


def _put(leaves: Leaves, values: Leaves) -> None:
    """Write values into leaves that an optimizer holds."""
    with torch.no_grad():
        for leaf, value in zip(leaves, values, strict=True):
            leaf.copy_(value)
