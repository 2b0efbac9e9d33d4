"""Simulation: Dirichlet draws around a prior, and the mean of the best of them, as RegMix searches its law."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, final

import numpy as np

from mixopt.errors import InputError
from mixopt.forms import Abilities, Form, Program
from mixopt.language.domains import Domains
from mixopt.language.symbols import domains_of
from mixopt.report.result import Status
from mixopt.runtime.region import InfeasibleError
from mixopt.solver import Pace, Solver, State, Task

from .search import Values, refuses_search

BLOCK = 10_000
"""Draws that are evaluated together."""
MOVED = 500
"""The most draws that are moved to the nearest weights that meet the constraints."""


@dataclass(frozen=True)
class Simulation(Solver):
    """``draws`` mixtures from a Dirichlet distribution with the parameters ``strength`` times ``prior``, and the mean of the ``top`` best.

    It needs values only, so it takes any program over one mixture, laws of trees among them. ``prior`` gives a weight to each domain by
    name: by default the natural proportions where the domains have tokens, else uniform. ``best="argmin"`` returns the best draw
    itself; the mean of a set is another point, which may be better or worse (the message has both values). Draws that break a
    constraint are left out; where fewer than ``top`` are left, up to 500 are moved to the nearest weights that meet them. ``seed`` is
    that of the run unless it is given; the stream is numpy's RandomState, so that a notebook's draws come again.

    It proves nothing: a convex law is solved exactly, and faster, by ``Conic``. Ends SEARCHED.

    Source: Liu et al. 2024, RegMix, arXiv 2407.01492, section 3; its notebook takes the best 128 of 100,000.
    """

    goes_on: ClassVar[bool] = False

    draws: int = 100_000
    top: int = 128
    best: Literal["mean", "argmin"] = "mean"
    prior: Mapping[str, float] | None = None
    strength: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        for name in ("draws", "top"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"Simulation's {name} is {value!r}; it is a whole number >= 1")
        if self.best not in ("mean", "argmin"):
            raise InputError(f"Simulation's best is {self.best!r}; it is 'mean' (of the top draws) or 'argmin' (the best draw)")
        if not 0 < self.strength < np.inf:
            raise InputError(f"Simulation's strength is {self.strength!r}; it is a number > 0, and larger draws lie nearer to the prior")
        if self.seed is not None and (isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0):
            raise InputError(f"Simulation's seed is {self.seed!r}; it is a whole number >= 0, or None for that of the run")

    def refuses(self, form: Form, abilities: Abilities | None) -> tuple[str, ...]:
        return refuses_search(form)

    def pace(self, task: Task) -> Pace:
        return Pace(-(-self.draws // BLOCK))

    def begin(self, task: Task) -> State:
        assert isinstance(task.form, Program)
        seed = task.seed if self.seed is None else self.seed
        alpha = self.strength * _prior(domains_of(task.form.mixture), self.prior)
        none = np.empty((0, task.region.size))
        return State(task.start, _Drawn(Values.of(task), alpha, np.random.RandomState(seed).get_state(), none, np.empty(0)))

    def step(self, task: Task, state: State) -> State:
        before: _Drawn = state.memory
        rng = np.random.RandomState()
        rng.set_state(before.stream)
        count = min(BLOCK, self.draws - before.count)
        drawn = rng.dirichlet(before.alpha, count)
        drawn = drawn[np.isfinite(drawn).all(axis=1)]
        fits = before.values.feasible(drawn)
        after = replace(before, stream=rng.get_state(), count=before.count + count, kept=before.kept + int(fits.sum()))
        after = after.joined(drawn[fits], self.top)
        if len(after.rows) < self.top:
            after = replace(after, spare=np.vstack([after.spare, drawn[~fits]])[:MOVED])
        done = after.count == self.draws
        if done and len(after.rows) < self.top:
            after = after.moved(task)
        return self._told(task, after, done)

    def _told(self, task: Task, drawn: _Drawn, done: bool) -> State:
        """The answer so far, in words."""
        said = f"{drawn.kept:,} of {drawn.count:,} draws meet the constraints" if drawn.values.limits else f"{drawn.count:,} draws"
        said += f", and {drawn.near} were moved to the nearest weights that do" if drawn.near else ""
        if not len(drawn.rows):
            why = f"{said}; draw more, or give a prior that meets them"
            return State(task.start, drawn, {"value": task.objective.value(task.start)}, Status.STUCK if done else None, why)
        best, least = drawn.rows[0], float(drawn.heights[0])
        if self.best == "argmin":
            return State(best, drawn, {"value": least}, Status.SEARCHED if done else None, said)
        middle = drawn.rows.mean(axis=0)
        value = float(drawn.values.at(middle[None])[0])
        sign = -1 if task.form.maximised else 1
        said += f"; the mean of the best {len(drawn.rows)} has the value {sign * value:.6g}, and the best draw {sign * least:.6g}"
        if not drawn.values.feasible(middle[None])[0] or not np.isfinite(value):
            said += "; the mean breaks a constraint, so the best draw is returned"
            middle, value = best, least
        return State(middle, drawn, {"value": value}, Status.SEARCHED if done else None, said)

    def leaves(self, state: State) -> None:
        return None


@final
@dataclass(frozen=True)
class _Drawn:
    """The best draws so far, the best first, and where the stream of draws stands; ``spare`` are draws that break a constraint."""

    values: Values
    alpha: np.ndarray
    stream: Any
    rows: np.ndarray
    heights: np.ndarray
    count: int = 0
    kept: int = 0
    near: int = 0
    spare: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))

    def __post_init__(self) -> None:
        if not self.spare.size:
            object.__setattr__(self, "spare", np.empty((0, len(self.alpha))))

    def joined(self, mixtures: np.ndarray, top: int) -> _Drawn:
        """With more draws, of which the best are kept; of equals the earlier."""
        rows = np.vstack([self.rows, mixtures])
        heights = np.concatenate([self.heights, self.values.at(mixtures)])
        order = np.argsort(heights, kind="stable")[:top]
        return replace(self, rows=rows[order], heights=heights[order])

    def moved(self, task: Task) -> _Drawn:
        """With the spare draws moved to the nearest weights that meet the constraints, where these have such steps."""
        region = task.region
        if region.kind == "nonlinear" and region.steps is None:
            return self
        try:
            found = np.array([region.layout.exact(region.project(row)) for row in self.spare]).reshape(-1, region.size)
        except InfeasibleError:
            return self
        found = found[self.values.feasible(found)]
        return replace(self.joined(found, len(self.rows) + len(found)), near=len(found))


def _prior(domains: Domains, given: Mapping[str, float] | None) -> np.ndarray:
    """The mean of the draws [k], each > 0."""
    usual = domains.natural if domains.tokens else np.full(len(domains), 1 / len(domains))
    prior = usual if given is None else domains.weights(given)
    none = [n for n, p in zip(domains, prior, strict=True) if p == 0]
    if none:
        raise InputError(f"the prior of Simulation gives {none[0]!r} the weight 0, and a Dirichlet distribution needs weights > 0")
    return prior
