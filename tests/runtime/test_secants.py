"""Secants: an exact inverse on what they span, positive definite everywhere, and fewer steps of conjugate gradients."""

from __future__ import annotations

import torch

from mixopt.runtime.linalg import conjugate_gradients
from mixopt.runtime.secants import MOST, NUMBERS, Secants


def matrix(size, seed=0):
    """A symmetric positive definite matrix of eigenvalues from 1 to 1,000, and a vector."""
    draw = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(size, size, generator=draw, dtype=torch.float64))
    return q @ torch.diag(torch.logspace(0, 3, size, dtype=torch.float64)) @ q.T, torch.randn(size, generator=draw, dtype=torch.float64)


def pairs(h, count, seed=1):
    """Random directions with their products."""
    draw = torch.Generator().manual_seed(seed)
    return [(p, h @ p) for p in torch.randn(count, len(h), generator=draw, dtype=torch.float64)]


def test_without_pairs_there_is_nothing_to_precondition_with():
    assert Secants().inverse() is None
    assert Secants().joined([]).inverse() is None


def test_products_come_back_as_their_directions():
    h, _ = matrix(12)
    inverse = Secants().joined(pairs(h, 5)).inverse()
    for p, y in pairs(h, 5):
        assert torch.allclose(inverse(y), p, atol=1e-9)


def test_as_many_independent_pairs_as_dimensions_invert_the_matrix():
    h, b = matrix(12)
    inverse = Secants().joined(pairs(h, 30)).inverse()
    assert torch.allclose(h @ inverse(b), b, atol=1e-8)


def test_it_is_symmetric_and_positive_definite():
    h, _ = matrix(10)
    inverse = Secants().joined(pairs(h, 4)).inverse()
    dense = torch.stack([inverse(e) for e in torch.eye(10, dtype=torch.float64)])
    assert torch.allclose(dense, dense.T, atol=1e-12)
    assert float(torch.linalg.eigvalsh(dense)[0]) > 0


def test_pairs_of_an_indefinite_matrix_are_not_used():
    h = torch.diag(torch.tensor([1.0, -1.0, 2.0], dtype=torch.float64))
    assert Secants().joined([(e, h @ e) for e in torch.eye(3, dtype=torch.float64)]).inverse() is None


def test_conjugate_gradients_take_fewer_steps_by_those_of_an_earlier_solve():
    h, b = matrix(60)
    seen = []

    def product(p):
        seen.append((p, h @ p))
        return seen[-1][1]

    first = conjugate_gradients(product, b, steps=500, tolerance=1e-6)
    other = b.flip(0)
    plain = conjugate_gradients(lambda p: h @ p, other, steps=500, tolerance=1e-6)
    again = conjugate_gradients(lambda p: h @ p, other, steps=500, tolerance=1e-6, inverse=Secants().joined(seen).inverse())
    assert first.residual <= 1e-6
    assert again.residual <= 1e-6
    assert again.products < plain.products / 2


def test_memory_is_bounded():
    h, _ = matrix(5)
    assert len(Secants().joined(pairs(h, 100)).pairs) == MOST
    large = torch.ones(NUMBERS // 4)
    assert len(Secants().joined([(large, large)] * 5).pairs) == 2
    assert Secants().joined([(torch.ones(NUMBERS), torch.ones(NUMBERS))]).pairs == ()
