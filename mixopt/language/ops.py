"""One record for each operation of the language: its curvature, monotonicity, sign, smoothness and how it prints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Shape = Literal["affine", "convex", "concave", "product", "quotient", "power", "leaf", "opaque"]
Monotone = Literal["+", "-", "0", "sign"]
Sign = Literal["+", "-", "any", "same", "each", "flip", "sum", "product", "power", "max", "min"]


@dataclass(frozen=True)
class Op:
    """What the compiler knows of an operation.

    ``shape`` is its curvature in its arguments (``product`` and ``quotient`` depend on which side is constant,
    ``power`` on the exponent and the argument's sign; ``opaque`` makes no promise). ``monotone`` has one mark an argument,
    or one for all of them: rising, falling, neither, or rising with the argument's sign. ``sign`` tells the sign of the
    value from the arguments'. ``infix`` and ``level`` are for printing.
    """

    name: str
    shape: Shape
    monotone: tuple[Monotone, ...] = ()
    sign: Sign = "any"
    smooth: bool = True
    infix: str = ""
    level: int = 9


def _table(*ops: Op) -> dict[str, Op]:
    return {op.name: op for op in ops}


LEAVES = _table(
    Op("constant", "leaf"),
    Op("parameter", "leaf"),
    Op("mixture", "leaf", sign="+"),
    Op("variable", "leaf"),
    Op("stages", "leaf", sign="+"),
    Op("model", "leaf"),
    Op("argmin", "leaf"),
    Op("trained", "leaf"),
    Op("losses", "leaf"),
    Op("loss", "leaf"),
    Op("tokens", "leaf"),
    Op("model_sum_squares", "leaf", sign="+"),
    Op("gram", "leaf"),
    Op("previous", "leaf", sign="same"),
    Op("initial", "leaf", sign="same"),
    Op("ema", "leaf", sign="same"),
)

ATOMS = _table(
    Op("add", "affine", ("+", "+"), "sum", infix=" + ", level=1),
    Op("subtract", "affine", ("+", "-"), "sum", infix=" - ", level=1),
    Op("negate", "affine", ("-",), "flip", level=2),
    Op("multiply", "product", sign="product", infix="*", level=3),
    Op("divide", "quotient", sign="product", infix="/", level=3),
    Op("matmul", "product", sign="product", infix=" @ ", level=3),
    Op("take", "affine", ("+",), "same", level=8),
    Op("stack", "affine", ("+",), "each"),
    Op("sum", "affine", ("+",), "same"),
    Op("mean", "affine", ("+",), "same"),
    Op("exp", "convex", ("+",), "+"),
    Op("log", "concave", ("+",), "any"),
    Op("sqrt", "concave", ("+",), "+"),
    Op("square", "convex", ("sign",), "+"),
    Op("power", "power", sign="power"),
    Op("softplus", "convex", ("+",), "+"),
    Op("logsumexp", "convex", ("+",), "any"),
    Op("huber", "convex", ("sign",), "+"),
    Op("sum_squares", "convex", ("sign",), "+"),
    Op("norm", "convex", ("sign",), "+", smooth=False),
    Op("abs", "convex", ("sign",), "+", smooth=False),
    Op("pos", "convex", ("+",), "+", smooth=False),
    Op("clip", "opaque", ("+",), "any", smooth=False),
    Op("max", "convex", ("+",), "same", smooth=False),
    Op("min", "concave", ("+",), "same", smooth=False),
    Op("tail", "convex", ("+",), "same", smooth=False),
    Op("maximum", "convex", ("+", "+"), "max", smooth=False),
    Op("minimum", "concave", ("+", "+"), "min", smooth=False),
    Op("entropy", "concave", ("0",), "any"),
    Op("kl", "convex", ("0", "-"), "any"),
    Op("rel_entropy", "convex", ("0", "-"), "any"),
    Op("quad_form", "convex", ("0",), "+"),
    Op("domain_mean", "affine", ("+",), "same"),
    Op("surrogate", "affine", ("+", "0"), "same"),
    Op("cardinality", "opaque", ("0",), "+", smooth=False),
    Op("least_used", "opaque", ("0",), "+", smooth=False),
    Op("opaque", "opaque", ("0",), "any", smooth=False),
)

OPS = LEAVES | ATOMS

TRAINED = ("argmin", "trained")
"""The models that a lower level makes: its argmin, and the outcome of so many training steps."""

UNKNOWNS = ("mixture", "variable")
"""The leaves whose values a program finds, and in which curvature is told."""

HISTORY = ("previous", "initial", "ema")
"""Leaves that stand for earlier values of their argument: numbers to curvature and to gradients."""
