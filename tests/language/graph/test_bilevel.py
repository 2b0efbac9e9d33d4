"""Graph constraints in a bilevel problem: case b with caps, with bounded ring edges, with a Laplacian penalty, against SLSQP."""

from __future__ import annotations

import json

import networkx as nx
import numpy as np
import pytest
import torch
from scipy.optimize import minimize, nnls

import mixopt as mx
from mixopt.solvers import ConjugateGradients, Implicit, Inner

K = 8
NAMES = [f"d{i}" for i in range(K)]
RING = nx.cycle_graph(NAMES)
PRECISE = Implicit(tolerance=1e-9, inner=Inner(tolerance=1e-12), system=ConjugateGradients(tolerance=1e-12))


class Closed:
    """Case b in closed form: the ridge solution at w, its validation loss, and the loss's gradient in w by implicit differentiation."""

    def __init__(self, z, rho):
        n = z["X"].shape[1]
        self.second = np.einsum("knd,kne->kde", z["X"], z["X"]) / n
        self.first = np.einsum("knd,kn->kd", z["X"], z["y"]) / n
        self.Xv, self.yv, self.rho = z["Xv"], z["yv"], rho

    def solved(self, w):
        hessian = np.einsum("k,kde->de", w, self.second) + self.rho * np.eye(self.second.shape[1])
        return hessian, np.linalg.solve(hessian, w @ self.first)

    def value(self, w):
        _, theta = self.solved(w)
        return ((self.Xv @ theta - self.yv) ** 2).mean() / 2

    def gradient(self, w):
        hessian, theta = self.solved(w)
        slope = self.Xv.T @ (self.Xv @ theta - self.yv) / len(self.yv)
        return -(np.einsum("kde,e->kd", self.second, theta) - self.first) @ np.linalg.solve(hessian, slope)


@pytest.fixture(scope="module")
def case(shared):
    """The closed form, a learner, and the mixture's symbol with its upper-level objective."""
    figures = json.loads(shared("cases/bilevel/expected.json").read_text(encoding="utf-8"))["cases"]["b_ridge_k8_d50"]
    with np.load(shared("cases/bilevel/b_ridge_k8_d50.npz")) as arrays:
        z = {name: arrays[name] for name in arrays}
    t = {name: torch.tensor(value) for name, value in z.items()}
    learner = mx.FunctionLearner(
        torch.zeros(figures["d"], dtype=torch.float64),
        losses={"train": lambda p: ((t["X"] @ p - t["y"]) ** 2).mean(1) / 2, "val": lambda p: ((t["Xv"] @ p - t["yv"]) ** 2).mean() / 2},
    )
    domains = mx.Domains(NAMES)
    w, theta = mx.Mixture(domains), mx.model()
    trained = mx.argmin(w @ mx.losses(theta, domains) + figures["rho"] / 2 * mx.sum_squares(theta), over=theta)
    return Closed(z, figures["rho"]), learner, w, mx.loss(trained, "val")


def by_slsqp(value, gradient, rows, bounds):
    """The least value over the simplex with rows @ w <= bounds, from several starts."""
    limits = [{"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones(K)}]
    if len(rows):
        limits.append({"type": "ineq", "fun": lambda w: bounds - rows @ w, "jac": lambda w: -rows})
    options = {"ftol": 1e-15, "maxiter": 1000}
    found = minimize(value, np.full(K, 1 / K), jac=gradient, method="SLSQP", bounds=[(0, 1)] * K, constraints=limits, options=options)
    return found.x


def kkt_residual(gradient, w, rows, bounds):
    """The least norm of gradient + rows' y + nu 1 - z over y, z >= 0 on what binds: 0 where no feasible direction descends."""
    active = rows[bounds - rows @ w < 1e-6] if len(rows) else np.zeros((0, K))
    ones = np.ones((1, K))
    columns = np.vstack([active, -np.eye(K)[w < 1e-6], ones, -ones]).T
    return nnls(columns, -gradient)[1]


def agrees(case, relations, rows, bounds, penalty=None, add=lambda w: 0.0, slope=lambda w: 0.0):
    closed, learner, w, loss = case
    problem = mx.minimize(loss if penalty is None else loss + penalty, over=w, subject_to=relations)
    result = mx.solve(problem, learner, solver=PRECISE)
    expected = by_slsqp(lambda x: closed.value(x) + add(x), lambda x: closed.gradient(x) + slope(x), rows, bounds)
    assert result.vector == pytest.approx(expected, abs=1e-5)
    assert kkt_residual(closed.gradient(result.vector) + slope(result.vector), result.vector, rows, bounds) < 1e-6
    assert result.check.feasible
    assert max(result.check.constraints.values(), default=0) < 1e-9
    assert result.status is mx.Status.STATIONARY
    assert result.check.kkt < 1e-6


def test_the_closed_form_has_the_gradient_of_its_finite_differences(case):
    closed, w = case[0], np.linspace(1, 2, K) / 12
    for i in range(K):
        e = 1e-6 * np.eye(K)[i]
        assert closed.gradient(w)[i] == pytest.approx((closed.value(w + e) - closed.value(w - e)) / 2e-6, rel=1e-5, abs=1e-9)


def test_caps_on_each_domain(case):
    w = case[2]
    caps = np.array([0.2, 0.15, 0.2, 0.15, 0.2, 0.15, 0.2, 0.15])
    agrees(case, [(w <= caps).named("caps")], np.eye(K), caps)


@pytest.mark.parametrize("bound", [0.03, 0.1])
def test_bounded_differences_on_a_ring(case, bound):
    rows = np.zeros((2 * K, K))
    for n, (a, b) in enumerate(RING.edges):
        rows[n, [NAMES.index(a), NAMES.index(b)]] = 1, -1
    rows[K:] = -rows[:K]
    agrees(case, [mx.graph.differences(case[2], RING, at_most=bound)], rows, np.full(2 * K, bound))


def test_a_laplacian_penalty_on_a_ring(case):
    L = 0.05 * nx.laplacian_matrix(RING, nodelist=NAMES).toarray()
    penalty = 0.05 * mx.graph.smoothness(case[2], RING, form="raw")
    agrees(case, [], np.zeros((0, K)), np.zeros(0), penalty, lambda w: w @ L @ w, lambda w: 2 * L @ w)
