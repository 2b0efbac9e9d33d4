"""The verbs: plan, solve, compare and hypergradient; the one place where problems meet solvers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mixopt.compiler.binding import bind_losses, bind_tokens
from mixopt.compiler.classify import classify
from mixopt.compiler.plan import Choice, biased, kinked, repeated, route
from mixopt.compiler.rewrites import Rewritten, rewritten
from mixopt.compiler.sampling import drawn, told
from mixopt.errors import InputError, RefusalError
from mixopt.forms import Abilities, Form, Program, kind, unknowns
from mixopt.judge import slope_at
from mixopt.language.curvature import curvature
from mixopt.language.problem import Problem
from mixopt.language.symbols import domains_of
from mixopt.method import Method
from mixopt.planned import Plan, bilevel_at, sense
from mixopt.report.audit import Audit
from mixopt.report.comparison import Comparison, Row
from mixopt.report.result import Result, Status
from mixopt.solver import Budget, Solver, Task, Watch
from mixopt.solvers.choice import fused, printed
from mixopt.solvers.table import TABLE, considered
from mixopt.starting import Start

if TYPE_CHECKING:
    from mixopt.runtime.learner import Learner


def plan(problem: Problem | Method, learner: Learner | None = None, *, solver: Solver | None = None) -> Plan:
    """Compile a problem: classify it, check it against the learner, and choose a solver, saying why not the others.

    Raises:
        ProblemError: the problem is no program, saddle or bilevel problem.
        LearnerError: the learner does not provide a loss that the problem names.
        RefusalError: the solver asked for does not take it; the text says who would.
    """
    if isinstance(problem, Method):
        solver, problem = solver or problem.solver, problem.problem
    _right_kinds(learner, solver)
    plain = rewritten(problem)
    form = classify(plain.problem)
    abilities = None if learner is None else learner.abilities
    if abilities is not None:
        bind_losses(form, abilities)
        bind_tokens(form, abilities)
        drawn(form, abilities)
    own = () if solver is None else solver.refuses(form, abilities)
    reasons = considered(form, abilities) if solver is None or own else {}
    takers = [entry for entry in TABLE if reasons.get(entry.name) == ()]
    if own:
        others = f"\n  {' or '.join(str(e.make(form, abilities)) for e in takers)} would take it" if takers else ""
        raise RefusalError(
            f"{type(solver).__name__} refuses this {kind(form)}: {'; and '.join(own)}{others}",
            {type(solver).__name__: own},
        )
    chosen = solver or (takers[0].make(form, abilities) if takers else None)
    words = partial(_choice, problem, plain, form, abilities, chosen, solver is None)
    return Plan(problem, form, chosen, words, learner, plain.recover)


def _choice(problem: Problem, plain: Rewritten, form: Form, abilities: Abilities | None, chosen: Solver | None, free: bool) -> Choice:
    """What a plan prints; ``free`` says that the solver was chosen and not asked for."""
    reasons = considered(form, abilities)
    name = None if chosen is None else type(chosen).__name__
    return Choice(
        str(problem),
        type(form).__name__,
        (*plain.steps, *route(plain.problem, form), *(chosen.rewrites(form) if chosen else ())),
        None if chosen is None else str(chosen),
        {n: r for n, r in reasons.items() if r and n != name},
        tuple(n for n, r in reasons.items() if not r and n != name),
        (
            *_vertex(form),
            *kinked(form),
            *biased(form, abilities),
            *told(form, abilities),
            *repeated(form, abilities),
            *fused(form, abilities),
            *(chosen.idle(form, abilities) if chosen else ()),
        ),
        printed(form, abilities, name) if free else "",
    )


def solve(
    problem: Problem | Method,
    learner: Learner | None = None,
    *,
    solver: Solver | None = None,
    given: Mapping[str, Any] | None = None,
    budget: Budget | None = None,
    seed: int = 0,
    start: Start = None,
    watch: Watch | None = None,
    inplace: bool = False,
) -> Result:
    """Solve a problem, or a method, and certify the answer.

    ``given`` holds the numbers of parameters and of models that are not trained; ``start`` the weights to start from (a
    dict, a vector, a ``Result`` or a file that one was saved to), while the model starts from the learner's parameters;
    ``watch`` is called now and then with a ``Progress``.
    A copy of the learner's parameters is trained unless ``inplace``. Limits and interruptions return the best point.

    Raises:
        ProblemError, LearnerError, RefusalError, InputError: as ``plan`` and ``Plan.run`` say, before any long work.
    """
    ready = plan(problem, learner, solver=solver)
    return ready.run(given=given, budget=budget, seed=seed, start=start, watch=watch, inplace=inplace)


def compare(
    problem: Problem | Method,
    learner: Learner | Callable[[int], Learner] | None,
    solvers: Sequence[Solver | Method],
    *,
    seeds: Sequence[int] = (0,),
    given: Mapping[str, Any] | None = None,
    budget: Budget | None = None,
    reference: Mapping[str, float] | Sequence[float] | np.ndarray | None = None,
) -> Comparison:
    """Run several solvers on one problem from the same starts: a table, with all weights judged by one evaluator where there is one.

    ``learner`` is a learner, or a function of the seed that makes one. A solver that refuses has its reason in the table.
    A program's evaluator is its objective; an exact bilevel problem's is the upper loss of the lower level solved at those
    weights. A saddle, or a sampled learner, is judged by the model that the run itself trained.
    With ``reference`` weights, such as a known optimum, the table has each answer's error: its largest difference from them.
    Ctrl-C ends the comparison; what is finished, and the run that it fell into, are in the table.

    Raises:
        InputError: one solver or seed where a list of them is meant, or none; reference weights of other domains, or of several mixtures.
    """
    for name, several in (("solvers", solvers), ("seeds", seeds)):
        if not isinstance(several, Iterable):
            raise InputError(f"{name} is {several!r}; give a list of them, such as [{several!r}]")
        if not several:
            raise InputError(f"there are no {name} to compare; give one or more")
    rows: list[Row] = []
    known = None if reference is None else _known(problem, reference)
    for solver in solvers:
        for seed in seeds:
            one = learner(seed) if callable(learner) else learner
            try:
                result = solve(
                    problem if isinstance(solver, Solver) else solver,
                    one,
                    solver=solver if isinstance(solver, Solver) else None,
                    given=given,
                    budget=budget,
                    seed=seed,
                )
            except RefusalError as error:
                rows.append(Row(_name(solver), seed, refusal=str(error)))
                break
            rows.append(Row(_name(solver), seed, result))
            if result.status is Status.INTERRUPTED:
                return Comparison(str(problem), tuple(rows), known)
    return Comparison(str(problem), tuple(rows), known)


def _known(problem: Problem | Method, reference: Mapping[str, float] | Sequence[float] | np.ndarray) -> np.ndarray:
    """Reference weights [k] of a problem in one mixture."""
    form = plan(problem).form
    if len(unknowns(form)) > 1:
        raise InputError(f"reference weights are of one mixture, and the problem is over {', '.join(map(str, unknowns(form)))}")
    return domains_of(form.mixture).weights(reference)


def hypergradient(
    problem: Problem | Method,
    learner: Learner,
    *,
    at: Mapping[str, float] | Sequence[float] | None = None,
    solver: Solver | None = None,
    given: Mapping[str, Any] | None = None,
) -> np.ndarray:
    """The raw partial derivatives dF/dw [k] of a bilevel problem at given weights (uniform by default), each w_i free.

    float64, on the CPU, the direct term included; by the engine of ``solver`` (``Implicit()`` by default). With a sampled
    learner it is taken at the learner's parameters as they stand, on its evaluation sample. Warns, with the mend, where
    the lower level did not converge.
    """
    return plan(problem, learner, solver=solver).hypergradient(at=at, given=given)


def _right_kinds(learner: object, solver: object) -> None:
    """Refuse a solver in the learner's place, or a class where its instance is meant."""
    if isinstance(learner, (Solver, type)) or (learner is not None and not hasattr(learner, "abilities")):
        raise InputError(f"the second argument is a learner, not {_told(learner)}; a solver is given as solver=...")
    if solver is not None and not isinstance(solver, Solver):
        raise InputError(f"solver is {_told(solver)}; give an instance of a solver, such as solver=mx.solvers.Conic()")


