"""Expressions and relations: immutable trees of named operations over scalars, vectors and models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np

from mixopt.errors import ProblemError, listed, unknown

from .latex import latex
from .ops import OPS
from .printing import text
from .ufuncs import counterpart

TOKENS = -1
"""The length of a vector of token losses, which is known only when a batch is drawn."""

Names = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Array:
    """A constant array that compares and hashes by its content."""

    value: np.ndarray

    def __post_init__(self) -> None:
        frozen = np.array(self.value, dtype=float)
        frozen.setflags(write=False)
        object.__setattr__(self, "value", frozen)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Array) and self.value.shape == other.value.shape and self.value.tobytes() == other.value.tobytes()

    def __hash__(self) -> int:
        return hash((self.value.shape, self.value.tobytes()))


@dataclass(frozen=True, eq=False)
class Expr:
    """A node: an operation, its arguments, and the shape of its value.

    ``shape`` is () for a scalar, (n,) for a vector, (m, n) for a constant matrix and None for a model; ``index``
    names the entries of a vector where they have names; ``data`` is what the operation needs besides its arguments.
    Two expressions are equal when they are the same tree; ``==`` builds no relation (write ``equal(a, b)``).
    """

    op: str
    args: tuple[Expr, ...] = ()
    shape: tuple[int, ...] | None = ()
    index: Names | None = None
    data: Any = None

    def __post_init__(self) -> None:
        if self.op not in OPS:
            raise ProblemError(f"no operation {self.op!r}")
        object.__setattr__(self, "_hash", hash((self.op, self.args, self.shape, self.index, self.data)))

    def __hash__(self) -> int:
        return self._hash  # type: ignore[attr-defined]

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Expr) and _same_tree(self, other)

    def __str__(self) -> str:
        return text(self)

    def __repr__(self) -> str:
        return f"<{'x'.join(map(str, self.shape or ())) or ('model' if self.shape is None else 'scalar')}: {text(self)}>"

    def latex(self) -> str:
        """The expression as LaTeX for mathematics, the same at every call; constants too large to print get letters."""
        return latex(self)

    def _repr_latex_(self) -> str:
        return rf"$\displaystyle {latex(self)}$"

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError(f"'{self}' is a {'model' if self.shape is None else 'scalar'} and has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Expr]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        raise ProblemError(f"'{self}' is symbolic and has no truth value; relations are written <=, >= or equal(a, b)")

    def walk(self) -> Iterator[Expr]:
        """Every distinct node of the tree, arguments first, itself last."""
        return chain(self._below, (self,))

    @cached_property
    def _below(self) -> tuple[Expr, ...]:
        """The order of a walk, found once at the nodes that are walked from; without the node, which would hold itself alive."""
        order: dict[Expr, None] = {}
        stack: list[tuple[Expr, bool]] = [(a, False) for a in reversed(self.args)]
        while stack:
            node, ready = stack.pop()
            if node in order:
                continue
            if ready or not node.args:
                order[node] = None
            else:
                stack.append((node, True))
                stack.extend((a, False) for a in reversed(node.args))
        return tuple(order)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **settings: Any) -> Any:
        """Numpy's operators and functions are those of the language where it has them: ``np.exp(w)`` is ``mx.exp(w)``."""
        if ufunc in (np.equal, np.not_equal):
            return ufunc is np.not_equal  # an array is no expression
        kind, names = counterpart(ufunc.__name__, method, settings)
        if kind == "operator":
            left, right = inputs
            return getattr(left, names[0])(right) if isinstance(left, Expr) else getattr(right, names[1])(left)
        if kind == "pair":
            return elementwise(names[0], *inputs)
        x = number(self, names[0])
        if kind == "each":
            return Expr(names[0], (x,), x.shape, x.index)
        if len(x.shape or ()) != 1:
            raise ProblemError(f"{names[0]} is of a vector, but {shown(x)} is none")
        return Expr(names[0], (x,))

    def __add__(self, other: Operand) -> Expr:
        return elementwise("add", self, other)

    def __radd__(self, other: Operand) -> Expr:
        return elementwise("add", other, self)

    def __sub__(self, other: Operand) -> Expr:
        return elementwise("subtract", self, other)

    def __rsub__(self, other: Operand) -> Expr:
        return elementwise("subtract", other, self)

    def __mul__(self, other: Operand) -> Expr:
        return elementwise("multiply", self, other)

    def __rmul__(self, other: Operand) -> Expr:
        return elementwise("multiply", other, self)

    def __truediv__(self, other: Operand) -> Expr:
        return elementwise("divide", self, other)

    def __rtruediv__(self, other: Operand) -> Expr:
        return elementwise("divide", other, self)

    def __abs__(self) -> Expr:
        return self.__array_ufunc__(np.absolute, "__call__", self)

    def __neg__(self) -> Expr:
        number(self, "-")
        if self.op == "negate":
            return self.args[0]
        return Expr("negate", (self,), self.shape, self.index)

    def __pow__(self, power: float) -> Expr:
        return raised(self, power)

    def __rpow__(self, base: float) -> Expr:
        if isinstance(base, bool) or not isinstance(base, (int, float, np.integer, np.floating)) or not 0 < base < np.inf:
            raise ProblemError(f"'{base!r} ** ({self})': the base of a power with a symbolic exponent is a number > 0")
        exponent = float(np.log(base)) * number(self, "**")
        return Expr("exp", (exponent,), exponent.shape, exponent.index)

    def __matmul__(self, other: Operand) -> Expr:
        return matmul(self, other)

    def __rmatmul__(self, other: Operand) -> Expr:
        return matmul(other, self)

    def __le__(self, other: Operand) -> Relation:
        return Relation(self, "<=", expression(other))

    def __ge__(self, other: Operand) -> Relation:
        return Relation(self, ">=", expression(other))

    def __lt__(self, other: Operand) -> Relation:
        own = "Python's own max, min and sorted compare entries too: mx.max and mx.min are of expressions"
        raise ProblemError(f"'{self} < {expression(other)}': strict relations have no closed set of points; write <=. {own}")

    __gt__ = __lt__

    def __getitem__(self, key: str | int | slice | Sequence[str] | Sequence[int]) -> Expr:
        """Entries of a vector: a name or position gives a scalar; a list or slice a subvector, not renormalised."""
        if self.op == "stages":
            return self.stage(key)
        if self.shape is None or len(self.shape) != 1:
            raise ProblemError(f"'{self}' has shape {self.shape} and cannot be indexed; only vectors can")
        if isinstance(key, (str, int, np.integer)):
            return Expr("take", (self,), (), None, self._position(key))
        if not isinstance(key, (slice, Sequence, np.ndarray)):
            raise ProblemError(f"'{self}[{key!r}]': an entry goes by its name or position, several by a list of them")
        positions = self._sliced(key) if isinstance(key, slice) else [self._position(k) for k in key]
        if not positions:
            raise ProblemError(f"'{self}[{key}]' takes no entry; name at least one")
        names = None if self.index is None else tuple(self.index[p] for p in positions)
        return Expr("take", (self,), (len(positions),), names, tuple(positions))

    def stage(self, t: Any) -> Expr:
        """The mixture [k] of stage t of ``Mixture(domains, stages=T)``; t runs from 0 to T - 1, and -1 is the last.

        Raises:
            ProblemError: it has no stages, or no such one.
        """
        if self.op != "stages":
            raise ProblemError(f"'{self}' has no stages; make it by Mixture(domains, stages=T)")
        if isinstance(t, bool) or not isinstance(t, (int, np.integer)):
            raise ProblemError(f"'{self}[{t!r}]': a stage goes by its number; write {self}[0][...] for an entry of the first")
        if not -len(self.args) <= t < len(self.args):
            raise ProblemError(f"'{self}' has the stages 0 to {len(self.args) - 1}, and no stage {t}")
        return self.args[t]

    def _sliced(self, key: slice) -> list[int]:
        bounds = (key.start, key.stop, key.step)
        if not all(b is None or (isinstance(b, (int, np.integer)) and not isinstance(b, bool)) for b in bounds) or key.step == 0:
            raise ProblemError(f"'{self}' is cut by {key}; a slice goes by whole positions, and names by a list of them")
        if self.shape == (TOKENS,):
            raise ProblemError(f"'{self}' has a length that is known only when a batch is drawn, so it cannot be cut")
        return list(range(len(self)))[key]

    def _position(self, key: str | int | np.integer) -> int:
        if isinstance(key, str):
            if self.index is None:
                raise ProblemError(f"the entries of '{self}' have no names, so {key!r} cannot be found; use a position")
            if key not in self.index:
                raise unknown("domain", key, self.index)
            return self.index.index(key)
        if isinstance(key, (bool, np.bool_)):
            raise ProblemError(f"'{self}' is indexed by {key}; for a mask write np.flatnonzero(mask)")
        if not isinstance(key, (int, np.integer)):
            raise ProblemError(f"'{self}' is indexed by {key!r}; an entry goes by its name or a whole position")
        if not -len(self) <= key < len(self):
            raise ProblemError(f"position {key} is outside '{self}', which has {len(self)} entries")
        return int(key) % len(self)


