"""Forms: the three kinds of problem as plain data, and what a learner can do for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from mixopt.errors import listed
from mixopt.language.curvature import curvature, smooth
from mixopt.language.expression import Expr, Relation
from mixopt.language.problem import Problem


@dataclass(frozen=True)
class Program:
    """min over w of f(w): no model is trained (Eq. 3 of the survey, once its laws are fitted).

    ``objective`` is to be minimised; ``maximised`` says that the user's objective is its negative. ``mixture`` is the first
    mixture of the problem; ``others`` are its further unknowns: mixtures (the later stages of one among them) and variables.
    """

    mixture: Expr
    objective: Expr
    constraints: tuple[Relation, ...] = ()
    maximised: bool = False
    others: tuple[Expr, ...] = ()

    @cached_property
    def convex(self) -> bool:
        """Whether the rules prove objective and constraints convex."""
        bends = [(curvature(r.gap), r.sense) for r in self.constraints]
        limits = all(bend == "affine" or (bend == "convex" and sense != "==") for bend, sense in bends)
        return limits and curvature(self.objective) in ("affine", "convex")

    @cached_property
    def kink(self) -> Expr | None:
        """The first node of objective and constraints with a kink, or None where all are differentiable."""
        return next((k for k in map(smooth, (self.objective, *(r.gap for r in self.constraints))) if k is not None), None)


@dataclass(frozen=True)
class Saddle:
    """min over theta of max over w of a payoff (Eq. 1 of the survey); constraints on w belong to the inner problem.

    The weights ascend ``payoff``, the model descends ``descent``; the two differ only where a surrogate is written.
    """

    mixture: Expr
    theta: Expr
    payoff: Expr
    descent: Expr
    constraints: tuple[Relation, ...] = ()
    maximised: bool = False


@dataclass(frozen=True)
class Bilevel:
    """min over w of upper(theta*(w), w), theta*(w) the argmin of lower(theta, w) (Eq. 2 of the survey).

    ``trained`` is the argmin as a symbol; ``upper`` is written in it, ``lower`` in ``theta``. With ``steps`` it is no argmin but what
    so many training steps reach.
    """

    mixture: Expr
    theta: Expr
    trained: Expr
    upper: Expr
    lower: Expr
    constraints: tuple[Relation, ...] = ()
    maximised: bool = False
    steps: int | None = None


Form = Program | Saddle | Bilevel


@dataclass(frozen=True)
class Provided:
    """One loss that a learner provides: the names of its entries (None: the problem's order), its length, and if token by token."""

    names: tuple[str, ...] | None
    size: int | None
    tokens: bool = False


@dataclass(frozen=True)
class Abilities:
    """What a learner can do; as much a reason to refuse as the form.

    ``sampling`` is how the batches of training steps are drawn: "uniform" over the domains, by the "weights", or by "shares" of the
    learner's own; the losses ``sampled`` can be drawn otherwise than uniformly. ``fused`` says that the losses as they train have no
    second derivatives, for which ``double_backward`` takes another kernel. ``repeated`` has pairs of losses that are measured on the
    same tokens, with the domains that they share.
    """

    provides: Mapping[str, Provided] = field(default_factory=dict)
    exact: bool = True
    double_backward: bool = True
    gauss_newton: bool = False
    sampling: str = "uniform"
    sampled: tuple[str, ...] = ()
    fused: bool = False
    repeated: tuple[tuple[str, str, tuple[str, ...]], ...] = ()


def kind(form: Form) -> str:
    """The form in words: "program", "saddle" or "bilevel problem"."""
    return "bilevel problem" if isinstance(form, Bilevel) else type(form).__name__.lower()


def unknowns(form: Form) -> tuple[Expr, ...]:
    """The symbols whose values a form asks for, models left out: mixtures and auxiliary variables."""
    return (form.mixture, *form.others) if isinstance(form, Program) else (form.mixture,)


def one_mixture(form: Form) -> tuple[str, ...]:
    """Why a solver of one mixture alone refuses this form; empty where it has no other unknown."""
    others = unknowns(form)[1:]
    if not others:
        return ()
    return (f"it moves one mixture, and this problem also has the unknowns {listed(others)}; Conic takes them where it is convex",)


def stated(form: Form) -> Problem:
    """The form as a problem again, to be shown: minimised, its rewrites done, and of a surrogate the view that the weights see."""
    if isinstance(form, Program):
        return Problem("minimize", form.objective, unknowns(form), form.constraints)
    if isinstance(form, Saddle):
        return Problem("minimize", Problem("maximize", form.payoff, (form.mixture,), form.constraints), (form.theta,))
    return Problem("minimize", form.upper, (form.mixture,), form.constraints)


def expressions(form: Form) -> tuple[Expr, ...]:
    """The expressions of a form, constraints left out."""
    if isinstance(form, Program):
        return (form.objective,)
    return (form.payoff, form.descent) if isinstance(form, Saddle) else (form.upper, form.lower)


def measurements(form: Form) -> tuple[Expr, ...]:
    """The losses and token losses that a form asks of a learner."""
    found = {n: None for e in expressions(form) for n in e.walk() if n.op in ("losses", "loss", "tokens")}
    return tuple(found)


def sides(form: Form) -> tuple[Expr, ...]:
    """Both sides of every constraint."""
    return tuple(side for r in form.constraints for side in (r.left, r.right))


def parameters(form: Form) -> tuple[Expr, ...]:
    """The parameters whose numbers are given at each run."""
    found = {n: None for e in (*expressions(form), *sides(form)) for n in e.walk() if n.op == "parameter"}
    return tuple(found)


def given_models(form: Form) -> tuple[Expr, ...]:
    """The models that the form does not train; their parameters are given at each run."""
    own = () if isinstance(form, Program) else (form.theta,)
    found = {n: None for e in expressions(form) for n in e.walk() if n.op == "model" and n not in own}
    return tuple(found)
