"""The opaque atom: values in batches, what it says of itself, and how everything that needs more refuses it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mixopt as mx
from mixopt.runtime.layout import Layout
from mixopt.runtime.numpy_ops import NUMPY
from mixopt.runtime.program import Function
from mixopt.runtime.torch_ops import TORCH

W = mx.Mixture(["web", "code", "books"])


def stairs(rows):
    return np.floor(4 * rows)


STEPS = mx.opaque(W, stairs, "steps", ["a", "b", "c"])
ONE = mx.opaque(W, lambda rows: rows[:, 0] ** 2, "first_squared")


def test_it_is_a_vector_with_names_or_a_scalar():
    assert (STEPS.shape, STEPS.index, ONE.shape) == ((3,), ("a", "b", "c"), ())
    at = np.array([0.3, 0.6, 0.1])
    assert Function(mx.sum(STEPS) + ONE, W, {}).value(at) == pytest.approx(1 + 2 + 0.09)
    assert Function(STEPS["b"], W, {}).value(at) == 2
    same = mx.opaque(W, stairs, "steps", ["a", "b", "c"])
    assert same == STEPS
    assert hash(same) == hash(STEPS)
    assert mx.opaque(W, stairs, "others", ["a", "b", "c"]) != STEPS


def test_it_prints_by_its_name():
    assert str(mx.sum(STEPS) + ONE) == "sum(steps(w)) + first_squared(w)"
    assert ONE.latex() == r"\text{first}\_\text{squared}(w)"


def test_its_curvature_is_unknown_and_the_culprit_names_the_solvers_that_take_it():
    assert mx.curvature(ONE) == mx.curvature(-STEPS) == "unknown"
    assert str(mx.culprit(2 * ONE)) == (
        "'first_squared(w)': first_squared is opaque: it has values and no derivative; "
        "Simulation draws mixtures and Grid goes through them: both need values only"
    )


def test_nothing_differentiates_it():
    with pytest.raises(mx.ProblemError, match="is opaque, so it has no gradient"):
        Function(ONE, Layout.of(W), {}).gradient(np.full(3, 1 / 3))
    with pytest.raises(mx.ProblemError, match="is opaque: it has no derivative, and stands in programs alone"):
        TORCH["opaque"](ONE, torch.ones(3))
    assert NUMPY["opaque"].value(ONE, np.array([0.5, 0.5, 0.0])) == 0.25
    with pytest.raises(mx.ProblemError, match="is opaque, so there is no derivative"):
        mx.derive(mx.minimize(ONE, over=W))


def test_no_cone_describes_it():
    pytest.importorskip("cvxpy")
    from mixopt.solvers.conic import conic_table

    with pytest.raises(mx.ProblemError, match="which no cone describes"):
        conic_table()["opaque"](ONE, None)


def test_a_problem_with_it_is_not_saved():
    with pytest.raises(mx.ProblemError, match=r"a function of numpy.*save the law itself, law.save\(path\)"):
        mx.to_json(mx.minimize(ONE, over=W))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: mx.opaque(mx.losses(mx.model(), ["a"]), stairs, " "), "a name is a text of one line"),
        (lambda: mx.opaque(W["web"], stairs, "f"), r"is of a vector of weights, and this is 'w\[web\]'"),
        (lambda: mx.opaque(np.ones(3), stairs, "f"), "is of a vector of weights"),
        (lambda: mx.opaque(W, 3.0, "f"), r"give a function of weights \[R, k\]"),
        (lambda: Function(mx.opaque(W, stairs, "f"), W, {}).value(np.ones(3) / 3), r"returned shape \[1, 3\] .* \[1\] is expected"),
    ],
)
def test_wrong_use_is_told(make, text):
    with pytest.raises(mx.ProblemError, match=text):
        make()


def test_a_model_follows_a_gradient_so_bilevel_problems_and_saddles_refuse_it():
    theta = mx.model()
    trained = mx.argmin(W @ mx.losses(theta, W.index), over=theta)
    with pytest.raises(mx.ProblemError, match="is opaque: it has values and no derivative, so it stands in programs alone"):
        mx.plan(mx.minimize(mx.loss(trained, "val") + ONE, over=W))
    payoff = W @ mx.losses(theta, W.index) - ONE
    with pytest.raises(mx.ProblemError, match="is opaque: it has values and no derivative, so it stands in programs alone"):
        mx.plan(mx.minimize(mx.maximize(payoff, over=W), over=theta))
