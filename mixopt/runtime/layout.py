"""The unknowns of a program as one vector: which entries are whose, what bounds them, and which of them sum to 1."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np

from mixopt.language.expression import Expr


@dataclass(frozen=True)
class Layout:
    """Mixtures and auxiliary variables one behind the other: x [n]; a mixture lies on its simplex, a variable within its bounds."""

    symbols: tuple[Expr, ...]

    @staticmethod
    def of(unknowns: Expr | tuple[Expr, ...]) -> Layout:
        """The layout of one symbol or of several."""
        return Layout((unknowns,) if isinstance(unknowns, Expr) else unknowns)

    @cached_property
    def slices(self) -> dict[Expr, slice]:
        """The entries of each symbol."""
        ends = accumulate(_size(s) for s in self.symbols)
        return {s: slice(end - _size(s), end) for s, end in zip(self.symbols, ends, strict=True)}

    @cached_property
    def size(self) -> int:
        """The length n of the vector."""
        return sum(map(_size, self.symbols))

    @cached_property
    def simplexes(self) -> tuple[slice, ...]:
        """The entries of each mixture."""
        return tuple(where for symbol, where in self.slices.items() if symbol.op == "mixture")

    @cached_property
    def weights(self) -> np.ndarray:
        """Which entries are weights of a mixture [n]."""
        return np.asarray(self.sums.any(axis=0))

    @cached_property
    def alone(self) -> bool:
        """Whether one mixture is all there is."""
        return len(self.symbols) == 1 and len(self.simplexes) == 1

    @cached_property
    def sums(self) -> np.ndarray:
        """A row of ones for each mixture [M, n]: the left sides of sum == 1."""
        rows = np.zeros((len(self.simplexes), self.size))
        for row, where in zip(rows, self.simplexes, strict=True):
            row[where] = 1.0
        return rows

    @cached_property
    def lower(self) -> np.ndarray:
        """The lower bound of every entry [n], -inf where there is none."""
        return np.concatenate([np.zeros(len(s)) if s.op == "mixture" else np.array(s.data[1]) for s in self.symbols])

    @cached_property
    def upper(self) -> np.ndarray:
        """The upper bound of every entry [n]: 1 for a weight, which its sum implies, and inf where there is none."""
        return np.concatenate([np.ones(len(s)) if s.op == "mixture" else np.array(s.data[2]) for s in self.symbols])

    @cached_property
    def names(self) -> tuple[str, ...]:
        """A name for every entry: the domain's where one mixture is all there is, else with its symbol."""
        if self.alone:
            return self.symbols[0].index or ()
        return tuple(name for s in self.symbols for name in _entries(s))

    @cached_property
    def ceiling(self) -> np.ndarray:
        """The upper bounds [n] that the sums do not imply."""
        ceiling = self.upper.copy()
        for where in self.simplexes:
            ceiling[where] = np.inf
        return ceiling

    def middle(self) -> np.ndarray:
        """A point within the bounds [n]: uniform weights, and variables as near to 0 as their bounds allow."""
        parts = [np.full(len(s), 1 / len(s)) if s.op == "mixture" else np.zeros(_size(s)) for s in self.symbols]
        return np.clip(np.concatenate(parts), self.lower, self.upper)

    def exact(self, x: np.ndarray) -> np.ndarray:
        """The vector [n] with rounding undone: weights clipped and divided by their sum, variables clipped to their bounds."""
        x = np.clip(np.asarray(x, dtype=float), self.lower, self.ceiling)
        for where in self.simplexes:
            x[where] = x[where] / x[where].sum()
        return x

    def off(self, x: np.ndarray) -> float:
        """How far x [n] is off the simplexes and the variables' bounds: the largest of |sum - 1| and the violations of a bound."""
        outside = np.maximum(np.maximum(self.lower - x, x - self.ceiling), 0.0)
        return float(max([*(abs(x[where].sum() - 1) for where in self.simplexes), outside.max(initial=0.0)]))

    def values(self, x: np.ndarray) -> dict[Expr, Any]:
        """The part of x of every symbol: a vector, or a number for a variable that is one."""
        return {s: x[where].copy() if s.shape else float(x[where][0]) for s, where in self.slices.items()}

    def joined(self, values: Mapping[Expr, Any]) -> np.ndarray:
        """The vector x [n] of these values; what is not given is as in ``middle``."""
        x = self.middle()
        for symbol, value in values.items():
            x[self.slices[symbol]] = value
        return x


def _size(symbol: Expr) -> int:
    return math.prod(symbol.shape or ())


def _entries(symbol: Expr) -> tuple[str, ...]:
    if symbol.shape == ():
        return (str(symbol),)
    return tuple(f"{symbol}[{name}]" for name in symbol.index or map(str, range(_size(symbol))))
