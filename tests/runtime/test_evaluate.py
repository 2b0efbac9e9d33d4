"""Evaluation: each loss is measured once, vectors are matched by domain name, constants are lowered once."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

import mixopt as mx
from mixopt.compiler.binding import bind_losses
from mixopt.errors import LearnerError
from mixopt.problems import doremi
from mixopt.runtime.evaluate import Lowered
from mixopt.runtime.gpt import GPT
from mixopt.runtime.modelled import Modelled

AB = ["a", "b"]


def bound(problem, learner, given=None, models=None):
    """The problem's functions on a learner."""
    form = mx.plan(problem, learner).form
    return Modelled(form, learner, bind_losses(form, learner.abilities), given or {}, models or {})


def counting_learner(order=None):
    """Two quadratic losses that count their own passes; ``order`` names the entries of the vector."""
    passes = Counter()

    def train(x):
        passes["train"] += 1
        return (x - torch.tensor([1.0, 5.0], dtype=x.dtype)) ** 2

    def val(x):
        passes["val"] += 1
        return (x * x).sum()

    learner = mx.FunctionLearner(
        torch.zeros(1, dtype=torch.float64), losses={"train": train if order is None else (train, order), "val": val}
    )
    passes.clear()
    return learner, passes


def test_a_loss_used_many_times_is_measured_once_for_each_model_and_name():
    w, theta = mx.Mixture(AB), mx.model()
    losses = mx.losses(theta, AB)
    payoff = w @ losses + 0.1 * (w @ mx.square(losses)) + 0.01 * mx.mean(losses) * mx.sum(w) + mx.loss(theta, "val")
    learner, passes = counting_learner()
    model = bound(mx.minimize(mx.maximize(payoff, over=w), over=theta), learner)
    passes.clear()
    env = model.env(model.weights(np.array([0.5, 0.5])), learner.start(), None)
    first = model.first(env)[0]
    second = model.second(env.at(model.weights(np.array([1.0, 0.0]))))[0]
    assert passes == {"train": 1, "val": 1}
    assert model.meter.forward_passes == 2
    assert first.item() == pytest.approx(13 + 0.1 * (1 + 625) / 2 + 0.01 * 13)
    assert second.item() == pytest.approx(1 + 0.1 + 0.01 * 13)


@pytest.mark.parametrize("method", [False, True], ids=["losses", "tokens"])
def test_a_language_model_makes_one_pass_for_its_tokens_and_their_means(method, monkeypatch):
    tokens = {name: np.arange(40) % 8 for name in AB}
    learner = mx.TorchLearner(GPT(8, 8, 8, 1, 1), {"train": tokens}, context=8, per_domain=2)
    if method:
        problem, passes = doremi(mx.Domains(AB)).problem, 2  # the trained model and the reference
    else:
        w, theta = mx.Mixture(AB), mx.model()
        extra = mx.domain_mean(mx.tokens(theta), AB)
        problem, passes = mx.minimize(mx.maximize(w @ (mx.losses(theta, AB) + extra), over=w), over=theta), 1
    form = mx.plan(problem, learner).form
    models = {n: GPT(8, 8, 8, 1, 1, seed=1) for n in {m for e in (form.payoff,) for m in e.walk()} if n.op == "model" and n != form.theta}
    model = bound(problem, learner, models=models)
    calls = []
    plain = GPT.forward
    monkeypatch.setattr(GPT, "forward", lambda self, x: calls.append(self.embedding.requires_grad) or plain(self, x))
    start = tuple(leaf.requires_grad_() for leaf in learner.start())
    env = model.env(model.weights(np.array([0.5, 0.5])), start, learner.evaluation())
    model.first(env)
    model.second(env)
    assert calls == [False, True][-passes:]  # the reference first, before the trained model's graph takes its memory
    assert model.meter.forward_passes == passes
    assert model.meter.tokens == passes * 2 * 32 * 8


