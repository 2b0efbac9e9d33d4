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


def users_code(train, val, optimum):
    import mixopt as mx
    from mixopt.solvers import BOME, GPBGD, VPBGD, Dense, Implicit, MinRes, OneStep, ScaleBiO, Surrogate, Unrolled, ValueFunction

    w, theta = mx.Mixture([f"d{i}" for i in range(8)]), mx.model()
    ridge = mx.argmin(w @ mx.losses(theta, w.index) + 0.005 * mx.sum_squares(theta), over=theta)
    learner = mx.FunctionLearner(torch.zeros(50).double(), {"train": train, "val": val}, lambda p: torch.optim.SGD(p, lr=1.0))
    implicit = [Implicit(), Implicit(system=Dense(), geometry="entropic"), Implicit(system=MinRes(), geometry="softmax", outer_steps=500)]
    unrolled = [Unrolled(steps=None), *(Unrolled(steps=20, step_size=1, mode=m, outer_steps=2) for m in ("checkpointed", "forward"))]
    loops = [OneStep(step_size=1, rate=2), VPBGD(penalty=10), GPBGD(), BOME(rate=0.02, step_size=1, steps=400), ScaleBiO(penalty=0.5)]
    solvers = [*implicit, *unrolled, ValueFunction(tolerance=1e-6), *loops, Surrogate(law="linear", design=40)]
    return mx.compare(mx.minimize(mx.loss(ridge, "val"), over=w), learner, solvers, reference=optimum)


@pytest.fixture(scope="module")
def table(case):
    """The one comparison, which all tests here look at."""
    train, val, figures = case
    return users_code(train, val, figures["optimum"]["w"])


def test_it_takes_ten_lines(case):
    lines = [line for line in inspect.getsource(users_code).splitlines()[1:] if line.strip()]
    assert len(lines) <= 10
    assert "import mixopt" in lines[0]
    assert "compare" in lines[-1]


def test_exact_engines_reach_the_stored_optimum(case, table):
    least, zeros = case[2]["optimum"]["F"], [w < 1e-9 for w in case[2]["optimum"]["w"]]
    implicit, entropic, logits, unrolled, _, _, value = table.results[:7]
    for result, error in ((implicit, 1e-5), (entropic, 1e-5), (logits, 1e-5), (unrolled, 1e-5), (value, 2e-5)):
        assert result.status is mx.Status.STATIONARY, result.message
        assert table.error(result) < error
        assert result.value == pytest.approx(least, abs=1e-9)
        assert result.check.gap < (1e-5 if result is value else 1e-6)
    for euclidean in (implicit, unrolled):
        assert [w == 0 for w in euclidean.vector] == zeros


def test_the_others_are_labelled_by_their_true_gap(case, table):
    """Judged by the implicit theorem, whatever they went by themselves: DoGE's rule rests where the true gap is the stored 0.57."""
    least, fixed = case[2]["optimum"]["F"], case[2]["one_step_fixed_point"]
    for result in table.results:
        assert result.check.oracle.startswith("the implicit function theorem")
        assert result.value >= least - 1e-9
    checkpointed, forward = table.results[4:6]
    assert checkpointed.vector == pytest.approx(forward.vector, abs=1e-9), "one number by two modes"
    one_step, penalised, squared, barrier, scaled, surrogate = table.results[7:]
    assert one_step.check.gap == pytest.approx(fixed["true_fw_gap"], abs=0.01)
    assert table.error(penalised) == pytest.approx(0.03, abs=0.01)
    uniform = least + fixed["F_gap_uniform"]
    for result in (penalised, squared, barrier, scaled, surrogate, checkpointed):
        assert result.value < uniform
        assert result.check.gap > 1e-3


def test_it_is_one_table_of_error_gap_gradients_products_and_seconds(table):
    head, *rows = str(table).splitlines()
    assert head.split() == ["solver", "seed", "status", "value", "error", "gap", "inner", "gradients", "Hv", "seconds"]
    assert len(rows) == len(table.rows) == 13
    assert all(len(row.rsplit(maxsplit=9)) == 10 for row in rows)
    assert [row.solver.split("(")[0] for row in table.rows][6:] == [
        "ValueFunction", "OneStep", "VPBGD", "GPBGD", "BOME", "ScaleBiO", "Surrogate"
    ]  # fmt: skip


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
