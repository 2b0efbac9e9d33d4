"""A program's functions in numpy: value and gradient of expressions in its unknowns, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any

import numpy as np

from mixopt.errors import ProblemError
from mixopt.language.expression import Expr

from .layout import Layout
from .numpy_ops import NUMPY

MOST_DENSE = 1_000_000
"""A Jacobian with more entries is a sparse matrix."""
ADDING = ("add", "subtract", "stack")
NUMBERS = ("constant", "parameter")


class Function:
    """An expression of one mixture, lowered once; ``value`` and ``gradient`` evaluate it at given weights [k].

    The expression may be a scalar or a vector [n]; ``jacobian`` is [n, k]. With several unknowns, k is the length of all of
    them one behind the other, as ``Layout`` lays them. Parameters that ``given`` lacks are open: ``with_numbers`` first.
    """

    def __init__(self, expr: Expr, unknowns: Expr | tuple[Expr, ...] | Layout, given: Mapping[str, np.ndarray]):
        layout = unknowns if isinstance(unknowns, Layout) else Layout.of(unknowns)
        self._nodes = list(expr.walk())
        slots = {node: i for i, node in enumerate(self._nodes)}
        self._args = [tuple(slots[a] for a in node.args) for node in self._nodes]
        self._at = {slots[s]: (where, s.shape == ()) for s, where in layout.slices.items() if s in slots}
        for node in self._nodes:
            if node.op not in NUMPY and node.op not in NUMBERS and node not in layout.slices:
                raise ProblemError(f"'{node}' is not a number that a program can evaluate; it needs a learner")
        self._live = self._depending()
        self._work = [
            (i, NUMPY[node.op], node, args, tuple((j, a, self._nodes[a].shape == ()) for j, a in enumerate(args) if self._live[a]))
            for i, (node, args) in enumerate(zip(self._nodes, self._args, strict=True))
            if self._live[i] and i not in self._at
        ]
        self._fixed = self._numbers(given)
        self.shape = expr.shape or ()
        self.size = layout.size

    @np.errstate(divide="ignore", invalid="ignore", over="ignore")  # what is not finite is seen, and told, by who asked
    def _numbers(self, given: Mapping[str, np.ndarray]) -> list[Any]:
        """The value of every node that no unknown enters; None for the others, and for what awaits a parameter's number."""
        values: list[Any] = []
        for node, args, live in zip(self._nodes, self._args, self._live, strict=True):
            parts = [values[a] for a in args]
            if node.op == "constant":
                values.append(node.data.value)
            elif node.op == "parameter":
                values.append(given.get(node.data[0]))
            elif live or any(part is None for part in parts):
                values.append(None)
            else:
                values.append(NUMPY[node.op].value(node, *parts))
        return values

    def with_numbers(self, given: Mapping[str, np.ndarray]) -> Function:
        """The same expression with these numbers of its parameters; nothing is lowered again."""
        again = copy(self)
        again._fixed = again._numbers(given)
        return again

    @property
    def numbers(self) -> dict[str, np.ndarray]:
        """The numbers of its parameters by name."""
        return {n.data[0]: x for n, x in zip(self._nodes, self._fixed, strict=True) if n.op == "parameter"}

    @property
    def steady(self) -> bool:
        """Whether parameters are only added to what depends on the unknowns: an affine expression has one Jacobian for all numbers."""
        moved: list[bool] = []
        for node, args, live in zip(self._nodes, self._args, self._live, strict=True):
            moved.append(node.op == "parameter" or any(moved[a] for a in args))
            if live and node.op not in ADDING and any(moved[a] and not self._live[a] for a in args):
                return False
        return True

    def _depending(self) -> list[bool]:
        live: list[bool] = []
        for i, args in enumerate(self._args):
            live.append(i in self._at or any(live[a] for a in args))
        return live

    def _forward(self, w: np.ndarray) -> list[Any]:
        values = self._fixed.copy()
        for i, (where, scalar) in self._at.items():
            values[i] = w[where][0] if scalar else w[where]
        for i, op, node, args, _ in self._work:
            values[i] = op.value(node, *[values[a] for a in args])
        return values

    def value(self, w: np.ndarray) -> Any:
        """Value at w: a float, or a vector [n]."""
        out = self._forward(w)[-1]
        return float(out) if self.shape == () else np.asarray(out)

    def value_and_gradient(self, w: np.ndarray) -> tuple[float, np.ndarray]:
        """Value and gradient [k] of a scalar expression at w."""
        values = self._forward(w)
        return float(values[-1]), self._pull(values, 1.0)

    def gradient(self, w: np.ndarray) -> np.ndarray:
        """Gradient [k] of a scalar expression at w."""
        return self.value_and_gradient(w)[1]

    def jacobian(self, w: np.ndarray) -> np.ndarray:
        """Jacobian [n, k] of a vector expression at w ([1, k] of a scalar)."""
        values = self._forward(w)
        if self.shape == ():
            return self._pull(values, 1.0)[None]
        return np.array([self._pull(values, row) for row in np.eye(self.shape[0])]).reshape(self.shape[0], self.size)

    def rows(self, w: np.ndarray) -> Any:
        """The Jacobian [n, k] of ``jacobian``, as a sparse matrix where it is large."""
        count = int(np.prod(self.shape))
        if count * self.size <= MOST_DENSE:
            return self.jacobian(w)
        from .sparse import product, unit

        values = self._forward(w)
        below: list[Any] = []
        for i, (node, args) in enumerate(zip(self._nodes, self._args, strict=True)):
            if i in self._at:
                where = self._at[i][0]
                below.append(unit(where.start, where.stop - where.start, self.size))
            else:
                below.append(product(node, [np.asarray(values[a]) for a in args], [below[a] for a in args]) if self._live[i] else None)
        return unit(0, 0, self.size) if below[-1] is None else below[-1]

    @np.errstate(divide="ignore", invalid="ignore", over="ignore")  # what is not finite is seen, and told, by who asked
    def _pull(self, values: list[Any], seed: Any) -> np.ndarray:
        cotangents: list[Any] = [None] * len(values)
        cotangents[-1] = seed
        for i, op, node, args, live in reversed(self._work):
            if cotangents[i] is None:
                continue
            parts = op.pull(node, cotangents[i], *[np.asarray(values[a]) for a in args])
            for j, a, scalar in live:
                part = np.asarray(parts[j]).sum() if scalar and np.shape(parts[j]) else parts[j]
                cotangents[a] = part if cotangents[a] is None else cotangents[a] + part
        gradient = np.zeros(self.size)
        for i, (where, _) in self._at.items():
            if cotangents[i] is not None:
                gradient[where] = cotangents[i]
        return gradient
