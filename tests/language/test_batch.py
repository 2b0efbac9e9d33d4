"""Programs at many points at once: each operation, and random programs, against one point at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mixopt as mx
from mixopt.language.ops import ATOMS
from mixopt.runtime.batch import Batch
from mixopt.runtime.layout import Layout
from mixopt.runtime.program import Function

DOMAINS = mx.Domains(["web", "code", "books"], tokens=[8e11, 1.5e11, 5e10])
W, P, S = mx.Mixture(DOMAINS), mx.parameter("p", 3, nonneg=True), mx.parameter("s")
MATRIX = np.array([[0.5, -1.0, 0.25], [1.5, 0.5, -0.5], [-0.75, 0.25, 1.0]])
GIVEN = {"p": np.array([0.5, 0.25, 2.0]), "s": np.array(0.75)}
POINTS = np.vstack([np.random.default_rng(0).dirichlet(np.ones(3), size=6), np.eye(3)])
LAYOUT = Layout.of(W)


def same(expr: mx.Expr) -> None:
    function = Function(expr, LAYOUT, GIVEN)
    with np.errstate(all="ignore"):
        one_by_one = np.array([function.value(point) for point in POINTS])
    np.testing.assert_allclose(Batch(expr, LAYOUT, GIVEN)(POINTS), one_by_one, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("op", [op for op in ATOMS if op != "domain_mean"])
def test_every_operation_of_programs(op, samples):
    same(samples[op])


def test_losses_need_a_learner(samples):
    with pytest.raises(mx.MixoptError, match="needs a learner"):
        Batch(samples["domain_mean"], LAYOUT, {})


@pytest.mark.parametrize(
    "expr",
    [
        W @ (mx.constant(MATRIX) @ W),
        (S * mx.constant(MATRIX)) @ W,
        (W["code"] * mx.constant(MATRIX)) @ W,
        W @ mx.constant(MATRIX),
        mx.stack([W, P, W["web"]]),
        mx.sum(P) * mx.exp(S),
        P,
    ],
    ids=str,
)
def test_products_and_constants(expr):
    same(expr)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_random_programs(vectors, data):
    same(mx.sum(data.draw(vectors)))


def test_points_are_taken_in_blocks(monkeypatch):
    monkeypatch.setattr("mixopt.runtime.batch.ROOM", 7)
    sizes = []
    first = mx.opaque(W, lambda rows: sizes.append(len(rows)) or rows[:, 0], "first")
    assert (Batch(first + mx.sum(W), LAYOUT, {})(POINTS) == POINTS[:, 0] + POINTS.sum(axis=1)).all()
    assert max(sizes) <= 7 // 3
    assert sum(sizes) == len(POINTS)


def test_all_unknowns_are_laid_side_by_side():
    z = mx.variable("z")
    points = np.column_stack([POINTS, np.arange(len(POINTS))])
    found = Batch(z * mx.sum(mx.square(W)), Layout.of((W, z)), {})(points)
    np.testing.assert_allclose(found, points[:, 3] * (POINTS**2).sum(axis=1))
