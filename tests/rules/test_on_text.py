"""Each method by gradients in a training loop on Python's own text: the model learns, the weights stay on the simplex."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

import mixopt as mx
from mixopt.demo.corpus import load
from mixopt.problems import aioli, chameleon, dograph, grape, online_doge, pike, r_and_b
from mixopt.runtime.gpt import GPT
from mixopt.runtime.torch_learner import cross_entropy

CONTEXT, STEPS = 24, 24


@functools.cache
def text():
    """Tokens by domain, of those that this Python has."""
    found = load().tokens["train"]
    names = sorted(found, key=lambda name: -len(found[name]))[:4]
    if len(names) < 4:
        pytest.skip("this Python lacks the text")
    return {name: torch.from_numpy(np.asarray(found[name][:60_000], dtype=np.int64)) for name in names}


def windows(generator, name, rows):
    tokens = text()[name]
    starts = torch.randint(0, len(tokens) - CONTEXT - 1, (rows,), generator=generator)
    return torch.stack([tokens[s : s + CONTEXT + 1] for s in starts])


def tell(schedule, module, generator, step):
    """What a loop measures for the schedule, by the names of its needs; with every=1 at each fourth step."""
    needs, own = set(schedule.needs), {name: windows(generator, name, 4) for name in schedule.domains}
    if step % 4:
        return False
    if "labels" in needs:
        rows = [windows(generator, name, 1) for name in own for _ in range(5)]
        with torch.no_grad():
            losses = [float(cross_entropy(module(x[:, :-1]), x[:, 1:]).mean()) for x in rows]
        found = mx.scores.clusters(mx.scores.sketches(module, rows, size=256, layers="last"), losses, np.repeat(range(4), 5), 3, domains=4)
        return schedule.observe(**found.content())
    if "signal" in needs:
        signal, noise = mx.scores.signal_and_noise(module, own)
        return schedule.observe(signal=signal, noise=noise)
    if "val" in needs:
        with torch.no_grad():
            losses = torch.stack([cross_entropy(module(x[:, :-1]), x[:, 1:]).mean() for x in own.values()])
        gram = {"gram": mx.scores.products(module, own, layers="last")} if "gram" in needs else {}
        return schedule.observe(val=losses, **gram)
    norms = {"norms": mx.scores.norms(module, own)} if "norms" in needs else {}
    return schedule.observe(alignment=mx.scores.alignment(module, own), **norms)


METHODS = {
    "DoGE": lambda d: online_doge(d, mu=0.1, step_size=0.1),
    "DoGE, code": lambda d: online_doge(d, mu=0.01, step_size=1e-3, faithful_to="code"),
    "R&B": lambda d: r_and_b(d, rate=0.5),
    "GRAPE": lambda d: grape(d, d, rate=1.0, task_rate=1.0, task_every=2),
    "PiKE": lambda d: pike(d, gain=0.1, damping=0.01, batch=4),
    "PiKE, exact": lambda d: pike(d, gain=0.1, damping=0.01, batch=4, form="exact"),
    "DoGraph, constraint": lambda d: dograph(d, 3),
    "DoGraph, penalty": lambda d: dograph(d, 3, form="penalty"),
    "Aioli": lambda d: aioli(d, rate=0.5, hold=4),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_short_run(name):
    domains = mx.Domains(list(text()))
    schedule = mx.online(METHODS[name](domains), every=1)
    torch.manual_seed(0)
    module, generator = GPT(256, CONTEXT, 16, 2, 2), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(module.parameters(), 3e-3)
    losses, moved = [], 0
    for step in range(STEPS):
        moved += bool(tell(schedule, module, generator, step))
        w = schedule.w
        assert w.min() >= 0
        assert w.sum() == pytest.approx(1, abs=1e-12)
        assert w.max() < 0.98  # else it would have warned, and warnings are errors here
        drawn = torch.multinomial(torch.from_numpy(w), 12, replacement=True, generator=generator)
        batch = torch.cat([windows(generator, domains.names[i], 1) for i in drawn])
        loss = cross_entropy(module(batch[:, :-1]), batch[:, 1:]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert moved == STEPS // 4
    assert np.mean(losses[-4:]) < np.mean(losses[:4]) - 0.3
    assert len(np.unique(schedule.history.weights.round(9), axis=0)) > 1


def test_scores_on_text_by_one_pass_are_those_of_k_backward_passes():
    generator, module = torch.Generator().manual_seed(1), GPT(256, CONTEXT, 16, 2, 2)
    own = {name: windows(generator, name, 8) for name in text()}
    one, each = mx.scores.alignment(module, own), mx.scores.alignment(module, own, by="backward")
    assert float(((one - each) / each).abs().max()) < 1e-5


def test_chameleon_on_a_models_own_embeddings():
    domains, generator = mx.Domains(list(text())), torch.Generator().manual_seed(0)
    module = GPT(256, CONTEXT, 16, 2, 2)
    found = mx.scores.embeddings(module, {name: windows(generator, name, 16)[:, :-1] for name in domains})
    weights = chameleon(domains, found, ridge=1e-3)
    assert sum(weights.values()) == pytest.approx(1)