def _same_tree(left: Expr, right: Expr) -> bool:
    """Whether two expressions are the same tree; deep trees need no deep recursion, and a shared part is compared once."""
    stack, seen = [(left, right)], set()
    while stack:
        a, b = stack.pop()
        if a is b or (id(a), id(b)) in seen:
            continue
        if hash(a) != hash(b) or (a.op, a.shape, a.index, a.data) != (b.op, b.shape, b.index, b.data) or len(a.args) != len(b.args):
            return False
        seen.add((id(a), id(b)))
        stack.extend(zip(a.args, b.args, strict=True))
    return True


Operand = Expr | float | int | np.ndarray | Sequence[float]


@dataclass(frozen=True)
class Relation:
    """``left <= right``, ``left >= right`` or ``left == right``, elementwise, with a name for duals and messages."""

    left: Expr
    sense: str
    right: Expr
    name: str | None = None

    def __post_init__(self) -> None:
        joint(self.left, self.right, f"{{}} {self.sense} {{}}")

    def named(self, name: str) -> Relation:
        """The same relation under a name."""
        if not isinstance(name, str) or not name.strip():
            raise ProblemError(f"a relation's name is a text that is not empty, not {name!r}")
        return replace(self, name=name)

    @cached_property
    def label(self) -> str:
        """The name, or the relation's own text where it has none."""
        return self.name if self.name is not None else str(self)

    @cached_property
    def gap(self) -> Expr:
        """left - right with ``>=`` flipped, so that the relation is gap <= 0 (or == 0)."""
        return self.right - self.left if self.sense == ">=" else self.left - self.right

    def __bool__(self) -> bool:
        raise ProblemError(f"'{self}' is a relation and has no truth value; give it in subject_to=[...] (chains like a <= b <= c need two)")

    def __str__(self) -> str:
        return f"{self.left} {self.sense} {self.right}"

    def latex(self) -> str:
        """The relation as LaTeX for mathematics, its name behind it."""
        return latex(self)

    def _repr_latex_(self) -> str:
        return rf"$\displaystyle {latex(self)}$"


