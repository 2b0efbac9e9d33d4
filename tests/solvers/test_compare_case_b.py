"""Case b of the shared bilevel cases: all engines and a surrogate in one table, judged by one evaluator."""

from __future__ import annotations

import inspect
import json

import numpy as np
import pytest
import torch

import mixopt as mx


@pytest.fixture(scope="module")
def case(shared):
    """The losses of case b and its stored figures."""
    figures = json.loads(shared("cases/bilevel/expected.json").read_text(encoding="utf-8"))["cases"]["b_ridge_k8_d50"]
    with np.load(shared("cases/bilevel/b_ridge_k8_d50.npz")) as arrays:
        z = {name: torch.tensor(arrays[name]) for name in arrays}
    train = lambda p: ((z["X"] @ p - z["y"]) ** 2).mean(1) / 2  # noqa: E731
    return train, lambda p: ((z["Xv"] @ p - z["yv"]) ** 2).mean() / 2, figures


def users_code(train, val):
    import mixopt as mx
    from mixopt.solvers import Implicit, Surrogate, Unrolled, ValueFunction

    w, theta = mx.Mixture([f"d{i}" for i in range(8)]), mx.model()
    ridge = mx.argmin(w @ mx.losses(theta, w.index) + 0.005 * mx.sum_squares(theta), over=theta)
    problem = mx.minimize(mx.loss(ridge, "val"), over=w)
    learner = mx.FunctionLearner(torch.zeros(50, dtype=torch.float64), losses={"train": train, "val": val})
    solvers = [Implicit(), Unrolled(steps=150, step_size=1), ValueFunction(tolerance=1e-6), Unrolled(), Surrogate(law="linear", design=40)]
    return mx.compare(problem, learner, solvers)


def test_ten_lines_compare_all_engines_and_a_surrogate(case):
    train, val, figures = case
    assert len([line for line in inspect.getsource(users_code).splitlines()[1:] if line.strip()]) <= 10
    table = users_code(train, val)
    least = figures["optimum"]["F"]
    implicit, unrolled, value, one, surrogate = table.results
    for exact in (implicit, value):
        assert exact.value - least < 1e-6
        assert exact.check.gap < 1e-5
        assert exact.vector == pytest.approx(figures["optimum"]["w"], abs=1e-4)
    assert implicit.check.gap < 1e-6
    assert [w == 0 for w in implicit.vector] == [w < 1e-9 for w in figures["optimum"]["w"]]
    assert unrolled.value - least < 1e-5  # unrolled nearly to convergence; with 250 steps its gap is 2e-5
    assert unrolled.check.gap < 1e-2
    for other in (one, surrogate):  # judged by the same theorem, whatever they went by themselves
        assert other.check.oracle.startswith("the implicit function theorem")
        assert other.value >= least - 1e-9
        assert other.check.gap > 1e-3
    text = str(table)
    for word in ("Implicit", "Unrolled", "ValueFunction", "Surrogate", "gap", "gradients", "Hv", "seconds"):
        assert word in text


def test_the_check_of_hypergradients_on_case_b(case):
    train, val, figures = case
    w, theta = mx.Mixture([f"d{i}" for i in range(8)]), mx.model()
    ridge = mx.argmin(w @ mx.losses(theta, w.index) + 0.005 * mx.sum_squares(theta), over=theta)
    learner = mx.FunctionLearner(torch.zeros(50, dtype=torch.float64), losses={"train": train, "val": val})
    problem, optimum = mx.minimize(mx.loss(ridge, "val"), over=w), figures["optimum"]
    check = mx.check_hypergradient(problem, learner)
    assert [row.verdict.split(" (")[0] for row in check.rows] == ["right", "right for what it descends", "right"]
    assert check.rows[0].error < 1e-6
    there = mx.check_hypergradient(problem, learner, at=optimum["w"], solvers=[])
    assert there.curvature == pytest.approx(optimum["reduced_hess_min_eig"], rel=1e-4)
    assert "second order: the least" in str(there)
