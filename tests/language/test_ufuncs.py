"""Numpy on expressions: its operators and functions are the language's, and everything else is refused in words."""

from __future__ import annotations

import numpy as np
import pytest

import mixopt as mx

W = mx.Mixture(["web", "code", "books"])
C = np.array([0.2, 0.3, 0.5])


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (np.exp(W), mx.exp(W)),
        (np.log(W), mx.log(W)),
        (np.sqrt(W), mx.sqrt(W)),
        (np.square(W), mx.square(W)),
        (np.abs(W), mx.abs(W)),
        (abs(W), mx.abs(W)),
        (np.maximum(W, C), mx.maximum(W, C)),
        (np.minimum(C, W), mx.minimum(C, W)),
        (np.sum(W), mx.sum(W)),
        (np.max(W), mx.max(W)),
        (np.min(W), mx.min(W)),
        (np.float64(2) * W, 2 * W),
        (C @ W, mx.constant(C) @ W),
        (C - W, mx.constant(C) - W),
        (C / W, mx.constant(C) / W),
        (W ** np.float64(2), W**2),
        (np.float64(3) ** W, 3**W),
    ],
    ids=str,
)
def test_numpys_function_is_the_languages(theirs, ours):
    assert theirs == ours


def test_relations_and_equality_with_arrays_keep_their_sense():
    assert (W >= C) == (C <= W)
    assert (W <= C) == (C >= W)
    assert C != W
    assert W not in [C]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: np.tanh(W),
            r"numpy's tanh of an expression is not in the language; it has the operators, and of numpy's functions \(absolute, exp",
        ),
        (lambda: np.sum(W, axis=0), "numpy's add.reduce of an expression with settings is not in the language"),
        (lambda: np.add.outer(C, W), "numpy's add.outer of an expression"),
        (lambda: np.add(C, W, out=C), "numpy's add of an expression with settings"),
        (lambda: np.sum(W[0]), "sum is of a vector, but 'w.web.' .* is none"),
        (lambda: np.exp(mx.model()), "'theta' is a model, not a number, in 'exp'"),
        (lambda: C < W, "strict relations have no closed set of points"),
    ],
)
def test_what_the_language_has_not_is_refused_in_words(make, words):
    with pytest.raises(mx.ProblemError, match=words):
        make()
