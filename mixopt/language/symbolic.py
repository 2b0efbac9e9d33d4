"""Expressions in sympy: one row for each atom, vectors as arrays of scalars, losses as unknown functions of their model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from itertools import chain, combinations
from math import comb, floor
from typing import Any, final

import numpy as np

from mixopt.errors import ProblemError

from .atoms import tail_caps
from .expression import TOKENS, Expr
from .history import live
from .latex import latex, letter, upright
from .ops import HISTORY

WIDEST = 60
"""The most entries that are written out one by one."""
LARGEST = 5_000
"""The most numbers that an array may have."""
COUNTS = ("cardinality", "least_used", "opaque")
"""Atoms that jump, or whose formula is not known, and so have no derivative."""
_CHOICES = 100


@final
class Names:
    """The sympy symbols of a problem's leaves, each made once; ``latex`` has how each is written.

    ``w[code]`` is the weight of code, ``p`` a parameter or ``p[0]`` its first entry, ``theta`` a model. A model stands as one symbol:
    a derivative by it is a gradient, and second derivatives are Hessians, exact as they stand for a model of one parameter.
    """

    def __init__(self) -> None:
        self.latex: dict[Any, str] = {}
        self._known: dict[Expr, Any] = {}
        self._functions: dict[tuple[str, str], str] = {}

    def leaf(self, node: Expr) -> Any:
        """The symbols of a leaf: a sympy scalar or an object array [n]."""
        if node not in self._known:
            self._known[node] = self._made(node)
        return self._known[node]

    def symbol(self, name: str, latex: str, **assumptions: bool) -> Any:
        """A real symbol with its own LaTeX."""
        import sympy

        made = sympy.Symbol(name, real=True, **assumptions)
        self.latex[made] = latex
        return made

    def _made(self, node: Expr) -> Any:
        if node.op == "constant":
            values = node.data.value
            if values.size > LARGEST:
                raise ProblemError(f"'{node}' has {values.size} numbers, and a derivation writes each of them out; {LARGEST} are the most")
            return np.array([exact(v) for v in values.ravel()], dtype=object).reshape(values.shape) if values.ndim else exact(values)
        if node.op == "mixture":
            return self._entries(node, node.data[0], {"positive": True})
        if node.op in ("parameter", "variable"):
            known = {"nonnegative": True} if node.op == "parameter" and node.data[1] else {}
            return self._entries(node, node.data[0], known) if node.shape else self.symbol(node.data[0], letter(node.data[0]), **known)
        if node.op == "model":
            return self.symbol(node.data, letter(node.data))
        if node.op == "argmin":
            name = node.data[0].data
            return self.symbol(f"{name}*", rf"{letter(name)}^{{\star}}")
        if node.op == "trained":
            return self.symbol(str(node), rf"({letter(node.data[0].data)})_{{{node.data[2]}}}")
        if node.op == "stages":
            raise ProblemError(f"'{node}' has stages; a derivation is of expressions in its stages")
        if node.op == "gram":
            raise ProblemError(f"'{node}' is made of gradients, which a derivation has no symbols for; leave it out")
        if node.op in HISTORY:
            return self._remembered(node)
        return self._measured(node)

    def _entries(self, node: Expr, name: str, known: Mapping[str, bool]) -> Any:
        """A symbol for each entry."""
        _small(node)
        labels = node.index or tuple(map(str, range(len(node))))
        pairs = [self.symbol(f"{name}[{label}]", rf"{letter(name)}_{{{upright(label)}}}", **known) for label in labels]
        return np.array(pairs, dtype=object)

    def _remembered(self, node: Expr) -> Any:
        """A number for each entry of a history, constant to every derivative."""
        if not node.shape:
            return self.symbol(str(node), latex(node))
        _small(node)
        if len(node.shape) > 1:
            raise ProblemError(f"'{node}' is a matrix of earlier values, which a derivation has no symbols for; leave it out")
        labels = node.index or tuple(map(str, range(len(node))))
        return np.array([self.symbol(f"{node}[{label}]", rf"({latex(node)})_{{{upright(label)}}}") for label in labels], dtype=object)

    def _measured(self, node: Expr) -> Any:
        """Losses as functions of their model; a batch of token losses by one that stands for all."""
        import sympy

        model = self.leaf(node.args[0])
        if node.op == "model_sum_squares":
            return model**2
        if node.op == "loss":
            return sympy.Function(self._function("L", node.data), real=True)(model)
        if node.op == "tokens":
            return np.array([sympy.Function(self._function("token", node.data), real=True)(model)], dtype=object)
        _small(node)
        prefix = "ell" if node.data == "train" else f"ell_{_plain(node.data)}"
        return np.array([sympy.Function(self._function(prefix, n), real=True)(model) for n in node.index or ()], dtype=object)

    def _function(self, prefix: str, name: str) -> str:
        """A name of letters and digits for a function, another one for each name."""
        key = (prefix, name)
        if key not in self._functions:
            wanted = f"{prefix}_{_plain(name)}"
            again = sum(w == wanted or w.startswith(f"{wanted}_again") for w in self._functions.values())
            self._functions[key] = f"{wanted}_again{again}" if again else wanted
        return self._functions[key]

    def averaged(self, name: str, value: Any) -> Any:
        """The mean of a function of token losses over a domain's tokens, as a function of that function."""
        import sympy

        return sympy.Function(self._function("mean", name), real=True)(value)


