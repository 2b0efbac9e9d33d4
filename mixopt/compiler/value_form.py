"""The value-function form of a bilevel problem: the model is free, and a gap to the trained one takes the place of the lower level."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

from mixopt.forms import Bilevel
from mixopt.language.expression import Expr, Relation, constant
from mixopt.language.problem import Problem
from mixopt.language.symbols import parameter

GAP = "value gap"


@final
@dataclass(frozen=True)
class ValueForm:
    """min over w and theta of upper(theta, w) subject to lower(theta, w) - min over theta of lower(theta, w) <= 0.

    The same problem as the bilevel one: the gap is never negative, and where it is 0 theta is a trained model. ``penalised``
    has ``penalty`` times the gap in the objective instead; its answer tends to the bilevel one as the penalty grows. The way back
    needs nothing: w and theta are the user's own. ``trained`` is the argmin, at which lower has its least value.

    Source: Ye and Zhu 1995 (value function); Kwon et al. 2023, arXiv 2301.10945 (penalised, F2SA).
    """

    mixture: Expr
    theta: Expr
    trained: Expr
    upper: Expr
    lower: Expr
    least: Expr
    penalty: Expr
    constraints: tuple[Relation, ...] = ()

    @property
    def gap(self) -> Expr:
        """lower(theta, w) - min over theta of lower(theta, w), which is >= 0."""
        return self.lower - self.least

    @property
    def constrained(self) -> Problem:
        """The form with the gap as a constraint."""
        return Problem("minimize", self.upper, (self.mixture, self.theta), (*self.constraints, (self.gap <= 0).named(GAP)))

    @property
    def penalised(self) -> Problem:
        """The form with the gap as a penalty."""
        return Problem("minimize", self.upper + self.penalty * self.gap, (self.mixture, self.theta), self.constraints)

    def __str__(self) -> str:
        return f"{self.constrained}\npenalised\n{self.penalised}"

    def latex(self) -> str:
        """Both statements as LaTeX for display mathematics, the constrained one first."""
        return f"\\begin{{gathered}}\n{self.constrained.latex()} \\\\\n{self.penalised.latex()}\n\\end{{gathered}}"

    def _repr_latex_(self) -> str:
        return f"$$\n{self.latex()}\n$$"


def value_form(form: Bilevel, penalty: float | None = None) -> ValueForm:
    """The value-function form of a bilevel problem, with a number as the penalty or, without one, the parameter lambda."""
    weight = parameter(_free("lambda", form), nonneg=True) if penalty is None else constant(penalty)
    upper, least = _moved(form.upper, form.trained, form.theta), _moved(form.lower, form.theta, form.trained)
    return ValueForm(form.mixture, form.theta, form.trained, upper, form.lower, least, weight, form.constraints)


def _moved(expr: Expr, old: Expr, new: Expr) -> Expr:
    """The expression with one model in the place of another."""
    rebuilt: dict[Expr, Expr] = {old: new}
    for node in expr.walk():
        args = tuple(rebuilt[a] for a in node.args)
        rebuilt.setdefault(node, node if args == node.args else replace(node, args=args))
    return rebuilt[expr]


def _free(name: str, form: Bilevel) -> str:
    """The name, with primes where the form has a symbol of that name."""
    taken = {str(n) for e in (form.upper, form.lower) for n in e.walk() if not n.args}
    while name in taken:
        name += "'"
    return name
