"""Constraints as solvers like them: a ratio multiplied out, an exponential taken off, and tokens counted in a unit of their own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from mixopt.language.curvature import depends_on_mixture, sign
from mixopt.language.expression import Expr, Relation, constant
from mixopt.language.ops import UNKNOWNS
from mixopt.language.problem import Problem

from .recover import Duals, Evaluate, Recover, Rewritten

LARGE = 1e6
"""Numbers of a constraint from here on, or below one over it, get a unit of their own: interior-point methods see about ten digits."""

TINY = 1e-300

EACH = ("add", "subtract", "negate", "sum", "mean", "take", "stack", "pos", "abs", "max", "min", "maximum", "minimum", "norm")
"""Operations that grow with all of their arguments together: f(s x) = s f(x) for s > 0."""


@final
@dataclass(frozen=True)
class Priced(Recover):
    """A constraint multiplied by ``under`` and divided by ``unit``: its multipliers are those of what took its place times under / unit."""

    label: str
    unit: float = 1.0
    under: Expr | None = None

    def duals(self, duals: Duals, evaluate: Evaluate) -> Duals:
        if self.label not in duals:
            return duals
        factor = (1.0 if self.under is None else np.asarray(evaluate(self.under), dtype=float)) / self.unit
        found = duals[self.label]
        if not isinstance(found, dict):
            return {**duals, self.label: found * float(factor)}
        many = np.broadcast_to(factor, len(found))
        return {**duals, self.label: {name: value * float(by) for (name, value), by in zip(found.items(), many, strict=True)}}

    def slack(self, slack: Mapping[str, float]) -> Mapping[str, float]:
        by = self.unit if self.under is None else math.nan
        return {name: value * by if name == self.label else value for name, value in slack.items()}


def plain_limits(problem: Problem) -> Rewritten:
    """The problem with its constraints on the weights multiplied out and in units of their own, names kept, and the way back for duals."""
    inside = problem.objective
    if isinstance(inside, Problem) and any(s.op == "model" for s in problem.over):  # a saddle's constraints stand on its inner level
        found = plain_limits(inside)
        return replace(found, problem=problem if found.problem is inside else replace(problem, objective=found.problem))
    relations, steps, recover = [], [], []
    for relation in problem.subject_to:
        cleared, under = _cleared(relation)
        changed, unit = _measured(cleared)
        if changed is relation:
            relations.append(relation)
            continue
        relations.append(changed.named(relation.label))
        recover.append(Priced(relation.label, unit, under))
        if under is not None:
            times, where = (f" times '{under}'", " where that is > 0") if depends_on_mixture(under) else ("", "")
            steps.append(f"'{relation.label}'{times} -> '{cleared}' (exact{where})")
        if unit != 1:
            steps.append(f"'{relation.label}' in units of {unit:.0e}, its dual back in yours (exact)")
    if not recover:
        return Rewritten(problem)
    return Rewritten(replace(problem, subject_to=tuple(relations)), tuple(steps), tuple(recover))


def _cleared(relation: Relation) -> tuple[Relation, Expr | None]:
    """x / y <= c as x <= c y, with y, which is never negative; exp(x) >= c as x >= log c, with 1 / c; c is fixed, x and y move."""
    left, right = relation.left, relation.right
    for ratio, bound, first in ((left, right, True), (right, left, False)):
        above = ratio.op == "exp" and bound.op == "constant" and relation.sense == (">=" if first else "<=")
        if above and bool((bound.data.value > 0).all()):
            x, least = ratio.args[0], constant(np.log(bound.data.value), bound.index)
            flat = Relation(x, ">=", least) if first else Relation(least, "<=", x)
            return flat, constant(1 / bound.data.value)
        if ratio.op != "divide" or depends_on_mixture(bound):
            continue
        over, under = ratio.args
        if depends_on_mixture(under) and sign(under) == "+":
            pair = (over, bound * under) if first else (bound * under, over)
            return Relation(pair[0], relation.sense, pair[1]), under
    return relation, None


def _measured(relation: Relation) -> tuple[Relation, float]:
    """The relation divided by a power of ten where its numbers are very large or small, and that power."""
    size = _size(relation)
    if not size or 1 / LARGE < size < LARGE or not math.isfinite(size):
        return relation, 1.0
    unit = 10.0 ** round(math.log10(size))
    return replace(relation, left=_divided(relation.left, unit), right=_divided(relation.right, unit)), unit


def _size(relation: Relation) -> float:
    """About the largest factor of an unknown; where that is a parameter's to say, the least of the numbers, if they are all large."""
    nodes = [*relation.left.walk(), *relation.right.walk()]
    if not any(node.op == "parameter" for node in nodes):
        return max(_factor(relation.left), _factor(relation.right))
    return max(min((float(np.abs(node.data.value).min(initial=np.inf)) for node in nodes if node.op == "constant"), default=1.0), 1.0)


def _factor(expr: Expr) -> float:
    """About the largest factor of an unknown in an expression, with parameters about 1; what stands apart from them does not count."""
    sizes: dict[Expr, float] = {}
    live: set[Expr] = set()
    for node in expr.walk():
        inside = [a for a in node.args if a in live]
        live |= {node} if inside or node.op in UNKNOWNS else set()
        if node.op == "constant":
            sizes[node] = float(np.abs(node.data.value).max(initial=0.0))
        elif node.op in ("multiply", "matmul"):
            sizes[node] = sizes[node.args[0]] * sizes[node.args[1]]
        elif node.op == "divide":
            over, under = node.args
            sizes[node] = sizes[over] / max(float(np.abs(under.data.value).min()) if under.op == "constant" else 1.0, TINY)
        else:
            sizes[node] = max((sizes[a] for a in inside or node.args), default=1.0) if node.op in EACH else 1.0
    return sizes[expr] if expr in live else 0.0


def _divided(expr: Expr, unit: float) -> Expr:
    """The expression divided by a number, as deep inside as it goes, so that no part of it stays large."""
    whole, found = {expr}, dict[Expr, Expr]()
    order = list(expr.walk())
    for node in reversed(order):
        whole |= set(_shared(node)) if node in whole else set()
    for node in order:
        if node not in whole:
            continue
        if node.op == "constant":
            found[node] = constant(node.data.value / unit, node.index)
        elif _shared(node):
            found[node] = replace(node, args=tuple(found[a] if a in _shared(node) else a for a in node.args))
        else:
            found[node] = node / unit
    return found[expr]


def _shared(node: Expr) -> tuple[Expr, ...]:
    """The arguments that are divided where the whole is."""
    if node.op in EACH:
        return node.args
    if node.op in ("multiply", "matmul"):
        return (min(node.args, key=lambda a: (a.op != "constant", not depends_on_mixture(a))),) if node.args[0] != node.args[1] else ()
    return node.args[:1] if node.op == "divide" else ()
