"""A Hugging Face GPT-2 with its default, fused attention: every engine runs, in float32 and under bfloat16 autocast."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mixopt as mx
from mixopt.solvers import ConjugateGradients, Implicit, Unrolled, ValueFunction

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning")
NAMES = ["a", "b", "c"]
SYSTEM = ConjugateGradients(steps=5, tolerance=1e-2, damping=0.3)
ENGINES = {
    "implicit": Implicit(curvature="gauss-newton", system=SYSTEM, outer_steps=2, average="last"),
    "one-step": Unrolled(outer_steps=2, average="last"),
    "value function": ValueFunction(warmup=10, outer_steps=6, average="last"),
}


def learner(autocast):
    draw = np.random.default_rng(0)
    tokens = {name: draw.integers(8 * i, 8 * i + 8, 400) for i, name in enumerate(NAMES)}
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=24, n_positions=8, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    module = transformers.GPT2LMHeadModel(config)
    streams = {"train": tokens, "val": {"a": tokens["a"]}}
    return mx.TorchLearner(module, streams, context=8, per_domain=2, evaluation=4, autocast=autocast)


def problem():
    w, theta = mx.Mixture(NAMES), mx.model()
    return mx.minimize(mx.mean(mx.losses(mx.argmin(w @ mx.losses(theta, NAMES), over=theta), ["a"], name="val")), over=w)


@pytest.fixture(scope="module", params=[None, "bf16"], ids=["float32", "bf16"])
def small(request):
    return learner(request.param)


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_runs_and_favours_what_is_validated(small, engine):
    result = mx.solve(problem(), small, solver=ENGINES[engine])
    assert result.weights["a"] > 1 / 3
    assert min(result.vector) >= 0
    assert sum(result.weights.values()) == pytest.approx(1, abs=1e-15)
    assert all(p.dtype == torch.float32 for p in result.parameters.values())


def test_the_plan_says_what_takes_the_place_of_the_fused_kernel(small):
    assert small.abilities.fused
    assert small.abilities.double_backward
    text = str(mx.plan(problem(), small))
    assert "the module's fused attention has no second derivatives, so hypergradients run on attention's math kernel" in text
    assert "Implicit, Gauss-Newton, damped  <- here" in text
    assert "math kernel" in str(mx.plan(problem(), small, solver=ValueFunction()))


def test_an_exact_learner_with_fused_attention_is_told_what_is_left():
    """Such a learner holds losses as they are given: no kernel is exchanged, and first derivatives are what there is."""
    tokens = torch.randn(3, 1, 4, 8, generator=torch.Generator().manual_seed(0))

    def losses(p):
        mixed = torch.nn.functional.scaled_dot_product_attention(tokens @ p, tokens @ p, tokens)
        return (mixed**2).mean((1, 2, 3)) + (p**2).sum() / 10

    exact = mx.FunctionLearner(torch.eye(8), {"train": losses, "val": lambda p: (p**2).mean()})
    w, theta = mx.Mixture(NAMES), mx.model()
    it = mx.minimize(mx.loss(mx.argmin(w @ mx.losses(theta, NAMES), over=theta), "val"), over=w)
    text = str(mx.plan(it, exact))
    assert "Solver  ValueFunction()" in text
    assert "Implicit refuses: the learner's losses cannot be differentiated twice" in text
    assert "first derivatives alone                          ValueFunction  <- here" in text
