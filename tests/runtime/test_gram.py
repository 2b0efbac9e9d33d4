"""Inner products of gradients as a symbol: by hand on exact and sampled learners, in a saddle, and where they are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mixopt as mx
from mixopt.compiler.binding import bind_losses
from mixopt.runtime.evaluate import Lowered
from mixopt.runtime.gpt import GPT
from mixopt.runtime.modelled import Modelled
from mixopt.solvers import DescentAscent

NAMES = ["a", "b", "c"]
W, THETA = mx.Mixture(NAMES), mx.model()
CENTRES = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]], dtype=torch.float64)
VAL = torch.tensor([0.5, 0.5], dtype=torch.float64)


def exact(order=(0, 1, 2)):
    """Losses |x - c_i|^2 / 2 with the gradients x - c_i."""

    def train(x):
        return ((x - CENTRES) ** 2).sum(dim=-1) / 2

    return mx.FunctionLearner(
        torch.tensor([0.25, -0.5], dtype=torch.float64),
        losses={"train": (lambda x: train(x)[list(order)], [NAMES[i] for i in order]), "val": lambda x: ((x - VAL) ** 2).sum() / 2},
    )


def game(score):
    """The weights see the score, the model descends the weighted losses."""
    return mx.minimize(mx.maximize(mx.surrogate(score, gradient=W @ mx.losses(THETA, NAMES)), over=W), over=THETA)


def measured(expr, learner, batch=None, leaves=None):
    """The value of an expression of the model, its leaves trainable or not."""
    form = mx.plan(
        game(W @ mx.losses(THETA, NAMES) + 0 * mx.sum(expr @ np.ones(expr.shape[1]) if len(expr.shape) == 2 else expr)), learner
    ).form
    model = Modelled(form, learner, bind_losses(form, learner.abilities), {}, {})
    env = model.env(model.weights(np.full(3, 1 / 3)), learner.start() if leaves is None else leaves, batch)
    (value,) = Lowered((expr,), learner.device, (THETA,))(env)
    return value, model.meter


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)], ids=["as given", "another order"])
@pytest.mark.parametrize("trainable", [True, False])
def test_an_exact_learner_gives_the_products_of_its_gradients(order, trainable):
    learner = exact(order)
    x = learner.start()[0]
    leaves = (x.clone().requires_grad_(trainable),)
    slopes, val = (x - CENTRES).numpy(), (x - VAL).numpy()
    both, meter = measured(mx.gram(THETA, NAMES), learner, leaves=leaves)
    np.testing.assert_allclose(both.numpy(), slopes @ slopes.T, rtol=1e-14)
    assert not both.requires_grad
    assert meter.gradients == 3, "one backward pass a domain, shared by rows and columns"
    aside, _ = measured(mx.gram(THETA, NAMES, mx.loss(THETA, "val")), learner, leaves=leaves)
    np.testing.assert_allclose(aside.numpy(), slopes @ val, rtol=1e-14)
    turned, _ = measured(mx.gram(THETA, mx.loss(THETA, "val"), ["c", "a"]), learner, leaves=leaves)
    np.testing.assert_allclose(turned.numpy(), slopes[[2, 0]] @ val, rtol=1e-14)


def test_a_sampled_learner_gives_those_of_its_batch():
    rng = np.random.default_rng(0)
    streams = {n: {d: rng.integers(0, 11, 400) for d in ds} for n, ds in {"train": NAMES, "val": ["x", "y"]}.items()}
    torch.manual_seed(0)
    learner = mx.TorchLearner(GPT(vocabulary=11, context=8, width=8, layers=1, heads=2), streams, context=8, per_domain=2)
    batch = learner.draw(torch.Generator().manual_seed(3))
    found, _ = measured(mx.gram(THETA, NAMES, mx.losses(THETA, ["y", "x"], name="val")), learner, batch)
    leaves = tuple(leaf.requires_grad_() for leaf in learner.start())
    slopes = {}
    for name in ("train", "val"):
        values = learner.losses(leaves, name, batch)
        grads = [torch.autograd.grad(v, leaves, retain_graph=True) for v in values]
        slopes[name] = torch.stack([torch.cat([g.reshape(-1) for g in parts]) for parts in grads])
    np.testing.assert_allclose(found.numpy(), (slopes["train"] @ slopes["val"].flip(0).T).detach().numpy(), rtol=1e-4, atol=1e-6)


def test_a_saddle_whose_weights_see_it_takes_the_step_derived_by_hand():
    """DoGE's score <grad l_i, sum_j grad l_j>: w_i times exp(rate score_i), normalised; the model descends the weighted losses."""
    learner = exact()
    result = mx.solve(game(W @ (mx.gram(THETA, NAMES) @ np.ones(3))), learner, solver=DescentAscent(rate=0.1, steps=1))
    slopes = (learner.start()[0] - CENTRES).numpy()
    step = np.exp(0.1 * slopes @ slopes.sum(axis=0))
    np.testing.assert_allclose(list(result.weights.values()), step / step.sum(), rtol=1e-9)
    moved = learner.start()[0].numpy() - 0.1 * (step / step.sum()) @ slopes
    np.testing.assert_allclose(result.parameters.numpy(), moved, rtol=1e-9)
    assert result.check.gap is not None


def test_a_sampled_one_is_called_biased():
    rng = np.random.default_rng(0)
    learner = mx.TorchLearner(
        GPT(vocabulary=11, context=8, width=8, layers=1, heads=2), {"train": {d: rng.integers(0, 11, 400) for d in NAMES}}, context=8
    )
    notes = mx.plan(game(W @ (mx.gram(THETA, NAMES) @ np.ones(3))), learner).choice.notes
    assert any("gram(theta, losses(theta, 'train'), losses(theta, 'train'))" in note and "biased" in note for note in notes)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: mx.gram(THETA, W), r"gram is of losses\(...\) or loss\(...\) of 'theta', or of domains, not of 'w'"),
        (lambda: mx.gram(THETA, NAMES, mx.loss(mx.model("other"), "val")), "not of 'loss\\(other, 'val'\\)'"),
        (lambda: mx.gram(W, NAMES), "losses are of a model, but 'w' is none"),
        (
            lambda: mx.plan(mx.minimize(mx.maximize(W @ mx.gram(THETA, NAMES, mx.loss(THETA, "val")), over=W), over=THETA)),
            "stands where a model follows its gradient.*in the value alone",
        ),
        (
            lambda: mx.plan(
                mx.minimize(mx.sum(mx.gram(T := mx.argmin(W @ mx.losses(THETA, NAMES), over=THETA), NAMES, mx.loss(T, "val"))), over=W)
            ),
            "stands where a model follows its gradient",
        ),
    ],
)
def test_where_it_does_not_belong_it_is_refused_in_words(make, words):
    with pytest.raises(mx.MixoptError, match=words):
        make()
