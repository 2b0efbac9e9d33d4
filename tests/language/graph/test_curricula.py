"""Section 2.3, staged: cumulative order over the stages of a curriculum."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from scipy.optimize import linprog, minimize

import mixopt as mx

NAMES = ("easy", "middle", "hard")
CHAIN = nx.DiGraph([("easy", "middle"), ("middle", "hard")])


def rows(stages, factor, lengths):
    """C_t,child - factor * C_t,parent <= 0 over W raveled [T k]."""
    out = []
    for t in range(stages):
        for parent, child in ((0, 1), (1, 2)):
            row = np.zeros((stages, 3))
            row[: t + 1, child] = lengths[: t + 1]
            row[: t + 1, parent] = -factor * np.array(lengths[: t + 1])
            out.append(row.ravel())
    return np.array(out)


@pytest.mark.parametrize(("factor", "lengths"), [(1.0, None), (0.8, None), (1.0, [0.5, 0.3, 0.2])])
def test_the_curriculum_is_the_linear_program_written_by_hand(factor, lengths):
    p = mx.Mixture(list(NAMES), name="p", stages=3)
    gain = np.array([[1.0, 0.2, 0.1], [0.1, 0.9, 0.5], [0.0, 0.3, 1.0]])
    limits = mx.graph.cumulative_order(p, CHAIN, factor, lengths)
    assert [r.name for r in limits] == ["order by stage 0", "order by stage 1", "order by stage 2"]
    objective = sum(g @ row for g, row in zip(gain, p, strict=True))
    found = mx.solve(mx.maximize(objective, over=p, subject_to=limits))
    sums = np.kron(np.eye(3), np.ones(3))
    solved = linprog(-gain.ravel(), A_ub=rows(3, factor, lengths or [1, 1, 1]), b_ub=np.zeros(6), A_eq=sums, b_eq=np.ones(3))
    assert found.value == pytest.approx(-solved.fun, abs=1e-6)


def test_smooth_curricula_are_the_quadratic_program():
    """min sum |W_t - aim_t|^2 + 0.5 sum |W_t - W_t-1|^2, by SLSQP."""
    p = mx.Mixture(list(NAMES), name="p", stages=2)
    aim = np.array([[0.1, 0.2, 0.7], [0.2, 0.2, 0.6]])
    objective = mx.sum_squares(p[0] - aim[0]) + mx.sum_squares(p[1] - aim[1]) + 0.5 * mx.sum_squares(p[1] - p[0])
    found = mx.solve(mx.minimize(objective, over=p, subject_to=mx.graph.cumulative_order(p, CHAIN)))

    def value(x):
        W = x.reshape(2, 3)
        return ((W - aim) ** 2).sum() + 0.5 * ((W[1] - W[0]) ** 2).sum()

    limits = [
        {"type": "eq", "fun": lambda x: x.reshape(2, 3).sum(1) - 1},
        {"type": "ineq", "fun": lambda x: -rows(2, 1.0, [1, 1]) @ x},
    ]
    solved = minimize(value, np.full(6, 1 / 3), method="SLSQP", bounds=[(0, 1)] * 6, constraints=limits, options={"ftol": 1e-14})
    assert np.ravel([list(stage.values()) for stage in found[p]]) == pytest.approx(solved.x, abs=1e-5)
