"""Judgement: what the answer of a solve is worth, by an oracle that is not the solver's own where there is one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mixopt.compiler.plan import repeated
from mixopt.forms import Bilevel, Program, Saddle
from mixopt.report.check import Duals, certify, program_check
from mixopt.report.result import Check
from mixopt.report.second_order import free_directions, least_curvature
from mixopt.solver import Outcome, Solver, Task

if TYPE_CHECKING:
    from mixopt.runtime.history import Past
    from mixopt.runtime.modelled import Modelled
    from mixopt.solvers.bilevel import BilevelSolver


SADDLE = "the curvature along the weights that are free is negative, so this is no minimum: go on from other weights (start=...)"
BEHIND = (
    "the parameters are of the last step, trained while the weights moved, and the weights are a mean over the run: "
    "mx.train(problem, learner, result) trains a model at them"
)
BEFORE = (
    "the parameters are the outcome of training at the weights before the last step; mx.train(problem, learner, result) trains at these"
)


@dataclass(frozen=True)
class Judged:
    """A hypergradient [k] with the upper value, the inner residual, the oracle in words, and the reason to doubt it if any."""

    gradient: np.ndarray
    value: float
    inner: float
    oracle: str
    doubt: str = ""


def slope_at(solver: BilevelSolver, model: Modelled, w: np.ndarray, leaves: Any) -> Judged:
    """The hypergradient at weights w: an exact learner is trained there first, a sampled one taken on its evaluation sample."""
    from mixopt.solvers.bilevel import Trained
    from mixopt.solvers.doubts import NEGATIVE, flat

    assert isinstance(model.form, Bilevel)
    weights, doubt, oracle = model.weights(w), "", solver.oracle_of(model.form)
    start = model.learner.start() if leaves is None else leaves
    if model.exact:
        near = solver.trained(model, weights, Trained(start, np.inf))
        slope = solver.slope_of(model, weights, near)
        inner, words = near.inner, f"{oracle}, exact"
        doubt = near.doubt or ("" if bool((slope.gradient != 0).any()) else flat(model, weights, near.leaves))
    else:
        batch = model.learner.evaluation()
        with model.learner.second_order():
            slope = solver.slope(model, weights, start, batch, None)
        inner = model.slope_size(weights, start, batch) if slope.inner is None else float(slope.inner)
        words = f"{oracle}, on the evaluation sample"
    if slope.negative:
        doubt = "; ".join(filter(None, (doubt, NEGATIVE)))
    if slope.system:
        words += f", system residual {slope.system:.1e}"
    return Judged(slope.gradient.detach().double().cpu().numpy(), float(slope.value.detach()), inner, words, doubt)


def judged(solver: Solver, task: Task, outcome: Outcome, w: np.ndarray) -> tuple[Check, Duals, float]:
    """Check, multipliers and value at the weights [k] that a run answered with."""
    form = task.form
    if isinstance(form, Program):
        check, duals = program_check(form, task.region, w, task.given, outcome.duals, task.objective)
        return check, duals, task.objective.value(w)
    assert task.model is not None
    leaves = outcome.leaves if outcome.leaves is not None else task.model.learner.start()
    if isinstance(form, Saddle):
        return _saddle(task, task.model, leaves, w, outcome.past)
    check, duals, value = _bilevel(solver, task, task.model, leaves, w)
    check = replace(check, notes=(*check.notes, *_whose(solver, task, outcome)))
    return _bent(solver, task, task.model, leaves, w, check) if outcome.status.solved else check, duals, value


def _whose(solver: Solver, task: Task, outcome: Outcome) -> tuple[str, ...]:
    """To which weights the parameters of a bilevel run belong, where these are not the answer's."""
    assert task.model is not None
    if outcome.status.solved or not len(outcome.trace):
        return ()
    if solver.pace(task).average not in ("last", "best"):
        return (BEHIND,)
    return (BEFORE,) if isinstance(task.form, Bilevel) and task.form.steps and not task.model.exact else ()


def _saddle(task: Task, model: Modelled, leaves: Any, w: np.ndarray, past: Past) -> tuple[Check, Duals, float]:
    """The best response in the weights to the model as trained, with history as the run left it."""
    import torch

    at = model.weights(w).requires_grad_()
    fixed = tuple(leaf.detach() for leaf in leaves)
    value = model.first(model.env(at, fixed, model.learner.evaluation(), past))[0]
    (ascent,) = torch.autograd.grad(value, at)
    oracle = f"the best response in the weights to the trained model, {'exact' if model.exact else 'on the evaluation sample'}"
    if model.histories:
        oracle += ", with history as the run left it"
    check, duals = certify(task.region, w, -ascent.cpu().numpy(), oracle)
    check = _both_players(task, model, w, fixed, float(value.detach()), check)
    return check, duals, float(value.detach())


