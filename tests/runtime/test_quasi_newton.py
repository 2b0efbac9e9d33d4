"""Projected quasi-Newton steps against scipy, in fewer evaluations than spectral ones, and where they are not taken."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from scipy.optimize import minimize

import mixopt as mx
from mixopt.runtime.descent import begin, spectral_step
from mixopt.runtime.quasi_newton import quasi_newton_step
from mixopt.runtime.region import Region

K = 8
W = mx.Mixture([f"d{i}" for i in range(K)])
LIMITS = {
    "simplex": [],
    "box": [W["d0"] <= 0.1, W["d1"] >= 0.2],
    "linear": [mx.mass(W, ["d0", "d1", "d2"]) <= 0.3, mx.equal(W["d3"], 2 * W["d4"])],
}


@dataclass
class Counted:
    """A badly conditioned smooth convex function of the weights, whose evaluations are counted."""

    noise: float = 0.0
    values: int = 0
    matrix: np.ndarray = field(default_factory=lambda: np.random.default_rng(0).normal(size=(K, K)) * np.logspace(0, 1.3, K))

    def value(self, w):
        self.values += 1
        x = self.matrix @ w - 1
        return float(x @ x / 2 + np.exp(x).sum() / 10) + self.noise * (self.values % 3)

    def gradient(self, w):
        x = self.matrix @ w - 1
        return self.matrix.T @ (x + np.exp(x) / 10)


def descended(step, oracle, region, steps=300, tolerance=1e-9):
    at = begin(oracle, region.start(None))
    for _ in range(steps):
        at = step(oracle, region, at)
        gap = float(at.gradient @ (at.w - region.lowest(at.gradient)))
        if gap <= tolerance or at.stuck:
            break
    return at, gap


@pytest.mark.parametrize("kind", LIMITS)
def test_it_reaches_scipy_s_optimum_in_fewer_evaluations(kind):
    region = Region.compile(W, LIMITS[kind], {})
    oracle, other = Counted(), Counted()
    at, gap = descended(quasi_newton_step, oracle, region)
    assert gap <= 1e-9
    descended(spectral_step, other, region)
    assert oracle.values < other.values
    rows = [{"type": "eq", "fun": lambda w: w.sum() - 1}]
    rows += [{"type": "ineq", "fun": lambda w, i=i: region.h[i] - region.G[i] @ w} for i in range(len(region.h))]
    rows += [{"type": "eq", "fun": lambda w, i=i: region.A[i] @ w - region.b[i]} for i in range(len(region.b))]
    bounds = list(zip(region.lower, region.upper, strict=True))
    found = minimize(
        Counted().value,
        region.start(None),
        jac=Counted().gradient,
        bounds=bounds,
        constraints=rows,
        method="SLSQP",
        options={"ftol": 1e-15},
    )
    assert at.value == pytest.approx(found.fun, abs=1e-8)
    assert max(region.residuals(at.w).values(), default=0.0) < 1e-9


def test_noise_in_the_values_does_not_stop_it():
    region = Region.compile(W, [], {})
    at, gap = descended(quasi_newton_step, Counted(noise=1e-9), region, tolerance=1e-7)
    assert gap <= 1e-7
    assert not at.stuck


def test_constraints_that_bend_and_many_weights_take_spectral_steps():
    wide = mx.Mixture([f"d{i}" for i in range(600)])
    centre = np.full(600, 1 / 600)

    class Square:
        def value(self, w):
            return float((w - 2 * centre) @ (w - 2 * centre)) + float(w[0])

        def gradient(self, w):
            return 2 * (w - 2 * centre) + np.eye(600)[0]

    at, gap = descended(quasi_newton_step, Square(), Region.compile(wide, [], {}))
    assert gap <= 1e-9
    assert at.pairs == ()
