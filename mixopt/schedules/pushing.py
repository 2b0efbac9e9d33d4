"""``online``: a problem or a method as a schedule, inside the user's own training loop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from mixopt.compiler.classify import classify
from mixopt.compiler.rewrites import rewritten
from mixopt.errors import InputError, ProblemError, RefusalError, nearest
from mixopt.forms import Form, Program, Saddle, kind
from mixopt.language.domains import Domains
from mixopt.language.expression import Expr, Relation
from mixopt.language.problem import Problem, maximize, minimize
from mixopt.language.symbols import domains_of, surrogate
from mixopt.method import Method
from mixopt.rules import Rule, Scene
from mixopt.runtime.region import Region
from mixopt.solver import Solver
from mixopt.solvers import Balanced, DescentAscent, Online
from mixopt.solvers.constraints import refuses_region
from mixopt.starting import Start, started, stepping

from .schedule import Schedule, Settings
from .triggers import Every
from .triggers import every as every_


def online(
    problem: Problem | Method,
    solver: Solver | None = None,
    given: Mapping[str, Any] | None = None,
    *,
    every: int | Every | None = None,
    start: Start = None,
    warmup: int = 0,
    smoothing: float = 0.0,
    inertia: float = 0.0,
    subject_to: Iterable[Relation] = (),
    seed: int = 0,
) -> Schedule:
    """A saddle, or an online method, as a schedule that a training loop feeds: ``observe`` moves its ``weights``.

    What the payoff measures of models is what the loop observes, by name (``schedule.needs``), and so are parameters that ``given``
    has no number for; per-domain losses [k] are in nats per token. The weights move ``every`` so many steps (an int), or tokens or
    evaluations (``Every``), by what was measured since the last move; not before ``warmup`` steps. Without ``every`` it is as often as
    the solver says, or, where that is not at every step and by held-out losses alone, each time that those are seen. They begin at
    ``start``, uniform if none is given. ``smoothing`` mixes a share of the uniform mixture into the weights that are handed out,
    ``inertia`` keeps a share of the last ones; the problem's constraints, and those of ``subject_to``, hold in any case.

    Without a solver a saddle is played by ``DescentAscent``, whose settings say rate, geometry and smoothing.

    >>> import mixopt as mx
    >>> domains = mx.Domains(["web", "code"])
    >>> w, theta = mx.Mixture(domains), mx.model()
    >>> excess = mx.losses(theta, domains) - mx.parameter("reference", 2)
    >>> game = mx.minimize(mx.maximize(w @ excess, over=w), over=theta)
    >>> schedule = mx.online(game, mx.solvers.DescentAscent(rate=1.0), given={"reference": [2.0, 2.0]})
    >>> list(schedule.needs)
    ['train']
    >>> schedule.observe(train=[3.0, 2.0])
    True
    >>> {name: round(weight, 3) for name, weight in schedule.weights.items()}
    {'web': 0.731, 'code': 0.269}

    Raises:
        ProblemError: a problem that is no saddle: its answer is one mixture, which ``mx.solve`` finds.
        RefusalError: a solver that cannot be driven from outside, or constraints that its steps cannot respect.
        InputError: given numbers, a start, or settings that do not fit.

    Source: section 4 of the survey; the methods name their own.
    """
    if isinstance(problem, Method):
        solver, problem = solver or problem.solver, problem.problem
    form = classify(rewritten(problem).problem)
    if not isinstance(form, Saddle):
        raise ProblemError(f"a schedule is of a saddle or of an online method, and this is a {kind(form)}; {_instead(form)}")
    extra = tuple(subject_to)
    if extra:
        payoff = surrogate(form.payoff, gradient=form.descent)
        form = classify(minimize(maximize(payoff, over=form.mixture, subject_to=(*form.constraints, *extra)), over=form.theta))
        assert isinstance(form, Saddle)
    against = refuses_region(form.constraints)
    if against:
        raise RefusalError(f"the schedule cannot keep to these constraints: {'; '.join(against)}")
    domains = domains_of(form.mixture)
    numbers = _numbers(form, given or {})
    solver = solver or DescentAscent(average="last")
    rule, moves = _rule(form, solver, numbers, domains)
    region = stepping(form, Region.compile(form.mixture, form.constraints, numbers), numbers)
    if region.empty:
        raise ProblemError(f"no weights meet the constraints: {region.empty}")
    scene = Scene(domains, region, region.start(started(form, problem, start)), numbers, seed)
    settings = Settings(every_(every if every is not None else moves), warmup, smoothing, inertia)
    return Schedule(rule, scene, settings, f"{problem}\n{solver}")


def _numbers(form: Saddle, given: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The numbers given for the problem's parameters, as arrays; raises InputError for other names and shapes."""
    symbols = {n.data[0]: n for n in _symbols(form) if n.op == "parameter"}
    extra = [name for name in given if name not in symbols]
    if extra:
        raise InputError(f"given={{...}} has {extra[0]!r}, which the problem does not use{nearest(extra[0], symbols)}")
    return {name: _number(symbols[name], value) for name, value in given.items()}


def _rule(form: Saddle, solver: Solver, given: Mapping[str, np.ndarray], domains: Domains) -> tuple[Rule, Every]:
    """The rule of a solver, and when it moves by itself: where it moves now and then by held-out losses, each time that they are seen."""
    rule: Rule
    if isinstance(solver, Online):
        rule, moves = solver.rule, solver.every
    elif isinstance(solver, Balanced):
        from .balanced import balanced

        rule, moves = balanced(form, solver), 1
    else:
        from .pushed import pushed

        moves = solver.every if isinstance(solver, DescentAscent) else 1
        rule = pushed(form, solver, given)
    needs = [need.name for need in rule.needs(domains) if not need.optional]
    return rule, Every(steps=moves) if moves == 1 or not needs or "train" in needs else Every(seen=needs[0])


def _symbols(form: Saddle) -> tuple[Expr, ...]:
    sides = (side for r in form.constraints for side in (r.left, r.right))
    return tuple(dict.fromkeys(node for e in (form.payoff, *sides) for node in e.walk()))


def _number(symbol: Expr, value: Any) -> np.ndarray:
    """The number or numbers given for a parameter, as an array of its shape."""
    try:
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value, dtype=float)
    except (TypeError, ValueError):
        array = np.array(np.nan)
    if array.shape != symbol.shape or not np.isfinite(array).all():
        what = f"finite numbers of the shape {list(symbol.shape or ())} are expected"
        raise InputError(f"the given value of {symbol.data[0]!r} is {value!r}; {what}")
    return array


def _instead(form: Form) -> str:
    if isinstance(form, Program):
        return "mx.solve finds the one mixture that is its answer"
    return "mx.solve trains a learner for it; inside your own loop take an online method, such as mixopt.problems.online_doremi"
