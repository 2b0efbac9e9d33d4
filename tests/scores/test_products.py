"""Products, sketches, lengths and noise of gradients against the gradients themselves."""

from __future__ import annotations

import pytest
import torch

import mixopt as mx
from mixopt.runtime.gpt import GPT

K = 4


@pytest.fixture(scope="module")
def gpt():
    return GPT(64, 8, 32, 2, 2, seed=0)


def windows(k, seed, rows=4):
    draw = torch.Generator().manual_seed(seed)
    return {f"d{i}": torch.randint(8 * i, 8 * i + 24, (rows, 9), generator=draw) for i in range(k)}


@pytest.mark.parametrize("by", ["backward", "jvp"])
def test_products_with_each_other_and_with_targets(gpt, by, gradients):
    own, goals = windows(K, 0), windows(3, 1)
    g, t = gradients(gpt, own), gradients(gpt, goals)
    assert mx.scores.products(gpt, own, by=by).double() == pytest.approx(g @ g.T, rel=1e-4, abs=1e-6)
    assert mx.scores.products(gpt, own, goals, by=by).double() == pytest.approx(g @ t.T, rel=1e-4, abs=1e-6)
    assert mx.scores.norms(gpt, own).double() == pytest.approx(g.norm(dim=1), rel=1e-5)


def test_a_sketch_is_unbiased_and_as_far_off_as_it_says(gpt, gradients):
    own, size = windows(K, 0), 64
    g = gradients(gpt, own)
    lengths = g.norm(dim=1)
    found = torch.stack([mx.scores.products(gpt, own, by="sketch", size=size, seed=s) for s in range(60)]).double()
    wrong = (found - g @ g.T) / (lengths[:, None] * lengths)
    bound = (2 / size) ** 0.5
    assert float(wrong.mean(0).abs().max()) < 4 * bound / 60**0.5
    assert float(wrong.std(0).max()) < 1.3 * bound


def test_sketches_are_one_map_for_all_steps(gpt):
    own = windows(K, 0)
    first = mx.scores.sketches(gpt, own, size=50, seed=3)
    assert first.shape == (K, 50)
    assert torch.equal(first, mx.scores.sketches(gpt, own, size=50, seed=3))
    assert not torch.equal(first, mx.scores.sketches(gpt, own, size=50, seed=4))
    pair = {"both": torch.cat([own["d0"], own["d1"]])}
    assert mx.scores.sketches(gpt, pair, size=50, seed=3)[0] == pytest.approx((first[0] + first[1]) / 2, rel=1e-3, abs=1e-5)


def test_signal_and_noise_against_their_population():
    """Examples x ~ (m, s^2 I) with loss (theta - x)^2 / 2 at theta = 0: the gradient is -mean x, its square |m|^2, its noise s^2 d."""
    draw, b, d = torch.Generator().manual_seed(0), 8, 3
    mean, spread = torch.tensor([1.0, 0.5, 0.0]), 2.0

    def loss(theta, batch):
        return (theta - batch).square().sum(1).mean() / 2

    found = []
    for _ in range(400):
        batch = mean + spread * torch.randn(b, d, generator=draw)
        found.append(torch.cat(mx.scores.signal_and_noise(loss, [batch], at=torch.zeros(d))))
    signal, noise = torch.stack(found).mean(0).tolist()
    assert signal == pytest.approx(1.25, abs=0.3)
    assert noise == pytest.approx(spread**2 * d, rel=0.1)


def test_signal_and_noise_cut_any_batch(gpt, gradients):
    batch = windows(1, 0)["d0"]
    signal, noise = mx.scores.signal_and_noise(gpt, {"d0": batch})
    g, h = gradients(gpt, {"a": batch[:2], "b": batch[2:]})
    assert float(signal) == pytest.approx(float(g @ h), rel=1e-4)
    assert float(noise) == pytest.approx(float((g - h).square().sum()), rel=1e-4)
    with pytest.raises(mx.InputError, match="one even length"):
        mx.scores.signal_and_noise(gpt, {"d0": batch[:3]})


@pytest.mark.parametrize("size", [0, 1.5, True])
def test_a_sketch_has_a_size(gpt, size):
    with pytest.raises(mx.InputError, match="the size of a sketch"):
        mx.scores.sketches(gpt, windows(2, 0), size=size)


def test_no_such_way(gpt):
    with pytest.raises(mx.InputError, match="no way to take products 'jpv'"):
        mx.scores.products(gpt, windows(2, 0), by="jpv")
