"""Chameleon's closed form against its code's arithmetic, what the two stages favour, and the embeddings that it takes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import mixopt as mx
from mixopt.problems import chameleon
from mixopt.runtime.gpt import GPT


def by_hand(rows, before, ridge=10.0):
    """The released script's arithmetic: its centring of the kernel, its inverse, its normalisation and its temperatures."""
    k = len(rows)
    kernel = rows @ rows.T
    centre = np.eye(k) - np.ones((k, k)) / k
    kernel = centre @ kernel @ centre
    scores = np.diag(kernel @ np.linalg.inv(kernel + ridge * k * np.eye(k)))
    scores = scores / scores.sum()
    logits = 1 / scores / 5.0 if before else scores / 0.2
    return np.exp(logits) / np.exp(logits).sum()


@pytest.mark.parametrize("stage", ["pretraining", "fine-tuning"])
def test_it_is_the_released_arithmetic(stage):
    domains = mx.Domains([f"d{i}" for i in range(7)])
    rows = np.random.default_rng(0).normal(size=(7, 16))
    found = chameleon(domains, rows, stage=stage)
    assert list(found.values()) == pytest.approx(by_hand(rows, stage == "pretraining"), rel=1e-9)
    named = chameleon(domains, {n: torch.tensor(rows[i]) for i, n in reversed(list(enumerate(domains.names)))}, stage=stage)
    assert named == pytest.approx(found)


def test_pretraining_favours_what_is_common_and_fine_tuning_what_is_special():
    domains = mx.Domains(["web", "news", "blogs", "code"])
    rows = np.array([[1.0, 0.1], [1.1, 0.0], [0.9, 0.0], [-3.0, 2.0]]) * 4
    before, after = chameleon(domains, rows), chameleon(domains, rows, stage="fine-tuning")
    assert min(before, key=before.__getitem__) == "code"
    assert max(after, key=after.__getitem__) == "code"


def test_the_paper_without_normalisation_collapses_with_a_warning():
    rows = 0.2 * np.random.default_rng(0).normal(size=(4, 8))
    with pytest.warns(UserWarning, match="collapse on"):
        chameleon(mx.Domains(list("abcd")), rows, faithful_to="paper")


@pytest.mark.parametrize(
    ("embeddings", "change", "words"),
    [
        (np.zeros((3, 2)), {}, "the mean of all"),
        (np.ones((2, 2)), {}, r"\[3, d\] are expected"),
        (np.full((3, 2), np.nan), {}, "finite vectors"),
        ({"a": [1.0], "b": [2.0]}, {}, "one for each of"),
        (np.eye(3), {"ridge": 0.0}, "the ridge is"),
        (np.eye(3), {"temperature": -1.0}, "the temperature is"),
        (np.eye(3), {"stage": "later"}, "the stage is"),
        (np.eye(3), {"faithful_to": "survey"}, "follows"),
    ],
)
def test_bad_input(embeddings, change, words):
    with pytest.raises(mx.InputError, match=words):
        chameleon(mx.Domains(["a", "b", "c"]), embeddings, **change)


def test_embeddings_of_the_middle_layer():
    module, draw = GPT(64, 8, 16, 3, 2).train(), torch.Generator().manual_seed(0)
    batches = {n: torch.randint(0, 64, (4, 8), generator=draw) for n in "abc"}
    found = mx.scores.embeddings(module, batches)
    assert found.shape == (3, 16)
    assert module.training
    caught = []
    handle = module.blocks[1].register_forward_hook(lambda _, __, out: caught.append(out.detach()))
    module(batches["b"])
    handle.remove()
    assert found[1] == pytest.approx(caught[0].mean(0), abs=1e-6)
    assert torch.equal(found, mx.scores.embeddings(module, batches, layer="blocks.1"))
    assert not module.blocks[1]._forward_hooks
    weights = chameleon(mx.Domains(list("abc")), found, ridge=0.01)
    assert sum(weights.values()) == pytest.approx(1)
    with pytest.raises(mx.InputError, match=r"no layer 'blocks.9'"):
        mx.scores.embeddings(module, batches, layer="blocks.9")
    with pytest.raises(mx.InputError, match="no list of blocks"):
        mx.scores.embeddings(nn.Linear(3, 3), [torch.ones(2, 3)])
    with pytest.raises(mx.LearnerError, match="put out no vectors"):
        mx.scores.embeddings(Odd(), [torch.ones(2, 3)], layer="unused")


class Odd(nn.Module):
    """A module with a layer that never runs."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        return x
