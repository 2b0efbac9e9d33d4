"""Graph constraints in a min-max problem, against the concave program that it equals."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch

import mixopt as mx
from mixopt.solvers import DescentAscent

CENTRES = np.array([0.0, 1.0, 2.0, 4.0])


@pytest.mark.parametrize("kind", ["differences", "order"])
def test_the_worst_mixture_on_a_graph(kind):
    """min over theta of max over w of sum w_i (theta - c_i)^2 / 2 = max over w of the variance of c under w, halved."""
    domains = mx.Domains(["a", "b", "c", "d"])
    w, theta = mx.Mixture(domains), mx.model()
    limit = {
        "differences": mx.graph.differences(w, nx.path_graph(domains.names), 0.1),
        "order": mx.graph.order(w, nx.DiGraph([("b", "a"), ("c", "b"), ("c", "d")])),
    }[kind]
    game = mx.minimize(mx.maximize(w @ mx.losses(theta, domains), over=w, subject_to=[limit]), over=theta)
    centres = torch.tensor(CENTRES)
    learner = mx.FunctionLearner(torch.zeros(1, dtype=torch.float64), losses={"train": lambda p: (p - centres) ** 2 / 2})
    played = mx.solve(game, learner, solver=DescentAscent(), budget=mx.Budget(steps=4000))
    c = mx.constant(CENTRES, domains.names)
    variance = 0.5 * (mx.constant(CENTRES**2, domains.names) @ w) - 0.5 * mx.square(c @ w)
    exact = mx.solve(mx.maximize(variance, over=w, subject_to=[limit]))
    assert played.check.feasible
    assert played.value == pytest.approx(exact.value, abs=1e-6)
    assert played.vector == pytest.approx(exact.vector, abs=1e-5)
