"""Every solver that takes bilevel problems, on every toy with a known answer, in every dtype, on every device."""

from __future__ import annotations

import pytest
import torch

import mixopt as mx
from mixopt.solvers import BOME, GPBGD, VPBGD, DescentAscent, Implicit, OneStep, ScaleBiO, Unrolled, ValueFunction
from mixopt.solvers.conic import Conic
from mixopt.solvers.projected import Projected

SOLVERS = [
    Implicit(),
    Unrolled(steps=40, step_size=0.5),
    ValueFunction(),
    ValueFunction(differences="central", penalty=100),
    DescentAscent(),
    Conic(),
    Projected(),
]
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")])]
TOYS = {
    # centres, target, constraints, weights at the optimum of |mean of c under w - target|^2 / 2
    "inside": ([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]], [0.4, 1.0], lambda w: [], [0.3, 0.2, 0.5]),
    "an edge": ([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]], [-1.0, 0.5], lambda w: [], [0.75, 0.0, 0.25]),
    "a corner": ([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]], [5.0, -1.0], lambda w: [], [0.0, 1.0, 0.0]),
    "a cap": ([[0.0], [1.0]], [0.8], lambda w: [(w["d1"] <= 0.6).named("cap")], [0.4, 0.6]),
    "a group": ([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [0.5, 0.5], lambda w: [mx.mass(w, ["d1", "d2"]) <= 0.4], [0.6, 0.2, 0.2]),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("toy", TOYS)
@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_reaches_the_known_optimum_or_says_why_not(solver, toy, dtype, device):
    centres, target, constraints, weights = TOYS[toy]
    c, t = (torch.tensor(v, dtype=dtype, device=device) for v in (centres, target))
    domains = [f"d{i}" for i in range(len(c))]
    w, theta = mx.Mixture(domains), mx.model()
    trained = mx.argmin(w @ mx.losses(theta, domains), over=theta)
    problem = mx.minimize(mx.loss(trained, "val"), over=w, subject_to=constraints(w))
    losses = {"train": lambda x: ((x - c) ** 2).sum(1) / 2, "val": lambda x: ((x - t) ** 2).sum() / 2}
    learner = mx.FunctionLearner(torch.zeros(c.shape[1], dtype=dtype, device=device), losses=losses)
    form = mx.plan(problem, learner).form
    if solver.refuses(form, learner.abilities):
        with pytest.raises(mx.RefusalError, match="refuses this bilevel"):
            mx.solve(problem, learner, solver=solver)
        return
    result = mx.solve(problem, learner, solver=solver)
    exact = dtype == torch.float64
    assert result.status in ((mx.Status.STATIONARY,) if exact else (mx.Status.STATIONARY, mx.Status.STUCK, mx.Status.BUDGET))
    assert result.vector == pytest.approx(weights, abs=1e-5 if exact else 2e-3)
    assert (result.parameters.dtype, result.parameters.device.type) == (dtype, device)
    assert sum(result.weights.values()) == pytest.approx(1, abs=1e-9)
    assert min(result.weights.values()) >= 0
    assert result.check.feasible
    coarse = 1e-2 if isinstance(solver, ValueFunction) else 1e-3  # it multiplies rounding by its penalty
    assert result.check.gap < (1e-5 if exact else coarse)
    assert "implicit function theorem" in result.check.oracle


LOOPS = {  # and how near their penalties let them come to the weights of the toys
    VPBGD(penalty=30, rate=0.5, steps=200): 0.03,
    GPBGD(penalty=10, rate=0.1, steps=300): 0.1,
    BOME(rate=0.1, steps=200): 0.1,
    ScaleBiO(rate=0.03, penalty=3, decay=0.0, steps=400, cosine=True): 0.2,
    OneStep(step_size=1.0, rate=0.5, steps=200, average="last"): 0.03,
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("toy", ["inside", "an edge", "a cap"])
@pytest.mark.parametrize("solver", LOOPS, ids=str)
def test_a_single_loop_comes_near_the_known_optimum_on_the_simplex(solver, toy, dtype, device):
    centres, target, constraints, weights = TOYS[toy]
    c, t = (torch.tensor(v, dtype=dtype, device=device) for v in (centres, target))
    domains = mx.Domains([f"d{i}" for i in range(len(c))])
    losses = {"train": lambda x: ((x - c) ** 2).sum(1) / 2, "val": lambda x: ((x - t) ** 2).sum() / 2}
    learner = mx.FunctionLearner(torch.zeros(c.shape[1], dtype=dtype, device=device), losses=losses)
    w, theta = mx.Mixture(domains), mx.model()
    trained = mx.argmin(w @ mx.losses(theta, domains), over=theta)
    problem = mx.minimize(mx.loss(trained, "val"), over=w, subject_to=constraints(w))
    if isinstance(solver, ScaleBiO) and constraints(w):
        with pytest.raises(mx.RefusalError, match="softmax logits"):
            mx.solve(problem, learner, solver=solver)
        return
    result = mx.solve(problem, learner, solver=solver)
    assert result.vector == pytest.approx(weights, abs=LOOPS[solver])
    assert (result.parameters.dtype, result.parameters.device.type) == (dtype, device)
    assert sum(result.weights.values()) == pytest.approx(1, abs=1e-9)
    assert result.check.feasible
    assert "implicit function theorem" in result.check.oracle
