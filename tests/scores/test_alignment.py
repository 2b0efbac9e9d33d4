"""Scores by one forward-mode pass or by differences are those of k backward passes, and leave the user's module as it was."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

import mixopt as mx
from mixopt.runtime.gpt import GPT
from mixopt.runtime.torch_learner import cross_entropy
from mixopt.scores.subject import last_layer

from ..solvers.small import Once

K = 5


@pytest.fixture(scope="module")
def gpt():
    return GPT(64, 8, 32, 2, 2, seed=0)


@pytest.fixture(scope="module")
def batches():
    draw = torch.Generator().manual_seed(0)
    return {f"d{i}": torch.randint(8 * i, 8 * i + 24, (4, 9), generator=draw) for i in range(K)}


def off(found, gram, along):
    """The largest error as a share of |g_i| |g|."""
    true = gram @ along
    sizes = gram.norm(dim=1) * along.norm()
    return float(((found.double() - true).abs() / sizes).max())


@pytest.mark.parametrize(("by", "most"), [("jvp", 1e-6), ("backward", 1e-6), ("difference", 2e-3)])
def test_each_way_gives_the_products_of_k_backward_passes(gpt, batches, by, most, gradients):
    g = gradients(gpt, batches)
    assert off(mx.scores.alignment(gpt, batches, by=by), g, g.mean(0)) < most
    p = [0.5, 0.2, 0.1, 0.1, 0.1]
    assert off(mx.scores.alignment(gpt, batches, weights=p, by=by), g, torch.tensor(p, dtype=torch.float64) @ g) < most
    target = {"t": batches["d3"]}
    assert off(mx.scores.alignment(gpt, batches, target, by=by), g, g[3]) < most


def test_jvp_equals_k_backward_passes_to_1e_5(gpt, batches):
    found = [mx.scores.alignment(gpt, batches, by=by) for by in ("jvp", "backward")]
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_windows_of_all_domains_in_one_tensor_and_in_pieces(gpt, batches, monkeypatch):
    each = [mx.scores.alignment(gpt, batches, weights=[0.5, 0.2, 0.1, 0.1, 0.1], by=by) for by in ("jvp", "backward", "difference")]
    whole = torch.stack(list(batches.values()))
    for by, one in zip(("jvp", "backward"), each, strict=False):
        assert mx.scores.alignment(gpt, whole, weights=[0.5, 0.2, 0.1, 0.1, 0.1], by=by) == pytest.approx(one, rel=1e-4)
    monkeypatch.setattr("mixopt.scores.subject.TOGETHER", 80)  # two domains at a time
    assert mx.scores.alignment(gpt, batches, weights=[0.5, 0.2, 0.1, 0.1, 0.1]) == pytest.approx(each[0], rel=1e-4)
    uneven = {**batches, "d0": batches["d0"][:2]}
    assert mx.scores.alignment(gpt, uneven) == pytest.approx(mx.scores.alignment(gpt, uneven, by="backward"), rel=1e-4)


def test_gradients_that_do_not_fit_together_are_taken_one_by_one(gpt, batches, monkeypatch):
    p = [0.5, 0.2, 0.1, 0.1, 0.1]
    held = mx.scores.alignment(gpt, batches, weights=p, by="backward")
    monkeypatch.setattr(sys.modules["mixopt.scores.alignment"], "HELD", 0)
    assert mx.scores.alignment(gpt, batches, weights=p, by="backward") == pytest.approx(held, rel=1e-5)


def test_a_difference_in_float64_is_exact_to_its_order(gpt, batches):
    wide = GPT(64, 8, 32, 2, 2, seed=0).double()
    wide.load_state_dict(gpt.state_dict())

    def loss(module, batch):
        return cross_entropy(module(batch[:, :-1]), batch[:, 1:]).mean()

    true = mx.scores.alignment(wide, batches, loss=loss)
    errors = [float((mx.scores.alignment(wide, batches, loss=loss, by="difference", step=h) - true).abs().max()) for h in (2e-3, 1e-3)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)  # of second order
    assert mx.scores.alignment(wide, batches, loss=loss, by="difference") == pytest.approx(true, rel=1e-5)


def test_under_autocast_differences_take_longer_steps(gpt, batches, gradients):
    g = gradients(gpt, batches)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for by, most in (("jvp", 0.01), ("backward", 0.01), ("difference", 0.02)):
            assert off(mx.scores.alignment(gpt, batches, by=by), g, g.mean(0)) < most


def test_a_gradient_that_is_there_already_takes_the_targets_place(gpt, batches):
    loss = sum(cross_entropy(gpt(b[:, :-1]), b[:, 1:]).mean() for b in batches.values()) / K
    given = dict(zip((n for n, _ in gpt.named_parameters()), torch.autograd.grad(loss, list(gpt.parameters())), strict=True))
    assert mx.scores.alignment(gpt, batches, gradient=given) == pytest.approx(mx.scores.alignment(gpt, batches), rel=1e-4, abs=1e-6)


class Noisy(nn.Module):
    """Dropout, batch normalisation, and a parameter that is not trained: all that a pass could disturb."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.drop, self.last = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3)
        self.first.bias.requires_grad_(False)

    def forward(self, x):
        return self.last(self.drop(torch.tanh(self.norm(self.first(x)))))


