"""Every solver of programs, on every toy program that it takes: the known answer, a small gap, and weights on the simplex."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

import mixopt as mx
from mixopt.solvers import Conic, Projected, WaterFilling

pytest.importorskip("cvxpy")

DOMAINS = mx.Domains(["a", "b", "c", "d"], tokens=[4.0, 3.0, 2.0, 1.0])
W = mx.Mixture(DOMAINS)
SOLVERS = [Conic(), Projected(), Projected(geometry="entropic"), WaterFilling()]
COST = np.array([3.0, 1.0, 2.0, 5.0])


@dataclass(frozen=True)
class Toy:
    """A program and its optimum, known in closed form."""

    problem: mx.Problem
    weights: list[float]
    value: float
    given: dict[str, float] = field(default_factory=dict)


def softmin(cost: np.ndarray, temperature: float) -> np.ndarray:
    """argmin over w of <cost, w> - temperature entropy(w)."""
    scores = np.exp(-cost / temperature)
    return scores / scores.sum()


SOFT = softmin(COST, 0.5)
TILTED = DOMAINS.natural * np.exp(-COST)
TOYS = {
    "uniform": Toy(mx.maximize(mx.entropy(W), over=W), [0.25] * 4, np.log(4)),
    "a corner": Toy(mx.minimize(COST @ W, over=W), [0, 1, 0, 0], 1.0),
    "a corner of a box": Toy(mx.minimize(COST @ W, over=W, subject_to=[W <= 0.4, W >= 0.1]), [0.1, 0.4, 0.4, 0.1], 2.0),
    "a softmin": Toy(mx.minimize(COST @ W - 0.5 * mx.entropy(W), over=W), list(SOFT), -0.5 * np.log(np.exp(-COST / 0.5).sum())),
    "a tilted prior": Toy(mx.minimize(COST @ W + mx.kl(W, DOMAINS.natural), over=W), list(TILTED / TILTED.sum()), -np.log(TILTED.sum())),
    "a projection": Toy(mx.minimize(mx.sum_squares(W - [0.9, 0.5, -0.1, -0.3]), over=W), [0.7, 0.3, 0, 0], 0.18),
    "a group": Toy(
        mx.minimize(mx.kl(W, DOMAINS.natural), over=W, subject_to=[mx.mass(W, ["a", "b"]) <= 0.35]),
        [0.2, 0.15, 13 / 30, 13 / 60],
        0.35 * np.log(0.5) + 0.65 * np.log(13 / 6),
    ),
    "an equality": Toy(mx.minimize(mx.sum_squares(W), over=W, subject_to=[mx.equal(W["a"], 0.4)]), [0.4, 0.2, 0.2, 0.2], 0.28),
    "a parameter": Toy(
        mx.minimize(mx.sum_squares(W), over=W, subject_to=[W["a"] >= mx.parameter("floor")]),
        [0.55, 0.15, 0.15, 0.15],
        0.37,
        {"floor": 0.55},
    ),
    "the worst of four": Toy(mx.minimize(mx.max(W / DOMAINS.natural), over=W), list(DOMAINS.natural), 1.0),
    "a distance": Toy(mx.minimize(mx.norm(W - 0.25, 1) + W["d"], over=W), [0.25] * 4, 0.25),
    "a ball": Toy(mx.minimize(W["a"], over=W, subject_to=[mx.norm(W - 0.25) <= np.sqrt(0.03)]), [0.1, 0.3, 0.3, 0.3], 0.1),
    "log utility": Toy(mx.maximize(DOMAINS.natural @ mx.log(W), over=W), [0.4, 0.3, 0.2, 0.1], (-1.2798542258336676)),
    "not convex": Toy(mx.minimize(mx.exp(W["a"]) - mx.square(W["b"]), over=W), [0, 1, 0, 0], 0.0),
}

PAIRS = [
    pytest.param(toy, solver, id=f"{solver}: {name}")
    for name, toy in TOYS.items()
    for solver in SOLVERS
    if not solver.refuses(mx.plan(toy.problem).form, None)
]


@pytest.mark.parametrize(("toy", "solver"), PAIRS)
def test_reaches_the_known_optimum(toy, solver):
    result = mx.solve(toy.problem, solver=solver, given=toy.given)
    assert result.status.solved, str(result)
    assert result.value == pytest.approx(toy.value, abs=2e-6)
    np.testing.assert_allclose(result.vector, toy.weights, atol=2e-3)
    assert abs(result.vector.sum() - 1) <= 1e-12
    assert result.vector.min() >= 0
    assert result.check.feasible
    assert result.check.gap <= 1e-4
    assert set(result.weights) == set(DOMAINS)


def test_each_toy_is_taken_by_some_solver_and_each_solver_takes_several():
    ids = [pair.id for pair in PAIRS]
    assert all(any(i.endswith(f": {name}") for i in ids) for name in TOYS)
    assert all(sum(i.startswith(f"{solver}: ") for i in ids) >= 5 for solver in SOLVERS)


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_infeasible_is_a_status_for_every_solver(solver):
    result = mx.solve(mx.minimize(mx.sum_squares(W), over=W, subject_to=[W >= 0.3]), solver=solver)
    assert result.status is mx.Status.INFEASIBLE
    assert result.check is None
