"""The shared bilevel cases: hypergradients, optima and approximate engines against exact stored figures."""

from __future__ import annotations

import inspect
import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812  (the usual name)

import mixopt as mx
from mixopt.solvers import BOME, VPBGD, Implicit, Inner, OneStep, ScaleBiO, Unrolled, ValueFunction

CASES = ("a1_quad_interior", "b_ridge_k8_d50", "c_logistic_k5_d20")


@pytest.fixture(scope="module")
def load(shared):
    """A function from a case's name to its arrays as tensors and its stored figures."""

    def read(case):
        figures = json.loads(shared("cases/bilevel/expected.json").read_text(encoding="utf-8"))["cases"][case]
        with np.load(shared(f"cases/bilevel/{case}.npz")) as arrays:
            return {name: torch.tensor(arrays[name]) for name in arrays}, figures

    return read


def functions(case, z):
    """The two loss functions of a case."""
    if case.startswith("a"):
        return (
            lambda p: torch.einsum("kd,kde,ke->k", p - z["C"], z["A"], p - z["C"]) / 2,
            lambda p: (p - z["t"]) @ z["B"] @ (p - z["t"]) / 2,
        )
    if case.startswith("b"):
        return lambda p: ((z["X"] @ p - z["y"]) ** 2).mean(1) / 2, lambda p: ((z["Xv"] @ p - z["yv"]) ** 2).mean() / 2
    return lambda p: F.softplus(-z["y"] * (z["X"] @ p)).mean(1), lambda p: F.softplus(-z["yv"] * (z["Xv"] @ p)).mean()


def problem_of(figures):
    """The bilevel problem, with the ridge term where the case has one."""
    domains = mx.Domains([f"d{i}" for i in range(figures["k"])])
    w, theta = mx.Mixture(domains), mx.model()
    lower = w @ mx.losses(theta, domains)
    if figures["rho"]:
        lower = lower + figures["rho"] / 2 * mx.sum_squares(theta)
    return mx.minimize(mx.loss(mx.argmin(lower, over=theta), "val"), over=w)


@pytest.fixture(params=CASES)
def case(request, load):
    """Problem, learner and stored figures of one case."""
    z, figures = load(request.param)
    train, val = functions(request.param, z)
    learner = mx.FunctionLearner(torch.zeros(figures["d"], dtype=torch.float64), losses={"train": train, "val": val})
    return problem_of(figures), learner, figures


def test_hypergradients_equal_the_stored_ones_and_obey_euler(case):
    problem, learner, figures = case
    ready = mx.plan(problem, learner)
    for point in figures["points"].values():
        gradient = mx.hypergradient(problem, learner, at=point["w"])
        assert (ready.hypergradient(at=point["w"]) == gradient).all()
        expected = np.array(point["hypergrad"])
        assert np.linalg.norm(gradient - expected) <= 1e-6 * np.linalg.norm(expected) + 1e-12
        assert gradient @ point["w"] == pytest.approx(point["euler_rhs"], abs=1e-6)


def test_implicit_reaches_the_stored_optimum(case):
    problem, learner, figures = case
    result = mx.solve(problem, learner, solver=Implicit())
    assert result.status is mx.Status.STATIONARY
    assert result.vector == pytest.approx(figures["optimum"]["w"], abs=1e-4)
    assert result.value == pytest.approx(figures["optimum"].get("F", 0.0), abs=1e-8)
    assert result.check.gap < 1e-5
    assert result.check.inner <= 1e-9


@pytest.mark.parametrize("geometry", ["euclidean", "entropic", "softmax"])
def test_every_geometry_reaches_the_stored_optimum(case, geometry):
    """From uniform; the logits of case b take 190 steps, whose last digits are lost to the inner tolerance."""
    problem, learner, figures = case
    result = mx.solve(problem, learner, solver=Implicit(geometry=geometry, tolerance=1e-6, inner=Inner(tolerance=1e-10)))
    assert result.status is mx.Status.STATIONARY
    assert result.vector == pytest.approx(figures["optimum"]["w"], abs=1e-5)
    assert result.check.gap <= 1e-6
    assert result.check.curvature == pytest.approx(figures["optimum"]["reduced_hess_min_eig"], rel=1e-3)
    exact = [weight < 1e-9 for weight in figures["optimum"]["w"]]
    assert [weight == 0 for weight in result.vector] == (exact if geometry == "euclidean" else [False] * figures["k"])


