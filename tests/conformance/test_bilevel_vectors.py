"""Every vector stored with the shared bilevel cases: points, truncations, series, iterations, damping, sketches, penalties, scores."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812  (the usual name)

import mixopt as mx
from mixopt.api import bilevel_task
from mixopt.solvers import ConjugateGradients, Dense, Implicit, Neumann, Nystroem, OneStep, Unrolled, ValueFunction
from mixopt.solvers.bilevel import Trained

CASES = ("a1_quad_interior", "b_ridge_k8_d50", "c_logistic_k5_d20")


class Case:
    """A case's problem, learner, arrays and stored figures."""

    def __init__(self, name, z, figures):
        self.figures, k, rho = figures, figures["k"], figures["rho"]
        self.near = figures["approx_at_uniform"]
        if name.startswith("a"):
            train = lambda p: torch.einsum("kd,kde,ke->k", p - z["C"], z["A"], p - z["C"]) / 2  # noqa: E731
            val = lambda p: (p - z["t"]) @ z["B"] @ (p - z["t"]) / 2  # noqa: E731
        elif name.startswith("b"):
            train = lambda p: ((z["X"] @ p - z["y"]) ** 2).mean(1) / 2  # noqa: E731
            val = lambda p: ((z["Xv"] @ p - z["yv"]) ** 2).mean() / 2  # noqa: E731
        else:
            train = lambda p: F.softplus(-z["y"] * (z["X"] @ p)).mean(1)  # noqa: E731
            val = lambda p: F.softplus(-z["yv"] * (z["Xv"] @ p)).mean()  # noqa: E731
        self.losses = {"train": train, "val": val}
        domains = [f"d{i}" for i in range(k)]
        w, theta = mx.Mixture(domains), mx.model()
        lower = w @ mx.losses(theta, domains) + (rho / 2 * mx.sum_squares(theta) if rho else 0)
        self.problem = mx.minimize(mx.loss(mx.argmin(lower, over=theta), "val"), over=w)
        self.uniform, self.rho = [1 / k] * k, rho
        self.learner = self.at(torch.zeros(figures["d"], dtype=torch.float64))

    def at(self, theta):
        """A learner whose model starts at some parameters."""
        return mx.FunctionLearner(theta, self.losses)

    def gradient(self, solver):
        """The hypergradient at uniform weights."""
        return mx.hypergradient(self.problem, self.learner, at=self.uniform, solver=solver)

    def descended(self, steps):
        """The model after plain gradient steps from zero at uniform weights, apart from what is under test."""
        theta, w = torch.zeros(self.figures["d"], dtype=torch.float64), torch.tensor(self.uniform, dtype=torch.float64)
        for _ in range(steps):
            theta = theta.detach().requires_grad_()
            value = w @ self.losses["train"](theta) + self.rho / 2 * theta @ theta
            theta = theta - self.near["eta"] * torch.autograd.grad(value, theta)[0]
        return theta.detach()


@pytest.fixture(scope="module", params=CASES)
def case(request, shared):
    """One case."""
    figures = json.loads(shared("cases/bilevel/expected.json").read_text(encoding="utf-8"))["cases"][request.param]
    with np.load(shared(f"cases/bilevel/{request.param}.npz")) as arrays:
        return Case(request.param, {name: torch.tensor(arrays[name]) for name in arrays}, figures)


def test_values_losses_and_models_at_all_points(case):
    _, task, _ = bilevel_task(case.problem, case.learner, None, Implicit(), None)
    for point in case.figures["points"].values():
        w = task.model.weights(np.array(point["w"]))
        found = Implicit().trained(task.model, w, Trained(task.model.learner.start(), np.inf))
        (theta,) = found.leaves
        assert float(task.model.upper(w, found.leaves, None)) == pytest.approx(point["F"], abs=1e-9)
        assert case.losses["train"](theta).tolist() == pytest.approx(point["inner_losses"], rel=1e-7)
        assert float(theta.norm()) == pytest.approx(point["phi_star_norm"], rel=1e-8)
        assert theta[: len(point["phi_star_head"])].tolist() == pytest.approx(point["phi_star_head"], abs=1e-8)


def test_unrolled_gradients_values_and_residuals_at_all_lengths(case):
    _, task, w = bilevel_task(case.problem, case.learner, case.uniform, Unrolled(), None)
    for steps, stored in case.near["unroll_from_zero"].items():
        if int(steps) > 500:
            continue  # converged long before
        solver = Unrolled(steps=int(steps), step_size=case.near["eta"])
        weights = task.model.weights(w)
        trained = solver.trained(task.model, weights, Trained(task.model.learner.start(), np.inf))
        slope = solver.slope_of(task.model, weights, trained)
        assert slope.gradient.numpy() == pytest.approx(stored["grad"], rel=1e-8, abs=1e-10)
        assert float(slope.value) == pytest.approx(stored.get("F_K", float(slope.value)), rel=1e-10)
        assert trained.inner == pytest.approx(stored.get("inner_grad_norm", trained.inner), rel=1e-6, abs=1e-14)


