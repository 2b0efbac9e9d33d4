"""Gradient descent ascent: the model descends and the weights ascend, one step each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from mixopt.errors import InputError
from mixopt.solver import State, Task

from .saddle import Ascent, C, Look, Playing, ahead
from .steps import check_counts


@dataclass(frozen=True)
class DescentAscent(Ascent):
    r"""Descent ascent on a saddle: one step of the weights and one of the model, on one batch.

    Entropic: log w' = log w + rate * payoff_i, normalised, then w = (1 - smoothing) w' + smoothing / k. Euclidean: the
    projection of w + rate * payoff. The model takes one step of the learner's optimizer on the descent view, or plain gradient
    steps of ``model_rate``. In ``order`` "alternating" the weights move first and the new ones weight the same batch, as DoReMi
    does; in "simultaneous" the model still sees the old ones. ``optimistic`` steps follow 2 g_t - g_{t-1} in the place of g_t, a plain
    step first: without it simultaneous steps move away from the saddle of a bilinear game and alternating ones circle around it.

    ``temperature`` t subtracts t KL(w || uniform) from the payoff, which keeps the weights from collapsing to one
    domain; the check judges the payoff as it is written, without that term. The weights returned are the ``average``:
    "mean" of all after the start (DoReMi's paper), "mean with start" (its code), "last", ``Window(steps)`` or ``Suffix(share)``. An exact
    learner's run ends early once both the best-response gap and the model's gradient are below ``tolerance``. ``schedule`` is a
    step-size rule, ``Decaying()`` or ``AdaGradNorm()``. ``every`` m lets the weights move at steps 1, m + 1, 2 m + 1, ... and the model
    at every one; ``restart`` n lets both go on from the mean of their last n steps, for exact problems.

    Where a batch lacks a domain (``Learner.present``), its entry of the payoff's gradient is ``absent``: "zero" (group DRO's code);
    "carry", its last one, ``unseen`` before the first (DoReMi's code, which begins at the logarithm of the vocabulary's size);
    "last loss", the same with the mean of those present before the first; "batch mean", that mean always.

    Source: Sagawa et al. 2020 (group DRO), Algorithm 1; Xie et al. 2023 (DoReMi), arXiv 2305.10429, Algorithm 1; Daskalakis et
    al. 2018, arXiv 1711.00141 (optimistic).
    """

    order: Literal["alternating", "simultaneous"] = "alternating"
    optimistic: bool = False
    every: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, every=1)
        if self.order not in ("alternating", "simultaneous"):
            raise InputError(f"the order is {self.order!r}; it is 'alternating' (the weights first) or 'simultaneous'")

    def turn(self, task: Task, state: State) -> State:
        play: Playing = state.memory
        model, w = play.model, state.weights
        if play.taken % self.every:
            return self._between(state)
        look = self.look(model, w, play.leaves, model.learner.draw(play.draw), state)
        play, look, new = self.climbed(task, play, w, look)
        slopes = self.slopes(play, look.env, new if self.order == "alternating" else w)
        info = self.told(play, look, slopes)
        last = play.kept or slopes
        play = replace(self.counted(play, slopes=slopes), shown=info, kept=slopes if self.optimistic else None)
        self.descend(play, ahead(slopes, last) if self.optimistic else slopes)
        return State(new, play, info, self.settled(task, w, look, info), past=look.env.kept)

    def climbed(self, task: Task, at: C, w: Any, look: Look) -> tuple[C, Look, Any]:
        """The weights' half of a step: what it leaves, the look with absent domains filled in, and the new weights [k]."""
        before = at.ascent
        at, look = self.filled(at, look)
        at = self.counted(replace(at, ascent=look.ascent), look.ascent)
        along = look.ascent if before is None or not self.optimistic else 2 * look.ascent - before
        return at, look, self.raised(task, at, w, along)

    def _between(self, state: State) -> State:
        """A step of the model alone, between two moves of the weights; history is of the steps at which they move."""
        play: Playing = state.memory
        w = state.weights
        recalls = play.model.recalls
        batch = None if play.model.drawn and not recalls else play.model.learner.draw(play.draw)
        env = play.model.env(w, play.leaves, batch, state.past)
        if recalls:
            play.model.first(env)
        slopes = self.slopes(play, env, w)
        play = self.counted(play, slopes=slopes)
        self.descend(play, slopes)
        return State(w, play, play.shown, past=state.past)
