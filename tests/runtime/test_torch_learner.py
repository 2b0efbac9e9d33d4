"""TorchLearner: any module from tokens to logits, its losses, its curvature products, and whose tensors it leaves alone."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, hessian, jacrev

import mixopt as mx
from mixopt.errors import InputError, LearnerError
from mixopt.problems import doremi
from mixopt.runtime.gpt import GPT
from mixopt.runtime.torch_learner import cross_entropy
from mixopt.runtime.tree import split, vector
from mixopt.solvers import ConjugateGradients, DescentAscent, Implicit, Unrolled

NAMES = ("a", "b", "c")
SHORT = ConjugateGradients(steps=3, damping=0.1)


def streams(seed=0, names=NAMES, vocabulary=8):
    """Random tokens of a few domains, each with its own taste."""
    draw = np.random.default_rng(seed)
    return {name: draw.choice(vocabulary, 120, p=draw.dirichlet(np.ones(vocabulary))) for name in names}


def gpt(seed=0):
    return GPT(vocabulary=8, context=8, width=8, layers=1, heads=2, seed=seed)


def made(module=None, **options):
    parts = {"train": streams(0), "val": streams(1)}
    return mx.TorchLearner(module or gpt(), parts, **({"context": 8, "per_domain": 2, "evaluation": 4} | options))


def bilevel(targets=NAMES, name="val"):
    w, theta = mx.Mixture(NAMES), mx.model()
    trained = mx.argmin(w @ mx.losses(theta, NAMES), over=theta)
    return mx.minimize(mx.mean(mx.losses(trained, targets, name=name)), over=w)


def saddle():
    w, theta = mx.Mixture(NAMES), mx.model()
    return mx.minimize(mx.maximize(w @ mx.losses(theta, NAMES), over=w), over=theta)


class Dropped(nn.Module):
    """A model of single tokens with dropout."""

    def __init__(self, share=0.5):
        super().__init__()
        torch.manual_seed(0)
        self.table, self.out, self.drop = nn.Embedding(8, 6), nn.Linear(6, 8), nn.Dropout(share)

    def forward(self, tokens):
        return self.out(self.drop(torch.tanh(self.table(tokens))))


def hugging_face(kind, seed=0):
    """A tiny random causal language model of the usual library, with fused attention."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    if kind == "gpt2":
        config = transformers.GPT2Config(vocab_size=8, n_positions=8, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
        config._attn_implementation = "sdpa"
        return transformers.GPT2LMHeadModel(config)
    config = transformers.LlamaConfig(
        vocab_size=8, hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=8
    )
    config._attn_implementation = "sdpa"
    return transformers.LlamaForCausalLM(config)


def test_losses_of_all_domains_from_one_pass_are_those_of_separate_passes():
    learner = made(dtype=torch.float64)
    batch = learner.draw(torch.Generator().manual_seed(0))
    together = learner.losses(learner.start(), "train", batch)
    module = gpt().double()
    alone = [nn.functional.cross_entropy(module(part[:, :-1]).flatten(0, 1), part[:, 1:].flatten()) for part in batch["train"]]
    assert together.tolist() == pytest.approx([loss.item() for loss in alone], rel=1e-12)
    assert learner.tokens(learner.start(), "train", batch).shape == (3, 2 * 8)
    assert learner.tokens_of(batch, "train") == 3 * 2 * 8


def test_cross_entropy_is_torch_s():
    logits, targets = torch.randn(2, 5, 8, dtype=torch.float64), torch.randint(8, (2, 5))
    expected = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(2, 5)
    assert cross_entropy(logits, targets).numpy() == pytest.approx(expected.numpy())


def test_the_gauss_newton_product_is_the_dense_one():
    """sum_i c_i mean over tokens of J' (diag(p) - p p') J, from dense Jacobians in float64."""
    learner = made(Dropped(0.0), dtype=torch.float64, per_domain=1, context=4)
    batch, leaves = learner.draw(torch.Generator().manual_seed(0)), learner.start()
    c = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    tokens = batch["train"].flatten(0, 1)[:, :-1]
    names = [n for n, _ in learner._module.named_parameters()]

    def outputs(flat):
        return functional_call(learner._module, dict(zip(names, split(flat, leaves), strict=True)), (tokens,)).flatten(0, 1)

    flat = vector(leaves)
    J, p = jacrev(outputs)(flat), outputs(flat).softmax(-1)  # [k * t, vocabulary, P], [k * t, vocabulary]
    H = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    share = c.repeat_interleave(4) / 4
    dense = torch.einsum("n,nvp,nvu,nuq->pq", share, J, H, J)
    product = learner.gauss_newton(leaves, "train", batch, c)
    for seed in range(3):
        v = torch.randn(len(flat), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        assert vector(product(split(v, leaves))).detach().numpy() == pytest.approx((dense @ v).numpy(), rel=1e-9, abs=1e-12)


def test_gauss_newton_is_the_hessian_where_the_logits_are_linear_in_the_parameters():
    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.logits = nn.Parameter(torch.linspace(-1, 1, 64, dtype=torch.float64).view(8, 8))

        def forward(self, tokens):
            return nn.functional.embedding(tokens, self.logits)

    learner = mx.TorchLearner(Table(), {"train": streams(0), "val": streams(1)}, context=8, evaluation=2)
    system = ConjugateGradients(damping=0.05, steps=300, tolerance=1e-11)
    both = [mx.hypergradient(bilevel(), learner, solver=Implicit(curvature=c, system=system)) for c in ("hessian", "gauss-newton")]
    assert both[0] == pytest.approx(both[1], rel=1e-8)


def test_a_given_model_in_the_lower_level_adds_no_curvature():
    """Its losses are constants, so the excess over a reference and the loss itself have one and the same hypergradient."""
    w, theta = mx.Mixture(NAMES), mx.model()
    own = mx.losses(theta, NAMES)
    learner, solver = made(dtype=torch.float64), Implicit(curvature="gauss-newton", system=ConjugateGradients(damping=0.1))
    found = []
    for payoff, given in ((own, None), (own - mx.losses(mx.model("reference"), NAMES), {"reference": gpt(1)})):
        problem = mx.minimize(mx.mean(mx.losses(mx.argmin(w @ payoff, over=theta), NAMES, name="val")), over=w)
        found.append(mx.hypergradient(problem, learner, solver=solver, given=given))
    assert found[0] == pytest.approx(found[1], rel=1e-9)


def test_the_hypergradient_of_a_network_is_the_dense_one():
    """-J' (H + damping)^-1 grad val with a dense Hessian in float64."""
    learner = made(Dropped(0.0), dtype=torch.float64, context=4, evaluation=2)
    batch, leaves = learner.evaluation(), learner.start()
    flat = vector(leaves)

    def losses(x, name):
        return learner.losses(split(x, leaves), name, batch)

    H = hessian(lambda x: losses(x, "train").mean())(flat) + 0.5 * torch.eye(len(flat), dtype=torch.float64)
    v = torch.func.grad(lambda x: losses(x, "val").mean())(flat)
    expected = -jacrev(lambda x: losses(x, "train"))(flat) @ torch.linalg.solve(H, v)
    system = ConjugateGradients(damping=0.5, steps=300, tolerance=1e-12)
    found = mx.hypergradient(bilevel(), learner, solver=Implicit(system=system))
    assert found == pytest.approx(expected.numpy(), rel=1e-6)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("curvature", ["gauss-newton", "hessian"])
def test_a_hugging_face_model_with_fused_attention_is_answered_by_the_math_kernel(kind, curvature):
    module = hugging_face(kind)
    before = copy.deepcopy(module.state_dict())
    assert module.config._attn_implementation == "sdpa"
    learner = made(module)
    result = mx.solve(bilevel(), learner, solver=Implicit(curvature=curvature, system=SHORT, outer_steps=2, warmup=1))
    assert np.isfinite(result.trace["value"]).all()
    assert np.isfinite(result.check.gap)
    assert result.vector.sum() == pytest.approx(1, abs=1e-12)
    assert all(torch.equal(before[n], p) for n, p in module.state_dict().items())
    assert any(not torch.equal(before[n], p) for n, p in result.parameters.items())


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_hugging_face_model_trains_in_a_saddle_and_one_step_bilevel(kind):
    module = hugging_face(kind)
    game = mx.solve(doremi(mx.Domains(NAMES), steps=2), made(module), given={"reference": hugging_face(kind, seed=1)})
    step = mx.solve(bilevel(), made(module), solver=Unrolled(outer_steps=2))
    assert np.isfinite(game.trace["losses"]).all()
    assert np.isfinite(step.trace["losses"]).all()


def test_a_reference_is_a_module_a_dict_or_a_result_s_parameters():
    learner, method = made(), doremi(mx.Domains(NAMES), steps=2)
    reference = mx.solve(saddle(), learner, solver=DescentAscent(steps=3)).parameters
    module = gpt()
    module.load_state_dict(reference, strict=False)
    runs = [mx.solve(method, learner, given={"reference": r}) for r in (reference, dict(module.named_parameters()), module)]
    assert all(np.array_equal(r.trace.weights, runs[0].trace.weights) for r in runs)
    own = mx.solve(method, learner, given={"reference": gpt()})
    assert own.trace["value"][0] == 0  # the reference is the start itself
    with pytest.raises(InputError, match="lack"):
        mx.solve(method, learner, given={"reference": {}})
    with pytest.raises(InputError, match="has shape"):
        mx.solve(method, learner, given={"reference": GPT(vocabulary=8, context=8, width=4, layers=1, heads=2)})


def test_validation_sets_may_be_over_other_domains():
    learner = mx.TorchLearner(gpt(), {"train": streams(), "ood": streams(2, ["x", "y"])}, context=8, per_domain=2, evaluation=4)
    result = mx.solve(bilevel(["y", "x"], "ood"), learner, solver=Implicit(curvature="gauss-newton", system=SHORT, outer_steps=2))
    assert set(result.weights) == set(NAMES)
    assert learner.abilities.provides["ood"].names == ("x", "y")


def test_bfloat16_passes_keep_parameters_and_losses_in_float32():
    plain, half = made(), made(autocast="bf16")
    batch = plain.evaluation()
    losses = [x.losses(x.start(), "train", x.evaluation()) for x in (plain, half)]
    assert losses[1].dtype == torch.float32
    assert losses[1].tolist() == pytest.approx(losses[0].tolist(), rel=0.02)
    assert not torch.equal(losses[0], losses[1])
    solver = Implicit(curvature="gauss-newton", system=SHORT, outer_steps=2)
    result = mx.solve(bilevel(), half, solver=solver)
    assert np.isfinite(result.trace["value"]).all()
    assert next(iter(result.parameters.values())).dtype == torch.float32
    assert np.isfinite(mx.solve(saddle(), half, solver=DescentAscent(steps=2)).vector).all()
    assert len(batch["train"]) == 3


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_gauss_newton_products_of_fused_attention_under_bfloat16_are_those_of_float32(kind):
    solver = Implicit(curvature="gauss-newton", system=ConjugateGradients(steps=5, damping=1.0))
    module = hugging_face(kind)
    plain, half = (mx.hypergradient(bilevel(), made(module, autocast=a), at=[0.2, 0.3, 0.5], solver=solver) for a in (None, "bf16"))
    assert half == pytest.approx(plain, abs=0.05 * np.abs(plain).max())
    assert not np.array_equal(plain, half)


def test_float64_is_an_argument():
    learner = made(dtype=torch.float64)
    result = mx.solve(saddle(), learner, solver=DescentAscent(steps=2))
    assert {p.dtype for p in result.parameters.values()} == {torch.float64}
    assert next(learner._user.parameters()).dtype == torch.float32


def test_frozen_parameters_stay_and_are_no_part_of_the_answer():
    module = gpt()
    module.position.requires_grad_(False)
    learner = made(module)
    result = mx.solve(bilevel(), learner, solver=Implicit(curvature="gauss-newton", system=SHORT, outer_steps=2))
    assert "position" not in result.parameters
    mx.solve(saddle(), learner, solver=DescentAscent(steps=2), inplace=True)
    assert torch.equal(module.position, gpt().position)
    assert not torch.equal(module.embedding, gpt().embedding)
    for p in module.parameters():
        p.requires_grad_(False)
    with pytest.raises(InputError, match="no trainable parameter"):
        made(module)


def test_the_user_s_module_is_changed_in_place_only_when_asked():
    module = gpt()
    learner = made(module)
    one = mx.solve(saddle(), learner, solver=DescentAscent(steps=3))
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), gpt().parameters(), strict=True))
    two = mx.solve(saddle(), learner, solver=DescentAscent(steps=3), inplace=True)
    assert all(torch.equal(one.parameters[n], two.parameters[n]) for n in one.parameters)
    assert all(torch.equal(p, two.parameters[n]) for n, p in module.named_parameters())
    assert all(torch.equal(a, b) for a, b in zip(learner.start(), module.parameters(), strict=True))


