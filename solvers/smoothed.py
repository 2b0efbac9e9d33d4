"""Smoothed descent ascent: the model is held near an anchor that follows it, which keeps both players from circling."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from mixopt.errors import InputError
from mixopt.runtime.tree import copied
from mixopt.solver import Average, State, Task

from .saddle import Ascent, Playing


@dataclass(frozen=True)
class SmoothedDescentAscent(Ascent):
    """The model descends its view + pull/2 |theta - z|^2, the weights then ascend at the new model, and z += follow (theta - z).

    For models that are not convex under a payoff that is concave in the weights: with ``pull`` above the model's negative curvature the
    inner function is convex, and stationary points are found in O(1/e^2) steps where the weights choose among finitely many losses,
    as mixtures do. A step costs one gradient and two forward passes.

    Source: Zhang et al. 2020, arXiv 2010.15768, Algorithm 2 (smoothed GDA).
    """

    average: Average = "last"
    pull: float = 1.0
    follow: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.pull < math.inf or not 0 < self.follow <= 1:
            raise InputError(f"pull is {self.pull} and follow {self.follow}; pull is a finite number > 0, and 0 < follow <= 1")

    def turn(self, task: Task, state: State) -> State:
        play: Playing = state.memory
        model, w = play.model, state.weights
        anchor = play.kept or copied(play.leaves)
        batch = model.learner.draw(play.draw)
        env = model.env(w, play.leaves, batch, state.past)
        if model.recalls:
            model.first(env)
        slopes = self.slopes(play, env, w)
        play = self.counted(play, slopes=slopes)
        with torch.no_grad():
            pulled = [None if s is None else s + self.pull * (leaf - z) for s, leaf, z in zip(slopes, play.leaves, anchor, strict=True)]
        self.descend(play, pulled)
        play, look = self.filled(play, self.look(model, w, play.leaves, batch, state))
        info = self.told(play, look, slopes)
        play = self.counted(play, look.ascent)
        new = self.raised(task, play, w, look.ascent)
        with torch.no_grad():
            for z, leaf in zip(anchor, play.leaves, strict=True):
                z.lerp_(leaf, self.follow)
        return State(new, replace(play, kept=anchor), info, self.settled(task, w, look, info), past=look.env.kept)