def equal(left: Operand, right: Operand) -> Relation:
    """The relation left == right, elementwise."""
    return Relation(expression(left), "==", expression(right))


def constant(value: Operand, index: Sequence[str] | None = None) -> Expr:
    """A number, vector [n] or matrix [m, n] as an expression; ``index`` names the entries of a vector.

    Raises:
        ProblemError: entries that are NaN or infinite, more than two dimensions, or names of another length.
    """
    try:
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        array = None
    if value is None or array is None:
        raise ProblemError(f"{value!r} is neither an expression nor numbers")
    if array.ndim > 2:
        raise ProblemError(f"a constant has shape {array.shape}; scalars, vectors and matrices are what the language has")
    if not np.isfinite(array).all():
        where = [int(i) for i in np.argwhere(~np.isfinite(array))[0]] if array.ndim else []
        place = f" at {', '.join(map(str, where))}" if where else ""
        raise ProblemError(f"a constant is {array[tuple(where)]}{place}; every entry must be a finite number")
    names = None if index is None else tuple(index)
    if names is not None and array.shape != (len(names),):
        raise ProblemError(f"a constant of shape {array.shape} cannot be named by {len(names)} entries {listed(names)}")
    return Expr("constant", (), array.shape, names, Array(array))


def expression(value: Operand) -> Expr:
    """The value as an expression: numbers become constants."""
    if isinstance(value, Expr):
        return value
    if hasattr(value, "objective"):
        raise ProblemError("a problem stands where a number is expected; only minimize, maximize and argmin take problems")
    return constant(value)


