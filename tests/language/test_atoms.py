"""Atoms: their shapes, the arguments they refuse, and that each name is one record of the language."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import mixopt as mx
from mixopt.language.ops import ATOMS, LEAVES, OPS

W = mx.Mixture(["a", "b", "c"])


@pytest.mark.parametrize(
    "make", [mx.exp, mx.log, mx.abs, mx.pos, mx.square, lambda x: mx.clip(x, 0, 1), mx.sqrt, mx.softplus, mx.huber, lambda x: x**3]
)
def test_an_entrywise_atom_keeps_shape_and_names(make):
    assert make(W).shape == (3,)
    assert make(W).index == ("a", "b", "c")
    assert make(W["a"]).shape == ()


@pytest.mark.parametrize(
    "make", [mx.sum, mx.mean, mx.max, mx.min, mx.sum_squares, mx.norm, mx.entropy, lambda x: mx.kl(x, [0.2, 0.3, 0.5])]
)
def test_a_fold_is_one_number_of_a_vector(make):
    assert make(W).shape == ()
    with pytest.raises(mx.ProblemError, match=r"is of a vector, but 'w\[a\]' \[\] is a scalar"):
        make(W["a"])


def test_maximum_and_minimum_spread_scalars():
    assert mx.maximum(W, 0.5).shape == (3,)
    assert mx.minimum(0.5, W).index == ("a", "b", "c")


def test_every_record_stands_under_its_own_name():
    assert all(name == op.name for name, op in OPS.items())
    assert not set(ATOMS) & set(LEAVES)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: mx.clip(W, 1, 0), r"clip needs finite bounds with lower <= upper, not \[1, 0\]"),
        (lambda: mx.clip(W, -math.inf, 0), "clip needs finite bounds"),
        (lambda: mx.norm(W, 0.5), "norm has p = 0.5; p is a number >= 1, or math.inf"),
        (lambda: mx.norm(W, math.nan), "norm has p = nan"),
        (lambda: mx.power(W, math.inf), "'w' is raised to inf; an exponent is finite and not 0"),
        (lambda: mx.power(W, True), "'w' is raised to 'True'; an exponent is a number, such as 2 or 0.5"),
        (lambda: mx.power([1.0, -2.0], 0.5), r"'\[1, -2\]' has the entry -2, which has no power 0.5; that needs x >= 0"),
        (lambda: mx.power([1.0, 0.0], -1), "has the entry 0, which has no power -1; that needs x > 0"),
        (lambda: mx.huber(W, 0), "huber has the delta '0'; it is a finite number > 0"),
        (lambda: mx.logsumexp(W, -1), "logsumexp has the temperature '-1'; it is a finite number > 0"),
        (lambda: mx.tail(W, 1.5), r"tail has the share 1.5; a share is a number in \(0, 1\], such as 0.25 for the worst quarter"),
        (
            lambda: mx.tail(W, 0.5, [0.5, 0.5]),
            r"tail has the weights '\[0.5, 0.5\]'; one for each of the 3 entries of 'w' is expected, >= 0 and not all 0",
        ),
        (lambda: mx.tail(W, 0.5, [0.5, 0.8, -0.3]), "one for each of the 3 entries"),
        (lambda: mx.tail(W, 0.5, [0.0, 0.0, 0.0]), "not all 0"),
        (lambda: mx.tail(W, 0.5, mx.parameter("p", 3)), "tail has the weights 'p'"),
        (lambda: mx.tail(W, mx.parameter("a")), "tail has the share 'a'; it is a finite number > 0"),
        (lambda: mx.rel_entropy(W, [0.5, 0.5, 0]), "needs y > 0 everywhere, but the least entry of '.*' is 0"),
        (lambda: mx.kl(W, [0.5, 0.5]), r"shapes do not fit in.*\[3\].*\[2\]"),
        (lambda: mx.kl(W, [0.5, 0.5, 0]), "needs q > 0 everywhere, but entry 2 of q is 0; leave that domain out or give it a floor"),
        (lambda: mx.kl(W, [5, 3, 2]), "needs numbers that sum to 1, but those of q sum to 10; divide them by their sum"),
        (lambda: mx.kl(mx.constant([0.5, 0.3, 0.1]), W), "sum to 1, but those of p sum to 0.9; .* sum\\(rel_entropy\\(p, q\\)\\)"),
        (lambda: mx.quad_form(W, np.eye(2)), r"needs a matrix \[3, 3\].*not \[2, 2\]"),
        (lambda: mx.quad_form(W, [[1, 1, 0], [0, 1, 0], [0, 0, 1]]), r"symmetric matrix; take \(P \+ P.T\) / 2"),
        (lambda: mx.quad_form(W, -np.eye(3)), "positive semidefinite matrix, but its smallest eigenvalue is -1"),
        (lambda: mx.stack([]), "stack joins one or more scalars"),
        (lambda: mx.stack(W), r"stack joins a list of scalars and vectors, not 'w' alone; write stack\(\[...\]\)"),
        (lambda: mx.stack([np.eye(2)]), r"stack joins one or more scalars and vectors, not '<2x2 numbers>' \[2, 2\]"),
        (lambda: mx.stack([W, 1], ["a"]), r"stack joins 4 entries, but 1 names are given \(a\)"),
        (lambda: mx.stack([mx.tokens(mx.model())]), "not 'tokens.*tokens"),
        (lambda: mx.exp(mx.model()), "'theta' is a model, not a number"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(make, words):
    with pytest.raises(mx.ProblemError, match=words):
        make()


def test_the_page_tells_what_the_records_say():
    """The table of the reference, row by row: curvature, how it moves with each argument, sign, smoothness."""
    page = (Path(__file__).parents[2] / "docs" / "api" / "language.md").read_text(encoding="utf-8")
    rows = {
        row[0].strip("`"): row[1:]
        for row in ([c.strip() for c in line[1:-1].split("|")] for line in page.splitlines() if line[:3] == "| `")
    }
    moves = {"+": "rises", "-": "falls", "0": "may rise or fall", "sign": "rises where it is >= 0, falls where <= 0"}
    for name, (shape, moving, sign, smooth) in rows.items():
        op = ATOMS[name]
        assert shape == {"opaque": "neither", "power": "by p and the argument's sign"}.get(op.shape, op.shape), name
        marks = op.monotone if len(set(op.monotone)) > 1 else op.monotone[:1]
        assert moving == (", ".join(moves[m] for m in marks) or "as x ** p does"), name
        assert (smooth == "yes") == op.smooth, name
        assert op.sign not in ("+", "any") or sign == {"+": ">= 0", "any": "any"}[op.sign], name
    told = {n for n, op in ATOMS.items() if n in mx.__all__ and (op.shape != "opaque" or n == "clip")}
    assert set(rows) == told - {"surrogate", "domain_mean"}


def test_a_divergence_takes_shares_as_they_are_printed_and_vectors_that_are_no_mixture_as_they_are():
    assert str(mx.kl(W, [0.8421, 0.1053, 0.05263])) == "kl(w, [0.8421, 0.1053, 0.05263])"  # sums to 1.00003
    assert mx.kl(mx.variable("v", 3, nonneg=True), [5, 3, 2]).shape == ()
