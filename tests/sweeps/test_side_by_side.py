"""Sweeps whose ensembles train in two lanes: the same table, interrupts and divergence that lose nothing; models by torch.compile."""

from __future__ import annotations

import sys
import threading
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import mixopt as mx
from mixopt.errors import InputError, LearnerError
from mixopt.runtime import room
from mixopt.runtime.recipe import Recipe
from mixopt.sweeps import Ensemble, Halving, Journal, Processes, Progress, Sequential, processes, work

sys.path.insert(0, str(Path(__file__).parent))
import models

TRAIN = {"up": np.arange(200) % 8, "down": -np.arange(150) % 8}
HELD = {"up": np.arange(80) % 8, "down": -np.arange(90) % 8}
MIXTURES = [[0.5, 0.5], [1.0, 0.0], [0.25, 0.75], [0.9, 0.1], [0.4, 0.6], [0.7, 0.3], [0.1, 0.9]]
SETTINGS = {"targets": HELD, "context": models.CONTEXT, "recipe": Recipe(steps=12, batch=4), "windows": 4}


@pytest.fixture
def two():
    """Two of torch's threads, as on a machine with two cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert not [t for t in threading.enumerate() if t.name.startswith("lane")]
    torch.set_num_threads(before)


@pytest.fixture
def seen(monkeypatch) -> list[tuple[int, bool]]:
    """How many runs each group has, and whether it trains in a lane of its own."""
    found: list[tuple[int, bool]] = []
    plain = work.Group.advance

    def advance(self, *given):
        found.append((len(self.jobs), threading.current_thread() is not threading.main_thread()))
        return plain(self, *given)

    monkeypatch.setattr(work.Group, "advance", advance)
    return found


@pytest.fixture(scope="module")
def table() -> mx.Runs:
    return mx.sweep(TRAIN, models.tiny, MIXTURES, executor="sequential", **SETTINGS)


@pytest.mark.parametrize(
    ("executor", "groups"),
    [(Ensemble(), [3, 4]), (Ensemble(together=2), [1, 2, 2, 2]), (Ensemble(together=1), [1] * 7)],
    ids=str,
)
def test_two_lanes_give_the_table_of_runs_one_by_one(two, seen, table, executor, groups):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = mx.sweep(TRAIN, models.tiny, MIXTURES, executor=executor, **SETTINGS)
    np.testing.assert_allclose(found.metrics, table.metrics, atol=1e-6)
    assert found.ids == table.ids
    assert sorted(seen) == [(count, True) for count in groups]


def test_one_run_has_all_threads(two, seen):
    mx.sweep(TRAIN, models.tiny, MIXTURES[:1], **SETTINGS)
    assert seen == [(1, False)]


def test_one_lane_and_two_give_one_table_bit_for_bit(two):
    some = mx.sweep(TRAIN, models.tiny, MIXTURES[:4], executor=Ensemble(together=2), **SETTINGS)
    torch.set_num_threads(1)
    assert (some.metrics == mx.sweep(TRAIN, models.tiny, MIXTURES[:4], executor=Ensemble(together=2), **SETTINGS).metrics).all()


def test_halving_in_two_lanes_keeps_the_runs_of_one(two, seen):
    settings = {**SETTINGS, "executor": Halving(at=(0.25, 0.5))}
    some = mx.sweep(TRAIN, models.tiny, MIXTURES, **settings)
    assert (3, True) in seen
    torch.set_num_threads(1)
    other = mx.sweep(TRAIN, models.tiny, MIXTURES, **settings)
    assert some.ids == other.ids
    np.testing.assert_allclose(some.metrics, other.metrics, atol=1e-6)


def test_an_interrupt_keeps_what_both_lanes_have_finished(two, tmp_path, table):
    def stop(progress: Progress) -> None:
        if progress.done >= 3:
            raise KeyboardInterrupt

    settings = {**SETTINGS, "executor": Ensemble(together=2), "resume": tmp_path / "j"}
    with pytest.warns(UserWarning, match="interrupted: [3-5] of 7 runs"):
        part = mx.sweep(TRAIN, models.tiny, MIXTURES, watch=stop, **settings)
    told: list[object] = []
    whole = mx.sweep(TRAIN, models.tiny, MIXTURES, log=told.append, **settings)
    assert len(part) + len(told) == 7
    np.testing.assert_allclose(whole.metrics, table.metrics, atol=1e-6)


@pytest.mark.parametrize("together", [1, 2, 4])
def test_a_run_that_diverges_in_one_lane_keeps_no_other_from_its_end(two, tmp_path, together):
    rates = [1e-2, 1e30, 1e-2, 1e-2, 1e-2, 1e-2, 1e-2]
    settings = {**SETTINGS, "recipe": Recipe(steps=6, batch=4, clip=1e30), "resume": tmp_path / "j"}
    with pytest.raises(LearnerError, match="run 1 is NaN or infinite"):
        mx.sweep(TRAIN, models.tiny, MIXTURES, rates=rates, executor=Ensemble(together=together), **settings)
    assert len(Journal(tmp_path / "j", {}).finished()) == 6


def test_the_first_run_that_diverges_is_named_whichever_lane_ends_first(two, monkeypatch):
    later, plain = threading.Event(), work.Group.advance

    def advance(self, *given):
        run = self.jobs[0].id
        if run == "1":
            assert later.wait(60)
        plain(self, *given)
        if run == "5":
            later.set()

    monkeypatch.setattr(work.Group, "advance", advance)
    settings = {**SETTINGS, "recipe": Recipe(steps=6, batch=4, clip=1e30), "executor": Ensemble(together=1)}
    with pytest.raises(LearnerError, match="run 1 is NaN or infinite"):
        mx.sweep(TRAIN, models.tiny, MIXTURES, rates=[1e-2, 1e30, 1e-2, 1e-2, 1e-2, 1e30, 1e-2], **settings)


def test_what_fails_in_a_lane_is_told_and_what_was_finished_is_kept(two, tmp_path, monkeypatch):
    plain = work.Group.advance

    def advance(self, *given):
        if any(job.id == "6" for job in self.jobs):
            raise ZeroDivisionError("by hand")
        return plain(self, *given)

    monkeypatch.setattr(work.Group, "advance", advance)
    with pytest.raises(ZeroDivisionError, match="by hand"):
        mx.sweep(TRAIN, models.tiny, MIXTURES, executor=Ensemble(together=1), resume=tmp_path / "j", **SETTINGS)
    assert len(Journal(tmp_path / "j", {}).finished()) >= 5


def test_large_models_share_the_threads_instead(two, seen, monkeypatch):
    monkeypatch.setattr(room, "MEMORY", 1)
    mx.sweep(TRAIN, models.tiny, MIXTURES, **SETTINGS)
    assert seen == [(7, False)]


class Stubborn(nn.Module):
    """A model that vmap cannot batch: it looks at its numbers."""

    def __init__(self, seed: int):
        super().__init__()
        self.inner = models.tiny(seed)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        logits = self.inner(tokens)
        return logits * (1.0 if float(logits.detach().sum()) > -1e9 else 0.0)


def test_models_that_vmap_refuses_train_alone(two, seen, table):
    found = mx.sweep(TRAIN, Stubborn, MIXTURES[:3], executor=Ensemble(together=3), **SETTINGS)
    np.testing.assert_allclose(found.metrics, table.metrics[:3], atol=1e-6)
    assert seen == [(1, False)] * 3


class Scaled(nn.Module):
    """A model with a buffer of its own seed."""

    def __init__(self, seed: int):
        super().__init__()
        self.inner = models.tiny(seed)
        self.register_buffer("scale", torch.tensor(1.0 + seed))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.inner(tokens) * self.scale


def test_buffers_that_differ_from_run_to_run_are_refused_together():
    with pytest.raises(InputError, match=r"buffer 'scale' differs between run 0 and run 1.*sequential"):
        mx.sweep(TRAIN, Scaled, MIXTURES, **SETTINGS)


@pytest.mark.parametrize("executor", [Ensemble(together=1), Halving(together=1)], ids=str)
def test_models_that_differ_are_refused_however_few_train_together(two, executor):
    with pytest.raises(InputError, match="'embedding' has the shape"):
        mx.sweep(TRAIN, models.unlike, MIXTURES, executor=executor, **SETTINGS)
    with pytest.raises(InputError, match="buffer 'scale' differs"):
        mx.sweep(TRAIN, Scaled, MIXTURES, executor=executor, **SETTINGS)


@pytest.mark.parametrize("executor", [Sequential(compiled=True), Ensemble(compiled=True)], ids=str)
def test_models_by_torch_compile(two, seen, table, executor, monkeypatch):
    compiled: list[object] = []
    monkeypatch.setattr(torch, "compile", lambda call: compiled.append(call) or call)
    found = mx.sweep(TRAIN, models.tiny, MIXTURES, executor=executor, **SETTINGS)
    np.testing.assert_allclose(found.metrics, table.metrics, atol=1e-6)
    assert len(compiled) == len(seen)
    assert not any(lane for _, lane in seen)


def test_workers_are_told_to_compile(monkeypatch):
    given: list[work.Work] = []

    class Worker:
        def __init__(self, work_: work.Work, device: str) -> None:
            given.append(work_)
            raise KeyboardInterrupt

    monkeypatch.setattr(processes, "_Worker", Worker)
    shared = work.Work(mx.sweeps.Corpus(*[mx.sweeps.corpus.corpus(TRAIN, HELD, 6, 2).train] * 2), {"model": models.tiny})
    with pytest.raises(KeyboardInterrupt):
        Processes(workers=1, compiled=True).carry_out(shared, lambda most: [], lambda some: None, lambda keys, step: None)
    assert given[0] == replace(shared, compiled=True)
