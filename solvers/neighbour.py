"""Programs as cvxpy problems of their own, for what cvxpy and its other solvers and tools can do with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mixopt.compiler.binding import bind_given
from mixopt.compiler.classify import classify
from mixopt.compiler.rewrites import rewritten
from mixopt.errors import RefusalError
from mixopt.forms import Program, kind
from mixopt.language.problem import Problem, problem_in
from mixopt.method import Method

from .conic import conic_table
from .conic_program import ConicProgram

if TYPE_CHECKING:
    import cvxpy


def to_cvxpy(problem: Problem | Method, given: Mapping[str, Any] | None = None) -> cvxpy.Problem:
    """A program as a ``cvxpy.Problem`` in the problem's own sense, with the names that it has here.

    ``found.var_dict["w"]`` is the mixture's variable. The first constraints are those of ``subject_to``, in their order and each with
    its name as ``label``; then comes what the symbols promise: weights that sum to one, bounds of variables. ``given`` holds the
    numbers of the parameters; without it they are ``cvxpy.Parameter`` of the same names, in ``found.param_dict``. Whether the problem
    is convex is cvxpy's word then: ``found.is_dcp()``. A constraint is left - right <= 0, whose multiplier has the sign of our duals.

    >>> import mixopt as mx
    >>> w = mx.Mixture(["web", "code"])
    >>> found = mx.to_cvxpy(mx.minimize(mx.sum_squares(w), over=w, subject_to=[(w["web"] <= 0.4).named("web cap")]))
    >>> value = found.solve(solver="CLARABEL")
    >>> found.var_dict["w"].value.round(3).tolist(), found.constraints[0].label, round(float(found.constraints[0].dual_value), 3)
    ([0.4, 0.6], 'web cap', 0.4)

    Raises:
        RefusalError: a saddle or a bilevel problem, which cvxpy cannot say.
        ProblemError: the problem is none of the three forms, or counts the domains that it uses.
        InputError: given numbers that do not fit.
    """
    import cvxpy as cp

    form = classify(rewritten(problem_in(problem)).problem)
    if not isinstance(form, Program):
        raise RefusalError(f"cvxpy takes programs, and this is a {kind(form)}: its losses are known only by training a model")
    numbers = None if given is None else bind_given(form, given)[0]
    program = ConicProgram(form, conic_table(), numbers)
    for relation, limit in zip(form.constraints, program.limits, strict=True):
        limit.set_label(relation.label)
    sense = cp.Maximize(-program.objective) if form.maximised else cp.Minimize(program.objective)
    return cp.Problem(sense, program.problem.constraints)