def test_unrolling_to_convergence_gives_the_stored_hypergradients_and_optimum(case):
    problem, learner, figures = case
    for point in figures["points"].values():
        expected = np.array(point["hypergrad"])
        found = mx.hypergradient(problem, learner, at=point["w"], solver=Unrolled(steps=None))
        assert np.linalg.norm(found - expected) <= 1e-6 * np.linalg.norm(expected) + 1e-9
    start = 0.999 * np.array(figures["optimum"]["w"]) + 0.001 / figures["k"]
    result = mx.solve(problem, learner, solver=Unrolled(steps=None), start=start)
    assert result.status is mx.Status.STATIONARY
    assert result.vector == pytest.approx(figures["optimum"]["w"], abs=1e-5)
    assert result.check.gap < 1e-6


@pytest.mark.parametrize("steps", [1, 5, 20, 100])
def test_unrolling_from_zero_gives_the_stored_gradients(case, steps):
    problem, learner, figures = case
    approximate = figures["approx_at_uniform"]
    solver = Unrolled(steps=steps, step_size=approximate["eta"])
    gradient = mx.hypergradient(problem, learner, solver=solver)
    assert gradient == pytest.approx(approximate["unroll_from_zero"][str(steps)]["grad"], rel=1e-8, abs=1e-10)


@pytest.mark.parametrize(("penalty", "error"), [(None, 2e-5), (1e4, 2e-6)])
def test_the_value_function_is_as_near_as_its_penalty_allows(case, penalty, error):
    """Measured at all stored points: 1.2e-5 of the gradient at the default 1,000; 1.2e-7 at 10,000, with rounding up to 7e-7."""
    problem, learner, figures = case
    for point in figures["points"].values():
        gradient = mx.hypergradient(problem, learner, at=point["w"], solver=ValueFunction(penalty=penalty))
        expected = np.array(point["hypergrad"])
        assert np.linalg.norm(gradient - expected) <= error * np.linalg.norm(expected) + 1e-9


STORED = {"value_function_exact": "one-sided", "value_function_central": "central", "value_function_richardson_lam_2lam": "richardson"}


@pytest.mark.parametrize("differences", STORED, ids=STORED.get)
def test_the_value_function_has_the_stored_bias_at_each_penalty(case, differences):
    problem, learner, figures = case
    for penalty, expected in figures["approx_at_uniform"].get(differences, {}).items():
        solver = ValueFunction(penalty=float(penalty), differences=STORED[differences])
        gradient = mx.hypergradient(problem, learner, solver=solver)
        assert gradient == pytest.approx(expected["grad"], rel=1e-6, abs=1e-7)


def test_the_value_function_reaches_the_optimum_of_case_b_within_its_bias(load):
    """One-sided differences of the penalty 100 end 0.004 away, at the stored optimum of their own; the default a thousand times nearer."""
    z, figures = load("b_ridge_k8_d50")
    train, val = functions("b", z)
    learner = mx.FunctionLearner(torch.zeros(50, dtype=torch.float64), losses={"train": train, "val": val})
    biased, near = (figures["finite_lambda_optimum"][penalty]["w"] for penalty in ("100.0", "1000.0"))
    result = mx.solve(problem_of(figures), learner, solver=ValueFunction(tolerance=1e-6), start=biased)
    assert result.status is mx.Status.STATIONARY
    assert result.vector == pytest.approx(figures["optimum"]["w"], abs=2e-5)  # measured: 6e-6, and 1.5e-6 at the default tolerance
    assert result.value == pytest.approx(figures["optimum"]["F"], abs=1e-9)
    assert result.check.gap < 1e-5
    one_sided = ValueFunction(penalty=100, differences="one-sided", tolerance=1e-5)
    assert mx.solve(problem_of(figures), learner, solver=one_sided, start=near).vector == pytest.approx(biased, abs=1e-4)  # measured: 4e-5


