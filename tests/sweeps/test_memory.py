"""The memory of a sweep: what a GPU is planned to hold, a GPU that holds less, and what is let go of on the way."""

from __future__ import annotations

import gc
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import mixopt as mx
from mixopt.errors import InputError
from mixopt.runtime.ensemble import together as as_one
from mixopt.runtime.fleet import Fleet
from mixopt.runtime.lanes import Lanes
from mixopt.runtime.recipe import Recipe
from mixopt.sweeps import Ensemble, Halving, Sequential, work
from mixopt.sweeps.corpus import corpus
from mixopt.sweeps.job import Job

sys.path.insert(0, str(Path(__file__).parent))
import models

TRAIN = {"up": np.arange(200) % 8, "down": -np.arange(150) % 8}
HELD = {"up": np.arange(80) % 8, "down": -np.arange(90) % 8}
MIXTURES = [[0.5, 0.5], [1.0, 0.0], [0.25, 0.75], [0.9, 0.1]]
SETTINGS = {"targets": HELD, "context": models.CONTEXT, "recipe": Recipe(steps=2, batch=2), "windows": 2}
ONE = Job("0", (0.5, 0.5), "model", 0, 0, Recipe(steps=2, batch=2))
ON_GPU = SimpleNamespace(corpus=SimpleNamespace(train=SimpleNamespace(device=torch.device("cuda"))))
PATTERN = work.Pattern("0", nn.Identity(), as_one)


@pytest.fixture
def gpu(monkeypatch):
    """A GPU of 1,000 bytes: 10 for all, 20 for each run, 8 more for its moments from its second step on; 300 stay in torch's cache."""
    held = SimpleNamespace(cache=0, peak=0)

    class Group:
        def __init__(self, work, jobs, keys, *, together):
            self.fleet, self.runs = self, len(jobs)

        def advance(self, until):
            held.peak, held.cache = 10 + (20 + 8 * (until > 1)) * self.runs, 300

        def _losses(self):
            pass

    monkeypatch.setattr(work, "Group", Group)
    for name, what in {
        "empty_cache": lambda: setattr(held, "cache", 0),
        "reset_peak_memory_stats": lambda device: None,
        "memory_allocated": lambda device: 0,
        "max_memory_allocated": lambda device: held.peak,
        "mem_get_info": lambda device: (1000 - held.cache, 1000),
    }.items():
        monkeypatch.setattr(torch.cuda, name, what)


def test_a_gpu_is_planned_with_moments_and_with_what_torch_has_kept(gpu):
    most, lanes = work.planned(ON_GPU, ONE, PATTERN, None)
    assert (most, lanes) == (28, Lanes())
    assert 10 + 28 * most <= 0.8 * 1000 < 10 + 28 * (most + 1)
    assert work.planned(ON_GPU, ONE, PATTERN, 3) == (3, Lanes())


def test_a_gpu_that_does_not_hold_two_runs_takes_one(monkeypatch):
    def full(*given: object) -> int:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(work, "_peak", full)
    assert work.planned(ON_GPU, ONE, PATTERN, None) == (1, Lanes())


@pytest.mark.parametrize("executor", [Ensemble(together=1), Halving(), Sequential()], ids=str)
def test_a_gpu_that_holds_no_run_is_told(monkeypatch, executor):
    def full(*given: object) -> None:
        raise torch.OutOfMemoryError("by hand")

    monkeypatch.setattr(Fleet, "advance", full)
    with pytest.raises(InputError, match=r"does not hold the runs that train at once; take a smaller model.*by hand"):
        mx.sweep(TRAIN, models.tiny, MIXTURES, executor=executor, **SETTINGS)


def test_measuring_takes_no_more_windows_at_once_than_training_where_logits_are_many(monkeypatch):
    seen: list[int] = []
    plain = work.Ensemble.losses

    def losses(self, windows, *, at_once, call):
        seen.append(at_once)
        return plain(self, windows, at_once=at_once, call=call)

    monkeypatch.setattr(work.Ensemble, "losses", losses)
    whole = mx.sweep(TRAIN, models.tiny, MIXTURES, executor="sequential", **SETTINGS)
    monkeypatch.setattr(work, "LOGITS", 1)
    cut = mx.sweep(TRAIN, models.tiny, MIXTURES, executor="sequential", **SETTINGS)
    assert seen == [32] * 4 + [2] * 4
    np.testing.assert_allclose(cut.metrics, whole.metrics, atol=1e-6)


def test_a_run_that_diverged_keeps_no_tensors():
    jobs = [Job(str(i), (0.5, 0.5), "model", i, i, Recipe(steps=3, batch=2, rate=rate, clip=1e30)) for i, rate in enumerate((1e30, 1e-2))]
    group = work.Group(work.Work(corpus(TRAIN, HELD, 6, 2), {"model": models.tiny}), jobs, ["a", "b"], together=True)
    fleet = weakref.ref(group.fleet)
    group.advance(3)
    assert group.keys == ["b"]
    assert group.diverged is not None
    error = group.diverged
    del group
    gc.collect()
    assert fleet() is None
    assert "run 0 is NaN or infinite" in str(error)


def test_halving_by_an_unknown_target_is_told_before_any_training(monkeypatch):
    monkeypatch.setattr(Fleet, "advance", lambda *given: pytest.fail("a run was trained"))
    with pytest.raises(InputError, match="halving weighs 'upp', and the targets are up, down"):
        mx.sweep(TRAIN, models.tiny, MIXTURES, executor=Halving(weights={"upp": 1.0}), **SETTINGS)
