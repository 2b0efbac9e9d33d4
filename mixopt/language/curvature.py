"""Curvature and sign of expressions in the mixtures, by the composition rules of disciplined convex programming."""

from __future__ import annotations

from typing import Literal

import numpy as np

from .expression import Expr
from .history import live
from .ops import HISTORY, OPS, UNKNOWNS

Curvature = Literal["constant", "affine", "convex", "concave", "unknown"]
SignOf = Literal["+", "-", "0", "any"]


def curvature(expr: Expr) -> Curvature:
    """Curvature in the weights and variables: "constant", "affine", "convex", "concave" or "unknown".

    Everything else (parameters, losses of a fixed model, history) counts as constant. The rules are sufficient, not necessary:
    "convex" is a proof, "unknown" only says that the rules found none; ``culprit`` says where and why.

    Source: Grant, Boyd and Ye 2006, Disciplined convex programming.

    >>> import mixopt as mx
    >>> w = mx.Mixture(["web", "code"])
    >>> mx.curvature(mx.parameter("rate", nonneg=True) * mx.kl(w, [0.5, 0.5])), mx.curvature(mx.sqrt(w))
    ('convex', 'concave')
    """
    return Curvatures(expr).of(expr)


def sign(expr: Expr) -> SignOf:
    """Sign of every entry, where the rules can tell it: "+" is >= 0, "-" is <= 0, "0" is 0, and "any" is not known.

    >>> import mixopt as mx
    >>> w = mx.Mixture(["web", "code"])
    >>> mx.sign(w), mx.sign(-mx.exp(w)), mx.sign(mx.log(w))
    ('+', '-', 'any')
    """
    return Curvatures(expr).sign(expr)


def smooth(expr: Expr) -> Expr | None:
    """The first node with a kink in the mixtures, or None where the expression is differentiable."""
    known = Curvatures(expr)
    return next((n for n in live(expr) if not OPS[n.op].smooth and any(known.of(a) != "constant" for a in n.args)), None)


def steep(expr: Expr) -> bool:
    """Whether a logarithm of the weights themselves stands in it, so that its slope has no bound at a weight of 0."""

    def weights(node: Expr) -> bool:
        return node.op == "mixture" or (node.op == "take" and weights(node.args[0]))

    return any(node.op in ("entropy", "kl", "rel_entropy", "log") and any(map(weights, node.args)) for node in expr.walk())


def depends_on_mixture(expr: Expr) -> bool:
    """Whether any mixture, or auxiliary variable, occurs in the expression."""
    return any(node.op in UNKNOWNS for node in expr.walk())


