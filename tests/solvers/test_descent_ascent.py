"""DescentAscent against steps by hand and saddles with known answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mixopt as mx
from mixopt.errors import InputError, RefusalError
from mixopt.runtime.learner import FunctionLearner
from mixopt.solvers import DescentAscent, Normalised


def constant_game(values, tail=None):
    """A saddle whose losses are the given numbers, with a model at rest at 0: what the weights do is all there is."""
    domains = [f"d{i}" for i in range(len(values))]
    w, theta = mx.Mixture(domains), mx.model()
    payoff = w @ mx.losses(theta, domains)
    payoff = payoff if tail is None else payoff + tail(w)
    numbers = torch.tensor(values, dtype=torch.float64)
    learner = FunctionLearner(torch.zeros(1, dtype=torch.float64), losses={"train": lambda p: numbers + (p * p).sum() / 2})
    return mx.minimize(mx.maximize(payoff, over=w), over=theta), learner


def points(centres, constraints=()):
    """min over x of max over w of sum w_i (x - c_i)^2 / 2 with plain gradient steps."""
    domains = [f"d{i}" for i in range(len(centres))]
    w, theta = mx.Mixture(domains), mx.model()
    game = mx.maximize(w @ mx.losses(theta, domains), over=w, subject_to=[c(w) for c in constraints])
    c = torch.tensor(centres, dtype=torch.float64)
    learner = FunctionLearner(
        torch.zeros(1, dtype=torch.float64), losses={"train": lambda x: (x - c) ** 2 / 2}, optimizer=lambda p: torch.optim.SGD(p, lr=0.1)
    )
    return mx.minimize(game, over=theta), learner


def test_the_first_step_by_hand():
    """w' ~ w exp(rate l), smoothed; then x moves by 0.1 sum w'_i (c_i - x)."""
    game, learner = points([1.0, -2.0, 3.0])
    solver = DescentAscent(rate=0.5, smoothing=0.1, average="last", steps=1)
    result = mx.solve(game, learner, solver=solver)
    raised = np.exp(0.5 * np.array([0.5, 2.0, 4.5]))
    w = 0.9 * raised / raised.sum() + 0.1 / 3
    assert result.vector == pytest.approx(w, abs=1e-12)
    assert result.parameters.item() == pytest.approx(0.1 * w @ [1.0, -2.0, 3.0])
    assert learner.start()[0].item() == 0


@pytest.mark.parametrize("geometry", ["entropic", "euclidean"])
def test_a_convex_saddle_converges_to_the_middle_of_the_outermost_points(geometry):
    game, learner = points([-1.0, 0.5, 3.0])
    result = mx.solve(game, learner, solver=DescentAscent(rate=0.05, geometry=geometry, average="last", steps=4000))
    assert result.status is mx.Status.STATIONARY
    assert result.parameters.item() == pytest.approx(1.0, abs=1e-6)
    assert result.vector == pytest.approx([0.5, 0.0, 0.5], abs=1e-4)
    assert result.value == pytest.approx(2.0, abs=1e-6)
    assert result.check.gap < 1e-6
    assert "best response" in result.check.oracle


def test_a_box_holds_at_every_step_and_moves_the_saddle():
    """With w_2 <= 0.3 the model sits at the mean of 0.7 and 0.3."""
    for geometry in ("entropic", "euclidean"):
        game, learner = points([-1.0, 3.0], [lambda w: (w["d1"] <= 0.3).named("cap")])
        result = mx.solve(game, learner, solver=DescentAscent(rate=0.05, geometry=geometry, average="last", steps=2000))
        assert result.trace.weights[:, 1].max() <= 0.3 + 1e-12
        assert result.trace.weights.sum(axis=1) == pytest.approx(1, abs=1e-12)
        assert result.vector == pytest.approx([0.7, 0.3], abs=1e-6)
        assert result.parameters.item() == pytest.approx(0.2, abs=1e-5)
        assert result.duals["cap"] == pytest.approx((3 - 0.2) ** 2 / 2 - 1.2**2 / 2, abs=1e-4)


@pytest.mark.parametrize("geometry", ["entropic", "euclidean"])
def test_a_weight_that_is_fixed_stays_fixed_at_every_step(geometry):
    """With w_2 = 0.3 the model sits at the mean of 0.7 and 0.3, and the multiplier is the difference of the two losses there."""
    game, learner = points([-1.0, 3.0], [lambda w: mx.equal(w["d1"], 0.3).named("fixed")])
    result = mx.solve(game, learner, solver=DescentAscent(rate=0.05, geometry=geometry, average="last", steps=2000))
    assert result.trace.weights[:, 1] == pytest.approx(0.3, abs=1e-12)
    assert result.parameters.item() == pytest.approx(0.2, abs=1e-5)
    assert result.duals["fixed"] == pytest.approx((3 - 0.2) ** 2 / 2 - 1.2**2 / 2, abs=1e-4)


@pytest.mark.parametrize("geometry", ["entropic", "euclidean"])
def test_a_group_limit_holds_at_every_step(geometry):
    game, learner = points([-1.0, 3.0, 4.0], [lambda w: (mx.mass(w, ["d1", "d2"]) <= 0.4).named("group")])
    result = mx.solve(game, learner, solver=DescentAscent(rate=0.05, geometry=geometry, average="last", steps=2000))
    assert result.vector == pytest.approx([0.6, 0.0, 0.4], abs=1e-5)
    assert result.trace.weights[:, 1:].sum(axis=1).max() <= 0.4 + 1e-9


def test_a_temperature_keeps_the_weights_from_collapsing():
    game, learner = constant_game([1.0, 2.0, 0.5])
    alone = mx.solve(game, learner, solver=DescentAscent(average="last", steps=100))
    warm = mx.solve(game, learner, solver=DescentAscent(temperature=0.5, average="last", steps=100))
    assert alone.vector.max() > 0.999
    assert warm.vector == pytest.approx(np.exp([2, 4, 1]) / np.exp([2, 4, 1]).sum(), abs=1e-8)
    assert warm.trace.entropy[-1] > alone.trace.entropy[-1] + 0.3


@pytest.mark.parametrize(
    ("constraint", "expected"),
    [
        (lambda w: w["d0"] <= 0.42, [0.394, 0.303, 0.303]),  # (0.42, 0.29, 0.29), smoothed
        (lambda w: mx.mass(w, ["d0", "d1"]) <= 0.5, [0.425, 0.075, 0.5]),  # (0.5, 0, 0.5) -> (0.45, 0.1, 0.45) -> over by 0.05
    ],
    ids=["one weight", "two weights tied"],
)
def test_smoothing_is_followed_by_a_projection_into_the_constraints(constraint, expected):
    """From (1/3, 1/3, 1/3) a long step towards a corner, then 0.7 u + 0.1, then the nearest point under the constraint."""
    game, learner = constant_game([1.0, 0.0, 0.0])
    w = game.objective.over[0]
    game = mx.minimize(mx.maximize(game.objective.objective, over=w, subject_to=[constraint(w)]), over=game.over)
    solver = DescentAscent(rate=100.0, geometry="euclidean", smoothing=0.3, average="last", steps=1)
    assert mx.solve(game, learner, solver=solver).vector == pytest.approx(expected, abs=1e-12)


def test_smoothing_keeps_every_domain_above_its_floor():
    game, learner = constant_game([1.0, 9.0, 0.5])
    result = mx.solve(game, learner, solver=DescentAscent(smoothing=0.06, average="last", steps=50))
    assert result.trace.weights.min() >= 0.02
    assert result.vector.min() == pytest.approx(0.02, abs=1e-4)


def test_averages_are_those_of_the_trace():
    answers = {}
    for average in ("last", "mean", "mean with start"):
        game, learner = points([1.0, -2.0, 3.0])
        result = mx.solve(game, learner, solver=DescentAscent(rate=0.1, average=average, steps=7))
        answers[average] = result.vector
        assert len(result.trace) == 7
    w = result.trace.weights
    assert answers["last"] == pytest.approx(w[-1])
    assert answers["mean"] == pytest.approx(w.mean(axis=0))
    assert answers["mean with start"] == pytest.approx((w.sum(axis=0) + 1 / 3) / 8)


def test_a_normalised_rate_does_not_see_the_scale_of_the_losses():
    weights = []
    for scale in (1.0, 1000.0):
        game, learner = constant_game([scale * v for v in (1.0, 2.0, 0.5)])
        weights.append(mx.solve(game, learner, solver=DescentAscent(rate=Normalised(0.1), average="last", steps=5)).vector)
    assert weights[0] == pytest.approx(weights[1], rel=1e-10)


def test_payoffs_that_are_not_concave_and_settings_that_clash_are_refused():
    w, theta = mx.Mixture(["a", "b"]), mx.model()
    bent = mx.minimize(mx.maximize(w @ mx.losses(theta, ["a", "b"]) + mx.sum_squares(w), over=w), over=theta)
    learner = FunctionLearner(torch.zeros(1), losses={"train": lambda p: torch.stack([p[0], -p[0]])})
    with pytest.raises(RefusalError, match="payoff is convex in the weights"):
        mx.solve(bent, learner, solver=DescentAscent())
    game, learner = points([0.0, 1.0])
    with pytest.raises(RefusalError, match="a temperature goes with entropic steps"):
        mx.solve(game, learner, solver=DescentAscent(geometry="euclidean", temperature=1.0))
    with pytest.raises(InputError, match="the temperature is -1"):
        DescentAscent(temperature=-1)


def test_a_maximising_model_is_the_mirror_image():
    w, theta = mx.Mixture(["a", "b"]), mx.model()
    mirrored = mx.maximize(mx.minimize(w @ -mx.losses(theta, ["a", "b"]), over=w), over=theta)
    _, learner = points([-1.0, 3.0])
    renamed = FunctionLearner(
        torch.zeros(1, dtype=torch.float64),
        losses={"train": lambda p: learner.losses((p,), "train", None)},
        optimizer=lambda p: torch.optim.SGD(p, lr=0.1),
    )
    result = mx.solve(mirrored, renamed, solver=DescentAscent(rate=0.05, average="last", steps=2000))
    assert result.vector == pytest.approx([0.5, 0.5], abs=1e-5)
    assert result.value == pytest.approx(-2.0, abs=1e-5)


def test_the_plan_takes_entropic_steps_where_a_constraint_ties_weights_too():
    w, theta = mx.Mixture(["a", "b", "c"]), mx.model()
    game = mx.maximize(w @ mx.losses(theta, ["a", "b", "c"]), over=w, subject_to=[w["a"] + w["b"] <= 0.5])
    assert mx.plan(mx.minimize(game, over=theta)).solver == DescentAscent()
