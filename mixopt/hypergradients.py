"""check_hypergradient: every engine for hypergradients against finite differences at one point."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np

from mixopt.api import bilevel_task
from mixopt.errors import InputError, RefusalError
from mixopt.forms import Bilevel
from mixopt.judge import second_order_shift, slope_at
from mixopt.method import Method
from mixopt.report.hypergradients import EngineCheck, HypergradientCheck
from mixopt.report.result import Cost
from mixopt.report.second_order import free_directions, least_curvature

if TYPE_CHECKING:
    from mixopt.language.problem import Problem
    from mixopt.runtime.learner import Learner
    from mixopt.runtime.modelled import Modelled
    from mixopt.runtime.region import Region
    from mixopt.solver import Solver
    from mixopt.solvers.bilevel import BilevelSolver

RIGHT = 1e-5
"""The relative error up to which a hypergradient of an exact learner is called right."""
TIGHT = 1e-12
"""|grad| to which the lower level is trained for differences, as far as the dtype carries."""
NOISE = 0.5
"""The cosine below which slopes of different seeds are called noise."""
CAUSES = "Are the losses smooth here, the same at each call, and their gradients right (torch.autograd.gradcheck)?"


def check_hypergradient(
    problem: Problem | Method,
    learner: Learner,
    *,
    at: Mapping[str, float] | Sequence[float] | None = None,
    solvers: Sequence[Solver] | None = None,
    given: Mapping[str, Any] | None = None,
    steps: int = 20,
    epsilon: float = 0.1,
    seeds: Sequence[int] = (0, 1),
) -> HypergradientCheck:
    """Hold hypergradients of several engines against finite differences at weights (uniform).

    Without ``solvers`` they are Implicit, Unrolled and ValueFunction, with the settings that a plan gives them.

    With an exact learner the lower level is trained again to rounding at every shifted weight, about 4 k times; an engine that descends
    an objective of its own, such as the outcome of K steps, is held against the differences of that as well, so that a bias is
    told from a mistake. Up to 16 domains get a second-order check too, along the weights that are free to move under the
    constraints. With a sampled learner the differences are those of the evaluation loss after ``steps`` optimizer steps on the same
    batches, at weights ``epsilon`` of the way to each corner, for each of ``seeds``; only the cosine means something there, and the
    engines are asked on the evaluation sample at the learner's parameters.

    Raises:
        InputError: no bilevel problem, or one solver where a list is meant.
    """
    if solvers is not None and (isinstance(solvers, str) or not isinstance(solvers, Sequence)):
        raise InputError(f"solvers is {solvers!r}; give a list of them, such as [{solvers!r}]")
    ready, task, w = bilevel_task(problem, learner, at, None, given)
    assert task.model is not None
    assert isinstance(ready.form, Bilevel)
    chosen = _engines(ready.form, learner) if solvers is None else solvers
    sign = -1 if ready.form.maximised else 1
    truth = _exact(task.model, task.region, w) if task.model.exact else _sampled(task.model, w, steps, epsilon, seeds)
    rows = [_checked(problem, learner, w, solver, given, truth, sign) for solver in chosen]
    return HypergradientCheck(w, truth.target, sign * truth.slopes, truth.precision, tuple(rows), sign * truth.curvature)


@final
@dataclass(frozen=True)
class _Truth:
    """Slopes [k] by finite differences, how good they are, what they are of, and <w, dF/dw> by Euler's identity."""

    slopes: np.ndarray
    precision: float
    target: str
    exact: bool
    euler: float | None = None
    curvature: float = np.nan


def _engines(form: Bilevel, learner: Learner) -> list[Solver]:
    """The engines with their default settings for a problem and a learner."""
    from mixopt.solvers.bilevel import BilevelSolver
    from mixopt.solvers.table import TABLE

    made = [entry.make(form, learner.abilities) for entry in TABLE if entry.takes is Bilevel and not entry.spare]
    return [solver for solver in made if isinstance(solver, BilevelSolver)]


