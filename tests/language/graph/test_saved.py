"""Problems on graphs are saved and read again: the same problem, the same answer."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

import mixopt as mx

DOMAINS = mx.Domains(["web/news", "web/forum", "code", "books"], tokens=[4.0, 3.0, 2.0, 1.0])
W = mx.Mixture(DOMAINS)
PATH = nx.path_graph(DOMAINS.names)
DAG = nx.DiGraph(PATH.edges)
GAIN = np.array([0.1, 0.2, 0.9, 0.4])
MOVED = mx.graph.wasserstein(W, DOMAINS.natural, PATH)
STAGES = mx.Mixture(DOMAINS, name="p", stages=2)

SAVED = {
    "penalties": mx.minimize(mx.graph.smoothness(W, PATH) + mx.graph.total_variation(W, PATH) - GAIN @ W, over=W),
    "bounds": mx.maximize(GAIN @ W, over=W, subject_to=[mx.graph.differences(W, PATH, 0.1), mx.graph.ratios(W, PATH, 2, form="density")]),
    "an order": mx.maximize(GAIN @ W, over=W, subject_to=[mx.graph.order(W, DAG, 0.9)]),
    "rows": mx.maximize(GAIN @ W, over=W, subject_to=mx.graph.each(mx.graph.differences(W, PATH, 0.1))),
    "a tree": mx.maximize(
        GAIN @ W - mx.graph.level_kl(W, (1.0, 2.0)),
        over=W,
        subject_to=[mx.graph.frozen(W, "web"), (mx.graph.tree_sums(W)["web"] >= 0.6).named("web"), mx.graph.conditional_caps(W, "", 0.7)],
    ),
    "transport": mx.maximize(GAIN @ W, over=(W, MOVED.amounts), subject_to=[*MOVED.relations, MOVED.cost <= 0.2]),
    "stages": mx.maximize(GAIN @ STAGES[1], over=STAGES, subject_to=mx.graph.cumulative_order(STAGES, DAG)),
}


@pytest.mark.parametrize("name", SAVED)
def test_what_is_saved_is_the_same_problem(name):
    problem = SAVED[name]
    again = mx.from_json(mx.to_json(problem))
    assert again == problem
    assert str(again) == str(problem)
    assert mx.solve(again).value == pytest.approx(mx.solve(problem).value, abs=1e-9)