def test_dropout_is_off_for_checks_and_second_order_and_on_for_training():
    module = Dropped()
    module.train()
    learner = made(module)
    leaves, fixed = learner.start(), learner.evaluation()
    batch = learner.draw(torch.Generator().manual_seed(0))
    still = [learner.losses(leaves, "train", fixed) for _ in range(2)]
    with learner.second_order():
        second = [learner.losses(leaves, "train", batch) for _ in range(2)]
    noisy = [learner.losses(leaves, "train", batch) for _ in range(2)]
    assert torch.equal(*still)
    assert torch.equal(*second)
    assert not torch.equal(*noisy)
    assert module.training
    assert learner._module.drop.training
    result = mx.solve(bilevel(), learner, solver=Implicit(system=ConjugateGradients(steps=5, damping=1.0), outer_steps=2))
    assert np.isfinite(result.check.gap)


def test_a_module_s_own_frozen_dropout_stays_off():
    module = Dropped()
    module.eval()
    learner = made(module)
    with learner.second_order():
        pass
    assert not learner._module.training


@pytest.mark.parametrize(
    ("optimizer", "text"),
    [(torch.optim.LBFGS, "each training step here draws another"), (lambda tensors: tensors, "a torch.optim.Optimizer of the tensors")],
)
def test_an_optimizer_that_cannot_take_a_training_step_is_told(optimizer, text):
    with pytest.raises(InputError, match=text):
        made(optimizer=optimizer)


