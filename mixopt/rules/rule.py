"""What an online rule is: what was measured since the last move, and a memory, in; the next weights and memory out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np

from mixopt.language.domains import Domains
from mixopt.runtime.region import Region
from mixopt.runtime.simplex import mirror, smoothed
from mixopt.runtime.tilt import tilted

Memory = Mapping[str, Any]
"""What a rule carries from move to move: arrays, numbers, texts, None, and lists and dicts of them; a file can hold it."""

Geometry = Literal["entropic", "euclidean"]


@dataclass(frozen=True)
class Need:
    """One measurement that a rule reads: the keyword of ``observe``, its shape, and in words what it is and in which unit.

    ``names`` are those of its entries where it is a vector, a matrix has ``names`` by ``columns``; None is a number. One that is
    ``optional`` may be left out for as long as the user likes. ``each`` says that it is of one batch, so that it takes the count of
    tokens behind each entry and is averaged by it; else the last value counts.
    """

    name: str
    what: str
    names: tuple[str, ...] | None = None
    columns: tuple[str, ...] | None = None
    optional: bool = False
    each: bool = True

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value."""
        return tuple(len(side) for side in (self.names, self.columns) if side is not None)

    def __str__(self) -> str:
        return f"{self.name} {list(self.shape)}: {self.what}{' (optional)' if self.optional else ''}"


@dataclass(frozen=True)
class Scene:
    """Where a rule acts: the domains, the weights allowed, the start [k], the numbers given, and a seed."""

    domains: Domains
    region: Region
    start: np.ndarray
    given: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    def __len__(self) -> int:
        return len(self.domains)

    def step(
        self, centre: np.ndarray, score: np.ndarray, rate: float, geometry: Geometry = "entropic", *, smoothing: float = 0.0
    ) -> np.ndarray:
        """The one step of most rules: argmax over the weights u allowed of <score, u> - D(u || centre) / rate, [k].

        D is the Kullback-Leibler divergence, or half the squared distance; then a share ``smoothing`` of the uniform mixture is mixed in.
        """
        if geometry == "euclidean":
            u = self.nearest(centre + rate * score)
        elif self.region.kind == "simplex":
            u = mirror(centre, -score, rate)
        else:
            u = tilted(self.region, centre, -rate * score)
        return self.nearest(smoothed(u, smoothing)) if smoothing else u

    def nearest(self, weights: np.ndarray) -> np.ndarray:
        """The weights allowed that are nearest to some [k]; a mixture that is allowed stays as it is, bit for bit."""
        fits = weights.min() >= 0 and abs(weights.sum() - 1) <= 1e-12
        return weights if fits and self.region.kind == "simplex" else self.region.project(weights)


@dataclass(frozen=True)
class Seen:
    """What was measured since the last move: the ``values`` by name, and which entries of each were measured at all.

    A vector has at the entries that were not measured the last value that was, and before there is one the mean of its others;
    ``present`` [k] tells them apart. ``move`` counts the moves before this one, ``step`` the steps and ``tokens`` the tokens so far.
    """

    values: Mapping[str, np.ndarray]
    present: Mapping[str, np.ndarray]
    move: int
    step: int
    tokens: float

    def __getitem__(self, name: str) -> np.ndarray:
        return self.values[name]

    def __contains__(self, name: str) -> bool:
        return name in self.values


@dataclass(frozen=True)
class Standing:
    """Where a rule stands after a move: the weights [k], its memory, and what its ``history`` is to tell of the move."""

    weights: np.ndarray
    memory: Memory = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)


class Rule(ABC):
    """An online rule. A value: settings only; a standing and what was seen go in, the next standing comes out.

    Two runs that see the same numbers move alike, bit for bit; random numbers come from ``scene.seed`` and the count of moves.
    """

    constrained: ClassVar[bool] = True
    """Whether its own step keeps to ``scene.region``; where it does not, the schedule moves its weights to the nearest ones allowed."""

    @abstractmethod
    def needs(self, domains: Domains) -> tuple[Need, ...]:
        """What it reads, over these domains."""

    def begin(self, scene: Scene) -> Standing:
        """The standing before the first move; raises InputError where the scene does not suit it."""
        return Standing(scene.start)

    @abstractmethod
    def move(self, scene: Scene, at: Standing, seen: Seen) -> Standing:
        """The standing after a move."""

    def allowed(self, scene: Scene, at: Standing) -> Standing:
        """A standing of this rule, at the nearest weights allowed where its own step does not see to that."""
        return at if self.constrained else replace(at, weights=scene.nearest(at.weights))


def filled(value: np.ndarray, there: np.ndarray, last: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """What ``Seen`` has of a measurement of which the entries ``there`` were measured, and the last values measured, NaN before any."""
    if there.all():
        return value, value
    last = np.full_like(value, np.nan) if last is None else last
    others = value[there].mean() if there.any() else np.nan
    return np.where(there, value, np.where(np.isfinite(last), last, others)), np.where(there, value, last)
