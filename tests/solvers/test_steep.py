"""Exact bilevel runs where first-order steps have it hard: slopes without end at a weight of 0, and constraints with kinks."""

from __future__ import annotations

import json

import networkx as nx
import numpy as np
import pytest
import torch

import mixopt as mx
from mixopt.language.curvature import steep
from mixopt.solvers import Implicit

W = mx.Mixture(["a", "b", "c"])


@pytest.fixture(scope="module")
def case(shared):
    """A learner of case b, the mixture, and the upper loss."""
    figures = json.loads(shared("cases/bilevel/expected.json").read_text(encoding="utf-8"))["cases"]["b_ridge_k8_d50"]
    with np.load(shared("cases/bilevel/b_ridge_k8_d50.npz")) as arrays:
        t = {name: torch.tensor(arrays[name]) for name in arrays}
    learner = mx.FunctionLearner(
        torch.zeros(figures["d"], dtype=torch.float64),
        losses={"train": lambda p: ((t["X"] @ p - t["y"]) ** 2).mean(1) / 2, "val": lambda p: ((t["Xv"] @ p - t["yv"]) ** 2).mean() / 2},
    )
    domains = mx.Domains([f"d{i}" for i in range(figures["k"])])
    w, theta = mx.Mixture(domains), mx.model()
    ridge = mx.argmin(w @ mx.losses(theta, domains) + figures["rho"] / 2 * mx.sum_squares(theta), over=theta)
    return learner, w, mx.loss(ridge, "val")


def test_a_weak_divergence_ends_where_the_weights_are_the_softmax_of_the_slope(case):
    """At the optimum of F + r KL(w || q), w_i is proportional to q_i exp(-dF/dw_i / r): about 1e-17 for one domain here."""
    learner, w, loss = case
    rate, q = 0.05, np.full(8, 1 / 8)
    result = mx.solve(mx.minimize(loss + rate * mx.kl(w, q), over=w), learner)
    slope = mx.hypergradient(mx.minimize(loss, over=w), learner, at=result.weights)
    expected = q * np.exp(-(slope - slope.min()) / rate)
    assert result.status is mx.Status.STATIONARY
    assert result.check.gap <= 1e-6
    assert 0 < result.vector.min() < 1e-15
    np.testing.assert_allclose(result.vector, expected / expected.sum(), atol=1e-5)


def test_entropic_steps_reach_the_same_optimum_from_a_corner_under_caps(case):
    learner, w, loss = case
    problem = mx.minimize(loss, over=w, subject_to=[(w <= 0.4).named("caps"), (mx.sum(w[["d0", "d2"]]) <= 0.45).named("pair")])
    corner = [0.4, 0.4, 0.05, 0.15, 0, 0, 0, 0]
    plain = mx.solve(problem, learner)
    entropic = mx.solve(problem, learner, solver=Implicit(geometry="entropic", tolerance=1e-5, outer_steps=400), start=corner)
    assert entropic.status is mx.Status.STATIONARY
    np.testing.assert_allclose(entropic.vector, plain.vector, atol=2e-3)
    assert entropic.value == pytest.approx(plain.value, abs=1e-5)


def test_a_ball_with_kinks_is_certified_at_one(case):
    """Total variation on a ring: several neighbours share a weight, where no single slope of the constraint balances the gradient."""
    learner, w, loss = case
    ring = nx.cycle_graph([f"d{i}" for i in range(8)])
    nx.set_edge_attributes(ring, 1.0, "weight")
    ball = (mx.graph.total_variation(w, ring, form="raw") <= 0.3).named("variation")
    result = mx.solve(mx.minimize(loss, over=w, subject_to=[ball]), learner)
    assert result.status is mx.Status.STATIONARY
    assert len(np.unique(result.vector.round(7))) <= 5
    assert result.check.kkt <= 1e-6
    assert result.duals["variation"] == pytest.approx(0.75, abs=1e-3)


@pytest.mark.parametrize(
    ("expr", "answer"),
    [
        (mx.kl(W, np.full(3, 1 / 3)), True),
        (-2 * mx.entropy(W[["a", "b"]]), True),
        (mx.sum(mx.log(W)), True),
        (mx.sum(mx.log(W + 0.1)), False),
        (mx.sum_squares(W), False),
    ],
)
def test_what_is_steep_at_zero(expr, answer):
    assert steep(expr) is answer
