"""Conjugate gradients: exact where the matrix allows it, honest where it does not."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from mixopt.runtime.linalg import conjugate_gradients


def positive(size, seed):
    draw = torch.Generator().manual_seed(seed)
    A = torch.randn(size, size, generator=draw, dtype=torch.float64)
    return A @ A.T + torch.eye(size, dtype=torch.float64), torch.randn(size, generator=draw, dtype=torch.float64)


@settings(deadline=None, max_examples=30)
@given(size=st.integers(1, 8), seed=st.integers(0, 1000), every=st.sampled_from([None, 1, 3, 5]))
def test_solves_a_positive_definite_system(size, seed, every):
    H, b = positive(size, seed)
    solved = conjugate_gradients(lambda p: H @ p, b, steps=20 * size, tolerance=1e-12, look_every=every)
    assert solved.x.numpy() == pytest.approx(torch.linalg.solve(H, b).numpy(), rel=1e-8, abs=1e-10)
    assert solved.residual <= 1e-12
    assert not solved.negative


def test_takes_no_more_products_than_there_are_different_eigenvalues():
    H = torch.diag(torch.tensor([1.0, 1.0, 4.0, 4.0, 9.0], dtype=torch.float64))
    solved = conjugate_gradients(lambda p: H @ p, torch.ones(5, dtype=torch.float64), steps=50, tolerance=1e-12)
    assert solved.products == 3
    assert solved.x.tolist() == pytest.approx([1, 1, 1 / 4, 1 / 4, 1 / 9])


def test_the_answer_does_not_depend_on_how_often_the_host_looks():
    H, b = positive(6, 1)
    each, fifth = (conjugate_gradients(lambda p: H @ p, b, steps=50, tolerance=1e-3, look_every=n) for n in (1, 5))
    assert torch.equal(each.x, fifth.x)
    assert each.residual == fifth.residual
    assert fifth.products == -(-each.products // 5) * 5


def test_a_good_start_needs_one_product():
    H, b = positive(4, 2)
    solved = conjugate_gradients(lambda p: H @ p, b, start=torch.linalg.solve(H, b), steps=9, tolerance=1e-9)
    assert solved.products == 1
    assert solved.residual <= 1e-9


@pytest.mark.parametrize("every", [1, 5])
def test_negative_curvature_is_flagged_and_the_point_before_it_returned(every):
    H = torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64))
    solved = conjugate_gradients(lambda p: H @ p, torch.tensor([1.0, 0.5], dtype=torch.float64), steps=9, tolerance=1e-9, look_every=every)
    assert solved.negative
    assert torch.isfinite(solved.x).all()
    assert 0 < solved.residual < float("inf")


def test_the_steps_are_a_limit_and_the_residual_is_true():
    H, b = positive(8, 3)
    solved = conjugate_gradients(lambda p: H @ p, b, steps=3, tolerance=1e-12)
    assert solved.products == 3
    assert solved.residual == pytest.approx(float((b - H @ solved.x).norm() / b.norm()))
    assert solved.residual > 1e-12


def test_a_zero_right_hand_side_needs_no_product():
    solved = conjugate_gradients(lambda p: pytest.fail("a product was taken"), torch.zeros(3), steps=5, tolerance=1e-6)
    assert solved.x.tolist() == [0, 0, 0]
    assert (solved.products, solved.residual, solved.negative) == (0, 0.0, False)


def test_a_right_hand_side_that_is_not_finite_ends_at_once():
    solved = conjugate_gradients(lambda p: p, torch.tensor([1.0, float("nan")]), steps=5, tolerance=1e-6)
    assert solved.products == 0
    assert solved.residual != solved.residual
