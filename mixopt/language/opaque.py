"""An opaque atom: a named numpy function of the weights that has values and nothing else, such as a law of boosted trees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from mixopt.errors import ProblemError

from .expression import Expr, shown

TAKERS = "Simulation draws mixtures and Grid goes through them: both need values only"
"""Which solvers take what has no derivative, in words."""


@final
@dataclass(frozen=True)
class Blackbox:
    """A function with its name: weights [R, k] -> values [R], or [R, m]. Two are equal where the function is the same object."""

    name: str
    function: Callable[[np.ndarray], np.ndarray]

    def values(self, weights: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Values [R, *shape] at weights [R, k].

        Raises:
            ProblemError: the function returns another shape.
        """
        found = np.asarray(self.function(weights), dtype=float)
        if found.shape != (len(weights), *shape):
            raise ProblemError(
                f"{self.name} returned shape {list(found.shape)} for {len(weights)} mixtures of {weights.shape[1]} domains; "
                f"{[len(weights), *shape]} is expected, a row a mixture"
            )
        return found


def opaque(w: Expr, function: Callable[[np.ndarray], np.ndarray], name: str, index: Sequence[str] | None = None) -> Expr:
    """A numpy function of weights as an expression without a derivative: [] or, with the names ``index`` of its entries, [m].

    ``function`` takes a batch of weights [R, k] and returns values [R] ([R, m] with ``index``); it is called with many rows at once. By the
    rules it is neither convex nor concave, so only solvers that need no derivative take it: ``Simulation`` and ``Grid``. A problem with
    one is not saved as JSON; save what the function is made of.

    >>> import mixopt as mx
    >>> w = mx.Mixture(["web", "code"])
    >>> steps = mx.opaque(w, lambda rows: np.floor(8 * rows[:, 1]), name="steps")
    >>> print(steps, mx.curvature(steps))
    steps(w) unknown

    Raises:
        ProblemError: weights that are no vector of the language, an empty name, or a function that cannot be called.
    """
    if not isinstance(w, Expr) or w.shape is None or len(w.shape) != 1 or w.op == "stages":
        raise ProblemError(f"an opaque function is of a vector of weights, and this is {shown(w) if isinstance(w, Expr) else repr(w)}")
    if not callable(function):
        raise ProblemError(f"the opaque function {name!r} is {function!r}; give a function of weights [R, k]")
    if not isinstance(name, str) or not name.strip() or "\n" in name or len(name) > 200:
        raise ProblemError(f"an opaque function is named {name!r}; a name is a text of one line")
    names = None if index is None else tuple(index)
    return Expr("opaque", (w,), () if names is None else (len(names),), names, Blackbox(name, function))


def blind(*expressions: Expr) -> Expr | None:
    """The first opaque node of the expressions, or None where all have derivatives."""
    return next((node for e in expressions for node in e.walk() if node.op == "opaque"), None)
