"""Aioli's rounds: probes in a seeded order, the system that they make, what is kept between rounds, and bad input."""

from __future__ import annotations

import numpy as np
import pytest

import mixopt as mx
from mixopt.problems import aioli
from mixopt.rules import Aioli
from mixopt.solvers import Online

A = np.array([[0.3, 0.05, 0.02], [0.04, 0.2, 0.06], [0.01, 0.08, 0.25]])


@pytest.fixture
def domains():
    return mx.Domains(["a", "b", "c"])


def world(schedule, steps, effects=A, first=5.0):
    """A world in which a step under w lowers the losses by effects @ w; the weights that it trained under [steps, k]."""
    losses, seen = np.full(len(effects), first), []
    for _ in range(steps):
        seen.append(schedule.w)
        losses = losses - effects @ schedule.w
        schedule.observe(val=losses)
    return np.array(seen)


def test_a_linear_world_is_learnt_exactly_and_a_round_goes_as_told(domains):
    schedule = mx.online(aioli(domains, rate=0.5, sweeps=2, hold=7, faithful_to="paper"), every=1)
    seen = world(schedule, 1 + 6 + 7 + 6 + 2)
    probes = 0.125 + 0.625 * np.eye(3)
    assert seen[0] == pytest.approx(1 / 3)
    for start in (1, 14):
        order = seen[start : start + 6].argmax(1)
        assert sorted(order[:3]) == sorted(order[3:]) == [0, 1, 2]
        assert seen[start : start + 6] == pytest.approx(probes[order])
    first = np.exp(0.5 * A.sum(0)) / np.exp(0.5 * A.sum(0)).sum()
    assert seen[7:14] == pytest.approx(np.tile(first, (7, 1)))
    second = first**2 / (first**2).sum()
    assert seen[20:] == pytest.approx(np.tile(second, (2, 1)))


def test_the_mean_of_the_released_scripts_starts_from_uniform_each_round(domains):
    schedule = mx.online(aioli(domains, rate=0.5, decay=0.25, hold=4), every=1)
    world(schedule, 1 + 3)
    effects = schedule.state_dict()["memory"]["effects"].numpy()
    assert effects == pytest.approx(A / A.sum())
    weak = A[:, ::-1] - 0.1
    world(schedule, 4 + 3, weak)
    shifted = weak - weak.min()
    mean = 0.75 * shifted / shifted.sum() + 0.25 * effects
    assert schedule.w == pytest.approx(np.exp(0.5 * mean.sum(0)) / np.exp(0.5 * mean.sum(0)).sum())
    assert schedule.w.max() / schedule.w.min() <= np.exp(0.5)


def test_targets_apart_and_the_diagonal(domains):
    targets = mx.Domains(["s", "t"])
    schedule = mx.online(aioli(domains, targets, rate=1.0, hold=4, faithful_to="paper"), every=1)
    world(schedule, 4, A[:2])
    assert schedule.state_dict()["memory"]["effects"].numpy() == pytest.approx(A[:2])
    problem = aioli(domains, hold=4).problem
    own = mx.online(problem, Online(Aioli(hold=4, normalise=False, diagonal=True)))
    world(own, 4)
    probes = 0.125 + 0.625 * np.eye(3)
    assert own.state_dict()["memory"]["effects"].numpy() == pytest.approx(np.diag(np.diag(A @ probes) / 0.75))


def test_constraints_hold_in_the_probes_too(domains):
    w = mx.Mixture(domains)
    schedule = mx.online(aioli(domains, rate=0.5, hold=4, faithful_to="paper"), every=1, subject_to=[w["a"] <= 0.5])
    seen = world(schedule, 12)
    assert seen[:, 0].max() <= 0.5 + 1e-9
    assert schedule.state_dict()["memory"]["effects"].numpy() == pytest.approx(A)  # by the probes as they were
    with pytest.raises(mx.InputError, match="do not tell the domains apart"):
        world(mx.online(aioli(domains, hold=4), every=1, subject_to=[mx.equal(w["a"], 0.2), mx.equal(w["b"], 0.3)]), 12)


def test_it_goes_on_from_a_state_in_the_middle_of_a_round(domains):
    def made(seed=3):
        return mx.online(aioli(domains, hold=4), every=1, seed=seed)

    whole, first, second = made(), made(), made()
    world(whole, 16)
    losses = np.full(3, 5.0)
    for step in range(16):
        losses = losses - A @ first.w
        first.observe(val=losses)
        if step == 5:
            second.load_state_dict(first.state_dict())
            first = second
    assert np.array_equal(first.w, whole.w)
    orders = {tuple(world(made(seed), 4)[1:].argmax(1)) for seed in range(8)}
    assert len(orders) > 1


def test_what_is_told(domains):
    with pytest.warns(UserWarning, match=r"probing takes 75% of the training steps"):
        mx.online(aioli(domains, hold=1))
    schedule = mx.online(aioli(domains, hold=4), every=1)
    schedule.observe(val=[3.0, 3.0, 3.0])
    with pytest.raises(mx.InputError, match="ends with an evaluation"):
        schedule.observe(val=[3.0, float("nan"), 3.0])
    for change, words in (
        ({"rate": 0.0}, "the rate is"),
        ({"factor": 0.0}, "the factor is"),
        ({"decay": 1.0}, "the decay is"),
        ({"sweeps": 0}, "whole number"),
        ({"hold": 1.5}, "whole number"),
        ({"faithful_to": "draft"}, "follows"),
    ):
        with pytest.raises(mx.InputError, match=words):
            aioli(domains, **change)
    with pytest.raises(mx.InputError, match="one mixture"):
        mx.online(aioli(domains, factor=1 / 3))
    with pytest.raises(mx.InputError, match="leave targets out"):
        mx.online(aioli(domains, mx.Domains(["s"])).problem, Online(Aioli(targets=("s",), diagonal=True)))
