"""When a schedule moves: after so many steps, after so many tokens, or whenever something is evaluated; and how long it waits at first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real

from mixopt.errors import InputError


@dataclass(frozen=True)
class Every:
    """A move after so many ``steps``, or so many ``tokens``, or each time that a measurement is ``seen``, such as "val".

    Exactly one of them is given. A step is one call of ``observe``, unless that is told the step.

    Raises:
        InputError: none or several of them, or a number that is not > 0.
    """

    steps: int | None = None
    tokens: float | None = None
    seen: str | None = None

    def __post_init__(self) -> None:
        if sum(x is not None for x in (self.steps, self.tokens, self.seen)) != 1:
            raise InputError("Every takes one of steps=, tokens= and seen=, such as Every(steps=100) or Every(seen='val')")
        if self.steps is not None and (isinstance(self.steps, bool) or not isinstance(self.steps, Integral) or self.steps < 1):
            raise InputError(f"the weights move every {self.steps!r} steps; it is a whole number >= 1")
        if self.tokens is not None and not (isinstance(self.tokens, Real) and 0 < self.tokens < math.inf):
            raise InputError(f"the weights move every {self.tokens!r} tokens; it is a finite number > 0")

    def due(self, steps: int, tokens: float, seen: frozenset[str]) -> bool:
        """Whether it is time, after so many steps and tokens since the last move and with these measurements at hand."""
        if self.steps is not None:
            return steps >= self.steps
        return tokens >= self.tokens if self.tokens is not None else self.seen in seen


def every(value: int | Every) -> Every:
    """A number of steps, or an ``Every``."""
    return value if isinstance(value, Every) else Every(steps=value)
