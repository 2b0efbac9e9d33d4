"""What a graph, a tree or a bound that does not fit is answered with: the messages that users see."""

from __future__ import annotations

import warnings

import networkx as nx
import numpy as np
import pytest

import mixopt as mx
from mixopt.errors import MixoptError

DOMAINS = mx.Domains(["web", "code", "books"], tokens=[6.0, 3.0, 1.0])
W = mx.Mixture(DOMAINS)
BARE = mx.Mixture(["web", "code", "books"])
EMPTY = mx.Mixture(mx.Domains(["web", "code", "books"], tokens=[6.0, 4.0, 0.0]))
P = mx.Mixture(DOMAINS, name="p", stages=2)
NESTED = mx.Mixture(mx.Domains(["web/news", "web/forum", "code"], tokens=[6.0, 3.0, 1.0]))
PATH = nx.path_graph(["web", "code", "books"])
CHAIN = nx.DiGraph([("web", "code"), ("code", "books")])


def with_edge(graph, a, b, **data):
    made = graph.copy()
    made.add_edge(a, b, **data)
    return made


g = mx.graph
REFUSED = {
    "an unknown node": (
        lambda: g.differences(W, nx.path_graph(["web", "code", "bokks"]), 0.1),
        "node 'bokks' of the graph is no domain; the domains are (web, code, books); did you mean 'books'?",
    ),
    "a domain that is no node": (
        lambda: g.smoothness(W, nx.Graph([("web", "code")])),
        "the graph for smoothness lacks the domains (books); graph.add_nodes_from(['books']) adds nodes",
    ),
    "a self-loop": (
        lambda: g.smoothness(W, with_edge(PATH, "web", "web")),
        "the graph has an edge from 'web' to itself, which says nothing; graph.remove_edge(node, node) takes it out",
    ),
    "a direction where none is meant": (
        lambda: g.differences(W, CHAIN, 0.1),
        "differences is of an undirected graph, and this one is directed; give graph.to_undirected()",
    ),
    "no direction where one is meant": (
        lambda: g.order(W, PATH),
        "order is along the edges of a directed graph, and this one has no direction; give a networkx.DiGraph",
    ),
    "a cycle": (
        lambda: g.order(W, with_edge(CHAIN, "books", "web")),
        "order needs a graph without cycles, but it has web -> code -> books -> web; along a cycle all weights would be equal, or 0",
    ),
    "a weight on one edge only": (
        lambda: g.total_variation(W, with_edge(PATH, "web", "books", weight=-0.5)),
        "the edge web - code has no attribute 'weight', which 2 of 3 edges lack and all need",
    ),
    "parallel edges": (
        lambda: g.smoothness(W, nx.MultiGraph([("web", "code"), ("code", "books")])),
        "the graph may have parallel edges; give a networkx.Graph or DiGraph, with their weights added up",
    ),
    "no graph": (
        lambda: g.smoothness(W, {"web": ["code"]}),
        "a dict is no networkx graph; give one whose nodes are the domains' names",
    ),
    "a weight that is text": (
        lambda: g.smoothness(W, nx.Graph([("web", "code", {"weight": "high"}), ("code", "books", {"weight": 1})])),
        "the edge web - code has the weight 'high'; it is a finite number",
    ),
    "an attribute of another name": (
        lambda: g.differences(W, nx.Graph([("web", "code", {"bound": 0.1}), ("code", "books", {"bound": 0.1})]), "bonud"),
        "the edge web - code has no attribute 'bonud', which 2 of 2 edges lack and all need; did you mean 'bound'?",
    ),
    "no edges": (
        lambda: g.total_variation(mx.Mixture(["web"]), nx.empty_graph(["web"]), form="raw"),
        "the graph has no edge with a weight other than 0, so nothing is asked of any weight",
    ),
    "an order of nothing": (lambda: g.order(W, nx.create_empty_copy(CHAIN)), "the graph has no edge, so it orders nothing"),
    "no natural shares": (
        lambda: g.smoothness(BARE, PATH),
        "the density form needs the natural shares of (web, code, books); give Domains(names, tokens=[...]) or natural=[...]",
    ),
    "a natural share of 0": (
        lambda: g.ratios(EMPTY, PATH, 2, form="density"),
        "the density form divides by the natural shares, 0 for (books); leave these out or give natural=[...]",
    ),
    "natural shares that are not used": (
        lambda: g.smoothness(W, PATH, natural=[0.2, 0.3, 0.5], form="raw"),
        "the raw form uses no natural shares; leave natural= out, or take form='density'",
    ),
    "natural shares that are not compared": (
        lambda: g.differences(W, PATH, 0.1, natural=[0.2, 0.3, 0.5]),
        "the raw form uses no natural shares; leave natural= out, or take form='density'",
    ),
    "a form that there is not": (
        lambda: g.smoothness(W, PATH, form="densities"),
        "no form 'densities' of a penalty; there are 'density', 'raw' and 'normalised'; did you mean 'density'?",
    ),
    "a comparison that there is not": (
        lambda: g.ratios(W, PATH, 2, form="normalised"),
        "no form 'normalised' of a comparison; there are 'raw' and 'density'",
    ),
    "a negative bound": (
        lambda: g.differences(W, PATH, -0.1),
        "differences of at most -0.1 are asked for; the bound is a finite number >= 0",
    ),
    "a ratio below 1": (lambda: g.ratios(W, PATH, 0.5), "ratios of at most 0.5 are asked for; the bound is a finite number >= 1"),
    "bounds without names": (
        lambda: g.differences(W, PATH, [0.1, 0.2]),
        "at_most is one number, a parameter or the name of an edge attribute, not 2 numbers",
    ),
    "a vector of parameters": (
        lambda: g.differences(W, PATH, mx.parameter("r", 2)),
        "at_most is one number for all edges, and 'r' has shape (2,); name an edge attribute",
    ),
    "a factor of 0": (
        lambda: g.order(W, CHAIN, factor=0),
        "the factor is 0; a child's weight is at most factor * its parent's, for a finite number > 0",
    ),
    "no vector": (lambda: g.smoothness(W["web"], PATH), "'w[web]' is no vector over domains; give the mixture, made by Mixture(domains)"),
    "all stages at once": (lambda: g.smoothness(P, PATH), "'p' is no vector over domains; give the mixture, made by Mixture(domains)"),
    "an unknown branch": (lambda: g.frozen(NESTED, "wbe"), "no branch 'wbe' in (web); did you mean 'web'?"),
    "a level that there is not": (lambda: g.tree_sums(NESTED, level=3), "the tree has the levels 1 to 2, and no level 3"),
    "a branch without choice": (
        lambda: g.frozen(mx.Mixture(["web/a", "code"]), "web"),
        "the branch 'web' has one domain, 'web/a', so it has no shares to freeze",
    ),
    "a branch without share": (
        lambda: g.frozen(NESTED, "web", natural=[0, 0, 1]),
        "every share in the branch 'web' is 0, so its conditionals are not known; give natural=[...]",
    ),
    "a cap above 1": (lambda: g.conditional_caps(NESTED, "web", 1.5), "caps inside 'web' are shares from 0 to 1 of its total, not 1.5"),
    "caps that leave nothing": (
        lambda: g.conditional_caps(NESTED, "web", 0.4),
        "the caps of all children of 'web' sum to 0.8, below 1: only weight 0 meets them",
    ),
    "an unknown child": (
        lambda: g.conditional_caps(NESTED, "web", {"web/new": 0.4}),
        "no child 'web/new' in (web/news, web/forum); did you mean 'web/news'?",
    ),
    "strengths for other levels": (lambda: g.level_kl(NESTED, [1, 1, 1]), "the tree has 2 levels, but there are 3 strengths"),
    "a negative strength": (
        lambda: g.level_kl(NESTED, [1, -1]),
        "the strengths are (1.0, -1.0); they are finite numbers >= 0, and not all 0",
    ),
    "a code of text": (
        lambda: g.tree(DOMAINS, {"web": "12", "code": (1,), "books": (2,)}),
        "the prefix code of 'web' is '12'; it is a list of its levels, such as (12, 7, 3)",
    ),
    "codes that are missing": (lambda: g.tree(DOMAINS, {"web": (1,)}), "prefix codes are missing for (code, books)"),
    "a tree with two roots": (
        lambda: g.tree(DOMAINS, nx.DiGraph([("a", "web"), ("b", "code"), ("b", "books")])),
        "a tree has one root, but 2 nodes have no parent: (a, b); add a root above them",
    ),
    "a node with two parents": (
        lambda: g.tree(DOMAINS, nx.DiGraph([("r", "a"), ("r", "web"), ("a", "web"), ("a", "code"), ("a", "books")])),
        "'web' has the parents (r, a), and in a tree each node has one; for several parents use flow",
    ),
    "a leaf that is no domain": (
        lambda: g.tree(DOMAINS, nx.DiGraph([("r", "web"), ("r", "code"), ("r", "book")])),
        "no domain 'book' in (web, code, books); did you mean 'books'?",
    ),
    "a domain that is no leaf": (
        lambda: g.tree(DOMAINS, nx.DiGraph([("web", "code"), ("web", "books")])),
        "the tree does not have the domains (web) as leaves; each domain is one",
    ),
    "a tree without direction": (
        lambda: g.tree(DOMAINS, nx.star_graph(["r", "web", "code", "books"])),
        "the tree has no direction; give a networkx.DiGraph with edges from parent to child",
    ),
    "a tree over other domains": (
        lambda: g.tree_sums(W, g.tree(mx.Domains(["a", "b"]))),
        "the tree is over (a, b), not over (web, code, books)",
    ),
    "a walk that never ends": (
        lambda: g.diffused(DOMAINS, PATH, 1.0),
        "alpha is 1.0; it is the chance of a further step, at least 0 and below 1",
    ),
    "a walk along conflicts": (
        lambda: g.diffused(DOMAINS, nx.Graph([("web", "code", {"weight": -1}), ("code", "books", {"weight": 1})]), 0.5),
        "an edge has the weight -1; a walk needs weights >= 0, so leave conflicts out of the graph",
    ),
    "a taxonomy with two roots": (
        lambda: g.flow(W, nx.DiGraph([("a", "web"), ("b", "code"), ("b", "books")])),
        "a taxonomy has one root, but 2 nodes have no parent: (a, b); add a root above them",
    ),
    "a taxonomy without a domain": (
        lambda: g.flow(W, nx.DiGraph([("r", "web"), ("r", "code")])),
        "the taxonomy does not have the domains (books) as leaves; each domain is one",
    ),
    "an edge that there is not": (
        lambda: g.flow(W, nx.DiGraph([("r", "web"), ("r", "code"), ("r", "books")])).along("r", "book"),
        "no edge 'r -> book' in (r -> web, r -> code, r -> books); did you mean 'r -> books'?",
    ),
    "a node that nothing flows into": (
        lambda: g.flow(W, nx.DiGraph([("r", "web"), ("r", "code"), ("r", "books")])).into("r"),
        "no node with an edge into it 'r' in (web, code, books)",
    ),
    "parts that nothing moves between": (
        lambda: g.wasserstein(W, [0.2, 0.3, 0.5], nx.Graph({"web": ["code"], "books": []})),
        "nothing can move between (code, web) and the other domains, for the graph is not connected; add an edge",
    ),
    "a length of 0": (
        lambda: g.wasserstein(W, [0.2, 0.3, 0.5], nx.Graph([("web", "code", {"length": 0}), ("code", "books", {"length": 1})])),
        "an edge has the length 0; lengths are > 0",
    ),
    "a centre over other domains": (
        lambda: g.wasserstein(W, NESTED, PATH),
        "the centre 'w' is over (web/news, web/forum, code), not over (web, code, books)",
    ),
    "costs of another shape": (
        lambda: g.transport(W, {"old": 0.5, "older": 0.5}, [[1, 2, 3]]),
        "costs are a graph or a matrix [2, 3] of finite numbers >= 0, not one of shape (1, 3)",
    ),
    "a pair without a path": (
        lambda: g.transport(W, {"old": 1.0}, nx.Graph({"old": ["web", "code"], "books": []})),
        "no path leads from 'old' to 'books', so nothing can be transported between them; join the graph's parts",
    ),
    "no stages": (lambda: g.cumulative_order(W, CHAIN), "'w' has no stages; make it by Mixture(domains, stages=T)"),
    "lengths of other stages": (
        lambda: g.cumulative_order(P, CHAIN, lengths=[1]),
        "lengths are 2 numbers > 0, one for each stage, not [1]",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_messages(case):
    call, message = REFUSED[case]
    with pytest.raises(MixoptError) as caught:
        call()
    assert str(caught.value) == message


def test_a_negative_weight_names_its_edge():
    graph = nx.Graph([("web", "code", {"weight": 1.0}), ("code", "books", {"weight": -0.5})])
    with pytest.raises(mx.InputError) as caught:
        mx.graph.total_variation(W, graph)
    assert str(caught.value) == (
        "the edge code - books has the weight -0.5, and total_variation with negative weights need not be convex; "
        "use signed_smoothness for conflicts, or leave these edges out"
    )


def test_a_graph_in_parts_is_warned_of_and_used():
    graph = nx.Graph([("web", "code")])
    graph.add_node("books")
    with pytest.warns(g.GraphWarning, match=r"the graph falls into 2 parts, one of them \(books\); smoothness says nothing about"):
        penalty = g.smoothness(W, graph)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", g.GraphWarning)
        limits = [g.differences(W, graph, 0.1)]
    found = mx.solve(mx.minimize(penalty + mx.sum_squares(W - np.array([0.1, 0.1, 0.8])), over=W, subject_to=limits))
    assert found.status is mx.Status.OPTIMAL
