"""A compiled problem: what is to be solved and by whom, and a run of it with given numbers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mixopt.compiler.binding import bind_given, bind_losses
from mixopt.compiler.plan import Choice
from mixopt.compiler.recover import Recover
from mixopt.compiler.sampling import drawn
from mixopt.errors import InputError, ProblemError, RefusalError
from mixopt.forms import Bilevel, Form, Program, kind, stated, unknowns
from mixopt.judge import judged, slope_at
from mixopt.language.problem import Problem
from mixopt.language.symbols import domains_of
from mixopt.report.check import Duals
from mixopt.report.result import Check, Result, Status
from mixopt.report.slopes import slopes
from mixopt.runtime.program import Function
from mixopt.runtime.region import Region
from mixopt.solver import Budget, Outcome, Solver, Task, Watch, run
from mixopt.solvers.infeasible import conflict_of
from mixopt.starting import Start, started, stepping

if TYPE_CHECKING:
    from mixopt.runtime.learner import Learner


@dataclass(frozen=True)
class Plan:
    """A compiled problem: its form, the solver chosen for it, and the choice in words; ``run`` solves it with given numbers."""

    problem: Problem
    form: Form
    solver: Solver | None
    explain: Callable[[], Choice] = field(repr=False)
    learner: Learner | None = field(default=None, repr=False)
    recover: tuple[Recover, ...] = field(default=(), repr=False)

    @cached_property
    def choice(self) -> Choice:
        """Why this solver and not the others, in words; found when it is first asked for."""
        return self.explain()

    @cached_property
    def _kept(self) -> Any:
        """What the solver keeps from run to run, made at the first."""
        return None if self.solver is None else self.solver.kept(self.form)

    @cached_property
    def _region(self) -> Callable[[Mapping[str, np.ndarray]], Region]:
        """What makes the region of given numbers; constraints are lowered at the first run."""
        return Region.opened(unknowns(self.form), self.form.constraints)

    def __str__(self) -> str:
        return str(self.choice)

    def latex(self) -> str:
        """The form that is solved as LaTeX for display mathematics: minimised, its rewrites done, a surrogate as the weights see it."""
        return stated(self.form).latex()

    def _repr_html_(self) -> str:
        return self.choice._repr_html_()

    def run(
        self,
        *,
        given: Mapping[str, Any] | None = None,
        budget: Budget | None = None,
        seed: int = 0,
        start: Start = None,
        watch: Watch | None = None,
        inplace: bool = False,
    ) -> Result:
        """Solve with these numbers; the problem is not compiled again.

        Raises:
            RefusalError: no solver takes the problem.
            LearnerError: a loss is needed that no learner provides.
            InputError: given numbers or a start that do not fit.
        """
        if self.solver is None:
            raise RefusalError(f"no solver takes this problem:\n{self.choice}", dict(self.choice.refusals))
        if budget is not None and not isinstance(budget, Budget):
            raise InputError(f"the budget is {budget!r}; give mx.Budget(steps=..., tokens=..., gradients=..., seconds=...)")
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
            raise InputError(f"the seed is {seed!r}; it is a whole number")
        task = task_of(self, given, int(seed), start)
        if inplace and task.model is None:
            raise InputError("inplace=True writes trained parameters back, but this problem trains no model")
        outcome = run(self.solver, task, budget, watch)
        if start is not None and not (self.solver.starts and self.solver.goes_on):
            unused = f"start is not used: {type(self.solver).__name__} does not go on from weights that it is given"
            outcome = replace(outcome, message="; ".join(filter(None, (outcome.message, unused))))
        if inplace and outcome.leaves is not None and task.model is not None:
            task.model.learner.store(outcome.leaves)
        return _result(self, task, outcome)

    def hypergradient(
        self, *, at: Mapping[str, float] | Sequence[float] | None = None, given: Mapping[str, Any] | None = None
    ) -> np.ndarray:
        """The raw partial derivatives dF/dw [k] as ``mx.hypergradient`` takes them, without planning again."""
        task, w = bilevel_at(self, at, given)
        assert task.model is not None
        found = slope_at(self.solver, task.model, w, None)  # type: ignore[arg-type]
        if found.doubt:
            warnings.warn(found.doubt, stacklevel=2)
        return sense(self.form) * found.gradient


def task_of(ready: Plan, given: Mapping[str, Any] | None, seed: int, start: Start) -> Task:
    """A run of a plan: its numbers bound, its region and its start."""
    form = ready.form
    numbers, models = bind_given(form, given)
    orders = bind_losses(form, None if ready.learner is None else ready.learner.abilities)
    for back in ready.recover:
        back.check(lambda e: Function(e, (form.mixture,), numbers).value(np.ones(len(form.mixture))))
        inner = back.inner()
        none = Region.compile(*inner, numbers).empty if inner else ""
        if none:
            raise ProblemError(f"the inner level is over no weights at all: {none}")
    region = ready._region(numbers)
    if ready.solver is not None and ready.solver.starts:
        region = stepping(form, region, numbers)
    wanted = started(form, ready.problem, start)
    first = region.layout.middle() if wanted is None else wanted
    if ready.solver is not None and ready.solver.starts and not region.empty:
        first = region.start(wanted)
    model = None
    if not isinstance(form, Program):
        from mixopt.runtime.modelled import Modelled

        assert ready.learner is not None
        model = Modelled(form, ready.learner, orders, numbers, models, drawn(form, ready.learner.abilities))
    return Task(form, region, first, numbers, seed, model, ready._kept)


def sense(form: Form) -> int:
    """-1 where the user maximises: forms are minimised, and what comes back is in the user's own sense."""
    return -1 if form.maximised else 1


