"""What the tests of scores share: the gradients of a module's losses, as one would write them."""

from __future__ import annotations

import pytest
import torch

from mixopt.runtime.torch_learner import cross_entropy


@pytest.fixture(scope="session")
def gradients():
    """A function from a module, batches of token windows by domain, and names of parameters to the gradients [k, P] in float64."""
    return _gradients


def _gradients(module, batches, names=None):
    """The gradients [k, P] in float64, as one would write it."""
    own = dict(module.named_parameters(remove_duplicate=False))
    leaves = [own[n] for n in names] if names else list(module.parameters())
    rows = []
    for batch in batches.values():
        loss = cross_entropy(module(batch[:, :-1]), batch[:, 1:]).mean()
        rows.append(torch.cat([g.reshape(-1).double() for g in torch.autograd.grad(loss, leaves)]))
    return torch.stack(rows)
