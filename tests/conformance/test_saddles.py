"""Every solver that takes saddles, on every toy with a known answer, in every dtype, on every device."""

from __future__ import annotations

import pytest
import torch

import mixopt as mx
from mixopt.solvers import (
    Backtracking,
    BestResponse,
    Decaying,
    DescentAscent,
    Extragradient,
    Implicit,
    SmoothedDescentAscent,
    Unrolled,
    ValueFunction,
)
from mixopt.solvers.conic import Conic
from mixopt.solvers.projected import Projected

NEAR = {"steps": 800, "tolerance": 1e-6}
SOLVERS = [
    DescentAscent(rate=0.1, average="last", **NEAR),
    DescentAscent(rate=0.1, geometry="euclidean", average="last", **NEAR),
    DescentAscent(rate=0.1, average="last", order="simultaneous", optimistic=True, **NEAR),
    Extragradient(rate=0.1, **NEAR),
    Extragradient(model_rate=1.0, schedule=Backtracking(), **NEAR),
    SmoothedDescentAscent(rate=0.1, geometry="euclidean", **NEAR),
    BestResponse(model_rate=1.0, schedule=Decaying(power=1.0), steps=1500),
    Implicit(),
    Unrolled(),
    ValueFunction(),
    Conic(),
    Projected(),
]
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")])]
TOYS = {
    # centres, constraints, weights and model at the saddle of sum_i w_i |x - c_i|^2 / 2
    "two points": ([[-1.0], [3.0]], lambda w: [], [0.5, 0.5], [1.0]),
    "three points": ([[-1.0], [0.5], [3.0]], lambda w: [], [0.5, 0.0, 0.5], [1.0]),
    "an obtuse angle": ([[0.5, 0.5], [2.0, 0.0], [0.0, 2.0]], lambda w: [], [0.0, 0.5, 0.5], [1.0, 1.0]),
    "a cap": ([[-1.0], [3.0]], lambda w: [w["d1"] <= 0.3], [0.7, 0.3], [0.2]),
    "a group": ([[-1.0], [3.0], [4.0]], lambda w: [mx.mass(w, ["d1", "d2"]) <= 0.4], [0.6, 0.0, 0.4], [1.0]),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("toy", TOYS)
@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_reaches_the_known_saddle_or_says_why_not(solver, toy, dtype, device):
    centres, constraints, weights, model = TOYS[toy]
    c = torch.tensor(centres, dtype=dtype, device=device)
    domains = [f"d{i}" for i in range(len(c))]
    w, theta = mx.Mixture(domains), mx.model()
    problem = mx.minimize(mx.maximize(w @ mx.losses(theta, domains), over=w, subject_to=constraints(w)), over=theta)
    learner = mx.FunctionLearner(torch.zeros(c.shape[1], dtype=dtype, device=device), losses={"train": lambda x: ((x - c) ** 2).sum(1) / 2})
    form = mx.plan(problem, learner).form
    if solver.refuses(form, learner.abilities):
        with pytest.raises(mx.RefusalError, match="refuses this saddle"):
            mx.solve(problem, learner, solver=solver)
        return
    result = mx.solve(problem, learner, solver=solver)
    assert result.status in (mx.Status.STATIONARY, mx.Status.BUDGET)
    assert result.vector == pytest.approx(weights, abs=2e-3)
    assert result.parameters.cpu().numpy() == pytest.approx(model, abs=2e-3)
    assert (result.parameters.dtype, result.parameters.device.type) == (dtype, device)
    assert sum(result.weights.values()) == pytest.approx(1, abs=1e-9)
    assert min(result.weights.values()) >= 0
    assert result.check.feasible
    assert result.check.gap < 2e-2
