"""Scores of a Hugging Face model with its default attention, whose fused kernel has no forward mode."""

from __future__ import annotations

import pytest
import torch

import mixopt as mx

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=64, n_positions=16, n_embd=32, n_layer=2, n_head=2)
    return transformers.GPT2LMHeadModel(config).train()


def windows(k=3):
    draw = torch.Generator().manual_seed(0)
    return [torch.randint(16 * i, 16 * i + 16, (4, 17), generator=draw) for i in range(k)]


def test_forward_mode_runs_with_attention_by_plain_maths(model):
    assert model.config._attn_implementation == "sdpa"
    batches = windows()
    exact = mx.scores.alignment(model, batches, by="backward")
    assert mx.scores.alignment(model, batches) == pytest.approx(exact, rel=1e-4)
    assert mx.scores.choose(model, batches).by == "jvp"
    assert model.training


def test_batches_with_labels_are_the_same_scores(model):
    labelled = [{"input_ids": w[:, :-1], "labels": torch.roll(w[:, :-1], 0)} for w in windows()]
    by_hand = [w[:, :-1] for w in windows()]  # the model shifts its labels by itself
    assert mx.scores.alignment(model, labelled) == pytest.approx(mx.scores.alignment(model, by_hand), rel=1e-4)


def test_the_last_layer_is_the_head_apart_from_the_embedding_that_it_shares(model):
    from mixopt.scores.subject import last_layer

    assert last_layer(model) == ("lm_head.weight",)
    batches = windows()
    found = mx.scores.products(model, batches, layers="last")
    assert found.shape == (3, 3)
    assert bool((torch.linalg.eigvalsh(found.double()) > -1e-5).all())
    whole = mx.scores.products(model, batches)
    assert not torch.allclose(found, whole, rtol=1e-2)


def test_half_precision_parameters(model):
    batches = windows()
    exact = mx.scores.alignment(model, batches, by="backward")
    half = transformers.GPT2LMHeadModel(model.config).bfloat16()
    half.load_state_dict(model.state_dict())
    lengths = mx.scores.norms(model, batches)
    for by in ("jvp", "backward"):
        found = mx.scores.alignment(half, batches, by=by)
        assert found.dtype == torch.float32
        assert float(((found - exact) / lengths**2).abs().max()) < 0.05
    with pytest.raises(mx.LearnerError, match="half precision"):
        mx.scores.alignment(half, batches, by="difference")


def test_embeddings_are_those_of_the_middle_hidden_state(model):
    batches = [w[:, :-1] for w in windows()]
    with torch.no_grad():
        states = model.eval()(batches[1], output_hidden_states=True).hidden_states
    model.train()
    assert mx.scores.embeddings(model, batches)[1] == pytest.approx(states[len(states) // 2].mean((0, 1)), abs=1e-6)
