"""A program's functions in numpy: value and gradient of expressions in its unknowns, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mixopt.errors import ProblemError
from mixopt.language.expression import Expr

from .layout import Layout
from .numpy_ops import NUMPY, unspread

MOST_DENSE = 1_000_000
"""A Jacobian with more entries is a sparse matrix."""


class Function:
    """An expression of one mixture, lowered once; ``value`` and ``gradient`` evaluate it at given weights [k].

    The expression may be a scalar or a vector [n]; ``jacobian`` is [n, k]. With several unknowns, k is the length of all of
    them one behind the other, as ``Layout`` lays them.
    """

    def __init__(self, expr: Expr, unknowns: Expr | tuple[Expr, ...], given: Mapping[str, np.ndarray]):
        layout = Layout.of(unknowns)
        self._nodes = list(expr.walk())
        slots = {node: i for i, node in enumerate(self._nodes)}
        self._args = [tuple(slots[a] for a in node.args) for node in self._nodes]
        self._at = {slots[s]: (where, s.shape == ()) for s, where in layout.slices.items() if s in slots}
        self._fixed: list[Any] = [self._leaf(node, layout, given) for node in self._nodes]
        self._live = self._depending()
        self.shape = expr.shape or ()
        self.size = layout.size

    @staticmethod
    def _leaf(node: Expr, layout: Layout, given: Mapping[str, np.ndarray]) -> Any:
        if node.op == "constant":
            return node.data.value
        if node.op == "parameter":
            return given[node.data[0]]
        if node in layout.slices or node.op in NUMPY:
            return None
        raise ProblemError(f"'{node}' is not a number that a program can evaluate; it needs a learner")

    def _depending(self) -> list[bool]:
        live: list[bool] = []
        for i, args in enumerate(self._args):
            live.append(i in self._at or any(live[a] for a in args))
        return live

    def _forward(self, w: np.ndarray) -> list[Any]:
        values: list[Any] = []
        for i, node in enumerate(self._nodes):
            if i in self._at:
                where, scalar = self._at[i]
                values.append(w[where][0] if scalar else w[where])
            elif self._fixed[i] is not None:
                values.append(self._fixed[i])
            else:
                values.append(NUMPY[node.op].value(node, *(values[a] for a in self._args[i])))
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
        for i in range(len(values) - 1, -1, -1):
            if cotangents[i] is None or not self._live[i] or i in self._at:
                continue
            args = self._args[i]
            inputs = [np.asarray(values[a]) for a in args]
            for a, part in zip(args, NUMPY[self._nodes[i].op].pull(self._nodes[i], cotangents[i], *inputs), strict=True):
                if self._live[a]:
                    part = unspread(part, values[a])
                    cotangents[a] = part if cotangents[a] is None else cotangents[a] + part
        gradient = np.zeros(self.size)
        for i, (where, _) in self._at.items():
            if cotangents[i] is not None:
                gradient[where] = cotangents[i]
        return gradient