def squared(module, batch):
    x, y = batch
    return (module(x) - y).square().mean()


def points(k=4, n=6):
    draw = torch.Generator().manual_seed(1)
    return [(torch.randn(n, 6, generator=draw), torch.randn(n, 3, generator=draw)) for _ in range(k)]


@pytest.mark.parametrize("by", ["jvp", "difference", "backward"])
def test_the_module_and_the_random_numbers_are_left_as_they_were(by):
    torch.manual_seed(0)
    module = Noisy().train()
    module.norm.eval()
    squared(module, points()[0]).backward()
    before = {n: t.clone() for n, t in module.state_dict().items()}
    grads = [None if p.grad is None else (p.grad, p.grad.clone()) for p in module.parameters()]
    modes, state = [m.training for m in module.modules()], torch.get_rng_state()
    first = mx.scores.alignment(module, points(), loss=squared, by=by)
    assert torch.equal(first, mx.scores.alignment(module, points(), loss=squared, by=by))
    assert not first.requires_grad
    assert [m.training for m in module.modules()] == modes
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(t, before[n]) for n, t in module.state_dict().items())
    for p, kept in zip(module.parameters(), grads, strict=True):
        assert p.grad is None if kept is None else p.grad is kept[0] and torch.equal(p.grad, kept[1])
    assert not module.first.bias.requires_grad


def test_one_batch_with_the_losses_of_all_domains():
    torch.manual_seed(0)
    module, parts = Noisy(), points()
    x, y = torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])

    def by_domain(module, batch):
        return (module(batch[0]) - batch[1]).square().mean(1).view(4, -1).mean(1)

    each = mx.scores.alignment(module, parts, loss=squared)
    for by in ("jvp", "backward"):
        assert mx.scores.alignment(module, (x, y), loss=by_domain, by=by) == pytest.approx(each, rel=1e-4, abs=1e-6)
    p = [0.1, 0.2, 0.3, 0.4]
    together = mx.scores.alignment(module, (x, y), loss=by_domain, weights=p)
    assert together == pytest.approx(mx.scores.alignment(module, parts, loss=squared, weights=p), rel=1e-4, abs=1e-6)


def test_a_function_of_a_parameter_tree_against_a_closed_answer():
    at = {"a": torch.tensor([1.0, 2.0], dtype=torch.float64), "b": (torch.tensor(3.0, dtype=torch.float64),)}
    centres = [torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64), torch.tensor([2.0, 2.0, 0.0], dtype=torch.float64)]

    def loss(tree, centre):
        return (torch.cat([tree["a"], tree["b"][0][None]]) - centre).square().sum() / 2

    slopes = torch.stack([torch.tensor([1.0, 2.0, 3.0]).double() - c for c in centres])
    for by in ("jvp", "difference", "backward"):
        assert mx.scores.alignment(loss, centres, at=at, by=by) == pytest.approx(slopes @ slopes.mean(0), rel=1e-7)


def test_the_last_layer_alone(gpt, batches, gradients):
    names = last_layer(gpt)
    assert all(n.startswith("blocks.1.") for n in names)
    g = gradients(gpt, batches, names)
    for by in ("jvp", "backward"):
        assert off(mx.scores.alignment(gpt, batches, layers="last", by=by), g, g.mean(0)) < 1e-6
    assert off(mx.scores.alignment(gpt, batches, layers=["blocks.0.qkv"]), *_with_mean(gradients(gpt, batches, ["blocks.0.qkv"]))) < 1e-6


def _with_mean(g):
    return g, g.mean(0)


def test_the_last_layer_keeps_no_activations_of_the_others(batches):
    module = GPT(64, 8, 32, 6, 2, seed=0)

    def kept(**how):
        held = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: held.append(t.numel()) or t, lambda t: t):
            mx.scores.alignment(module, batches, by="backward", **how)
        return sum(held)

    assert kept(layers="last") < kept() / 3


