"""Problems: minimize, maximize and argmin, nested as the mathematics nests them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mixopt.errors import ProblemError, listed

from .expression import Expr, Operand, Relation, number, shown
from .latex import latex
from .symbols import MODELS

DECISIONS = ("mixture", "stages", "variable", "model")


@dataclass(frozen=True)
class Problem:
    """An objective to be minimised or maximised over symbols, subject to relations; the objective may be a problem."""

    sense: str
    objective: Expr | Problem
    over: tuple[Expr, ...]
    subject_to: tuple[Relation, ...] = ()

    def __str__(self) -> str:
        head = f"{self.sense} over {', '.join(map(_decided, self.over))}"
        if isinstance(self.objective, Problem):
            body = "\n".join("  " + line for line in str(self.objective).splitlines())
        else:
            body = f"  {self.objective}"
        lower = [f"  where {s} = argmin over {s.data[0]} of {s.data[1]}" for s in _lower_levels(self)]
        limits = [f"  {'subject to' if i == 0 else '          '} {_relation(r)}" for i, r in enumerate(self.subject_to)]
        return "\n".join([head, body, *lower, *limits])

    def latex(self) -> str:
        """The problem as LaTeX for display mathematics: heads, lower level, constraints, and the sizes of its constants by letters."""
        return latex(self)

    def _repr_latex_(self) -> str:
        return f"$$\n{latex(self)}\n$$"


def problem_in(given: Any) -> Any:
    """The problem that a method, a plan or a result is of; anything else comes back as it is."""
    return getattr(given, "problem", given)


def minimize(objective: Operand | Problem, *, over: Expr | tuple[Expr, ...], subject_to: Iterable[Relation] = ()) -> Problem:
    """The problem of making a scalar as small as it gets over mixtures, auxiliary variables or models.

    Raises:
        ProblemError: a vector objective, an ``over`` that is no symbol, or a constraint that is no relation.
    """
    return _problem("minimize", objective, over, subject_to)


def maximize(objective: Operand | Problem, *, over: Expr | tuple[Expr, ...], subject_to: Iterable[Relation] = ()) -> Problem:
    """The problem of making a scalar as large as it gets over mixtures or models; raises as ``minimize`` does."""
    return _problem("maximize", objective, over, subject_to)


def argmin(objective: Operand, *, over: Expr) -> Expr:
    """The model at which a scalar is least: the stationary point that the learner reaches from its start.

    The result is a model symbol, whose losses are written like any other's: ``losses(argmin(...), domains, name="val")``.
    """
    (theta,) = _symbols(over, "argmin")
    if theta.op != "model":
        raise ProblemError(f"argmin is over a model, but '{theta}' is a {theta.op}; write argmin(..., over=model())")
    inner = _scalar(objective, "argmin")
    if isinstance(inner, Problem):
        raise ProblemError(
            "the objective of argmin is a problem; a lower level is one expression, and constraints on weights go to the problem above"
        )
    if theta not in set(inner.walk()):
        raise ProblemError(f"'{inner}' does not depend on '{theta}', so its argmin is every model")
    nested = next((n for n in inner.walk() if n.op == "argmin"), None)
    if nested is not None:
        raise ProblemError(f"'{nested}' is itself an argmin; two levels are what bilevel problems have")
    return Expr("argmin", (), None, None, (theta, inner))


def _problem(sense: str, objective: Operand | Problem, over: Expr | tuple[Expr, ...], subject_to: Iterable[Relation]) -> Problem:
    return Problem(sense, _scalar(objective, sense), _symbols(over, sense), _relations(subject_to))


def _scalar(objective: Operand | Problem, where: str) -> Expr | Problem:
    if isinstance(objective, Problem):
        return objective
    expr = number(objective, where)
    if expr.shape != ():
        raise ProblemError(
            f"the objective {shown(expr)} is a vector, and {where} needs one number; fold it: "
            "mean(...) for the average, max(...) for the worst, or weights @ (...)"
        )
    return expr


def _symbols(over: Expr | tuple[Expr, ...], where: str) -> tuple[Expr, ...]:
    symbols = over if isinstance(over, tuple) else (over,)
    for symbol in symbols:
        if not isinstance(symbol, Expr) or symbol.op not in DECISIONS:
            what = f"'{symbol}', which is an expression" if isinstance(symbol, Expr) else f"{symbol!r}"
            raise ProblemError(f"{where} is over a symbol that Mixture(domains), variable(name) or model() made, not over {what}")
    if len(set(symbols)) < len(symbols) or not symbols:
        raise ProblemError(f"{where} is over {listed(symbols)}; name each symbol once")
    names = [str(s) for s in symbols]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ProblemError(f"{where} is over two different symbols named {listed(twice)}; give one of them another name")
    return symbols


def _relations(subject_to: Iterable[Relation]) -> tuple[Relation, ...]:
    if isinstance(subject_to, Relation):
        subject_to = [subject_to]
    if not isinstance(subject_to, Iterable):
        raise ProblemError(f"subject_to is a list of relations, not {subject_to!r}; leave it out where there are none")
    relations = tuple(subject_to)
    for relation in relations:
        if isinstance(relation, bool):
            raise ProblemError("a constraint is True or False: == compares expressions as trees; write equal(a, b), <= or >=")
        if not isinstance(relation, Relation):
            raise ProblemError(f"{relation!r} is no relation; constraints are written a <= b, a >= b or equal(a, b)")
    labels = [r.label for r in relations]
    twice = sorted(label for label, times in Counter(labels).items() if times > 1)
    if twice:
        raise ProblemError(f"constraints must differ in name, but {listed(twice)} occurs more than once; use .named(...)")
    return relations


def _lower_levels(problem: Problem) -> list[Expr]:
    """The trained models of the objective and the constraints, those of an inner problem left to it."""
    inside = [] if isinstance(problem.objective, Problem) else [problem.objective]
    sides = (side for r in problem.subject_to for side in (r.left, r.right))
    return list(dict.fromkeys(n for e in (*inside, *sides) for n in e.walk() if n.op == MODELS[1]))


def _decided(symbol: Expr) -> str:
    """A symbol with its stages or its bounds."""
    if symbol.op == "stages":
        return f"{symbol} ({len(symbol)} stages)"
    if symbol.op != "variable":
        return str(symbol)
    lower, upper = (_bound(bound) for bound in symbol.data[1:])
    return (
        f"{lower} <= {symbol} <= {upper}" if lower and upper else f"{symbol} >= {lower}" if lower else f"{symbol}{upper and ' <= '}{upper}"
    )


def _bound(values: tuple[float, ...]) -> str:
    if not any(map(math.isfinite, values)):
        return ""
    return f"{values[0]:.6g}" if len(set(values)) == 1 else f"<{len(values)} numbers>"


def _relation(relation: Relation) -> str:
    return f"{relation}   ({relation.name})" if relation.name else str(relation)
