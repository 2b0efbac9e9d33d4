"""Inner products of gradients: each way of finding them gives the stacked ones, and none but stacking holds them all."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import mixopt as mx
from mixopt.balancing import MGDA, Static
from mixopt.runtime import gramian as module
from mixopt.runtime.gpt import GPT
from mixopt.runtime.gramian import gramian, lean_gramian
from mixopt.runtime.torch_learner import TorchLearner
from mixopt.solvers import Balanced

from ..solvers.small import Twice


def stacked(values, leaves):
    """The gradients as rows [k, P], as one would write it."""
    rows = [torch.autograd.grad(v, leaves, retain_graph=True, materialize_grads=True) for v in values]
    return torch.stack([torch.cat([part.reshape(-1).double() for part in row]) for row in rows])


def proxy(k, **options):
    """A small GPT over k domains of random bytes, with a batch of it."""
    draw = np.random.default_rng(0)
    streams = {"train": {f"d{i}": draw.integers(0, 64, 200) for i in range(k)}}
    learner = TorchLearner(GPT(64, 8, 32, 2, 2, seed=0), streams, context=4, per_domain=1, **options)
    return learner, learner.draw(torch.Generator().manual_seed(0))


def forward(learner, batch):
    """The losses as a function of the leaves, where forward mode passes."""

    def again(leaves):
        with learner.second_order():
            return learner.losses(leaves, "train", batch)

    return again


@pytest.fixture
def ways(monkeypatch):
    """Which ways have been taken, in turn."""
    taken = []
    for name in ("_stacked", "_columns", "_blocks"):
        plain = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, plain=plain, name=name: taken.append(name) or plain(*a))
    return taken


@pytest.mark.parametrize("most", [2**30, 0, 500_000], ids=["stacked", "one at a time", "blocks of a few"])
@pytest.mark.parametrize("mode", ["forward", "none"])
def test_every_way_gives_the_stacked_products(ways, mode, most):
    learner, batch = proxy(6)
    leaves = tuple(leaf.requires_grad_() for leaf in learner.start())
    values = learner.losses(leaves, "train", batch)
    again = forward(learner, batch) if mode == "forward" else None
    rows = stacked(values, leaves)
    found = gramian(values, leaves, again=again, most=most)
    np.testing.assert_allclose(found.numpy(), (rows @ rows.T).numpy(), rtol=1e-5, atol=1e-5 * float((rows**2).sum(1).mean()))
    crossed = gramian(values[:4], leaves, values[2:], again=None if again is None else lambda at: again(at)[:4], most=most)
    np.testing.assert_allclose(crossed.numpy(), (rows[:4] @ rows[2:].T).numpy(), rtol=1e-5, atol=1e-5 * float((rows**2).sum(1).mean()))
    assert set(ways) == {"_stacked" if most == 2**30 else "_columns" if mode == "forward" else "_blocks"}


def test_every_gradient_that_is_taken_is_told():
    learner, batch = proxy(5)
    leaves = tuple(leaf.requires_grad_() for leaf in learner.start())
    values, again = learner.losses(leaves, "train", batch), forward(learner, batch)
    size = sum(leaf.numel() * leaf.itemsize for leaf in leaves)

    def told(work):
        taken = []
        work(taken.append)
        return sum(taken)

    assert told(lambda spend: gramian(values, leaves, spend=spend)) == 5
    assert told(lambda spend: gramian(values, leaves, again=again, most=0, spend=spend)) == 5
    assert told(lambda spend: lean_gramian(again, leaves, spend=spend)) == 5
    assert told(lambda spend: gramian(values, leaves, most=0, spend=spend)) == 5 + 4 + 3 + 2 + 1, "one held, the others found again"
    assert told(lambda spend: gramian(values, leaves, most=2 * size, spend=spend)) == 5 + 3 + 1
    assert told(lambda spend: gramian(values[:2], leaves, values[2:], most=0, spend=spend)) == 2 * (1 + 3)


def test_in_float64_they_are_equal_to_rounding():
    draw = torch.Generator().manual_seed(1)
    centres = torch.randn(7, 5, generator=draw, dtype=torch.float64)
    x = torch.randn(5, generator=draw, dtype=torch.float64, requires_grad=True)

    def losses(leaves):
        return ((leaves[0] - centres) ** 2).sum(1) / 2

    slopes = (x - centres).detach()
    for again in (losses, None):
        found = gramian(losses((x,)), (x,), again=again, most=0)
        assert found.dtype == torch.float64
        np.testing.assert_allclose(found.numpy(), (slopes @ slopes.T).numpy(), rtol=1e-13)


def test_the_lean_one_measures_the_losses_again_for_each_column(ways):
    learner, batch = proxy(5)
    leaves = tuple(leaf.requires_grad_() for leaf in learner.start())
    rows = stacked(learner.losses(leaves, "train", batch), leaves)
    calls = []
    again = forward(learner, batch)
    found = lean_gramian(lambda at: calls.append(1) or again(at), leaves)
    np.testing.assert_allclose(found.numpy(), (rows @ rows.T).numpy(), rtol=1e-5, atol=1e-5 * float((rows**2).sum(1).mean()))
    assert (len(calls), ways) == (1 + 2 * 5, ["_columns"])
    x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    found = lean_gramian(lambda at: torch.stack([Twice.apply(at[0]).sum(), at[0].sum()]), (x,))
    assert found.tolist() == [[56.0, 12.0], [12.0, 3.0]]
    assert ways[1:] == ["_columns", "_blocks"]


NOISE = torch.Generator().manual_seed(0)


@pytest.mark.parametrize(
    "losses",
    [
        lambda leaves: torch.stack([Twice.apply(leaves[0]).sum(), leaves[0].sum()]),
        lambda leaves: torch.stack([(leaves[0] * torch.rand(3, generator=NOISE)).sum(), leaves[0].prod()]),
    ],
    ids=["no forward mode", "noise drawn anew"],
)
def test_a_forward_mode_that_is_missing_or_disagrees_is_not_used(ways, losses):
    x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    values = losses((x,))
    rows = stacked(values, (x,))
    found = gramian(values, (x,), again=losses, most=0)
    np.testing.assert_allclose(found.numpy(), (rows @ rows.T).numpy(), rtol=1e-6)
    assert ways == ["_columns", "_blocks"]


@pytest.mark.parametrize("options", [{"dtype": torch.bfloat16}, {"autocast": "bf16"}], ids=["bf16 parameters", "autocast"])
@pytest.mark.parametrize("most", [2**30, 0])
def test_sums_are_in_float32_under_bf16(ways, options, most):
    learner, batch = proxy(4, **options)
    leaves = tuple(leaf.requires_grad_() for leaf in learner.start())
    values = learner.losses(leaves, "train", batch)
    rows = stacked(values, leaves)
    found = gramian(values, leaves, again=forward(learner, batch), most=most)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), (rows @ rows.T).numpy(), rtol=1e-5, atol=1e-5 * float((rows**2).sum(1).mean()))
    assert ways[-1] == ("_stacked" if most else "_blocks")


def test_memory_grows_by_less_than_three_model_copies_for_64_domains():
    """Live bytes over those of one plain gradient of the mean loss, for the demo's proxy (35 thousand parameters) and 64 domains.

    All tensors count, activations too; what is stacked shows that the count sees gradients that are held.
    """
    draw = np.random.default_rng(0)
    streams = {"train": {f"d{i}": draw.integers(0, 256, 100) for i in range(64)}}
    learner = TorchLearner(GPT(256, 64, 32, 2, 2, seed=0), streams, context=8, per_domain=1)
    batch = learner.draw(torch.Generator().manual_seed(0))
    leaves = tuple(leaf.requires_grad_() for leaf in learner.start())
    again = forward(learner, batch)

    def peak(work):
        with Live() as live:
            work()
        return live.most / sum(leaf.numel() * leaf.itemsize for leaf in leaves)

    plain = peak(lambda: torch.autograd.grad(learner.losses(leaves, "train", batch).mean(), leaves))
    assert peak(lambda: lean_gramian(again, leaves)) <= plain + 3
    assert peak(lambda: gramian(again(leaves), leaves)) >= plain + 60


def test_a_training_run_that_balances_64_domains_holds_less_than_three_model_copies_more():
    """Against the same run with fixed weights: two steps, with the optimizer, the certificate and the result."""
    names = [f"d{i}" for i in range(64)]
    draw = np.random.default_rng(0)
    w, theta = mx.Mixture(names), mx.model()
    losses = mx.losses(theta, names)
    problem = mx.minimize(mx.maximize(w @ (losses - mx.previous(losses)), over=w), over=theta)
    streams = {"train": {name: draw.integers(0, 256, 100) for name in names}}

    def copies(solver):
        learner = TorchLearner(GPT(256, 64, 32, 2, 2, seed=0), streams, context=4, per_domain=1, evaluation=1)
        with Live() as live:
            mx.solve(problem, learner, solver=solver)
        return live.most / sum(leaf.numel() * leaf.itemsize for leaf in learner.start())

    assert copies(Balanced(MGDA(), steps=2, stacked=0)) <= copies(Balanced(Static(), steps=2)) + 3


def test_the_count_of_live_bytes_is_right():
    with Live() as live:
        kept = torch.zeros(1000)
        view = kept.view(10, 100)
        assert live.now == 4000
        del kept
        assert live.now == 4000
        del view
        assert (live.now, live.most) == (0, 4000)
        a = torch.zeros(1000, requires_grad=True)
        (a * 2).exp().sum().backward()
        assert live.now == 8000, "the parameter and its gradient"
        assert live.most >= 12000


class Live(TorchDispatchMode):
    """The bytes that tensors hold, from the calls that make them to the end of their storage: now, and at most."""

    def __init__(self):
        super().__init__()
        self.now = self.most = 0
        self.known = {}

    def _gone(self, key, size):
        self.known.pop(key, None)
        self.now -= size

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                key, size = storage._cdata, storage.nbytes()
                if key not in self.known:
                    self.known[key] = weakref.finalize(storage, self._gone, key, size)
                    self.now += size
                    self.most = max(self.most, self.now)
        return out