def symbolic(expr: Expr, names: Names) -> Any:
    """The expression in sympy: a scalar, or an object array [n] of scalars.

    Raises:
        ProblemError: a model where a number is meant, or more entries than can be written out, or an atom without derivatives.
    """
    table = sympy_table(names)
    known: dict[Expr, Any] = {}
    for node in live(expr):
        if node.op in COUNTS:
            why = "is opaque" if node.op == "opaque" else "jumps"
            raise ProblemError(f"'{node}' {why}, so there is no derivative of it to write; leave that constraint or term out")
        if node.op in table:
            known[node] = table[node.op](node, *(known[a] for a in node.args))
        else:
            known[node] = names.leaf(node)
    return known[expr]


def exact(value: float) -> Any:
    """A number as a short fraction where it is one to the last bit, else as it is."""
    import sympy

    short = Fraction(float(value)).limit_denominator(1000)
    return sympy.Rational(short.numerator, short.denominator) if float(short) == float(value) else sympy.Float(float(value))


def sympy_table(names: Names) -> dict[str, Callable[..., Any]]:
    """Every atom in sympy; the keys equal the language's atoms, which a test asserts."""
    import sympy as sp

    def each(function: Callable[..., Any]) -> Callable[..., Any]:
        """A function of scalars, entry by entry."""

        def spread(n: Expr, *args: Any) -> Any:
            return np.frompyfunc(lambda *values: function(n, *values), len(args), 1)(*args)

        return spread

    def norm(n: Expr, x: Any) -> Any:
        if np.isinf(n.data):
            return sp.Max(*map(sp.Abs, x))
        return sp.sqrt(_sum(x * x)) if n.data == 2 else _sum(sp.Abs(v) ** exact(n.data) for v in x) ** exact(1 / n.data)

    def huber(n: Expr, x: Any) -> Any:
        delta = exact(n.data)
        return sp.Piecewise((x**2 / 2, sp.Abs(x) <= delta), (delta * (sp.Abs(x) - delta / 2), True))

    return {
        "add": lambda n, x, y: x + y,
        "subtract": lambda n, x, y: x - y,
        "negate": lambda n, x: -x,
        "multiply": lambda n, x, y: x * y,
        "divide": lambda n, x, y: x / y,
        "matmul": lambda n, x, y: np.dot(x, y),
        "take": lambda n, x: x[n.data if isinstance(n.data, int) else list(n.data)],
        "stack": lambda n, *parts: np.concatenate([np.atleast_1d(np.asarray(p, dtype=object)) for p in parts]),
        "sum": lambda n, x: _sum(x),
        "mean": lambda n, x: _sum(x) / len(x),
        "exp": each(lambda n, x: sp.exp(x)),
        "log": each(lambda n, x: sp.log(x)),
        "sqrt": each(lambda n, x: sp.sqrt(x)),
        "square": lambda n, x: x * x,
        "power": lambda n, x: x ** exact(n.data),
        "softplus": each(lambda n, x: sp.log(1 + sp.exp(x))),
        "logsumexp": lambda n, x: exact(n.data) * sp.log(_sum(sp.exp(v / exact(n.data)) for v in x)),
        "huber": each(huber),
        "sum_squares": lambda n, x: _sum(x * x),
        "norm": norm,
        "abs": each(lambda n, x: sp.Abs(x)),
        "pos": each(lambda n, x: sp.Max(x, 0)),
        "clip": each(lambda n, x: sp.Min(sp.Max(x, exact(n.data[0])), exact(n.data[1]))),
        "max": lambda n, x: sp.Max(*x),
        "min": lambda n, x: sp.Min(*x),
        "tail": lambda n, x, *parts: _weighted_tail(n, x) if parts else _tail(n, x),
        "maximum": each(lambda n, x, y: sp.Max(x, y)),
        "minimum": each(lambda n, x, y: sp.Min(x, y)),
        "entropy": lambda n, x: -_sum(v * sp.log(v) for v in x),
        "kl": lambda n, p, q: _sum(a * sp.log(a / b) for a, b in zip(p, q, strict=True)),
        "rel_entropy": each(lambda n, x, y: x * sp.log(x / y)),
        "quad_form": lambda n, x: np.dot(x, np.dot(np.vectorize(exact, otypes=[object])(n.data.value), x)),
        "domain_mean": lambda n, x: np.array([names.averaged(name, x[0]) for name in n.index or ()], dtype=object),
        "surrogate": lambda n, value, gradient: value,
    }