def _result(ready: Plan, task: Task, outcome: Outcome) -> Result:
    form, w = ready.form, outcome.weights
    assert ready.solver is not None
    check: Check | None = None
    duals: Mapping[str, float | dict[str, float]] = outcome.duals
    value: float | None = None
    told: Callable[[], Mapping[str, float | np.ndarray]] = dict
    conflict = conflict_of(task) if outcome.status is Status.INFEASIBLE else None
    for back in ready.recover:
        conflict = None if conflict is None else replace(conflict, slack=back.slack(conflict.slack))
    if w is not None:
        try:
            check, found, value = judged(ready.solver, task, outcome, w)
            duals = duals or found
            if isinstance(form, Program) and outcome.status.solved and task.given:
                told = partial(slopes, form, w, task.given, dict(duals))
            duals = _recovered(ready, task, duals, w)
        except KeyboardInterrupt:
            said = f"{outcome.message}; " if outcome.message else ""
            outcome = replace(outcome, status=Status.INTERRUPTED, message=f"{said}no check: it was interrupted while that was computed")
    leaves = outcome.leaves
    trained = None if leaves is None or task.model is None else task.model.learner.tree(leaves)
    return Result(
        ready.problem,
        form.mixture,
        str(ready.solver),
        outcome.status,
        None if w is None else w[task.region.layout.weights],
        None if value is None else sense(form) * value,
        check,
        duals,
        replace(outcome.trace, weights=outcome.trace.weights[:, : len(form.mixture)]),
        outcome.cost,
        trained,
        outcome.message if conflict is None else str(conflict),
        () if conflict is None else conflict.names,
        {} if w is None else task.region.layout.values(w),
        tuple(inner[0] for inner in (back.inner() for back in ready.recover) if inner and str(inner[0]) in duals),
        told,
    )


def _recovered(ready: Plan, task: Task, duals: Mapping[str, float | dict[str, float]], w: np.ndarray) -> Duals:
    """The duals with what the rewrites of the problem stand for, in the user's own names."""
    found = dict(duals)
    for back in ready.recover:
        found = back.duals(found, lambda e: Function(e, task.region.layout, task.given).value(w))
    return found


def bilevel_at(ready: Plan, at: Any, given: Mapping[str, Any] | None) -> tuple[Task, np.ndarray]:
    """The task of a planned bilevel problem, and the weights [k] asked for: its start where none are."""
    from mixopt.solvers.bilevel import BilevelSolver

    if not isinstance(ready.form, Bilevel) or not isinstance(ready.solver, BilevelSolver):
        raise InputError(f"hypergradients are of bilevel problems, and this is a {kind(ready.form)}")
    task = task_of(ready, given, 0, None)
    return task, task.start if at is None else domains_of(ready.form.mixture).weights(at)
