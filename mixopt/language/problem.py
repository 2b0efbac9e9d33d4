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
from .ops import TRAINED

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
        lower = [f"  where {s} = {_lower(s)}" for s in _lower_levels(self)]
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
    return Expr("argmin", (), None, None, _lower_level(objective, over, "argmin"))


def trained(objective: Operand, *, over: Expr, steps: int) -> Expr:
    """The model after ``steps`` training steps on a scalar, from the learner's start with the learner's optimizer.

    Another problem than the argmin's: weights that are best for K steps also choose what is learned fast. It is a model symbol too,
    ``losses(trained(...), domains, name="val")``; ``Unrolled`` differentiates its outcome exactly.

    >>> from mixopt.language.symbols import Mixture, loss, losses, model
    >>> w, theta = Mixture(["web", "code"]), model()
    >>> print(minimize(loss(trained(w @ losses(theta, ["web", "code"]), over=theta, steps=100), "val"), over=w))
    minimize over w
      loss(theta_100, 'val')
      where theta_100 = 100 training steps of theta on w @ losses(theta, 'train')

    Raises:
        ProblemError: steps that are no whole number >= 1, and what ``argmin`` refuses.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ProblemError(f"trained(...) is given steps={steps!r}; it is a whole number >= 1")
    return Expr("trained", (), None, None, (*_lower_level(objective, over, "trained"), steps))


def _lower_level(objective: Operand, over: Expr, where: str) -> tuple[Expr, Expr]:
    """The model and the objective of a lower level."""
    (theta,) = _symbols(over, where)
    if theta.op != "model":
        raise ProblemError(f"{where} is over a model, but '{theta}' is a {theta.op}; write {where}(..., over=model())")
    inner = _scalar(objective, where)
    if isinstance(inner, Problem):
        raise ProblemError(
            f"the objective of {where} is a problem; a lower level is one expression, and constraints on weights go to the problem above"
        )
    if theta not in set(inner.walk()):
        many = "its argmin is every model" if where == "argmin" else "nothing trains it"
        raise ProblemError(f"'{inner}' does not depend on '{theta}', so {many}")
    nested = next((n for n in inner.walk() if n.op in TRAINED), None)
    if nested is not None:
        what = "an argmin" if nested.op == "argmin" else "the outcome of a lower level"
        raise ProblemError(f"'{nested}' is itself {what}; two levels are what bilevel problems have")
    return theta, inner


def _lower(symbol: Expr) -> str:
    """What a trained model is, in words."""
    theta, inner, *steps = symbol.data
    return (
        f"argmin over {theta} of {inner}" if not steps else f"{steps[0]} training step{'s' if steps[0] > 1 else ''} of {theta} on {inner}"
    )


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
    return list(dict.fromkeys(n for e in (*inside, *sides) for n in e.walk() if n.op in TRAINED))


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