def _exact(model: Modelled, region: Region, w: np.ndarray) -> _Truth:
    """Differences of the upper value with the lower level trained again to rounding."""
    import torch

    from mixopt.solvers.bilevel import Trained
    from mixopt.solvers.implicit import Implicit, Inner
    from mixopt.solvers.unrolled import Unrolled
    from mixopt.solvers.value_function import ValueFunction

    inner, steps = Inner(tolerance=TIGHT, steps=200), model.form.steps if isinstance(model.form, Bilevel) else None
    rule: BilevelSolver = Implicit(inner=inner) if model.learner.abilities.double_backward else ValueFunction(inner=inner)
    rule, target = (
        (Unrolled(), f"the outcome of {steps} training steps") if steps else (rule, "the upper objective, the lower level trained again")
    )
    first = rule.trained(model, model.weights(w), Trained(model.learner.start(), np.inf))

    def value(u: np.ndarray) -> float:
        weights = model.weights(u)
        leaves = rule.trained(model, weights, first).leaves
        with torch.no_grad():
            return float(model.upper(weights, leaves, None))

    def gradient(u: np.ndarray) -> np.ndarray:
        weights = model.weights(u)
        return rule.slope_of(model, weights, rule.trained(model, weights, first)).gradient.detach().double().cpu().numpy()

    shift = second_order_shift(model)
    slopes, precision = differences(value, w, shift)
    bent = least_curvature(gradient, w, free_directions(region, w, 2 * shift), shift)
    euler = None if steps else _euler(model, w, first.leaves)
    return _Truth(slopes, precision, target, True, euler, np.nan if bent is None else bent)


def _sampled(model: Modelled, w: np.ndarray, steps: int, epsilon: float, seeds: Sequence[int]) -> _Truth:
    from mixopt.runtime.audit import agreement, outcome_slopes

    slopes = outcome_slopes(model, w, model.learner.start(), steps=steps, epsilon=epsilon, seeds=seeds)
    return _Truth(slopes.mean(axis=0), 1 - agreement(slopes), f"the evaluation loss after {steps} training steps", False)


def differences(value: Callable[[np.ndarray], float], w: np.ndarray, shift: float) -> tuple[np.ndarray, float]:
    """Slopes [k] of a function of free weights by differences of two lengths, extrapolated, and their relative doubt.

    Central ones, or one-sided of the second order where a weight is too near to 0 to be lowered.
    """
    low = value(w) if (w < 2 * shift).any() else np.nan
    found = np.empty((2, len(w)))
    for i, unit in enumerate(np.eye(len(w))):
        for row, far in zip(found, (shift, 2 * shift), strict=True):
            if w[i] < 2 * shift:
                row[i] = (4 * value(w + far * unit) - 3 * low - value(w + 2 * far * unit)) / (2 * far)
            else:
                row[i] = (value(w + far * unit) - value(w - far * unit)) / (2 * far)
    near, far_off = found
    slopes = (4 * near - far_off) / 3
    return slopes, float(np.linalg.norm(near - far_off) / 3 / max(np.linalg.norm(slopes), np.finfo(float).tiny))


def _euler(model: Modelled, w: np.ndarray, leaves: Any) -> float:
    """<w, dF/dw>: the direct term, and v' H^-1 grad R, with R what the lower level has beside a part linear in the weights.

    Scaling all weights scales that part alone; without R it does not move the minimum, and the identity says that the direct term is all.
    """
    import torch

    from mixopt.runtime.linalg import conjugate_gradients
    from mixopt.runtime.tree import vector
    from mixopt.solvers.products import differenced, hessian

    free = model.weights(w).requires_grad_()
    at = tuple(leaf.detach().requires_grad_() for leaf in leaves)
    lower = model.lower(free, at, None)
    (over_w,) = torch.autograd.grad(lower, free, create_graph=True)
    rest = vector(model.gradient(lower - free @ over_w, at)).detach()
    whole = model.lower(model.weights(w), at, None)
    size = float((whole.abs() + (free @ over_w).abs()).detach())
    *v, direct = model.gradient(model.upper(free, at, None), (*at, free))
    scaled = float(direct @ free.detach())
    if float(rest.norm()) <= 1e3 * torch.finfo(rest.dtype).eps * (1 + size):
        return scaled
    twice = model.learner.abilities.double_backward
    bent = hessian(model, whole, at) if twice else differenced(model, lambda p: model.lower(model.weights(w), p, None), whole, at)
    q = conjugate_gradients(bent.product, vector(tuple(v)).detach(), steps=1000, tolerance=max(1e-12, bent.exact)).x
    return scaled + float(q @ rest)


