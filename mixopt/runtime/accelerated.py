"""Accelerated gradient steps to the minimum of a function, which can be taken again, and differentiated, step by step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from .tree import Leaves, copied, vector

Value = Callable[[Leaves], Tensor]
"""A function of the leaves, a scalar."""
Slope = Callable[[Tensor, Leaves], Leaves]
"""The gradient of a value by its leaves."""
LONGEST, SHORTEST = 1e10, 1e-12


@final
@dataclass(frozen=True)
class Accelerated:
    """Steps x+ = y - s_t grad(y), y+ = x+ + m_t (x+ - x) by given lengths s and momenta m; the leaves are y, the slots x.

    Source: Nesterov 1983.
    """

    lengths: tuple[float, ...]
    momenta: tuple[float, ...]

    @property
    def rate(self) -> float:
        """The last length of a step."""
        return self.lengths[-1]

    def slots(self, leaves: Leaves) -> Leaves:
        """What is remembered before the first step: the start."""
        return copied(leaves)

    def step(self, t: int, leaves: Leaves, slots: Leaves, slopes: Leaves) -> tuple[Leaves, Leaves]:
        """Leaves and slots after step t = 0, 1, ..."""
        points = tuple(y - self.lengths[t] * g for y, g in zip(leaves, slopes, strict=True))
        return tuple(new + self.momenta[t] * (new - x) for new, x in zip(points, slots, strict=True)), points


@final
@dataclass(frozen=True)
class Reached:
    """Where steps to a minimum ended: the steps, the leaves there, |gradient|, and |gradient| of the run beside it."""

    rule: Accelerated
    leaves: Leaves
    size: float
    beside: float

    @property
    def taken(self) -> int:
        """How many steps were taken."""
        return len(self.rule.lengths)


def to_minimum(value: Value, beside: Value, slope: Slope, start: Leaves, goal: float, most: int, first: float) -> Reached:
    """Accelerated steps until |gradient| <= ``goal`` for a function and for one near it that is taken along, ``most`` at most.

    The length begins at ``first``, is doubled at the first step while that helps, and halved where a step falls by less than half of
    length |gradient|^2; the momentum begins again where a step goes uphill. Lengths and momenta are numbers, the same for both functions,
    so that the second run shows whether the derivative of the end, by what tells the two apart, has converged too: at a start that is
    a minimum of the first already, or after one lucky step, it has not.

    Source: Beck and Teboulle 2009 (lengths); O'Donoghue and Candes 2015, arXiv 1204.3982 (restarts by the gradient).
    """
    lengths: list[float] = []
    momenta: list[float] = []
    runs = [(start, start), (start, start)]  # y and x of each
    length, t = first, 1.0
    while True:
        live = [_live(y) for y, _ in runs]
        heights = [of(y) for of, y in zip((value, beside), live, strict=True)]
        slopes = [slope(at, y) for at, y in zip(heights, live, strict=True)]
        sizes = [float(vector(g).norm()) for g in slopes]
        if max(sizes) <= goal or not math.isfinite(max(sizes)) or len(lengths) == most:
            return Reached(Accelerated(tuple(lengths), tuple(momenta)), runs[0][0], *sizes)
        steep = int(sizes[1] > sizes[0])  # a gradient of almost 0 says nothing of the length
        (y, last), g = runs[steep], slopes[steep]
        length = _length((value, beside)[steep], y, g, float(heights[steep].detach()), length, grows=not lengths)
        ahead = vector(_moved(y, g, length)) - vector(last)
        t, before = (1.0, 1.0) if float(vector(g) @ ahead) > 0 else ((1 + math.sqrt(1 + 4 * t * t)) / 2, t)
        lengths.append(length)
        momenta.append((before - 1) / t)
        one = Accelerated((length,), (momenta[-1],))
        runs = [one.step(0, *run, g) for run, g in zip(runs, slopes, strict=True)]


def _live(leaves: Leaves) -> Leaves:
    return tuple(leaf.detach().requires_grad_() for leaf in leaves)


def _moved(leaves: Leaves, path: Leaves, length: float) -> Leaves:
    return tuple(leaf.detach() - length * part for leaf, part in zip(leaves, path, strict=True))


def _length(value: Value, y: Leaves, g: Leaves, at: float, length: float, *, grows: bool) -> float:
    """The longest of the tried lengths at which the value falls by half of length |gradient|^2."""
    square = float(vector(g) @ vector(g))
    slack = 500 * max(torch.finfo(leaf.dtype).eps for leaf in y) * (1 + abs(at))

    def falls(tried: float) -> bool:
        with torch.no_grad():
            return float(value(_moved(y, g, tried))) <= at - tried / 2 * square + slack

    if grows and falls(length):
        while length < LONGEST and falls(2 * length):
            length *= 2
        return length
    while length > SHORTEST and not falls(length):
        length /= 2
    return length
