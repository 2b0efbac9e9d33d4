"""Conjugate gradients: exact where the matrix allows it, honest where it does not."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from mixopt.runtime.linalg import Sketch, conjugate_gradients, dense, minimal_residual, neumann


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


@settings(deadline=None, max_examples=30)
@given(size=st.integers(1, 8), seed=st.integers(0, 1000))
def test_every_method_solves_a_positive_definite_system(size, seed):
    H, b = positive(size, seed)
    x = torch.linalg.solve(H, b)
    sketch = Sketch.of(lambda p: H @ p, b, size, seed)
    rate = 1 / float(torch.linalg.eigvalsh(H).max())
    for solved in (
        minimal_residual(lambda p: H @ p, b, steps=10 * size, tolerance=1e-12),
        neumann(lambda p: H @ p, b, start=None, steps=3000, rate=rate),
        dense(lambda p: H @ p, b),
        conjugate_gradients(lambda p: H @ p, b, steps=20 * size, tolerance=1e-12, inverse=sketch.preconditioner()),
    ):
        assert solved.x.numpy() == pytest.approx(x.numpy(), rel=1e-6, abs=1e-8)
        assert solved.residual == pytest.approx(float((H @ solved.x - b).norm() / b.norm()), abs=1e-10)
        assert not solved.negative
    assert sketch.inverse(0.5)(b).numpy() == pytest.approx(torch.linalg.solve(H + 0.5 * torch.eye(size), b).numpy(), rel=1e-8, abs=1e-10)


@settings(deadline=None, max_examples=30)
@given(size=st.integers(2, 8), seed=st.integers(0, 1000))
def test_minimal_residuals_take_a_matrix_of_any_sign(size, seed):
    H, b = positive(size, seed)
    H = H - torch.linalg.eigvalsh(H)[0] * torch.eye(size, dtype=torch.float64) - 0.7 * torch.eye(size, dtype=torch.float64)
    solved = minimal_residual(lambda p: H @ p, b, steps=20 * size, tolerance=1e-10)
    if torch.linalg.cond(H) < 1e4:
        assert solved.x.numpy() == pytest.approx(torch.linalg.solve(H, b).numpy(), rel=1e-4, abs=1e-5)
    assert dense(lambda p: H @ p, b).negative


def test_the_power_iterations_find_a_rate_that_converges():
    H = torch.diag(torch.tensor([1.0, 5.0, 50.0], dtype=torch.float64))
    solved = neumann(lambda p: H @ p, torch.ones(3, dtype=torch.float64), start=None, steps=2000, rate=None)
    assert solved.x.tolist() == pytest.approx([1, 1 / 5, 1 / 50])


def test_a_sketch_of_the_steep_directions_spares_products():
    """Ten steep directions among a hundred: conjugate gradients need far fewer steps once a sketch has taken them away."""
    scale = torch.cat([torch.logspace(3, 5, 10, dtype=torch.float64), torch.linspace(1, 2, 90, dtype=torch.float64)])
    b = torch.ones(100, dtype=torch.float64)
    plain = conjugate_gradients(lambda p: scale * p, b, steps=200, tolerance=1e-8)
    inverse = Sketch.of(lambda p: scale * p, b, 20, 0).preconditioner()
    helped = conjugate_gradients(lambda p: scale * p, b, steps=200, tolerance=1e-8, inverse=inverse)
    assert helped.x.tolist() == pytest.approx((1 / scale).tolist(), rel=1e-5)
    assert helped.products + 20 < plain.products + 20
    assert helped.products <= plain.products / 2


def test_nothing_is_solved_by_zero():
    zero = torch.zeros(3, dtype=torch.float64)
    for solved in (
        minimal_residual(lambda p: p, zero, steps=3, tolerance=1e-9),
        neumann(lambda p: p, zero, start=None, steps=3, rate=None),
        dense(lambda p: p, zero),
    ):
        assert solved.x.tolist() == [0, 0, 0]
        assert solved.residual == 0