def number(value: Operand, where: str) -> Expr:
    """The value as an expression that is a number or numbers, not a model."""
    expr = expression(value)
    if expr.op == "stages":
        raise ProblemError(f"'{expr}' has {len(expr)} stages and stands where one mixture is meant, in '{where}'; write {expr}[t]")
    if expr.shape is None:
        own = f"sum_squares({expr}) is the one penalty of its parameters, others are losses that the learner provides"
        raise ProblemError(f"'{expr}' is a model, not a number, in '{where}'; write losses({expr}, domains) or loss({expr}, name); {own}")
    return expr


def joint(left: Expr, right: Expr, where: str) -> tuple[tuple[int, ...], Names | None]:
    """Shape and names of an elementwise operation; scalars spread over vectors. ``where`` shows it, with {} for each side."""
    for side in (left, right):
        if side.shape is None or side.op == "stages":
            number(side, where.format(left, right))
    a, b = left.shape or (), right.shape or ()
    if a and b and a != b:
        raise ProblemError(f"shapes do not fit in '{where.format(left, right)}': {shown(left)} and {shown(right)}")
    if left.index and right.index and left.index != right.index:
        names = f"{listed(left.index)} and {listed(right.index)}"
        raise ProblemError(f"the entries of '{where.format(left, right)}' are over different names: {names}")
    return a or b, (left.index or right.index) if (a or b) else None


def elementwise(op: str, left: Operand, right: Operand) -> Expr:
    """An operation entry by entry."""
    a, b = expression(left), expression(right)
    infix = OPS[op].infix
    shape, index = joint(a, b, f"{{}}{infix}{{}}" if infix else f"{op}({{}}, {{}})")
    if op == "divide" and b.op == "constant" and (b.data.value == 0).any():
        raise ProblemError(f"'{a}{infix}{b}' divides by zero")
    return Expr(op, (a, b), shape, index)


def raised(base: Operand, exponent: float) -> Expr:
    """x ** p of each entry, for a number p; 1, 2 and 1/2 have operations of their own."""
    expr = number(base, "**")
    if isinstance(exponent, bool) or not isinstance(exponent, (int, float, np.integer, np.floating)):
        mend = f"; for a base x > 0 write exp({exponent} * log(x))" if isinstance(exponent, Expr) else ", such as 2 or 0.5"
        raise ProblemError(f"'{expr}' is raised to {str(exponent)!r}; an exponent is a number{mend}")
    p = float(exponent)
    if p == 0 or not np.isfinite(p):
        raise ProblemError(f"'{expr}' is raised to {p:g}; an exponent is finite and not 0, where the power would be 1 everywhere")
    if p == 1:
        return expr
    least = float(expr.data.value.min()) if expr.op == "constant" else np.inf
    if (least < 0 and not (p > 1 and p.is_integer())) or (least == 0 and p < 0):
        raise ProblemError(f"'{expr}' has the entry {least:.6g}, which has no power {p:g}; that needs x {'> 0' if p < 0 else '>= 0'}")
    op = {2.0: "square", 0.5: "sqrt"}.get(p, "power")
    return Expr(op, (expr,), expr.shape, expr.index, p if op == "power" else None)


def matmul(left: Operand, right: Operand) -> Expr:
    """Inner product of vectors, or product with a constant matrix."""
    a, b = number(left, "@"), number(right, "@")
    if not a.shape or not b.shape:
        raise ProblemError(f"'{a} @ {b}' needs vectors or matrices: {shown(a)} and {shown(b)}; use * for a scalar")
    if a.shape[-1] != b.shape[0]:
        raise ProblemError(f"shapes do not fit in '{a} @ {b}': {shown(a)} and {shown(b)}")
    if len(a.shape) == len(b.shape) == 1:
        joint(a, b, "{} @ {}")
    return Expr("matmul", (a, b), a.shape[:-1] + b.shape[1:])


def shown(expr: Expr) -> str:
    """An expression with its shape and, where it has them, the names of its entries."""
    names = f" over {listed(expr.index)}" if expr.index else ""
    sizes = ", ".join("tokens" if n == TOKENS else str(n) for n in expr.shape or ())
    return f"'{expr}' [{sizes}]{names}"