def test_a_device_that_is_not_there_is_an_error():
    with pytest.raises(InputError, match=r"no device 'cpuu'.*did you mean 'cpu'"):
        made(device="cpuu")
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises(InputError, match="torch sees no CUDA device here; use device='cpu'"):
        made(device="cuda")


@pytest.mark.parametrize(
    ("module", "error", "text"),
    [
        (lambda: GPT(vocabulary=5, context=8, width=8, layers=1), InputError, "holds token 7, but the module's vocabulary is 5"),
        (lambda: nn.Sequential(nn.Embedding(8, 4), nn.Flatten(1)), LearnerError, r"logits \[b, t, vocabulary\] are expected"),
        (lambda: nn.Sequential(nn.Embedding(8, 8), nn.LSTM(8, 8)), LearnerError, "the module returns a tuple"),
    ],
)
def test_a_module_that_does_not_fit_is_told_when_the_learner_is_made(module, error, text):
    with pytest.raises(error, match=text):
        made(module())


def test_logits_without_gradient_are_told_when_the_learner_is_made():
    class Closed(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = gpt()

        def forward(self, tokens):
            return self.inner(tokens).detach()

    with pytest.raises(LearnerError, match="carry no gradient"):
        made(Closed())


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"per_domain": 0}, "per_domain is at least 1"),
        ({"context": 4.5}, "it is a whole number"),
        ({"dtype": "float32"}, "such as torch.float32"),
        ({"dtype": torch.int64}, "such as torch.float32"),
        ({"autocast": "fp16"}, "autocast is 'fp16'; it is 'bf16'"),
        ({"autocast": torch.bfloat16}, "autocast is torch.bfloat16; it is 'bf16'"),
        ({"module": lambda tokens: tokens}, "trains a torch.nn.Module, not a function"),
    ],
)
def test_settings_out_of_range(options, match):
    with pytest.raises(InputError, match=match):
        made(**options)


