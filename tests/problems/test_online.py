"""Saddles of the literature: their payoffs and steps by hand, numbers that do not fit, and DoReMi's rounds until they settle."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mixopt as mx
from mixopt.problems import doremi, doremi_rounds, group_dro, online_doremi, sheared_llama, velocitune
from mixopt.runtime.gpt import GPT

DOMAINS = mx.Domains(["web", "code", "books"], tokens=[900.0, 90.0, 10.0])
CENTRES = torch.tensor([-1.0, 0.5, 3.0], dtype=torch.float64)


def points(rate=0.1):
    """Losses (x - c_i)^2 / 2 as training and validation losses, from x = 0, with plain gradient steps."""
    return mx.FunctionLearner(
        torch.zeros(1, dtype=torch.float64),
        {name: (lambda x: (x - CENTRES) ** 2 / 2) for name in ("train", "val")},
        optimizer=lambda p: torch.optim.SGD(p, lr=rate),
    )


def raised(w, scores, smoothing=0.0):
    w = w * np.exp(scores)
    return (1 - smoothing) * w / w.sum() + smoothing / len(w)


LOSSES = np.array([0.5, 0.125, 4.5])


def test_group_dro_s_first_step_with_its_adjustment():
    method = group_dro(DOMAINS, adjustment=2.0, rate=0.3, steps=1)
    result = mx.solve(method, points())
    added = 2 / np.sqrt([900.0, 90.0, 10.0])
    w = raised(np.full(3, 1 / 3), 0.3 * (LOSSES + added))
    assert result.vector == pytest.approx(w, abs=1e-12)
    assert result.parameters.item() == pytest.approx(0.1 * w @ CENTRES.numpy())
    assert result.trace["value"][0] == pytest.approx((LOSSES + added).mean())
    given = mx.solve(group_dro(DOMAINS, sizes={"web": 900, "code": 90, "books": 10}, adjustment=2.0, rate=0.3, steps=1), points())
    assert given.vector == pytest.approx(w, abs=1e-12)


@pytest.mark.parametrize("steps", [1, 3])
def test_online_doremi_as_the_survey_prints_it(steps):
    """Excess over a reference at x = 1, clipped per domain, not smoothed, the last weights."""
    found = mx.solve(online_doremi(DOMAINS, steps=steps, faithful_to="survey"), points(), given={"reference": torch.ones(1).double()})
    x, w, c = 0.0, np.full(3, 1 / 3), CENTRES.numpy()
    for _ in range(steps):
        w = raised(w, np.maximum((x - c) ** 2 / 2 - (1 - c) ** 2 / 2, 0))
        x -= 0.1 * w @ (x - c)
    assert found.vector == pytest.approx(w, abs=1e-12)
    assert found.parameters.item() == pytest.approx(x)
    offline = mx.solve(doremi(DOMAINS, steps=steps, faithful_to="survey"), points(), given={"reference": torch.ones(1).double()})
    assert offline.trace.weights == pytest.approx(found.trace.weights, abs=1e-12)
    assert offline.vector == pytest.approx(found.trace.weights.mean(axis=0), abs=1e-12)


@pytest.mark.parametrize(("source", "clipped", "smoothing"), [("code", False, 1e-4), ("paper", True, 0.0), ("survey", True, 0.0)])
def test_sheared_llama_moves_its_weights_every_so_many_steps(source, clipped, smoothing):
    targets = np.array([0.4, 0.3, 0.2])
    result = mx.solve(sheared_llama(DOMAINS, targets, every=2, steps=3, faithful_to=source), points())
    x, w, c = 0.0, np.full(3, 1 / 3), CENTRES.numpy()
    for step in range(3):
        if step % 2 == 0:
            gap = (x - c) ** 2 / 2 - targets
            w = raised(w, np.maximum(gap, 0) if clipped else gap, smoothing)
        x -= 0.1 * w @ (x - c)
        assert result.trace.weights[step] == pytest.approx(w, abs=1e-12)
    assert result.parameters.item() == pytest.approx(x)


def test_targets_are_numbers_by_domain_or_an_expression():
    by_name = sheared_llama(DOMAINS, {"books": 0.2, "web": 0.4, "code": 0.3}, steps=2)
    as_parameter = sheared_llama(DOMAINS, mx.parameter("target", 3), steps=2)
    one = mx.solve(by_name, points()).vector
    assert mx.solve(as_parameter, points(), given={"target": [0.4, 0.3, 0.2]}).vector == pytest.approx(one, abs=1e-12)
    for wrong, says in [
        ([0.1, 0.2], "the targets are"),
        ({"web": 1.0}, "one number for each"),
        ([0.1, 0.2, np.nan], "finite"),
        ("low", "one number"),
    ]:
        with pytest.raises(mx.InputError, match=says):
            sheared_llama(DOMAINS, wrong)


def test_targets_that_a_scaling_law_predicts_at_a_larger_size():
    """Losses E + A / N^0.3 + B / D^0.3 of runs at the natural mixture give targets at 70e9 parameters, as numbers or as an expression."""
    draw = np.random.default_rng(0)
    params, seen = np.exp(draw.uniform(np.log(1e7), np.log(1e9), 40)), np.exp(draw.uniform(np.log(1e9), np.log(1e11), 40))
    irreducible, names = np.array([0.3, 0.05, 0.8]), list(DOMAINS)

    def reached(n, d):
        return irreducible + 100 / np.asarray(n)[..., None] ** 0.3 + 200 / np.asarray(d)[..., None] ** 0.3

    runs = mx.Runs.from_arrays(names, np.tile(DOMAINS.natural, (40, 1)), names, reached(params, seen), params=params, tokens=seen)
    law, at = mx.laws.Chinchilla.fit(runs), {"params": 7e10, "tokens": 1.4e12}
    found = [
        mx.solve(sheared_llama(DOMAINS, targets, steps=1), points()).vector
        for targets in (reached(7e10, 1.4e12), law.predict(DOMAINS.natural, **at), law(mx.Mixture(DOMAINS), **at))
    ]
    assert found[1] == pytest.approx(found[0], abs=1e-6)
    assert found[2] == pytest.approx(found[1], abs=1e-12)


def test_velocitune_refuses_a_first_loss_that_is_not_above_its_target():
    with pytest.raises(mx.InputError, match=r"the first losses of \(code\) are not above their targets"):
        velocitune(DOMAINS, [0.1, 0.2, 0.3], [0.5, 0.2, 1.0])
    result = mx.solve(velocitune(DOMAINS, [0.1, 0.2, 0.3], [1.0, 1.0, 5.0], steps=1), points())
    velocity = np.clip((LOSSES - [0.1, 0.2, 0.3]) / (np.array([1.0, 1.0, 5.0]) - [0.1, 0.2, 0.3]), 0, 1)
    assert result.vector == pytest.approx(raised(np.full(3, 1 / 3), velocity), abs=1e-12)


def test_a_domain_that_begins_below_its_target_has_no_velocity():
    """Code begins at 0.125 with a target of 0.3: V = (1, 0, 1) at the first step, and no sign is turned."""
    result = mx.solve(velocitune(DOMAINS, [0.1, 0.3, 0.3], steps=1), points())
    assert result.vector == pytest.approx(raised(np.full(3, 1 / 3), np.array([1.0, 0.0, 1.0])), abs=1e-12)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: doremi(DOMAINS, faithful_to="papers"), "doremi follows 'paper', 'code' or 'survey'"),
        (lambda: online_doremi(DOMAINS, faithful_to="code"), "no code was released"),
        (lambda: sheared_llama(DOMAINS, [1, 2, 3], faithful_to="both"), "follows 'paper', 'code' or 'survey'"),
        (lambda: group_dro(DOMAINS, adjustment=-1.0), "the adjustment is -1.0"),
        (lambda: group_dro(DOMAINS, sizes=[1, 2, 0], adjustment=1.0), r"needs n > 0 examples"),
        (lambda: doremi_rounds(points(), DOMAINS, rounds=0), "there are 0 rounds"),
        (lambda: doremi_rounds(points(), DOMAINS, tolerance=0.0), "the tolerance is 0.0"),
    ],
)
def test_settings_that_do_not_fit(make, says):
    with pytest.raises(mx.InputError, match=says):
        make()


def test_rounds_feed_the_weights_back_until_none_moves():
    """Of two points the excess is positive where the proxy still lags; by hand for the first round, then until the rounds agree."""
    settings = {"steps": 40, "rate": 0.5, "faithful_to": "survey"}
    found = doremi_rounds(points(), DOMAINS, rounds=30, tolerance=2e-3, **settings)
    assert found.settled
    assert 1 < len(found.results) < 30
    assert found.moves[-1] < 2e-3 <= found.moves[-2]
    assert found.weights == found.results[-1].weights
    w, theta = mx.Mixture(DOMAINS), mx.model()
    reference = mx.train(w @ mx.losses(theta, DOMAINS), points(), [1 / 3] * 3, budget=mx.Budget(steps=40)).parameters
    first = mx.solve(doremi(DOMAINS, **settings), points(), given={"reference": reference})
    assert found.results[0].vector == pytest.approx(first.vector, abs=1e-12)
    assert found.moves[0] == pytest.approx(np.abs(first.vector - 1 / 3).max())
    assert str(found).startswith(f"DoReMi in {len(found.results)} rounds, settled\n  web")


def test_rounds_that_end_too_early_say_so():
    found = doremi_rounds(points(), DOMAINS, rounds=1, steps=20, faithful_to="survey", start=DOMAINS.natural)
    assert not found.settled
    assert "not settled" in str(found)
    assert len(found.results) == 1


def test_doremi_rounds_on_a_torch_module():
    """Token losses, two domains of three tokens: the domain that the small reference knows less about gains weight."""
    draw = np.random.default_rng(0)
    tokens = {"noise": draw.integers(0, 8, 400), "constant": np.zeros(400, dtype=int), "pairs": np.arange(400) % 2}
    learner = mx.TorchLearner(GPT(8, 8, 8, 1, 1), {"train": tokens}, context=8, per_domain=2, evaluation=2)
    found = doremi_rounds(learner, mx.Domains(list(tokens)), rounds=2, steps=6)
    assert len(found.results) == 2
    assert sum(found.weights.values()) == pytest.approx(1)


@pytest.mark.parametrize("sampling", ["uniform", "weights", [0.5, 0.3, 0.2]], ids=str)
def test_each_runs_on_batches_however_they_are_drawn(sampling):
    """What moves the weights is measured on every domain alike; the model's batches are drawn by w, or by shares with w / q."""
    draw = np.random.default_rng(0)
    streams = {name: {domain: draw.integers(0, 8, 300) for domain in DOMAINS} for name in ("train", "val")}
    settings = {"context": 8, "per_domain": 2, "evaluation": 2, "sampling": sampling}
    learner = mx.TorchLearner(GPT(8, 8, 8, 1, 1), streams, **settings)
    targets = [2.0, 2.0, 2.0]
    methods = [
        group_dro(DOMAINS, adjustment=1.0, steps=3),
        sheared_llama(DOMAINS, targets, every=2, steps=3),
        velocitune(DOMAINS, targets, every=2, steps=3),
        online_doremi(DOMAINS, steps=3),
        online_doremi(DOMAINS, steps=3, faithful_to="survey"),
    ]
    for method in methods:
        given = {"reference": GPT(8, 8, 8, 1, 1, seed=1)} if "DoReMi" in method.name else None
        result = mx.solve(method, learner, given=given)
        assert result.status is mx.Status.BUDGET
        assert result.cost.steps == 3
        assert sum(result.weights.values()) == pytest.approx(1)
        assert result.check.saddle is None


def test_the_other_solvers_run_on_batches_too():
    draw = np.random.default_rng(0)
    learner = mx.TorchLearner(
        GPT(8, 8, 8, 1, 1),
        {"train": {d: draw.integers(0, 8, 300) for d in DOMAINS}},
        context=8,
        per_domain=2,
        evaluation=2,
        sampling="weights",
    )
    w, theta = mx.Mixture(DOMAINS), mx.model()
    game = mx.minimize(mx.maximize(w @ mx.losses(theta, DOMAINS), over=w), over=theta)
    S = mx.solvers
    for solver in (S.Extragradient(steps=3), S.SmoothedDescentAscent(steps=3), S.BestResponse(ball=S.Entropic(0.5), steps=3)):
        result = mx.solve(game, learner, solver=solver)
        assert result.cost.steps == 3
        assert result.check.gap is not None
