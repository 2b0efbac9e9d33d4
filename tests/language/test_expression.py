"""Expressions: operators, shapes, names of entries, equality, text, and relations."""

from __future__ import annotations

import gc
import math
import weakref

import numpy as np
import pytest

import mixopt as mx

DOMAINS = mx.Domains(["web", "code", "books"])
W = mx.Mixture(DOMAINS)


@pytest.mark.parametrize(
    ("expr", "text"),
    [
        (W + 1, "w + 1"),
        (1 - W, "1 - w"),
        (W - (W - 1), "w - (w - 1)"),
        ((W - W) - 1, "w - w - 1"),
        (2 * W + W / 4, "2*w + w/4"),
        (2 * (W + 1), "2*(w + 1)"),
        (W * -1.5, "w*(-1.5)"),
        (-W, "-w"),
        (-(W + 1), "-(w + 1)"),
        (-W * 2, "(-w)*2"),
        (0 - -W, "0 - -w"),
        (W.__neg__().__neg__(), "w"),
        (W["code"], "w[code]"),
        (W[0], "w[web]"),
        (W[-1], "w[books]"),
        (W[["code", "books"]], "w[code, books]"),
        (W[1:], "w[code, books]"),
        (W**2, "square(w)"),
        (W**1, "w"),
        (W**0.5, "sqrt(w)"),
        (W**-1.5, "power(w, -1.5)"),
        (np.e**W, "exp(1*w)"),
        (mx.logsumexp(W), "logsumexp(w)"),
        (mx.logsumexp(W, 0.5), "logsumexp(w, 0.5)"),
        (mx.tail(mx.huber(W, 0.1), 0.25), "tail(huber(w, 0.1), 0.25)"),
        (mx.tail(W, 0.25, [1, 1, 2]), "tail(w, 0.25, [0.25, 0.25, 0.5])"),
        (mx.stack([W["web"], W]), "stack(w[web], w)"),
        (mx.rel_entropy(W, 0.5), "rel_entropy(w, 0.5)"),
        (np.array([1.0, 2.0, 3.0]) @ W, "[1, 2, 3] @ w"),
        (W @ [1, 2, 3], "w @ [1, 2, 3]"),
        (np.eye(3) @ W, "<3x3 numbers> @ w"),
        (mx.exp(W)["web"], "exp(w)[web]"),
        ((W + 1)["web"], "(w + 1)[web]"),
        (mx.clip(W, 0, 0.5), "clip(w, 0, 0.5)"),
        (mx.norm(W, math.inf), "norm(w, inf)"),
        (mx.kl(W, [0.5, 0.25, 0.25]), "kl(w, [0.5, 0.25, 0.25])"),
        (mx.losses(mx.model(), DOMAINS, "val"), "losses(theta, 'val')"),
        (mx.mass(W, ["web", "books"]), "sum(w[web, books])"),
        (W["web"] * 0 + mx.sum_squares(mx.model()), "w[web]*0 + sum_squares(theta)"),
    ],
    ids=str,
)
def test_an_expression_reads_as_it_was_written(expr, text):
    assert str(expr) == text


def test_a_shape_is_shown_beside_the_text():
    assert repr(W) == "<3: w>"
    assert repr(W["web"]) == "<scalar: w[web]>"
    assert repr(mx.model()) == "<model: theta>"
    assert len(W) == 3
    assert [str(e) for e in W] == ["w[web]", "w[code]", "w[books]"]


def test_names_travel_with_entries():
    assert mx.exp(W + 1).index == DOMAINS.names
    assert W[["books", "web"]].index == ("books", "web")
    assert (np.ones((2, 3)) @ W).index is None
    assert mx.stack([W[0], W[1]], ["a", "b"]).index == ("a", "b")


def test_equal_trees_are_equal_and_hash_alike():
    again = mx.Mixture(mx.Domains(["web", "code", "books"]))
    one, two = mx.exp(W @ np.arange(3.0)) + 0.5, mx.exp(again @ np.arange(3.0)) + 0.5
    assert one == two
    assert hash(one) == hash(two)
    assert one != mx.exp(W @ np.arange(3.0)) + 0.25
    assert mx.Mixture(mx.Domains(["web", "books", "code"])) != W, "a symbol is its kind, name and index"
    assert len(set(one.walk())) == len(list((one + two).walk())) - 1, "equal parts are one node of a walk"


def test_a_walk_meets_arguments_first_and_deep_trees_need_no_deep_recursion():
    deep = W[0]
    for _ in range(3000):
        deep = deep + 1
    order = {node: i for i, node in enumerate(deep.walk())}
    assert all(order[a] < order[node] for node in order for a in node.args)
    assert len(str(deep)) == len("w[web]") + 3000 * len(" + 1")


def test_a_walk_is_the_same_each_time_and_keeps_nothing_alive():
    """The order is kept at the node, which must not hold itself: it is freed at once, without the collector of circles."""
    shared = mx.exp(W)
    expr = mx.sum(shared + shared * 2)
    first = list(expr.walk())
    assert first == list(expr.walk())
    assert len(first) == len(set(first)) == 6
    assert first[-1] is expr
    assert list(W.walk()) == [W]
    gone = weakref.ref(expr)
    gc.disable()
    try:
        del expr, first
        assert gone() is None
    finally:
        gc.enable()


def test_constants_cannot_be_changed_from_outside():
    numbers = np.ones(3)
    expr = W @ numbers
    numbers[:] = 9
    assert str(expr) == "w @ [1, 1, 1]"
    with pytest.raises(ValueError, match="read-only"):
        expr.args[1].data.value[0] = 9


