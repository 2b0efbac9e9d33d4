"""Lanes: tasks side by side by threads, errors and interrupts among them, and how many models train in each."""

from __future__ import annotations

import threading
import time
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from mixopt.runtime import room
from mixopt.runtime.ensemble import train
from mixopt.runtime.gpt import GPT
from mixopt.runtime.lanes import Lanes, nothing
from mixopt.runtime.recipe import Recipe
from mixopt.runtime.room import kept, planned, split
from mixopt.runtime.streams import Streams

MIXTURES = np.array([[0.5, 0.5], [1.0, 0.0], [0.25, 0.75], [0.5, 0.5], [0.9, 0.1]])


@pytest.fixture
def two():
    """Two of torch's threads, as on a machine with two cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def streams() -> Streams:
    return Streams({"up": np.arange(200) % 8, "down": -np.arange(150) % 8}, context=6)


def tiny(seed: int) -> nn.Module:
    return GPT(vocabulary=8, context=6, width=8, layers=2, heads=2, seed=seed)


@pytest.mark.parametrize("lanes", [Lanes(1, 2), Lanes(2, 1), Lanes(3, 1)], ids=str)
def test_tasks_are_made_and_leave_what_is_to_be_done_in_the_callers_thread(two, lanes):
    here, did, trained = threading.get_ident(), [], []

    def task(number):
        assert threading.get_ident() == here

        def carried_out(say):
            trained.append((threading.get_ident() == here, torch.get_num_threads()))
            say(lambda: did.append((number, "said", threading.get_ident() == here)))
            return lambda: did.append((number, "ended", threading.get_ident() == here))

        return carried_out

    lanes.carry_out(map(task, range(7)))
    assert sorted(did) == sorted((n, what, True) for n in range(7) for what in ("said", "ended"))
    assert all(did.index((n, "said", True)) < did.index((n, "ended", True)) for n in range(7))
    assert trained == [(lanes.count == 1, 2 if lanes.count == 1 else 1)] * 7


class Slow:
    """Takes its time to go."""

    def __del__(self):
        time.sleep(0.2)


def test_no_thread_outlives_its_task(two):
    def task(number):
        held = [] if number else [Slow()]

        def carried_out(say):
            time.sleep(0.05)  # so that this thread is the last to hold them
            held.append(number)
            return nothing

        return carried_out

    Lanes(2).carry_out(map(task, range(3)))
    assert not [t for t in threading.enumerate() if t.name.startswith("lane")]


def test_an_error_stops_the_other_lane_and_what_has_ended_is_kept(two):
    ended, began = [], threading.Barrier(2)

    def fails(say):
        began.wait()
        raise ValueError("a word")

    def endless(say):
        began.wait()
        while True:
            say(nothing)

    with pytest.raises(ValueError, match="a word"):
        Lanes(2).carry_out([lambda say: lambda: ended.append(0), fails, endless])
    assert ended == [0]
    assert not [t for t in threading.enumerate() if t.name.startswith("lane")]


def test_an_interrupt_of_the_caller_stops_both_lanes_and_what_has_ended_is_kept(two):
    ended, over = [], threading.Barrier(2)

    def stop():
        over.wait()
        raise KeyboardInterrupt

    def interrupted(say):
        say(stop)
        while True:
            say(nothing)

    def ends(say):
        over.wait()
        return partial(ended.append, 1)

    with pytest.raises(KeyboardInterrupt):
        Lanes(2).carry_out([interrupted, ends])
    assert ended == [1]
    assert not [t for t in threading.enumerate() if t.name.startswith("lane")]


def test_two_lanes_train_what_one_does_bit_for_bit(two, streams):
    def trained(threads):
        torch.set_num_threads(threads)
        return train(tiny, MIXTURES, streams, Recipe(12, 4), seeds=range(5), data_seed=range(5), chunk=2).parameters

    one, both = trained(1), trained(2)
    assert all(torch.equal(one[name], both[name]) for name in one)


def test_progress_over_two_lanes_rises_to_all_steps(two, streams):
    told: list[tuple[int, int]] = []
    train(tiny, MIXTURES, streams, Recipe(12, 2), seeds=range(5), data_seed=0, chunk=2, watch=lambda *at: told.append(at))
    steps = [done for done, _ in told]
    assert steps == sorted(steps)
    assert steps[-1] == 36
    assert {every for _, every in told} == {36}


def test_models_are_split_evenly_and_over_all_lanes():
    assert sorted(len(part) for part in split(64, 7, 2)) == [6] * 6 + [7] * 4
    assert [run for part in split(64, 7, 2) for run in part] == list(range(64))
    assert split(5, 8, 2) == [range(2), range(2, 5)]
    assert split(1, 8, 2) == [range(1)]
    assert split(3, 1, 2) == [range(1), range(1, 2), range(2, 3)]


def test_what_a_step_keeps_is_counted_by_hand_and_sets_what_trains_together(two, streams, monkeypatch):
    class Bigram(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(torch.zeros(8, 8))

        def forward(self, tokens):
            return self.table[tokens]

    recipe = Recipe(steps=1, batch=4)
    each = 4 * 6 * (4 * 8 + 8)  # the softmax, and the tokens, which are indices and targets alike
    assert kept(Bigram(), 6, recipe) == each
    monkeypatch.setattr(room, "KEPT", 3 * each)
    assert planned(Bigram(), Bigram(), streams, recipe) == (2, Lanes(2, 1))
    monkeypatch.setattr(room, "MEMORY", 5 * each)
    assert planned(Bigram(), Bigram(), streams, recipe) == (2, Lanes(1, 2))
    monkeypatch.setattr(room, "KEPT", each // 2)
    assert planned(Bigram(), Bigram(), streams, recipe)[0] == 1
    assert Lanes(2, 1).at_most(1) == Lanes(1, 2)


def test_models_that_share_a_module_are_not_run_by_two_threads(two, streams):
    template = tiny(0)
    assert planned(template, tiny(0), streams, Recipe(1, 4))[1] == Lanes(2, 1)
    assert planned(template, template, streams, Recipe(1, 4))[1] == Lanes(1, 2)
    one = train(lambda seed: template, MIXTURES, streams, Recipe(12, 4), seeds=range(5), data_seed=range(5))
    other = train(lambda seed: tiny(0), MIXTURES, streams, Recipe(12, 4), seeds=range(5), data_seed=range(5))
    for name in one.parameters:
        torch.testing.assert_close(one.parameters[name], other.parameters[name], rtol=1e-5, atol=1e-5)