class Curvatures:
    """The rules applied to every node of an expression, arguments first, so that deep trees need no deep recursion."""

    def __init__(self, expr: Expr) -> None:
        self._curvature: dict[Expr, Curvature] = {}
        self._sign: dict[Expr, SignOf] = {}
        for node in expr.walk():
            self._sign[node] = self._sign_rule(node)
            self._curvature[node] = self._curvature_rule(node)

    def of(self, node: Expr) -> Curvature:
        """Curvature of a node."""
        return self._curvature[node]

    def sign(self, node: Expr) -> SignOf:
        """Sign of a node."""
        return self._sign[node]

    def _curvature_rule(self, node: Expr) -> Curvature:
        if node.op in UNKNOWNS:
            return "affine"
        parts = [self._curvature[a] for a in node.args]
        if node.op in HISTORY or all(p == "constant" for p in parts):
            return "constant"
        if OPS[node.op].shape in ("product", "quotient"):
            return self._scaled(node)
        shape, marks = self.nature(node)
        results = []
        for own in ("convex", "concave"):
            if shape not in ("affine", own):
                continue
            if all(_composes(own, m, p) for m, p in zip(marks, parts, strict=True)):
                results.append(own)
        if len(results) == 2:
            return "affine" if all(p in ("constant", "affine") for p in parts) else "unknown"
        return results[0] if results else "unknown"  # type: ignore[return-value]

    def nature(self, node: Expr) -> tuple[str, tuple[str, ...]]:
        """The curvature of a node's operation where its arguments lie, and how it moves with each: "+", "-" or "0"."""
        op = OPS[node.op]
        if op.shape == "power":
            return _power(node.data, self._sign[node.args[0]])
        marks = op.monotone if len(op.monotone) == len(node.args) else op.monotone * len(node.args)
        return op.shape, tuple(self._marked(m, a) for m, a in zip(marks, node.args, strict=bool(marks)))

    def _marked(self, mark: str, arg: Expr) -> str:
        if mark != "sign":
            return mark
        return {"+": "+", "-": "-", "0": "+"}.get(self._sign[arg], "0")

    def _scaled(self, node: Expr) -> Curvature:
        left, right = node.args
        if self._curvature[right] == "constant":
            factor, body = right, left
        elif self._curvature[left] == "constant" and OPS[node.op].shape == "product":
            factor, body = left, right
        elif self._curvature[left] == "constant" and self._sign[right] == "+" and self._curvature[right] in ("affine", "concave"):
            return {"+": "convex", "-": "concave"}.get(self._sign[left], "unknown")  # type: ignore[return-value]
        else:
            return "unknown"
        inner, by = self._curvature[body], self._sign[factor]
        if inner == "affine" or (by == "0" and inner != "unknown"):  # nothing is proved of what is unknown, times 0 or not
            return "affine"
        if by == "+":
            return inner
        if by == "-":
            return {"convex": "concave", "concave": "convex"}.get(inner, "unknown")  # type: ignore[return-value]
        return "unknown"

    def _sign_rule(self, node: Expr) -> SignOf:
        if node.op == "constant":
            return _sign_of(node.data.value)
        if node.op == "parameter":
            return "+" if node.data[1] else "any"
        if node.op == "variable":
            return "+" if np.min(node.data[1]) >= 0 else "-" if np.max(node.data[2]) <= 0 else "any"
        rule, signs = OPS[node.op].sign, [self._sign[a] for a in node.args]
        if rule in ("+", "-"):
            return rule
        if not signs:
            return "any"
        if rule == "same":
            return signs[0]
        if rule == "power":
            return signs[0] if node.data > 1 and node.data % 2 == 1 else "+"
        if rule == "each":
            some = {s for s in signs if s != "0"}
            return some.pop() if len(some) == 1 else "any" if some else "0"
        if rule == "flip":
            return _flip(signs[0])
        if rule == "sum":
            first, second = signs[0], (_flip(signs[1]) if node.op == "subtract" else signs[1])
            return second if first == "0" else first if second in ("0", first) else "any"
        if rule == "product":
            if "0" in signs:
                return "0"
            return "any" if "any" in signs else "+" if signs[0] == signs[1] else "-"
        if rule in ("max", "min"):
            strong: SignOf = "+" if rule == "max" else "-"
            if strong in signs:
                return strong
            return "any" if "any" in signs else signs[0] if signs[0] == signs[1] else ("0")
        return "any"


def _composes(own: str, mark: str, part: Curvature) -> bool:
    if part in ("constant", "affine"):
        return True
    if part == "unknown" or mark == "0":
        return False
    return (part == own) if mark == "+" else (part != own)


def _power(exponent: float, of: SignOf) -> tuple[str, tuple[str]]:
    """Curvature and direction of x ** p where x has this sign; below zero only whole p > 1 have a value."""
    if exponent < 0:
        return "convex", ("-",)
    if exponent < 1:
        return "concave", ("+",)
    if exponent % 2 == 0:
        return "convex", ({"+": "+", "-": "-", "0": "+"}.get(of, "0"),)
    if of in ("+", "0"):
        return "convex", ("+",)
    return ("concave", ("+",)) if of == "-" and exponent % 2 == 1 else ("opaque", ("+",))


def _flip(value: SignOf) -> SignOf:
    return {"+": "-", "-": "+"}.get(value, value)  # type: ignore[return-value]


def _sign_of(values: np.ndarray) -> SignOf:
    if (values == 0).all():
        return "0"
    if (values >= 0).all():
        return "+"
    return "-" if (values <= 0).all() else "any"