def test_the_last_layers_part_of_a_shared_weight_needs_no_way_back():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.middle, self.head = nn.Embedding(16, 8), nn.Linear(8, 8), nn.Linear(8, 16, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, tokens):
            return self.head(torch.tanh(self.middle(self.embed(tokens))))

    torch.manual_seed(0)
    module, draw = Tied(), torch.Generator().manual_seed(0)
    batches = [torch.randint(0, 16, (3, 5), generator=draw) for _ in range(3)]
    assert last_layer(module) == ("head.weight",)
    rows = []
    for batch in batches:
        hidden = torch.tanh(module.middle(module.embed(batch[:, :-1]))).detach()
        free = module.head.weight.detach().clone().requires_grad_()
        rows.append(torch.autograd.grad(cross_entropy(hidden @ free.T, batch[:, 1:]).mean(), free)[0].reshape(-1))
    g = torch.stack(rows)
    assert mx.scores.alignment(module, batches, layers="last") == pytest.approx(g @ g.mean(0), rel=1e-4)


class Kernel(nn.Module):
    """Two layers with neither forward mode nor double backward between them, as fused attention has it."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.last(Once.apply(self.first(x).tanh()))


def test_choose_tries_the_ways_and_tells_why(gpt, batches):
    choice = mx.scores.choose(gpt, batches)
    assert choice.by == "jvp"
    assert choice.error < 1e-5
    torch.manual_seed(0)
    module = Kernel()
    with pytest.raises(mx.LearnerError, match=r"no forward mode.*give by='difference'"):
        mx.scores.alignment(module, points(), loss=squared)
    choice = mx.scores.choose(module, points(), loss=squared)
    assert choice.by == "difference"
    assert "no forward mode" in str(choice)
    exact = mx.scores.alignment(module, points(), loss=squared, by="backward")
    found = mx.scores.alignment(module, points(), loss=squared, by=choice.by, step=choice.step)
    assert found == pytest.approx(exact, rel=0.02, abs=0.02 * float(exact.abs().max()))


def test_choose_takes_backward_passes_where_nothing_else_is_left():
    torch.manual_seed(0)
    choice = mx.scores.choose(Kernel().bfloat16(), [(x.bfloat16(), y.bfloat16()) for x, y in points()], loss=squared)
    assert (choice.by, choice.step) == ("backward", None)
    assert "half precision" in choice.why


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"by": "magic"}, "no way to take scores 'magic'"),
        ({"step": 0.0}, "the step is 0.0"),
        ({"weights": [0.5, 0.5]}, "each of the 5"),
        ({"weights": [float("nan")] * K}, "finite number"),
        ({"layers": ["blocks.7"]}, "no parameter or module 'blocks.7'"),
        ({"layers": "first"}, "layers is 'first'"),
        ({"gradient": {"embedding": torch.zeros(2)}}, "is expected|mapping from"),
    ],
)
def test_bad_settings(gpt, batches, change, words):
    with pytest.raises(mx.InputError, match=words):
        mx.scores.alignment(gpt, batches, **change)


def test_bad_batches(gpt, batches):
    with pytest.raises(mx.InputError, match="no batch"):
        mx.scores.alignment(gpt, {})
    with pytest.raises(mx.InputError, match="give loss="):
        mx.scores.alignment(gpt, [torch.zeros(2, 3)])
    with pytest.raises(mx.InputError, match="a torch module, or a function"):
        mx.scores.alignment(lambda p, b: b, batches)
    with pytest.raises(mx.LearnerError, match="one number"):
        mx.scores.alignment(gpt, batches, loss=lambda m, b: cross_entropy(m(b[:, :-1]), b[:, 1:]).mean(1))
    with pytest.raises(mx.LearnerError, match="not finite"):
        mx.scores.alignment(gpt, batches, loss=lambda m, b: m(b[:, :-1]).mean() * float("inf"))
    with pytest.raises(mx.InputError, match="no trainable parameter"):
        mx.scores.alignment(nn.Linear(2, 2).requires_grad_(False), batches)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_on_a_gpu(gpt, batches):
    module = GPT(64, 8, 32, 2, 2, seed=0).cuda()
    there = {name: batch.cuda() for name, batch in batches.items()}
    state = torch.cuda.get_rng_state()
    exact = mx.scores.alignment(gpt, batches)
    for by, most in (("jvp", 1e-4), ("backward", 1e-4), ("difference", 5e-3)):
        found = mx.scores.alignment(module, there, by=by)
        assert found.device.type == "cuda"
        assert float((found.cpu() - exact).abs().max()) < most * float(mx.scores.norms(gpt, batches).max()) ** 2
    assert mx.scores.sketches(module, there, size=32).cpu() == pytest.approx(mx.scores.sketches(gpt, batches, size=32), abs=1e-3)
    assert torch.equal(state, torch.cuda.get_rng_state())
