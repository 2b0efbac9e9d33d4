"""A random Hugging Face GPT-2 with default attention on the bytes of the embedded corpus: engines, their precisions, and DoGE's scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mixopt as mx
from mixopt.api import bilevel_task
from mixopt.demo.corpus import VOCABULARY, load
from mixopt.runtime.gpt import GPT
from mixopt.runtime.torch_learner import cross_entropy
from mixopt.runtime.tree import split
from mixopt.solvers import ConjugateGradients, Implicit, OneStep, Unrolled, ValueFunction
from mixopt.solvers.products import cross_term, hessian, pushed

CONTEXT = 16
SYSTEM = ConjugateGradients(steps=3, tolerance=1e-2, damping=0.3)
SHORT = {"outer_steps": 2, "average": "last"}
ENGINES = {
    "implicit, Gauss-Newton": Implicit(curvature="gauss-newton", system=SYSTEM, **SHORT),
    "implicit, Hessian": Implicit(system=SYSTEM, **SHORT),
    "implicit, differences": Implicit(system=SYSTEM, products="differences", **SHORT),
    "unrolled": Unrolled(**SHORT),
    "one-step": OneStep(steps=2, average="last"),
    "value function": ValueFunction(warmup=1, **SHORT),
}
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")])]
warns = pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning")


@pytest.fixture(scope="module")
def corpus():
    """The embedded corpus, its streams cut short."""
    full = load()
    streams = {name: {d: full.tokens[part][d][:20_000] for d in full.domains} for name, part in (("train", "train"), ("val", "validation"))}
    return full.domains, streams


def gpt2():
    """A random GPT-2 as the library makes it, of two layers."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"vocab_size": VOCABULARY, "n_positions": CONTEXT, "n_embd": 16, "n_layer": 2, "n_head": 2}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))


def problem(domains):
    """The mean validation loss over the weights of the training domains."""
    w, theta = mx.Mixture(domains), mx.model()
    trained = mx.argmin(w @ mx.losses(theta, domains), over=theta)
    return mx.minimize(mx.mean(mx.losses(trained, domains, name="val")), over=w)


@pytest.fixture(scope="module", params=DEVICES)
def device(request):
    return request.param


@pytest.fixture(scope="module", params=[None, "bf16"], ids=["float32", "bf16"])
def learner(request, corpus, device):
    return mx.TorchLearner(gpt2(), corpus[1], context=CONTEXT, per_domain=1, evaluation=2, device=device, autocast=request.param)


@warns
@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_moves_the_weights_and_they_stay_on_the_simplex(corpus, learner, device, engine, record_property):
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    result = mx.solve(problem(corpus[0]), learner, solver=ENGINES[engine])
    if device == "cuda":
        record_property("peak MiB", torch.cuda.max_memory_allocated() / 2**20)
    weights = np.array(list(result.weights.values()))
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1, abs=1e-15)
    assert np.abs(weights - 1 / len(weights)).max() > 1e-4
    assert result.check.feasible
    assert all(p.dtype == torch.float32 and bool(torch.isfinite(p).all()) for p in result.parameters.values())


@warns
@pytest.mark.parametrize("engine", [*ENGINES, None])
def test_the_plan_tells_what_takes_the_place_of_fused_attention(corpus, learner, engine):
    text = str(mx.plan(problem(corpus[0]), learner, solver=None if engine is None else ENGINES[engine]))
    assert "fused attention has no second derivatives, so hypergradients run on attention's math kernel; training does not" in text


@warns
@pytest.mark.parametrize("kind", ["GPT", "GPT-2 of the library"])
def test_doge_s_scores_by_one_jvp_are_those_of_k_backward_passes(corpus, kind):
    """<grad l_i, grad l_val> [k] within 1e-5 of |grad l_i| |grad l_val|: the solvers' mixed derivative, and ``mx.scores``."""
    domains, streams = corpus
    module = gpt2() if kind != "GPT" else GPT(VOCABULARY, CONTEXT, width=32, layers=2, heads=2, seed=0)
    learner = mx.TorchLearner(module, streams, context=CONTEXT, per_domain=4)
    model = bilevel_task(problem(domains), learner, None, Unrolled(), None)[1].model
    batch, leaves = learner.draw(torch.Generator().manual_seed(0)), tuple(leaf.requires_grad_() for leaf in learner.start())
    w = model.weights(np.full(len(domains), 1 / len(domains)))

    def gradient(windows):
        loss = cross_entropy(learner._logits(leaves, windows[:, :-1]), windows[:, 1:]).mean()
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, leaves)]).double()

    with learner.second_order():
        rows = torch.stack([gradient(windows) for windows in batch["train"]])
        goal = torch.stack([gradient(windows) for windows in batch["val"]]).mean(0)
        v = torch.autograd.grad(model.upper(w, leaves, batch), leaves)
        score = cross_term(model, w, leaves, batch, v)
    most = 1e-5 * rows.norm(dim=1) * goal.norm()
    assert bool(((score - rows @ goal).abs() < most).all())
    if kind == "GPT":
        windows = [dict(zip(domains, batch[name], strict=True)) for name in ("train", "val")]
        for by in ("jvp", "backward"):
            assert bool(((mx.scores.alignment(module, *windows, by=by).double() - rows @ goal).abs() < most).all())


def test_the_kept_graph_s_mixed_derivative_is_forward_mode_s(corpus):
    """In float64, to rounding: <d/dw_i grad lower, q> [k] of a network, and its Hessian products by both ways."""
    domains, streams = corpus
    module = GPT(VOCABULARY, CONTEXT, width=8, layers=1, heads=2, seed=0)
    learner = mx.TorchLearner(module, streams, context=CONTEXT, per_domain=1, dtype=torch.float64)
    model = bilevel_task(problem(domains), learner, None, Unrolled(), None)[1].model
    batch, at = learner.draw(torch.Generator().manual_seed(0)), tuple(leaf.requires_grad_() for leaf in learner.start())
    free = model.weights(np.full(len(domains), 1 / len(domains))).requires_grad_()
    with learner.second_order():
        kept = hessian(model, model.lower(free, at, batch), at, free)
        again = pushed(model, lambda leaves: model.lower(free, leaves, batch), model.lower(free, at, batch), at)
        q = torch.randn(len(kept.slope), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        pairs = [(kept.crossed(q), cross_term(model, free, at, batch, split(q, at))), (kept.product(q), again.product(q))]
    for one, other in pairs:
        assert float((one - other).abs().max()) < 1e-12 * float(other.abs().max())
