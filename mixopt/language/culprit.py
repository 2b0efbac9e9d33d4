"""The part of an expression that is neither convex nor concave by the rules: which, why, and what to write instead."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

from .curvature import Curvatures, sign
from .expression import Expr
from .history import live
from .opaque import TAKERS
from .ops import OPS


@final
@dataclass(frozen=True)
class Culprit:
    """The innermost part at fault: ``node``, the sentence ``why``, and a ``mend`` where one is known ("" elsewhere)."""

    node: Expr
    why: str
    mend: str = ""

    def __str__(self) -> str:
        return f"'{self.node}': {self.reason}"

    @property
    def reason(self) -> str:
        """Why, with the mend."""
        return self.why + (f"; {self.mend}" if self.mend else "")


def culprit(expr: Expr) -> Culprit | None:
    """The innermost part of an expression that the rules prove neither convex nor concave, and why; None where there is none.

    >>> import mixopt as mx
    >>> w = mx.Mixture(["web", "code"])
    >>> print(mx.culprit(mx.max(mx.exp(w)) + mx.square(mx.log(w["web"]))))
    'square(log(w[web]))': square is convex, but 'log(w[web])' may have either sign, so it must be affine, and is concave
    """
    known = Curvatures(expr)
    node = next((node for node in live(expr) if known.of(node) == "unknown"), None)
    if node is None:
        return None
    shape = OPS[node.op].shape
    tell = {"affine": _mixed, "product": _product, "quotient": _quotient, "power": _power, "opaque": _opaque}.get(shape, _composed)
    return Culprit(node, *tell(node, known))


_Told = tuple[str, str]
_Tell = Callable[[Expr, Curvatures], _Told]


def _mixed(node: Expr, known: Curvatures) -> _Told:
    """A sum of parts that bend apart."""
    bent = [a for a in node.args if known.of(a) in ("convex", "concave")]
    first = bent[0]
    other = next((a for a in bent if known.of(a) != known.of(first)), bent[-1])
    if node.op == "subtract":
        return f"it subtracts the {known.of(other)} '{other}' from the {known.of(first)} '{first}'", ""
    what = "it adds" if node.op == "add" else f"{node.op} joins"
    return f"{what} the {known.of(first)} '{first}' and the {known.of(other)} '{other}'", ""


def _product(node: Expr, known: Curvatures) -> _Told:
    """Two factors that both depend on the weights, or a bent one times a factor whose sign is not known."""
    left, right = node.args
    fixed = next((a for a in (right, left) if known.of(a) == "constant"), None)
    if fixed is not None:
        return _scaled(fixed, left if fixed is right else right, known, "multiplies")
    mend = ""
    if left == right:
        mend = f"write {'sum_squares' if node.op == 'matmul' else 'square'}({left})"
    elif node.op == "matmul" and right.op == "matmul" and right.args[1] == left:
        mend = f"where the matrix is positive semidefinite, write quad_form({left}, matrix)"
    return f"it multiplies '{left}' and '{right}', which both depend on the weights", mend


def _scaled(factor: Expr, body: Expr, known: Curvatures, how: str) -> _Told:
    signs = "has entries of both signs" if factor.op == "constant" else "may have either sign"
    why = f"'{factor}' {signs}, and '{body}', which it {how}, is {known.of(body)}"
    free = [n for n in factor.walk() if n.op == "parameter" and not n.data[1]]
    for symbol in free if sign(_assumed(factor, free)) != "any" else ():
        size = f", {symbol.shape[0]}" if symbol.shape else ""
        return why, f"if {symbol.data[0]!r} is never negative, write parameter({symbol.data[0]!r}{size}, nonneg=True)"
    return why, ""


def _assumed(expr: Expr, free: list[Expr]) -> Expr:
    """The expression with these parameters declared nonneg."""
    rebuilt: dict[Expr, Expr] = {}
    for node in expr.walk():
        changed = replace(node, data=(node.data[0], True)) if node in free else node
        rebuilt[node] = replace(changed, args=tuple(rebuilt[a] for a in node.args)) if node.args else changed
    return rebuilt[expr]


def _quotient(node: Expr, known: Curvatures) -> _Told:
    """A denominator that depends on the weights, or one whose sign is not known."""
    over, under = node.args
    if known.of(under) == "constant":
        return _scaled(under, over, known, "divides")
    mend = ""
    if known.of(over) == "constant" and known.of(under) in ("affine", "concave"):
        mend = f"where it is > 0, power({under}, -1) is convex"
    return f"it divides by '{under}', which depends on the weights", mend


def _power(node: Expr, known: Curvatures) -> _Told:
    """A power with two sides, or of an argument that bends the wrong way."""
    x, p = node.args[0], node.data
    shape, _ = known.nature(node)
    if shape != "opaque":
        return _composed(node, known)
    mend = f"write power(pos({x}), {p:g}), or power(abs({x}), {p:g})"
    if p % 2 == 1:
        return f"a power {p:g} is convex for x >= 0 and concave for x <= 0, and '{x}' may have either sign", mend
    return f"a power {p:g} has values for x >= 0 only, and '{x}' may be negative", mend


def _opaque(node: Expr, known: Curvatures) -> _Told:
    mend = "one bound alone, by maximum or minimum, is convex or concave" if node.op == "clip" else ""
    if node.op in ("cardinality", "least_used"):
        mend = "it stands alone in a constraint, made by cardinality(w, at_most=...) or used(w, at_least=...)"
    if node.op == "opaque":
        return f"{node.data.name} is opaque: it has values and no derivative", TAKERS
    return f"{node.op} is neither convex nor concave", mend


def _composed(node: Expr, known: Curvatures) -> _Told:
    """An argument that bends against the operation."""
    shape, marks = known.nature(node)
    wanted = {"+": shape, "-": "concave" if shape == "convex" else "convex", "0": "affine"}
    for arg, mark in zip(node.args, marks, strict=True):
        bend = known.of(arg)
        if bend in ("constant", "affine", wanted[mark]):
            continue
        if mark == "0" and (node.op == "power" or "sign" in OPS[node.op].monotone):
            return f"{node.op} is {shape}, but '{arg}' may have either sign, so it must be affine, and is {bend}", ""
        moves = {"+": " and rising", "-": " and falling", "0": ""}[mark]
        return f"{node.op} is {shape}{moves} in '{arg}', which must be {wanted[mark]}, and is {bend}", _as_one(node)
    return f"{node.op} bends its arguments in ways that the rules do not cover", ""


def _as_one(node: Expr) -> str:
    """The convex atom that a concave function of a convex one is as a whole, where there is one."""
    (inside, *_), op = node.args, node.op
    if op == "log" and inside.op in ("sum", "mean") and inside.args[0].op == "exp":
        x = inside.args[0].args[0]
        return f"the whole is convex as logsumexp({x}){'' if inside.op == 'sum' or not x.shape else f' - {math.log(len(x)):.6g}'}"
    if op in ("sqrt", "power") and inside.op == "sum_squares":
        return f"the whole is convex as norm({inside.args[0]})" if op == "sqrt" or node.data == 0.5 else ""
    if op == "sqrt" and inside.op == "quad_form":
        return f"the whole is convex as norm(L.T @ {inside.args[0]}), where L @ L.T is the matrix"
    return ""
