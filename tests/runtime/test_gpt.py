"""The small GPT: causal, drawn from its own seed, and open to every derivative that the solvers take."""

from __future__ import annotations

import pytest
import torch
from torch.func import functional_call, grad, jvp, stack_module_state, vmap
from torch.nn import functional as F  # noqa: N812

from mixopt.errors import InputError
from mixopt.runtime.ensemble import token_losses
from mixopt.runtime.gpt import GPT, parameter_count
from mixopt.runtime.torch_learner import cross_entropy

# torch compiles its own forward-mode rules at the first jvp, by a function that it warns of itself
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


def tiny(seed: int = 0) -> GPT:
    return GPT(vocabulary=11, context=7, width=8, layers=2, heads=2, seed=seed).double()


def tokens(*shape: int) -> torch.Tensor:
    return torch.randint(0, 11, shape, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def parameters() -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in tiny().named_parameters()}


MODULE = tiny()
WINDOWS = tokens(3, 4, 8)


def losses(parameters: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean losses [k] of windows [k, n, t+1], as a learner takes them."""
    rows = WINDOWS.flatten(0, 1)
    return cross_entropy(functional_call(MODULE, parameters, (rows[:, :-1],)), rows[:, 1:]).view(len(WINDOWS), -1).mean(-1)


def test_a_later_token_changes_no_earlier_logit():
    module, before = tiny(), tokens(2, 7)
    for place in range(7):
        after = before.clone()
        after[:, place] = (after[:, place] + 1) % 11
        moved = (module(after) - module(before)).abs().amax(dim=(0, 2))
        assert bool((moved[:place] == 0).all())
        assert bool((moved[place:] > 0).all())


def test_fewer_tokens_than_the_context_give_the_same_logits():
    module, row = tiny(), tokens(2, 7)
    torch.testing.assert_close(module(row[:, :4]), module(row)[:, :4])


def test_the_seed_alone_fixes_the_parameters_and_the_global_generator_is_left_alone():
    state = torch.get_rng_state()
    first, again, other = tiny(1), tiny(1), tiny(2)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_a_fresh_model_is_near_the_uniform_guess():
    loss = token_losses(GPT(seed=0)(torch.arange(64)[None]), torch.arange(1, 65)[None]).mean()
    assert 5.0 < loss < 7.0  # log 256 = 5.55


def test_parameters_are_counted_by_hand():
    # embedding V d, positions T d, and for each layer 12 d^2
    assert parameter_count(GPT(vocabulary=256, context=64, width=32, layers=2, heads=2)) == 256 * 32 + 64 * 32 + 2 * 12 * 32 * 32


def test_forward_mode_equals_the_difference_of_losses(parameters):
    towards = {name: torch.randn_like(value) for name, value in parameters.items()}
    _, rate = jvp(losses, (parameters,), (towards,))
    ahead = losses({n: v + 1e-6 * towards[n] for n, v in parameters.items()})
    behind = losses({n: v - 1e-6 * towards[n] for n, v in parameters.items()})
    torch.testing.assert_close(rate, (ahead - behind) / 2e-6, rtol=1e-6, atol=1e-7)


def test_double_backward_equals_forward_over_reverse(parameters):
    towards = {name: torch.randn_like(value) for name, value in parameters.items()}
    _, forward = jvp(grad(lambda p: losses(p).sum()), (parameters,), (towards,))

    leaves = {name: value.clone().requires_grad_() for name, value in parameters.items()}
    slopes = torch.autograd.grad(losses(leaves).sum(), list(leaves.values()), create_graph=True)
    along = sum((s * towards[n]).sum() for s, n in zip(slopes, leaves, strict=True))
    for product, name in zip(torch.autograd.grad(along, list(leaves.values())), leaves, strict=True):
        torch.testing.assert_close(product, forward[name])


def test_stacked_models_give_their_own_logits_and_gradients():
    models, rows = [tiny(s) for s in range(3)], tokens(3, 2, 7)
    stacked, _ = stack_module_state(models)
    stacked = {n: v.detach() for n, v in stacked.items()}

    def loss(p, x):
        return token_losses(functional_call(models[0], p, (x[:, :-1],)), x[:, 1:]).mean()

    slopes = vmap(grad(loss))(stacked, rows)
    for r, model in enumerate(models):
        loss(dict(model.named_parameters()), rows[r]).backward()
        for name, value in model.named_parameters():
            torch.testing.assert_close(slopes[name][r], value.grad)


def test_token_losses_are_the_textbook_cross_entropy():
    logits, targets = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0)).double(), tokens(2, 3) % 5
    byhand = logits.exp().sum(-1).log() - logits.gather(-1, targets[..., None])[..., 0]
    torch.testing.assert_close(token_losses(logits, targets), byhand)
    torch.testing.assert_close(token_losses(logits, targets).mean(), F.cross_entropy(logits.flatten(0, 1), targets.flatten()))


@pytest.mark.parametrize(("sizes", "message"), [({"width": 7, "heads": 2}, "multiple of 2"), ({"layers": 0}, "layers is 0")])
def test_sizes_that_do_not_fit_are_refused(sizes, message):
    with pytest.raises(InputError, match=message):
        GPT(**sizes)


def test_too_many_tokens_are_refused():
    with pytest.raises(InputError, match="8 tokens in a row, but the context is 7"):
        tiny()(tokens(1, 8))
