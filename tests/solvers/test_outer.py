"""The outer step of bilevel solvers: geometries, momentum, constraints, averages, and steps judged by their outcome."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mixopt as mx
from mixopt.api import bilevel_task
from mixopt.errors import InputError, RefusalError
from mixopt.runtime.simplex import through_softmax
from mixopt.solvers import (
    BOME,
    GPBGD,
    VPBGD,
    ConjugateGradients,
    Implicit,
    LineSearch,
    Normalised,
    OneStep,
    ScaleBiO,
    Suffix,
    Unrolled,
    ValueFunction,
    Window,
)
from mixopt.solvers.outer import outer_step

from .conftest import CENTRES, RHO, TARGET

SIMPLEX = st.lists(st.floats(0.01, 1.0), min_size=4, max_size=4).map(lambda x: np.array(x) / sum(x))
GRADIENT = st.lists(st.floats(-3.0, 3.0), min_size=4, max_size=4).map(np.array)


@settings(deadline=None, max_examples=30)
@given(SIMPLEX, GRADIENT)
def test_the_gradient_in_logits_is_the_chain_rule(w, g):
    v = torch.tensor(np.log(w), requires_grad=True)
    (by_torch,) = torch.autograd.grad(torch.tensor(g) @ v.softmax(0), v)
    assert through_softmax(w, g) == pytest.approx(by_torch.numpy(), abs=1e-12)


@pytest.mark.parametrize("geometry", ["euclidean", "entropic", "softmax"])
def test_two_steps_with_momentum_by_hand(toy, geometry):
    """m1 = d1, m2 = b m1 + (1 - b) d2, with d the gradient in the coordinates of the geometry."""
    _, task, w = bilevel_task(toy.problem(), toy.learner, [0.4, 0.3, 0.2, 0.1], Implicit(), None)
    b, rate, gradients = 0.75, 0.1, [np.array([1.0, -1.0, 0.5, 0.0]), np.array([0.2, 0.4, -0.6, 0.3])]
    weights, velocity = torch.tensor(w), None
    expected, m = w.copy(), None
    for g in gradients:
        weights, velocity = outer_step(task, weights, torch.tensor(g), velocity, rate=rate, geometry=geometry, momentum=b, smoothing=0.0)
        d = expected * (g - expected @ g) if geometry == "softmax" else g
        m = d if m is None else b * m + (1 - b) * d
        if geometry == "euclidean":
            expected = expected - rate * (m - m.mean())  # no weight meets a bound
        else:
            expected = expected * np.exp(-rate * m)
            expected = expected / expected.sum()
    assert weights.numpy() == pytest.approx(expected, abs=1e-12)


def test_heavy_ball_steps_are_a_running_mean_where_no_bound_is_met(toy):
    _, task, w = bilevel_task(toy.problem(), toy.learner, [0.25] * 4, Implicit(), None)
    b, rate = 0.6, 0.02
    gradients = [torch.tensor(g) for g in np.random.default_rng(0).normal(size=(5, 4))]
    weights, velocity, trail = torch.tensor(w), torch.zeros(4, dtype=torch.float64), [torch.tensor(w)] * 2
    for g in gradients:
        weights, velocity = outer_step(task, weights, g, velocity, rate=rate, geometry="euclidean", momentum=b, smoothing=0.0)
        trail.append(trail[-1] - (1 - b) * rate * (g - g.mean()) + b * (trail[-1] - trail[-2]))
    assert weights.numpy() == pytest.approx(trail[-1].numpy(), abs=1e-12)


def constraints(w):
    """Linear constraints of the language, those of graphs and trees among them, that bind at the toy's optimum."""
    nx = pytest.importorskip("networkx")
    ring, line = nx.cycle_graph(["a", "b", "c", "d"]), nx.DiGraph([("a", "c"), ("c", "d"), ("b", "d")])
    codes = {"a": ("left", "a"), "b": ("left", "b"), "c": ("right", "c"), "d": ("right", "d")}
    return {
        "cap": [w["a"] <= 0.2],
        "floor": [w["d"] >= 0.3],
        "mass": [mx.mass(w, ["a", "b"]) <= 0.35],
        "an equality": [mx.equal(w["b"], w["c"] + 0.1)],
        "cost": [w @ np.array([1.0, 2.0, 3.0, 4.0]) <= 2.0],
        "differences on a ring": [mx.graph.differences(w, ring, at_most=0.05)],
        "ratios on a ring": [mx.graph.ratios(w, ring, at_most=1.2)],
        "an order": [mx.graph.order(w, line)],
        "a frozen branch": [mx.graph.frozen(w, "left", codes, natural=[0.4, 0.1, 0.2, 0.3])],
        "caps in a branch": [mx.graph.conditional_caps(w, "left", 0.7, codes)],
        "a ball": [mx.kl(w, [0.4, 0.1, 0.2, 0.3]) <= 0.02],
    }