def _told(thing: object) -> str:
    return f"the class {thing.__name__}" if isinstance(thing, type) else repr(thing)


def _name(solver: Solver | Method) -> str:
    return str(solver) if isinstance(solver, Solver) else solver.name or str(solver.solver)


def _vertex(form: Form) -> tuple[str, ...]:
    if isinstance(form, Program) and not form.others and curvature(form.objective) == "affine":
        return (
            "the objective is linear in the weights, so the optimum is a corner of the feasible set; "
            "add a KL term or caps if that is not meant",
        )
    return ()


def audit(
    problem: Problem | Method,
    learner: Learner,
    *,
    at: Mapping[str, float] | Sequence[float] | None = None,
    solver: Solver | None = None,
    given: Mapping[str, Any] | None = None,
    steps: int = 20,
    epsilon: float = 0.1,
    seeds: Sequence[int] = (0, 1, 2),
) -> Audit:
    """Check a bilevel solver's direction at the learner's parameters and given weights (uniform) by finite differences.

    Trains 2 k copies of the model a seed for ``steps`` steps with the learner's optimizer on the same batches; see
    ``mixopt.runtime.audit``. A one-step or implicit direction that disagrees with the outcome is no ground for weights.
    """
    from mixopt.runtime.audit import agreement, cosine, outcome_slopes

    ready, task, w = bilevel_task(problem, learner, at, solver, given)
    assert task.model is not None
    leaves = learner.start()
    own = slope_at(ready.solver, task.model, w, leaves)  # type: ignore[arg-type]
    outcomes = sense(ready.form) * outcome_slopes(task.model, w, leaves, steps=steps, epsilon=epsilon, seeds=seeds)
    gradient, outcome = sense(ready.form) * own.gradient, outcomes.mean(axis=0)
    return Audit(gradient, outcome, cosine(gradient, outcome), agreement(outcomes), own.inner, steps, own.oracle)


def bilevel_task(
    problem: Problem | Method, learner: Learner, at: Any, solver: Solver | None, given: Mapping[str, Any] | None
) -> tuple[Plan, Task, np.ndarray]:
    """The plan and the task of a bilevel problem at weights [k], its start where none are given."""
    ready = plan(problem, learner, solver=solver)
    return ready, *bilevel_at(ready, at, given)