def _both_players(task: Task, model: Modelled, w: np.ndarray, leaves: Any, value: float, check: Check) -> Check:
    """The check with the saddle gap, where an exact learner's players have one payoff: min over the model by L-BFGS from the answer's.

    The maximum over the weights is at most value + gap, the payoff being concave in them. Where the losses are convex in the model the
    minimum is global, and the saddle gap bounds what either player could still gain.
    """
    form = task.form
    assert isinstance(form, Saddle)
    if not model.exact or model.histories or form.payoff != form.descent or check.gap is None:
        return check
    least, slope = model.least(model.weights(w), leaves)
    if not slope <= 1e-5 * (1 + abs(value)):
        note = f"no saddle gap: L-BFGS found no minimum over the model at these weights (|gradient| {slope:.0e})"
        return replace(check, notes=(*check.notes, note))
    note = "the saddle gap by L-BFGS over the model, and a bound where the losses are convex in it"
    return replace(check, saddle=max(value + check.gap - least, 0.0), notes=(*check.notes, note))


def _bilevel(solver: Solver, task: Task, model: Modelled, leaves: Any, w: np.ndarray) -> tuple[Check, Duals, float]:
    """The implicit function theorem where an exact learner allows it, whichever solver ran; else the solver's own engine, so labelled.

    The outcome of so many training steps is judged by unrolling them; how far they are from a minimum is no residual there.
    """
    assert isinstance(task.form, Bilevel)
    judge = _judge(solver, task.form, model)
    if judge is None:
        return _measured(task, model, leaves, w)
    found = slope_at(judge, model, w, leaves)
    notes = ((found.doubt,) if found.doubt else ()) + repeated(task.form, model.learner.abilities)
    check, duals = certify(task.region, w, found.gradient, found.oracle, inner=None if task.form.steps else found.inner, notes=notes)
    return check, duals, found.value


def _bent(solver: Solver, task: Task, model: Modelled, leaves: Any, w: np.ndarray, check: Check) -> Check:
    """The check with the least curvature along the free weights: by differences of the judge's hypergradient, of an exact learner."""
    from mixopt.solvers.bilevel import Trained

    assert isinstance(task.form, Bilevel)
    judge = _judge(solver, task.form, model)
    shift = second_order_shift(model)
    basis = free_directions(task.region, w, 2 * shift)
    if not model.exact or judge is None or basis is None:
        return check
    first = judge.trained(model, model.weights(w), Trained(leaves, np.inf))

    def gradient(u: np.ndarray) -> np.ndarray:
        at = model.weights(u)
        slope = judge.slope_of(model, at, judge.trained(model, at, first))
        return slope.gradient.detach().double().cpu().numpy()

    bent = least_curvature(gradient, w, basis, shift)
    noise = np.sqrt(shift) * (1 + abs(bent or 0.0))
    told = (SADDLE,) if bent is not None and bent < -noise else ()
    return replace(check, curvature=bent, notes=(*check.notes, *told))


def second_order_shift(model: Modelled) -> float:
    """The shift of a weight at which truncation and rounding of differences are about even, for the parameters' dtype."""
    from mixopt.solvers.products import rounding

    return float(rounding(model.learner.start()) ** 0.25)


def _judge(solver: Solver, form: Bilevel, model: Modelled) -> BilevelSolver | None:
    """The engine that judges a bilevel answer; None where there is none."""
    from mixopt.solvers.bilevel import BilevelSolver
    from mixopt.solvers.implicit import Implicit
    from mixopt.solvers.unrolled import Unrolled

    judge: Solver = Implicit() if model.exact and model.learner.abilities.double_backward else solver
    if form.steps:
        judge = replace(solver, last=None) if isinstance(solver, Unrolled) else Unrolled(mode="checkpointed")
        if judge.refuses(form, model.learner.abilities):
            return None
    return judge if isinstance(judge, BilevelSolver) else None


def _measured(task: Task, model: Modelled, leaves: Any, w: np.ndarray) -> tuple[Check, Duals, float]:
    """What is known of weights whose solver has no hypergradient: the constraints, and the upper value of the model as trained."""
    import torch

    with torch.no_grad():
        value = model.upper(model.weights(w), leaves, model.learner.evaluation())
    note = "no gap: the solver has no hypergradient; mx.hypergradient(problem, learner, at=result.weights, solver=...) has one"
    oracle = "exact losses" if model.exact else "the evaluation sample"
    return Check(task.region.layout.off(w), task.region.residuals(w), oracle, notes=(note,)), {}, float(value)