def test_vectors_are_matched_by_domain_name():
    w, theta = mx.Mixture(["b", "a"]), mx.model()
    problem = mx.minimize(mx.maximize(w @ mx.losses(theta, ["b", "a"]), over=w), over=theta)
    learner, _ = counting_learner(order=["a", "b"])
    model = bound(problem, learner)
    value = model.upper(model.weights(np.array([1.0, 0.0])), learner.start(), None)
    assert value.item() == pytest.approx(25)
    (node,) = model.bound.orders
    assert model.bound.ordered_back(node, torch.tensor([25.0, 1.0])).tolist() == [1.0, 25.0]


def test_a_problem_may_use_some_of_the_learner_s_domains():
    w, theta = mx.Mixture(["b"]), mx.model()
    problem = mx.minimize(mx.maximize(w @ mx.losses(theta, ["b"]), over=w), over=theta)
    learner, _ = counting_learner(order=["a", "b"])
    model = bound(problem, learner)
    assert model.upper(model.weights(np.array([1.0])), learner.start(), None).item() == pytest.approx(25)
    (node,) = model.bound.orders
    assert model.bound.ordered_back(node, torch.tensor([7.0])).tolist() == [0.0, 7.0]


def test_a_domain_that_the_learner_lacks_is_named():
    w, theta = mx.Mixture(["b", "aa"]), mx.model()
    learner, _ = counting_learner(order=["a", "b"])
    with pytest.raises(LearnerError, match="no domain 'aa'"):
        mx.plan(mx.minimize(mx.maximize(w @ mx.losses(theta, ["b", "aa"]), over=w), over=theta), learner)


def test_constants_are_lowered_once(monkeypatch):
    w, theta = mx.Mixture(AB), mx.model()
    payoff = w @ (mx.losses(theta, AB) - mx.constant([0.5, 1.5]))
    learner, _ = counting_learner()
    model = bound(mx.minimize(mx.maximize(payoff, over=w), over=theta), learner)
    start, at = learner.start(), model.weights(np.array([0.5, 0.5]))
    made = []
    plain = torch.tensor
    monkeypatch.setattr(torch, "tensor", lambda *a, **k: made.append(a) or plain(*a, **k))
    learner._functions["train"] = lambda x: x * 0 + 2.0 + x.new_zeros(2)
    assert model.upper(at, start, None).item() == pytest.approx(1.0)
    assert not made


def test_a_given_model_is_a_constant_to_the_one_trained():
    w, theta = mx.Mixture(AB), mx.model()
    payoff = w @ (mx.losses(theta, AB) - mx.losses(mx.model("reference"), AB))
    learner, _ = counting_learner()
    problem = mx.minimize(mx.maximize(payoff, over=w), over=theta)
    reference = next(n for n in mx.plan(problem, learner).form.payoff.walk() if str(n) == "reference")
    model = bound(problem, learner, models={reference: torch.ones(1, dtype=torch.float64)})
    at = tuple(leaf.requires_grad_() for leaf in learner.start())
    value = model.upper(model.weights(np.array([0.5, 0.5])), at, None)
    assert value.item() == pytest.approx(13 - 8)
    assert torch.autograd.grad(value, at)[0].item() == pytest.approx(-6)


def test_lowered_outputs_share_what_they_have_in_common():
    w, theta = mx.Mixture(AB), mx.model()
    one = w @ mx.losses(theta, AB)
    together = Lowered((one, one * 2), torch.device("cpu"))
    alone = Lowered((one,), torch.device("cpu"))
    assert len(together._calls) == len(alone._calls) + 2


def test_losses_of_single_precision_meet_weights_of_double():
    w, theta = mx.Mixture(AB), mx.model()
    learner = mx.FunctionLearner(torch.zeros(1), losses={"train": lambda x: (x - torch.tensor([1.0, 5.0])) ** 2})
    model = bound(mx.minimize(mx.maximize(w @ mx.losses(theta, AB), over=w), over=theta), learner)
    at = tuple(leaf.requires_grad_() for leaf in learner.start())
    value = model.upper(model.weights(np.array([0.5, 0.5])), at, None)
    assert value.dtype == torch.float64
    assert torch.autograd.grad(value, at)[0].dtype == torch.float32
