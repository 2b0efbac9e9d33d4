"""The losses that fleets train by: those of ``token_losses``, with its gradient, for one backward pass."""

from __future__ import annotations

import pytest
import torch
from torch.func import vmap

from mixopt.runtime.fleet import spent_losses, token_losses


def drawn(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Wide logits [3, 4, 5, 7], targets [1, 4, 5] that the three share, and slopes of the losses [3, 4, 5]."""
    draw = torch.Generator().manual_seed(0)
    logits = (20 * torch.randn(3, 4, 5, 7, generator=draw)).to(dtype).requires_grad_()
    return logits, torch.randint(0, 7, (1, 4, 5), generator=draw), torch.randn(3, 4, 5, generator=draw)


@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 1e-12), (torch.float32, 2e-6), (torch.bfloat16, 4e-6)], ids=str)
def test_spent_losses_and_their_gradient_are_those_of_the_cross_entropy(dtype, near):
    logits, targets, slopes = drawn(dtype)
    found, wanted = spent_losses(logits, targets), token_losses(logits, targets)
    assert found.dtype == wanted.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(found, wanted, rtol=near, atol=near)
    (gradient,) = torch.autograd.grad(found, logits, slopes.to(found.dtype))
    (by_torch,) = torch.autograd.grad(wanted, logits, slopes.to(found.dtype))
    assert gradient.dtype == dtype
    torch.testing.assert_close(gradient, by_torch, rtol=near, atol=near)


def test_spent_losses_are_exact_where_the_softmax_is_zero():
    logits = torch.tensor([[0.0, 1000.0, 999.0]]).requires_grad_()
    loss = spent_losses(logits, torch.tensor([0]))
    torch.testing.assert_close(loss, token_losses(logits, torch.tensor([0])))
    assert loss.item() == pytest.approx(1000.3133, abs=1e-3)
    assert spent_losses(torch.tensor([[torch.inf, 0.0]]), torch.tensor([0])).isnan().all()
    with torch.no_grad():
        torch.testing.assert_close(spent_losses(logits, torch.tensor([1])), token_losses(logits, torch.tensor([1])))


def test_spent_losses_refuse_what_would_be_wrong():
    logits, targets, _ = drawn(torch.float64)
    total = spent_losses(logits, targets).sum()
    torch.autograd.grad(total, logits, retain_graph=True)
    with pytest.raises(RuntimeError, match="inplace"):
        torch.autograd.grad(total, logits)
    (slope,) = torch.autograd.grad(spent_losses(logits, targets).square().sum(), logits, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        slope.sum().backward()
    with pytest.raises(RuntimeError, match="setup_context"):
        vmap(spent_losses)(logits, targets.expand(3, -1, -1))
