"""Formulas with names that have no value: variables to be found, whose lengths follow from the text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import final

from .expression import Expr, Operand
from .formula import LONGEST, formula, parsed
from .symbols import variable

Unbound = dict[str, Expr]
"""Variables by their names."""


@final
class Longer(Exception):  # noqa: N818 - no error: the text is read again
    """A variable that was taken for a number is a vector."""

    def __init__(self, name: str, size: int):
        super().__init__(name)
        self.name, self.size = name, size


@final
class Free:
    """The variables that a text has been found to have, and how long each is."""

    def __init__(self, index: tuple[str, ...], sizes: Mapping[str, int]):
        self.found: Unbound = {}
        self._index, self._sizes = index, sizes

    def symbol(self, name: str) -> Expr:
        """The variable of a name."""
        if name not in self.found:
            made = variable(name, self._sizes.get(name))
            self.found[name] = replace(made, index=self._index) if made.shape == (len(self._index),) else made
        return self.found[name]

    def lengthen(self, value: Expr, size: int) -> None:
        """Read again with a vector, where a value is a variable taken for a number."""
        if value.op == "variable" and value.shape == ():
            raise Longer(value.data[0], size)

    def entries(self, value: Expr) -> None:
        """Entries of a value are taken."""
        self.lengthen(value, len(self._index))

    def product(self, left: Expr, right: Expr) -> None:
        """Two values stand on the sides of @."""
        for one, other in ((left, right), (right, left)):
            if len(other.shape or ()) == 1:
                self.lengthen(one, len(other))


def unbound(text: str, known: Mapping[str, Operand], index: Sequence[str], sizes: Mapping[str, int] | None = None) -> tuple[Expr, Unbound]:
    """The expression of a text in which every name without a value is a variable to be found, and those variables in their order.

    A variable is a number, but beside @ a vector as long as the other side, and a vector over ``index`` where entries of it are
    taken; ``sizes`` say others. A power may have a variable exponent: x ^ g is then exp(g * log(x)).

    >>> import mixopt as mx
    >>> unbound("c + b * exp(A @ w)", {"w": mx.Mixture(["web", "code"])}, ["web", "code"])[1]
    {'c': <scalar: c>, 'b': <scalar: b>, 'A': <2: A>}

    Raises:
        ProblemError: as ``formula``.
    """
    if not isinstance(text, str) or len(text) > LONGEST:
        formula(text)
    lengths = dict(sizes or {})
    while True:
        free = Free(tuple(index), lengths)
        try:
            return parsed(text, known, free), free.found
        except Longer as longer:
            lengths = {**lengths, longer.name: longer.size}
