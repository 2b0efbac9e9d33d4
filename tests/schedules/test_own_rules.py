"""Rules of the user's own: in a loop, with a learner, and under constraints that they do not know."""

import numpy as np
import pytest
import torch

import mixopt as mx
from mixopt.errors import RefusalError
from mixopt.rules import Need, Rule, Scene, Seen, Standing

from .games import CENTRES, DOMAINS, K, learner


class Towards(Rule):
    """Half the way to the losses' shares at each move; remembers how many it has seen of each."""

    def needs(self, domains: mx.Domains) -> tuple[Need, ...]:
        return (Need("train", "losses", domains.names),)

    def move(self, scene: Scene, at: Standing, seen: Seen) -> Standing:
        count = np.asarray(at.memory.get("count", np.zeros(len(scene)))) + seen.present["train"]
        target = seen["train"] / seen["train"].sum()
        return Standing((at.weights + target) / 2, {"count": count}, {"target": target})


def test_a_rule_of_the_users_own_trains_a_learner_and_runs_in_a_loop():
    w, theta = mx.Mixture(DOMAINS), mx.model()
    problem = mx.minimize(mx.maximize(w @ mx.losses(theta, DOMAINS), over=w), over=theta)
    method = mx.Method(problem, mx.solvers.Online(Towards(), every=2), "towards")
    pulled = mx.solve(method, learner(), budget=mx.Budget(steps=9))
    assert pulled.trace["target"].shape == (9, K)
    schedule = mx.online(method)
    rows = [schedule.w for losses in pulled.trace["losses"] if schedule.observe(train=losses) or True]
    assert schedule.moves == 4
    moved = mx.online(method, every=1)
    for step, losses in enumerate(pulled.trace["losses"]):
        if step % 2 == 0:
            moved.observe(train=losses)
            np.testing.assert_allclose(moved.w, pulled.trace.weights[step], atol=1e-14)
    assert len(rows) == 9
    state = moved.state_dict()
    again = mx.online(method, every=1)
    again.load_state_dict(state)
    assert (again.w == moved.w).all()
    other = mx.minimize(mx.maximize(w @ mx.losses(theta, DOMAINS, "val"), over=w), over=theta)
    with pytest.raises(RefusalError, match="Towards needs train"):
        mx.plan(mx.Method(other, mx.solvers.Online(Towards())), learner_of_val())


class Recording(Towards):
    """Tells what it saw."""

    def move(self, scene: Scene, at: Standing, seen: Seen) -> Standing:
        return Standing(at.weights, {}, {"told": seen["train"]})


def test_a_domain_never_seen_counts_as_the_others_of_the_moment_whoever_trains(monkeypatch):
    monkeypatch.setattr(mx.FunctionLearner, "present", lambda self, batch, name: torch.tensor([True, False, True]))
    w, theta = mx.Mixture(DOMAINS), mx.model()
    problem = mx.minimize(mx.maximize(w @ mx.losses(theta, DOMAINS), over=w), over=theta)
    pulled = mx.solve(mx.Method(problem, mx.solvers.Online(Recording())), learner(), budget=mx.Budget(steps=4))
    told = pulled.trace["told"]
    np.testing.assert_allclose(told[:, 1], told[:, [0, 2]].mean(axis=1), atol=1e-15)
    assert np.ptp(told[:, 1]) > 0.01


class Loose(Towards):
    """Half the way to one domain after the other, without an eye on constraints."""

    constrained = False

    def move(self, scene: Scene, at: Standing, seen: Seen) -> Standing:
        return Standing((at.weights + np.eye(K)[(seen.move + 1) % K]) / 2)


def test_a_rule_that_knows_no_constraints_goes_on_from_the_weights_allowed():
    w, theta = mx.Mixture(DOMAINS), mx.model()
    problem = mx.minimize(mx.maximize(w @ mx.losses(theta, DOMAINS), over=w, subject_to=[w["code"] <= 0.3]), over=theta)
    method = mx.Method(problem, mx.solvers.Online(Loose()), "loose")
    pulled = mx.solve(method, learner(), budget=mx.Budget(steps=6))
    schedule = mx.online(method)
    for step, losses in enumerate(pulled.trace["losses"]):
        schedule.observe(train=losses)
        np.testing.assert_allclose(schedule.w, pulled.trace.weights[step], atol=1e-14)
    assert schedule.history.weights[1, 1] == pytest.approx(0.3)


def learner_of_val() -> mx.FunctionLearner:
    start = {"x": torch.zeros(2, dtype=torch.float64)}
    return mx.FunctionLearner(start, {"val": lambda p: ((p["x"] - CENTRES) ** 2).sum(dim=1)})
