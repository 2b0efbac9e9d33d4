"""Separability by rules: known cases, and the mixed second differences of what is called separable."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mixopt as mx
from mixopt.language.separable import mixing, separable
from mixopt.runtime.program import Function

W = mx.Mixture(["web", "code", "books"])
A = np.array([[1.0, 0, 0], [0, 2.0, 0], [0, 0, 3.0]])

YES = [
    mx.sum(W**-0.5),
    mx.entropy(W) + mx.kl(W, [0.2, 0.3, 0.5]),
    mx.sum(mx.exp(mx.constant(A) @ W)),
    mx.constant([1.0, 2, 3]) @ mx.log(W),
    W @ W,
    W @ mx.exp(W),
    mx.mean(W * W) - mx.sum_squares(2 * W + 1),
    mx.exp(W["web"]) + mx.parameter("s") * W["code"] / 2,
    mx.sum(mx.maximum(W, 0.2)) + mx.sum(mx.rel_entropy(W, 0.5)),
    mx.exp(W["web"] + W["web"]),
    mx.sum(W / (W + 1)),
]
NO = [
    mx.exp(mx.sum(W)),
    mx.max(W),
    W["web"] * W["code"],
    mx.constant([1.0, 2, 3]) @ mx.exp(mx.constant(A + 1) @ W),
    mx.norm(W),
    mx.quad_form(W, A + 1),
    mx.square(W["web"] + W["code"]),
    W["web"] / (W["code"] + 1),
    mx.logsumexp(W),
    mx.sum(mx.opaque(W, lambda rows: rows, "f", W.index)),
]


@pytest.mark.parametrize("expr", YES, ids=str)
def test_sums_of_functions_of_one_weight(expr):
    assert separable(expr)


@pytest.mark.parametrize("expr", NO, ids=str)
def test_what_mixes_weights_is_found(expr):
    assert not separable(expr)


def test_the_node_that_mixes_is_named():
    assert str(mixing(mx.sum(mx.exp(W)) + mx.square(W["web"] + W["code"]))) == "square(w[web] + w[code])"


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_mixed_second_differences_vanish(vectors, data):
    expr = mx.sum(data.draw(vectors))
    if not separable(expr):
        return
    value = Function(expr, W, {"p": np.array([0.5, 0.25, 2.0])}).value
    w, step = np.array([0.3, 0.45, 0.25]), np.diag([0.03, -0.04, 0.05])
    with np.errstate(all="ignore"):
        for i in range(3):
            for j in range(i):
                terms = np.array([value(w), value(w + step[i] + step[j]), -value(w + step[i]), -value(w + step[j])])
                assert not np.isfinite(terms).all() or abs(terms.sum()) <= 1e-9 * max(np.abs(terms).max(), 1)
