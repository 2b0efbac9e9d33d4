"""What a constraint on inner weights becomes in the dual of the inner problem: a price, what it takes off the costs, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from mixopt.language import atoms
from mixopt.language.curvature import sign
from mixopt.language.expression import Expr, Relation, constant
from mixopt.language.symbols import variable

from .linear import NotLinearError, at_zero, coefficients, holds

Name = Callable[[str], str]

BALL = (
    "it is linear, or a ball: norm(e) <= r, sum_squares(e) <= r with e linear in them, or kl(z, q) <= r, "
    "with r >= 0 a number or a parameter with nonneg=True"
)


@final
@dataclass(frozen=True)
class Dual:
    """max of z @ f over the constraint alone is, by duality, the least over ``unknowns`` of z @ (f - pull) + paid, under ``limits``.

    ``price`` is the constraint's own multiplier: by how much the maximum grows with its right side.
    """

    price: Expr
    pull: Expr
    paid: Expr | None
    unknowns: tuple[Expr, ...]
    limits: tuple[Relation, ...] = ()


def dual(relation: Relation, z: Expr, name: Name) -> Dual:
    """The dual of one constraint on the weights z [m]; ``name`` finds a name that is free.

    Source: Rockafellar 1970, Convex Analysis, Theorem 16.4 (support functions of intersections); the ball of relative entropy as in
    Hu and Hong 2013, Theorem 1, its scaled exponential by the cone of relative entropy.

    Raises:
        NotLinearError: the constraint is neither linear in z nor a ball.
    """
    ball = _ball(relation, z)
    if ball is None:
        return _linear(relation.gap, z, name, relation.sense)
    core, bound, factor = ball
    radius = bound if factor == 1 else bound / factor
    found = _entropic(core, radius, z, name) if core.op == "kl" else _normed(core, radius, z, name)
    return found if factor == 1 else replace(found, price=found.price / factor)


def _linear(gap: Expr, z: Expr, name: Name, sense: str) -> Dual:
    """p @ (g + G z) with a price p, >= 0 for an inequality."""
    price = variable(name("p"), None if gap.shape == () else len(gap), nonneg=sense != "==")
    pull, rest = coefficients(gap, z, price), at_zero(gap, z)
    return Dual(price, pull, None if rest is None else -_times(price, rest), (price,))


def _times(price: Expr, rest: Expr) -> Expr:
    if not price.shape:
        return price * rest
    return price @ (rest if rest.shape else rest + np.zeros(len(price)))


def _ball(relation: Relation, z: Expr) -> tuple[Expr, Expr, float] | None:
    """The norm, sum of squares or divergence of a constraint, its bound, never negative, and the factor on it."""
    low, high = (relation.left, relation.right) if relation.sense == "<=" else (relation.right, relation.left)
    if relation.sense == "==" or holds(high, z):
        return None
    factor = 1.0
    while low.op in ("multiply", "divide"):
        by, low_, turned = (low.args[1], low.args[0], True) if low.op == "divide" else (*_number_first(low), False)
        if by.op != "constant" or by.shape or not by.data.value > 0:
            return None
        factor, low = factor / float(by.data.value) if turned else factor * float(by.data.value), low_
    known = low.op in ("norm", "sum_squares") or (low.op == "kl" and low.args[0] == z and not holds(low.args[1], z))
    positive = sign(high) == "+" or (high.op == "constant" and bool(np.all(high.data.value >= 0)))
    return (low, high, factor) if known and positive else None


def _number_first(product: Expr) -> tuple[Expr, Expr]:
    left, right = product.args
    return (left, right) if left.op == "constant" else (right, left)


def _normed(core: Expr, radius: Expr, z: Expr, name: Name) -> Dual:
    """||e(z)|| <= r: y @ e(z) is at most r times the dual norm of y, for any y."""
    p = core.data if core.op == "norm" else 2.0
    far = atoms.sqrt(radius) if core.op == "sum_squares" else radius
    y = variable(name("p"), len(core.args[0]))
    size = atoms.norm(y, 1.0 if math.isinf(p) else math.inf if p == 1 else p / (p - 1))
    linear = _linear(core.args[0], z, lambda _: str(y), "==")
    paid = far * size if linear.paid is None else far * size + linear.paid
    return Dual(size / (2 * far) if core.op == "sum_squares" else size, linear.pull, paid, (y,))


def _entropic(core: Expr, radius: Expr, z: Expr, name: Name) -> Dual:
    """kl(z, q) <= r: z @ d is at most t r + sum_i t q_i exp(d_i / t - 1), for any d and t >= 0."""
    q = core.args[1]
    t, d, s = variable(name("temperature"), nonneg=True), variable(name("p"), len(z)), variable(name("s"), len(z), nonneg=True)
    cone = (atoms.rel_entropy(t * q, s) + q * d <= t * q).named(f"exponentials of {d}")
    return Dual(t, d, t * radius + atoms.sum(s), (t, d, s), (cone,))


def taken(relation: Relation, z: Expr) -> str:
    """Why a constraint on z has no dual here; empty where it has."""
    try:
        if _ball(relation, z) is None:
            coefficients(relation.gap, z, constant(np.ones(len(relation.gap))) if relation.gap.shape else None)
        else:
            dual(relation, z, lambda name: name)
    except NotLinearError:
        return f"the constraint '{relation.label}' is not linear in '{z}', and no ball; {BALL}"
    return ""
