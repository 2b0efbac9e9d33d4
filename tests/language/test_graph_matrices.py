"""Graphs from matrices."""

from __future__ import annotations

import numpy as np
import pytest

import mixopt as mx

NAMES = ["a", "b", "c"]


def test_the_first_matrix_says_which_edges_there_are():
    alike = np.array([[9.0, 0.5, 0.0], [0.5, 9.0, 0.2], [0.0, 0.2, 9.0]])
    graph = mx.graph.from_matrix(mx.Domains(NAMES), weight=alike, limit=1 - alike)
    assert set(graph.edges) == {("a", "b"), ("b", "c")}
    assert graph.edges["b", "c"] == {"weight": 0.2, "limit": 0.8}
    w = mx.Mixture(NAMES)
    tight = mx.solve(mx.maximize(w["c"], over=w, subject_to=[mx.graph.differences(w, graph, at_most="limit")]))
    assert tight.weights["c"] - tight.weights["b"] <= 0.8 + 1e-7


@pytest.mark.parametrize("given", [{}, {"weight": np.eye(2)}, {"weight": np.triu(np.ones((3, 3)))}, {"weight": np.full((3, 3), np.nan)}])
def test_bad_matrices(given):
    with pytest.raises(mx.InputError):
        mx.graph.from_matrix(NAMES, **given)