KINDS = (
    "cap", "floor", "mass", "an equality", "cost", "differences on a ring", "ratios on a ring", "an order", "a frozen branch",
    "caps in a branch", "a ball",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_geometry_respects_the_constraints_and_finds_their_optimum(toy, kind):
    """Against the closed upper objective, a convex program here, solved by another solver."""
    limits = constraints(toy.w)[kind]
    closed = mx.sum_squares(mx.constant(CENTRES.T / (1 + RHO)) @ toy.w - TARGET) / 2
    best = mx.solve(mx.minimize(closed, over=toy.w, subject_to=limits))
    for geometry in ("euclidean", "entropic"):
        result = mx.solve(toy.problem(*limits), toy.learner, solver=Implicit(geometry=geometry))
        assert result.check.feasible
        assert result.value == pytest.approx(best.value, abs=1e-6)
        noisy = OneStep(geometry=geometry, momentum=0.5, smoothing=0.01, steps=5)
        assert mx.solve(toy.problem(*limits), toy.learner, solver=noisy).check.feasible
    for solver in (Implicit(geometry="softmax"), VPBGD(geometry="softmax")):
        with pytest.raises(RefusalError, match=r"is not theirs; take geometry='entropic' or 'euclidean'"):
            mx.solve(toy.problem(*limits), toy.learner, solver=solver)


def test_logits_reach_an_optimum_inside_and_one_with_zeros_to_the_tolerance(toy):
    edge = mx.minimize(toy.upper + 0.3 * toy.w["d"], over=toy.w)
    result, exact = (mx.solve(edge, toy.learner, solver=Implicit(geometry=geometry)) for geometry in ("softmax", "euclidean"))
    assert result.status is mx.Status.STATIONARY
    assert result.value == pytest.approx(exact.value, abs=1e-6)
    assert exact.vector[3] == 0 < result.vector[3] < 1e-5
    inner = mx.minimize(toy.upper + 0.1 * mx.kl(toy.w, [0.25] * 4), over=toy.w)
    result = mx.solve(inner, toy.learner, solver=Implicit(geometry="softmax"), start=[0.0, 0.0, 0.5, 0.5])  # zeros are left
    assert result.status is mx.Status.STATIONARY
    assert result.vector == pytest.approx(mx.solve(inner, toy.learner).vector, abs=1e-5)


LOOPS = (VPBGD, GPBGD, BOME, OneStep)


@pytest.mark.parametrize("make", LOOPS)
@pytest.mark.parametrize("geometry", ["euclidean", "entropic", "softmax"])
def test_single_loops_have_every_geometry_and_momentum(toy, make, geometry):
    more = {"penalty": 10, "steps": 200} if make is GPBGD else {"steps": 60}
    first = mx.solve(toy.problem(), toy.learner, solver=make(geometry=geometry, momentum=0.5, **more))
    assert first.check.simplex < 1e-9
    assert toy.value(first.vector) < toy.value([0.25] * 4)


def learner():
    """A bigram model on two domains; the validation set is of the first."""
    draw = np.random.default_rng(0)
    tokens = {"a": draw.integers(0, 4, 2000), "b": draw.integers(4, 8, 2000)}
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Embedding(8, 8), torch.nn.Dropout(0.1), torch.nn.Linear(8, 8))
    return mx.TorchLearner(
        module, {"train": tokens, "val": {"a": tokens["a"][::-1].copy()}}, context=8, optimizer=lambda p: torch.optim.Adam(p, lr=1e-2)
    )


def sampled(trained=None):
    w, theta = mx.Mixture(["a", "b"]), mx.model()
    lower = w @ mx.losses(theta, ["a", "b"])
    model = mx.trained(lower, over=theta, steps=trained) if trained else mx.argmin(lower, over=theta)
    return mx.minimize(mx.mean(mx.losses(model, ["a"], name="val")), over=w)


ENGINES = [
    Unrolled(steps=1, outer_steps=8),
    ValueFunction(outer_steps=8),
    Implicit(curvature="gauss-newton", system=ConjugateGradients(steps=3, damping=0.3), outer_steps=8),
    OneStep(steps=8),
    VPBGD(steps=8, rate=1e-3),
    GPBGD(steps=8, rate=1e-3),
    BOME(steps=8, rate=1e-3),
    ScaleBiO(steps=8),
]


@pytest.mark.parametrize("solver", ENGINES, ids=lambda s: type(s).__name__)
def test_averages_are_those_of_the_trace_and_the_parameters_are_said_to_be_others(solver):
    task, model = sampled(), learner()
    for average, count in (("mean", 8), (Window(3), 3), (Suffix(0.25), 2), ("last", 1)):
        result = mx.solve(task, model, solver=replace(solver, average=average))
        assert result.vector == pytest.approx(result.trace.weights[-count:].mean(axis=0), abs=1e-9)
        assert any("mx.train(problem, learner, result)" in note for note in result.check.notes) == (average != "last")
    assert mx.train(task, model, result, budget=mx.Budget(steps=2)).cost.steps == 2