def _checked(
    problem: Problem | Method, learner: Learner, w: np.ndarray, solver: Solver, given: Mapping[str, Any] | None, truth: _Truth, sign: int
) -> EngineCheck:
    """One engine's row."""
    from mixopt.runtime.audit import cosine

    try:
        _, task, _ = bilevel_task(problem, learner, w, solver, given)
    except RefusalError as refusal:
        return EngineCheck(str(solver), f"refused: {refusal}")
    model, engine = task.model, solver
    assert model is not None
    began = time.perf_counter()
    found = slope_at(engine, model, w, learner.start() if not model.exact else None)  # type: ignore[arg-type]
    seconds, spent = time.perf_counter() - began, model.meter
    cost = Cost(1, spent.gradients, spent.hessian_products, spent.forward_passes, spent.tokens, seconds)
    gradient = found.gradient
    alike = cosine(gradient, truth.slopes)
    if not truth.exact:
        return EngineCheck(str(solver), _pointed(alike, truth, found.doubt), sign * gradient, cosine=alike, inner=found.inner, cost=cost)
    error = _relative(gradient, truth.slopes)
    own_slopes, own_precision = _own(engine, model, w)  # type: ignore[arg-type]
    own = _relative(gradient, own_slopes)
    euler = _off_euler(w, gradient, truth)
    told = _judged(error, own, max(truth.precision, own_precision), found.oracle, found.doubt)
    return EngineCheck(str(solver), told, sign * gradient, error, own, alike, euler, found.inner, cost)


def _own(solver: BilevelSolver, model: Modelled, w: np.ndarray) -> tuple[np.ndarray, float]:
    """Differences of what the engine itself descends, trained by its own rule."""
    from mixopt.solvers.bilevel import Trained

    first = solver.trained(model, model.weights(w), Trained(model.learner.start(), np.inf))

    def value(u: np.ndarray) -> float:
        weights = model.weights(u)
        return solver.value_of(model, weights, solver.trained(model, weights, first))

    return differences(value, w, second_order_shift(model))


def _off_euler(w: np.ndarray, gradient: np.ndarray, truth: _Truth) -> float:
    """The residual of Euler's identity, relative to |w| |gradient|."""
    size = float(np.linalg.norm(w) * np.linalg.norm(gradient))
    return np.nan if truth.euler is None or not size else abs(float(gradient @ w) - truth.euler) / size


def _relative(found: np.ndarray, slopes: np.ndarray) -> float:
    size = float(np.linalg.norm(slopes))
    return float(np.linalg.norm(found - slopes)) / size if size else float(np.linalg.norm(found))


def _judged(error: float, own: float, precision: float, oracle: str, doubt: str) -> str:
    """What follows from the errors, in words."""
    goal = max(RIGHT, 10 * precision)
    if np.isnan(error):
        told = "wrong: its gradient is NaN"
    elif error <= goal:
        told = "right"
    elif own <= goal:
        told = f"right for what it descends ({oracle}), which is {error:.0%} off the problem's own slope here"
    else:
        mend = "Its damping bends it; lower that where the lower level converges" if "damping" in oracle else CAUSES
        told = f"wrong: it is the slope neither of the problem nor of what it descends ({oracle}). {mend}"
    if precision > 1e-2:
        told += f"; the differences themselves are only good to {precision:.0e}"
    return f"{told}; {doubt}" if doubt else told


def _pointed(alike: float, truth: _Truth, doubt: str) -> str:
    """What a cosine with the outcome of training says."""
    if truth.precision > 1 - NOISE:
        told = "undecided: the outcome of training is mostly noise; take more steps, larger batches or more seeds"
    elif np.isnan(alike):
        told = "wrong: its gradient is NaN, or the same for all domains"
    elif alike > NOISE:
        told = f"points where training leads (cosine {alike:.2f})"
    else:
        told = f"wrong: it does not point where training leads (cosine {alike:.2f})"
    return f"{told}; {doubt}" if doubt else told
