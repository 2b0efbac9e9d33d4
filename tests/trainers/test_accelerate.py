"""Accelerate: sums added up by its own ``reduce``, the schedule and a loader in its own states."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from mixopt.loading import tokens
from mixopt.runtime.gpt import GPT
from mixopt.trainers import Meter, cross_entropy

accelerate = pytest.importorskip("accelerate")
NAMES = ("web", "code", "books")


def run(make_schedule, save=None, load=None):
    """A run of twelve steps that saves its state after the fifth, or goes on from one; losses and weights."""
    accelerator = accelerate.Accelerator(cpu=True)
    schedule, draw = make_schedule(every=2), torch.Generator().manual_seed(0)
    rows = {n: torch.randint(0, most, (600,), generator=draw).numpy() for n, most in zip(NAMES, (3, 9, 27), strict=True)}
    loader = tokens(rows, schedule, 4, context=8, batches=12)
    model = GPT(vocabulary=32, context=8, width=16, layers=1, seed=3)
    model, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), 1e-2))
    accelerator.register_for_checkpointing(schedule, loader)
    if load:
        accelerator.load_state(load)
    meter, seen = Meter(schedule, reduce=partial(accelerator.reduce, reduction="sum")), []
    for batch in loader:
        loss = cross_entropy(model(batch.data[:, :-1]), batch.data[:, 1:], batch.domains, len(NAMES), shift=False)
        accelerator.backward(loss.total)
        optimizer.step()
        optimizer.zero_grad()
        meter.add(loss.sums, loss.counts)
        meter.step()
        seen.append((loss.total.item(), schedule.w.tolist(), batch.data.tolist()))
        if save and loader.seen == 5:
            accelerator.save_state(save)
    return seen


def test_a_state_of_accelerate_s_goes_on_exactly(tmp_path, make_schedule):
    whole = run(make_schedule, save=str(tmp_path / "state"))
    assert len(whole) == 12
    assert run(make_schedule, load=str(tmp_path / "state")) == whole[5:]