def test_truncations_of_a_hundred_steps(case):
    for last, stored in case.near.get("truncated_last_T_of_100", {}).items():
        found = case.gradient(Unrolled(steps=100, step_size=case.near["eta"], last=int(last)))
        assert found == pytest.approx(stored["grad"], rel=1e-8, abs=1e-10)


def test_terms_of_the_neumann_series(case):
    for terms, stored in case.near["neumann_terms"].items():
        found = case.gradient(Implicit(system=Neumann(steps=int(terms), rate=case.near["eta"])))
        assert found == pytest.approx(stored["grad"], rel=1e-6, abs=1e-8)


def test_iterations_of_conjugate_gradients(case):
    _, task, w = bilevel_task(case.problem, case.learner, case.uniform, Implicit(), None)
    weights = task.model.weights(w)
    trained = Implicit().trained(task.model, weights, Trained(task.model.learner.start(), np.inf))
    for steps, stored in case.near.get("cg_iters", {}).items():
        solver = Implicit(system=ConjugateGradients(steps=int(steps), tolerance=1e-30))  # it would hold for the training's systems too
        found = solver.slope(task.model, weights, trained.leaves, None, None).gradient.numpy()
        assert found == pytest.approx(stored["grad"], rel=1e-6, abs=1e-7)


def test_damping_and_a_sketch_of_full_rank(case):
    for damping, stored in case.near.get("damped_ift", {}).items():
        for system in (Dense(damping=float(damping)), ConjugateGradients(damping=float(damping))):
            assert case.gradient(Implicit(system=system)) == pytest.approx(stored["grad"], rel=1e-6, abs=1e-8)
    for damping in (0.01, 0.001):  # the stored sketches of lower rank are of unit vectors, ours of random ones
        stored = case.near.get("nystrom_first_r_columns", {}).get(f"r=50,damping={damping}")
        if stored:
            assert case.gradient(Implicit(system=Nystroem(50, damping))) == pytest.approx(stored["grad"], rel=1e-6, abs=1e-8)


def test_an_exact_system_at_a_model_that_has_not_converged(case):
    stored = case.near.get("ift_exact_solve_at_phi100")
    if stored is None:
        return
    _, task, w = bilevel_task(case.problem, case.learner, case.uniform, Implicit(), None)
    slope = Implicit(system=Dense()).slope(task.model, task.model.weights(w), (case.descended(100),), None, None)
    assert slope.gradient.numpy() == pytest.approx(stored["grad"], rel=1e-8, abs=1e-10)


def test_the_penalised_values_and_their_distance_from_the_upper_one(case):
    _, task, w = bilevel_task(case.problem, case.learner, case.uniform, ValueFunction(), None)
    for penalty, stored in case.near["value_function_exact"].items():
        if "L_lambda" not in stored:
            continue
        solver, weights = ValueFunction(penalty=float(penalty), differences="one-sided"), task.model.weights(w)
        trained = solver.trained(task.model, weights, Trained(task.model.learner.start(), np.inf))
        value = solver.value_of(task.model, weights, trained)
        upper = float(task.model.upper(weights, trained.leaves, None))
        assert value == pytest.approx(stored["L_lambda"], abs=1e-9 * max(1, float(penalty)))
        assert upper - value == pytest.approx(stored["F_minus_L"], abs=1e-9 * max(1, float(penalty)))


@pytest.mark.parametrize("where", ["doge_scores_at_phi_star", "doge_scores_at_phi_10", "doge_scores_at_zero"])
def test_doge_s_scores_at_three_models(case, where):
    stored = case.near.get(where)
    if stored is None:
        return
    theta = case.descended({"doge_scores_at_phi_star": 1000, "doge_scores_at_phi_10": 10, "doge_scores_at_zero": 0}[where])
    solver = OneStep(step_size=1.0, steps=1)
    _, task, w = bilevel_task(case.problem, case.at(theta), case.uniform, Implicit(), None)
    _, gradient = solver._direction(task.model, task.model.weights(w), task.model.learner.start(), None)
    assert -gradient.numpy() == pytest.approx(stored["score"], rel=1e-6, abs=1e-9)


def test_the_optimum_of_each_penalty(case):
    """One-sided differences rest at the optimum of their own objective, stored for each penalty with its distance from the true one."""
    for penalty, stored in case.figures.get("finite_lambda_optimum", {}).items():
        near = 0.99 * np.array(stored["w"]) + 0.01 / case.figures["k"]
        solver = ValueFunction(penalty=float(penalty), differences="one-sided", tolerance=1e-6)
        result = mx.solve(case.problem, case.learner, solver=solver, start=near)
        assert result.status is mx.Status.STATIONARY
        assert result.vector == pytest.approx(stored["w"], abs=1e-4)
        assert abs(result.vector - case.figures["optimum"]["w"]).max() == pytest.approx(stored["w_err"], abs=1e-4)
        assert result.value - case.figures["optimum"]["F"] == pytest.approx(stored["F_gap"], rel=1e-2, abs=1e-8)