def _sum(values: Iterable[Any]) -> Any:
    import sympy

    return sympy.Add(*values)


def _tail(n: Expr, x: Any) -> Any:
    """The largest mean of the share over every choice of the entries that it counts whole and the one that it counts in part."""
    import sympy

    size, count = len(x), exact(n.data) * len(x)
    whole = min(floor(n.data * size + 1e-12), size)
    rest = count - whole
    if comb(size, whole) * max(size - whole, 1) > _CHOICES:
        raise ProblemError(f"'{n}' is the largest of too many means to write out; derive it for fewer entries")
    chosen = list(combinations(range(size), whole))
    if abs(float(rest)) < 1e-12:
        sums = [_sum(x[i] for i in some) for some in chosen]
    else:
        sums = [_sum(x[i] for i in some) + rest * x[j] for some in chosen for j in range(size) if j not in some]
    return sympy.Max(*sums) / count


def _weighted_tail(n: Expr, x: Any) -> Any:
    """The largest mean over the corners of the weights below their caps: some entries at them, one in part, and no others."""
    import sympy

    caps, size = [exact(c) for c in tail_caps(n)], len(x)
    if size * 2**size > 10 * _CHOICES:
        raise ProblemError(f"'{n}' is the largest of too many means to write out; derive it for fewer entries")
    means = []
    for some in chain.from_iterable(combinations(range(size), m) for m in range(size)):
        rest = 1 - _sum(caps[i] for i in some)
        means += [
            _sum([*(caps[i] * x[i] for i in some), rest * x[j]]) for j in range(size) if j not in some and -1e-12 <= rest <= caps[j] + 1e-12
        ]
    return sympy.Max(*means)


def _small(node: Expr) -> None:
    if node.shape and node.shape != (TOKENS,) and node.shape[0] > WIDEST:
        raise ProblemError(
            f"'{node}' has {node.shape[0]} entries, and a derivation writes each of them out; derive the problem over at most {WIDEST}"
        )


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "", name) or "x"