def test_one_step_scores_at_the_trained_model_are_doge_s(case):
    """From the trained model with a tiny step, -gradient / step is <grad l_i, grad val>."""
    problem, learner, figures = case
    k, eta, rho = figures["k"], figures["approx_at_uniform"]["eta"], figures["rho"]
    theta = learner.start()[0]
    for _ in range(500):  # plain gradient descent, apart from everything under test
        theta = theta.detach().requires_grad_()
        value = learner.losses((theta,), "train", None).mean() + rho / 2 * (theta @ theta)
        theta = theta - eta * torch.autograd.grad(value, theta)[0]
    trained = mx.FunctionLearner(
        theta.detach(),
        losses={name: lambda p, name=name: learner.losses((p,), name, None) for name in ("train", "val")},
    )
    step = 1e-8
    score = -mx.hypergradient(problem, trained, at=[1 / k] * k, solver=Unrolled(steps=1, step_size=step)) / step
    assert score == pytest.approx(figures["approx_at_uniform"]["doge_scores_at_phi_star"]["score"], rel=1e-5, abs=1e-7)


def learner_of(case, z, figures, rate):
    """The learner of a case whose models take gradient steps of a rate."""
    train, val = functions(case, z)
    start = torch.zeros(figures["d"], dtype=torch.float64)
    return mx.FunctionLearner(start, {"train": train, "val": val}, optimizer=lambda p: torch.optim.SGD(p, lr=rate))


def test_v_pbgd_rests_at_the_stored_optimum_of_its_penalty(load):
    z, figures = load("b_ridge_k8_d50")
    biased = figures["finite_lambda_optimum"]["10.0"]["w"]
    result = mx.solve(problem_of(figures), learner_of("b", z, figures, 1.0), solver=VPBGD(penalty=10, rate=0.1, steps=1200))
    assert result.vector == pytest.approx(biased, abs=1e-2)  # measured: 0.008, and falling
    assert abs(result.vector - figures["optimum"]["w"]).max() == pytest.approx(0.026, abs=0.003)
    assert (result.value - figures["optimum"]["F"]) / figures["one_step_fixed_point"]["F_gap_uniform"] < 1e-3


@pytest.mark.parametrize(
    ("solver", "rate", "share"),
    [
        (ScaleBiO(steps=500), 0.05, 0.95),  # measured: 0.967, and 0.99 after 1,500 steps
        (BOME(rate=0.02, steps=300, step_size=1.0), 0.1, 0.97),  # measured: 0.985, from 1,000 steps on too
    ],
    ids=str,
)
def test_scalebio_and_bome_close_the_gap_from_uniform_as_far_as_their_constants_allow(load, solver, rate, share):
    z, figures = load("b_ridge_k8_d50")
    result = mx.solve(problem_of(figures), learner_of("b", z, figures, rate), solver=solver)
    left = (result.value - figures["optimum"]["F"]) / figures["one_step_fixed_point"]["F_gap_uniform"]
    assert 0 <= left < 1 - share
    assert result.check.gap < 1


def test_one_step_rests_at_doge_s_fixed_point_and_is_labelled_by_its_true_gap(load):
    """The scores are equal on the support there, so the method sees no gap; the certificate does, and names the implicit theorem."""
    z, figures = load("b_ridge_k8_d50")
    fixed = figures["one_step_fixed_point"]
    learner = learner_of("b", z, figures, 1.0)
    result = mx.solve(problem_of(figures), learner, solver=OneStep(step_size=1.0, rate=2.0, steps=800, average="last"))
    assert result.vector == pytest.approx(fixed["w"], abs=3e-3)
    assert result.value == pytest.approx(fixed["F"], abs=2e-4)
    assert result.check.gap == pytest.approx(fixed["true_fw_gap"], abs=0.01)
    assert "implicit function theorem" in result.check.oracle


def users_code(train, val):
    import mixopt as mx

    domains = mx.Domains([f"d{i}" for i in range(8)])
    w, theta = mx.Mixture(domains), mx.model()
    ridge = mx.argmin(w @ mx.losses(theta, domains) + 0.005 * mx.sum_squares(theta), over=theta)
    problem = mx.minimize(mx.loss(ridge, "val"), over=w)
    learner = mx.FunctionLearner(torch.zeros(50, dtype=torch.float64), losses={"train": train, "val": val})
    return mx.solve(problem, learner)


def test_case_b_takes_at_most_ten_lines_of_the_user(load):
    lines = [line for line in inspect.getsource(users_code).splitlines()[1:] if line.strip()]
    assert len(lines) <= 10
    assert "import mixopt" in lines[0]
    assert "solve" in lines[-1]
    z, figures = load("b_ridge_k8_d50")
    result = users_code(*functions("b", z))
    assert result.vector == pytest.approx(figures["optimum"]["w"], abs=1e-4)