def test_the_outcome_of_training_anew_belongs_to_the_weights_before_the_last_step():
    result = mx.solve(sampled(trained=3), learner(), solver=Unrolled(outer_steps=2, average="last"))
    assert any("the outcome of training at the weights before the last step" in note for note in result.check.notes)


def test_the_rule_of_the_line_search():
    search = LineSearch(shrink=0.5, grow=2.0, allowance=2.0)
    assert search.factor(1.0, [0.1, 0.11, 0.09, 0.1]) == (False, 0.5)  # clearly worse
    assert search.factor(1.0, [-0.1, -0.11, -0.09, -0.1]) == (True, 2.0)  # clearly better
    assert search.factor(1.0, [0.3, -0.2, 0.1, -0.1]) == (True, 1.0)  # noise
    assert search.factor(1.0, [float("nan")] * 4) == (False, 0.5)


@dataclass(frozen=True, kw_only=True)
class Backwards(Unrolled):
    """An engine whose hypergradient has the wrong sign."""

    def slope(self, model, w, leaves, batch, warm):
        found = super().slope(model, w, leaves, batch, warm)
        return replace(found, gradient=-found.gradient)


def test_a_line_search_shortens_harmful_steps_and_spares_helpful_ones():
    """The second domain is noise to the target: steps towards it are refused, and those towards the first are taken and grow."""
    search = LineSearch(first=Normalised(0.02))
    good = mx.solve(sampled(), learner(), solver=Unrolled(steps=1, outer_steps=12, rate=search, momentum=0.3))
    assert good.trace["factor"][-1] > 1
    assert good.vector[0] > 0.6
    wrong = mx.solve(sampled(), learner(), solver=Backwards(steps=1, outer_steps=4, rate=search, average="last"))
    assert wrong.trace["factor"].tolist() == [1.0, 0.5, 0.25, 0.125]  # by Adam's first step all weights have the same outcome, nearly
    assert wrong.vector.tolist() == wrong.trace.weights[0].tolist()
    again = mx.solve(sampled(), learner(), solver=Unrolled(steps=1, outer_steps=12, rate=search, momentum=0.3))
    assert np.array_equal(again.trace.weights, good.trace.weights)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Implicit(geometry="cubic"), "'entropic' .*'euclidean' .*'softmax'"),
        (lambda: Implicit(momentum=1.0), r"the momentum is 1.0; it is a share in \[0, 1\)"),
        (lambda: BOME(rate=LineSearch()), "the rate is LineSearch"),
        (lambda: LineSearch(shrink=1.0), "shrink is in"),
        (lambda: LineSearch(parts=1), "at least 2"),
        (lambda: LineSearch(first=-1.0), "the first rate of a line search is -1.0"),
        (lambda: mx.solvers.ScaleBiO(momentum=0.5), "no geometry, momentum or smoothing"),
        (lambda: mx.solvers.DescentAscent(geometry="softmax"), "it is 'entropic'"),
    ],
)
def test_settings_outside_their_range_are_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()


@dataclass(frozen=True, kw_only=True)
class Lost(Unrolled):
    """An engine whose weights move the wrong way in runs that train anew."""

    def moved(self, task, w, memory, gradient, ahead):
        return super().moved(task, w, memory, -gradient, ahead)


def test_a_plan_on_batches_has_little_damping_and_the_products_for_it():
    """With much of it the slope of a model early in training points the wrong way (benchmarks/hypergradient_corpus.py --steps 30)."""
    solver = mx.plan(sampled(), learner()).solver
    assert solver.curvature == "gauss-newton"
    assert solver.system == ConjugateGradients(steps=20, tolerance=0.1, damping=0.03)


def test_a_line_search_trains_anew_under_the_weights_tried():
    search, steps = LineSearch(first=Normalised(0.02)), 6
    good = mx.solve(sampled(trained=steps), learner(), solver=Unrolled(outer_steps=8, rate=search, momentum=0.3))
    assert good.trace["factor"][-1] > 1
    assert good.vector[0] > 0.53
    wrong = mx.solve(sampled(trained=steps), learner(), solver=Lost(outer_steps=4, rate=search, average="last"))
    assert wrong.trace["factor"][-1] < wrong.trace["factor"][1]
    assert wrong.vector[0] > 0.48


def test_a_line_search_on_training_anew_compares_the_same_batches(monkeypatch):
    """The outcome under the old weights is that of the step itself, and under the new ones one more training on its batches."""
    seen = []
    original = LineSearch.factor

    def factor(self, now, differences):
        seen.append(differences)
        return original(self, now, differences)

    monkeypatch.setattr(LineSearch, "factor", factor)
    still = Unrolled(outer_steps=1, rate=LineSearch(first=1e-30), average="last")
    mx.solve(sampled(trained=4), learner(), solver=still)
    assert seen[0] == pytest.approx([0.0] * 8, abs=1e-6)  # weights that hardly move lead to the same parameters