def test_a_context_that_the_module_cannot_take_is_told_when_the_learner_is_made():
    with pytest.raises(LearnerError, match=r"fails on tokens \[1, 16\].* the context, here 16"):
        made(hugging_face("gpt2"), context=16)


def test_no_streams_at_all():
    with pytest.raises(InputError, match="the dict is empty"):
        mx.TorchLearner(gpt(), {})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("options", [{}, {"dtype": torch.float64}, {"autocast": "bf16"}], ids=["float32", "float64", "bf16"])
def test_a_run_on_cuda_is_that_on_the_cpu(options):
    results = [mx.solve(saddle(), made(device=d, **options), solver=DescentAscent(steps=5)) for d in ("cpu", "cuda")]
    assert results[0].vector == pytest.approx(results[1].vector, rel=0.05 if "autocast" in options else 1e-4)
    solver = Implicit(curvature="gauss-newton", system=SHORT, outer_steps=3)
    results = [mx.solve(bilevel(), made(device=d, **options), solver=solver) for d in ("cpu", "cuda")]
    assert results[0].trace["value"] == pytest.approx(results[1].trace["value"], rel=0.05)
    assert next(iter(results[1].parameters.values())).is_cuda


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_hugging_face_model_on_cuda(kind):
    result = mx.solve(bilevel(), made(hugging_face(kind), device="cuda"), solver=Implicit(system=SHORT, outer_steps=2))
    assert np.isfinite(result.trace["value"]).all()