def test_relations_have_a_label_and_one_direction():
    relation = W["web"] >= 0.25
    assert relation.label == "w[web] >= 0.25"
    assert relation.named("floor").label == "floor"
    assert str(relation.gap) == "0.25 - w[web]"
    assert str((W["web"] <= 0.5).gap) == "w[web] - 0.5"
    assert mx.equal(W["web"], 0.5).sense == "=="
    assert str(np.full(3, 0.5) >= W) == "w <= [0.5, 0.5, 0.5]", "numpy operands defer to the expression"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: W + np.ones(4), r"shapes do not fit in 'w \+ \[1, 1, 1, 1\]': 'w' \[3\] over \(web, code, books\) and .* \[4\]"),
        (lambda: W @ np.ones(4), r"shapes do not fit in 'w @ \[1, 1, 1, 1\]': 'w' \[3\].*\[4\]"),
        (lambda: W @ 2, "needs vectors or matrices.*use \\* for a scalar"),
        (lambda: np.ones(2) >= W, r"shapes do not fit in 'w <= \[1, 1\]'"),
        (lambda: W + mx.Mixture(["web", "books", "code"]), r"different names: \(web, code, books\) and \(web, books, code\)"),
        (lambda: W / 0, "'w/0' divides by zero"),
        (lambda: W / [1, 0, 1], "divides by zero"),
        (lambda: W**0, "'w' is raised to 0; an exponent is finite and not 0, where the power would be 1 everywhere"),
        (lambda: (-2) ** W, r"'-2 \*\* \(w\)': the base of a power with a symbolic exponent is a number > 0"),
        (lambda: W**W, "'w' is raised to 'w'; an exponent is a number; for a base x > 0 write exp"),
        (lambda: W["web":"code"], "'w' is cut by slice.*; a slice goes by whole positions, and names by a list of them"),
        (lambda: W[[True, False, True]], r"'w' is indexed by True; for a mask write np.flatnonzero\(mask\)"),
        (lambda: W[[0.5]], "'w' is indexed by 0.5; an entry goes by its name or a whole position"),
        (lambda: W < 0.5, r"'w < 0.5': strict relations have no closed set of points; write <="),
        (lambda: max(W), r"write <=\. Python's own max, min and sorted compare entries too: mx.max and mx.min are of expressions"),
        (lambda: mx.norm(mx.model(), 1), r"sum_squares\(theta\) is the one penalty of its parameters, others are losses"),
        (lambda: mx.logsumexp(W, mx.parameter("T")), r"temperature 'T', and takes a number; write T \* logsumexp\(x / T\)"),
        (lambda: bool(W), "symbolic and has no truth value"),
        (lambda: 0.1 <= W["web"] <= 0.5, "no truth value.*chains like a <= b <= c need two"),
        (lambda: W["cod"], r"no domain 'cod' in \(web, code, books\); did you mean 'code'\?"),
        (lambda: W[["web", "boks"]], "no domain 'boks'.*did you mean 'books'"),
        (lambda: W[3], "position 3 is outside 'w', which has 3 entries"),
        (lambda: W[[]], "takes no entry"),
        (lambda: W[0]["web"], "cannot be indexed; only vectors can"),
        (lambda: mx.parameter("p", 3)["web"], "have no names, so 'web' cannot be found; use a position"),
        (lambda: W + math.nan, "a constant is nan; every entry must be a finite number"),
        (lambda: W + "x", "'x' is neither an expression nor numbers"),
        (lambda: mx.model() + 1, r"'theta' is a model, not a number.*write losses\(theta, domains\) or loss\(theta, name\)"),
        (lambda: mx.minimize(mx.sum_squares(W), over=W) + W, "a problem stands where a number is expected"),
        (lambda: mx.constant(np.ones((2, 2, 2))), "scalars, vectors and matrices"),
        (lambda: mx.constant([1, 2], ["a"]), "cannot be named by 1 entries"),
        (lambda: (W <= 1).named(" "), "a relation's name is a text that is not empty"),
        (lambda: mx.losses(W, DOMAINS), r"losses are of a model, but 'w' is none; give the symbol made by model\(\), argmin"),
        (lambda: mx.parameter("p", 0), "parameter 'p' has size 0; a size is a whole number >= 1"),
        (lambda: mx.model(""), "a model's name is a text that is not empty"),
        (lambda: mx.domain_mean(W, DOMAINS), r"is no vector of tokens; build it from tokens\(theta\)"),
        (lambda: mx.surrogate(W, gradient=W[0]), "two views of a surrogate have different shapes"),
        (lambda: mx.graph.epochs(W + 1, 1e9, 4), r"'w \+ 1' is no mixture"),
        (lambda: mx.graph.epochs(W, 0, 4), "the budget is 0 tokens"),
        (lambda: mx.graph.epochs(W, 1e9, -1), "at_most is -1 epochs"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(make, words):
    with pytest.raises(mx.MixoptError, match=words):
        make()


def test_a_scalar_has_no_length():
    with pytest.raises(TypeError, match="'w\\[web\\]' is a scalar and has no length"):
        len(W["web"])


def test_repetition_caps_are_named_by_domain():
    w = mx.Mixture(mx.Domains(["web", "code"], tokens=[6e9, 1e9]))
    relation = mx.graph.epochs(w, budget=8e9, at_most=4)
    assert str(relation) == "w <= [3, 0.5]"
    assert relation.gap.index == ("web", "code")
