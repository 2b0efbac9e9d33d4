"""Problems on fitted laws: the form that the source means, its optimum by another route, and inputs that do not fit."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import rel_entr

import mixopt as mx
from mixopt.laws import DCPT, AppleAdditive, AppleJoint, AutoScale, BiMix, Exponential
from mixopt.problems import (
    apple,
    autoscale,
    autoscale_runs,
    bimix,
    dcpt,
    dml,
    merged,
    next_scale,
    olmix,
    reuse,
    unmerged,
)

DOMAINS = ["web", "code", "books", "maths"]
SLOPES = np.array([[-1.0, 0.6, 0.2, 1.1], [0.5, -2.0, 0.4, 0.3], [0.1, 0.2, -1.5, -0.7]])
TOKENS = {"web": 8e11, "code": 1.5e11, "books": 5e10, "maths": 1e10}


def proxies(slopes=SLOPES, names=DOMAINS, rows: int = 40, seed: int = 0) -> mx.Runs:
    w = np.random.default_rng(seed).dirichlet(np.ones(slopes.shape[1]), rows)
    return mx.Runs.from_arrays(names, w, ["chat", "python", "news"], np.array([2.0, 1.2, 1.5]) + np.exp(w @ slopes.T))


def sized_runs(joint: bool = False) -> mx.Runs:
    rng = np.random.default_rng(0)
    w, n, d = rng.dirichlet(np.ones(3), 120), rng.choice([2e8, 5e8, 1e9], 120), rng.uniform(2e9, 5e10, 120)
    own = 1 / (w ** [0.4, 0.5, 0.6] @ np.array([[2.0, 1.0], [1.0, 2.0], [0.7, 0.5]]))
    c = w @ np.array([0.4, 0.5, 0.3]) if joint else 0.4
    y = 1.5 + own + (c * (n / 1e9) ** -0.3 + 0.5 * (d / 1e9) ** -0.35)[:, None]
    return mx.Runs.from_arrays(["web", "code", "books"], w, ["x", "y"], y, params=n, tokens=d)


def weights(result: mx.Result) -> np.ndarray:
    return np.array(list(result.weights.values()))


def test_dml_is_the_sum_of_its_laws():
    runs = proxies()
    law = Exponential.fit(runs)
    for shares, v in ((None, np.full(3, 1 / 3)), ({"chat": 2, "news": 1}, np.array([2, 0, 1])), ([1, 1, 1], np.ones(3))):
        method = dml(runs, shares)
        assert mx.plan(method).form.__class__.__name__ == "Program"
        result = mx.solve(method)
        assert result.status.name == "OPTIMAL"
        assert result.value == pytest.approx(float(v @ law.predict(weights(result))), abs=1e-8)
        others = np.random.default_rng(1).dirichlet(np.ones(4), 2000)
        assert result.value <= (law.predict(others) @ v).min() + 1e-9
    w = mx.Mixture(DOMAINS)
    assert mx.solve(dml(law, subject_to=[w["web"] <= 0.1])).weights["web"] < 0.1 + 1e-8


def test_olmix_has_its_kl_term_and_caps_and_raw_weights():
    law, natural = Exponential.fit(proxies()), np.array(list(TOKENS.values())) / sum(TOKENS.values())
    result = mx.solve(olmix(law, TOKENS, budget=4e12, weights={"chat": 3}))
    x = weights(result)
    assert (x <= 4 * np.array(list(TOKENS.values())) / 4e12 + 1e-8).all()
    assert result.value == pytest.approx(3 * law.predict(x)[0] + 0.05 * rel_entr(x, natural).sum(), abs=1e-7)
    assert set(result.duals["repetition"]) == set(DOMAINS)
    even = dict.fromkeys(DOMAINS, 0.25)
    strong = mx.solve(olmix(law, TOKENS, prior=even, kl_weight=1e4))
    np.testing.assert_allclose(weights(strong), 0.25, atol=1e-3)
    with pytest.raises(mx.InputError, match="tokens are missing for 'maths'"):
        olmix(law, {n: t for n, t in TOKENS.items() if n != "maths"})
    with pytest.raises(mx.InputError, match="kl_weight is -1"):
        olmix(law, TOKENS, kl_weight=-1)


def test_olmix_on_the_thirteen_targets_of_regmix(shared):
    folder = shared("data/regmix")
    runs = mx.Runs.from_csv(folder / "train_mixture_1m.csv", folder / "train_pile_loss_1m.csv")
    prior = json.loads((folder / "pile_prior.json").read_text())
    prior = next((v for v in prior.values() if isinstance(v, dict)), prior)
    shares = {d: float(prior.get(d, prior.get("train_" + d, prior.get(d.removeprefix("the_pile_"), 0)))) for d in runs.domains}
    law = Exponential.fit(runs)
    total = sum(shares.values())
    result = mx.solve(olmix(law, {d: s / total for d, s in shares.items()}))
    assert result.value == pytest.approx(4.5625, abs=1e-3)
    assert mx.solve(dml(law)).value == pytest.approx(4.5422, abs=1e-3)


def test_bimix_fills_water_as_by_hand_and_as_the_cone_solver_does():
    rng = np.random.default_rng(0)
    w, steps = rng.dirichlet(np.full(4, 3.0), 60), rng.choice([2e3, 5e3, 1e4, 2e4], 60)
    alpha, b, c, beta = np.array([[0.1, 0.2, 0.05, 0.3], [200, 90, 30, 150], [1, 2, 1.5, 0.8], [0.5, 0.4, 0.3, 0.6]])
    runs = mx.Runs.from_arrays(DOMAINS, w, DOMAINS, w**-alpha * (b * steps[:, None] ** -beta + c), steps=steps)
    method = bimix(runs, steps=5e4)
    rest = b * 5e4**-beta + c
    level = brentq(lambda nu: ((alpha * rest / nu) ** (1 / (1 + alpha))).sum() - 1, 1e-6, 1e3, xtol=1e-14)
    by_hand = (alpha * rest / level) ** (1 / (1 + alpha))
    for result in (mx.solve(method), mx.solve(method.problem, solver=mx.solvers.Conic())):
        np.testing.assert_allclose(weights(result), by_hand, atol=1e-6)
        assert result.status.name == "OPTIMAL"
    law, x = BiMix.fit(runs), mx.Mixture(DOMAINS)
    capped = mx.solve(bimix(law, steps=5e4, weights={"web": 5}, subject_to=[x["web"] + x["code"] <= 0.5]))
    assert capped.weights["web"] == pytest.approx(0.5, abs=1e-6)
    with pytest.raises(mx.InputError, match=r"depends on .*optimiser steps s.*give steps="):
        bimix(law)


def test_the_dcpt_share_is_the_root_of_its_constraint():
    ratios = np.linspace(0, 1, 9)
    r, n, d = np.array([(r, n, d) for r in ratios for n in (5e8, 1.8e9, 4e9) for d in np.geomspace(1e9, 2e10, 6)]).T
    losses = [
        1.6 + 0.4 * (n / 1e9) ** -0.34 + 0.5 * (1 - r) ** 1.3 * (d / 1e9) ** -0.3 + 0.2 * (1.05 - r) ** -0.4,
        0.8 + 0.3 * (n / 1e9) ** -0.3 + 0.05 * r**1.5 * (d / 1e9) ** -0.35 + 0.15 * (r + 0.02) ** -0.6,
    ]
    runs = mx.Runs.from_arrays(["web", "code"], np.stack([1 - r, r], axis=1), ["web", "code"], np.transpose(losses), params=n, tokens=d)
    law, scale = DCPT.fit(runs), {"params": 7e9, "tokens": 1e11}
    base = float(law.predict([0.9, 0.1], **scale)[0])
    for rise in (0.01, 0.03):
        result = mx.solve(dcpt(law, domain="code", general="web", base=base, rise=rise, **scale))

        def excess(share, rise=rise):
            return law.predict([1 - share, share], **scale)[0] / base - 1 - rise

        assert result.weights["code"] == pytest.approx(brentq(excess, 0.05, 0.999, xtol=1e-12), abs=1e-6)
        assert result.status.name == "OPTIMAL"
        assert result.duals["general loss"] > 0
    with pytest.raises(mx.InputError, match="base is 0"):
        dcpt(law, domain="code", general="web", base=0, **scale)
    with pytest.raises(mx.InputError, match=r"'own'.* are settings of a fit|own.* settings of a fit"):
        dcpt(law, domain="code", general="web", base=base, own={"web": "web"}, **scale)
    assert isinstance(dcpt(DCPT.fit(runs, convex=False), domain="code", general="web", base=base, **scale).problem, mx.Problem)


@pytest.mark.parametrize("joint", [False, True])
def test_apple_is_best_at_its_size(joint):
    runs = sized_runs(joint)
    law = (AppleJoint if joint else AppleAdditive).fit(runs)
    result = mx.solve(apple(law, params=7e9, tokens=1e12))
    others = np.random.default_rng(1).dirichlet(np.ones(3), 2000)
    assert result.status.name == "OPTIMAL"
    assert result.value <= law.predict(others, params=7e9, tokens=1e12).mean(axis=1).min() + 1e-9
    if not joint:
        np.testing.assert_allclose(weights(mx.solve(apple(runs, params=1e8, tokens=1e9))), weights(result), atol=1e-4)


def test_autoscale_from_its_runs_to_the_next_scale():
    domains = mx.Domains(DOMAINS)
    mixtures, tokens = autoscale_runs(domains, 4e9)
    assert mixtures.shape == (9, 4)
    np.testing.assert_allclose(mixtures * tokens[:, None] / 1e9, np.vstack([np.ones(4), 1 - 0.8 * np.eye(4), 1 + 2 * np.eye(4)]))
    third = autoscale_runs(domains, 4e9, faithful_to="paper")
    assert (third[0] * third[1][:, None]).min() == pytest.approx(1e9 / 3)
    a, b = np.array([2.0, 4.0, 1.0, 3.0]), np.array([1.2, 1.5, 0.8, 1.9])
    y = 20 * (1 + ((a + mixtures * tokens[:, None] / 1e9) ** -b - (a + 1) ** -b).sum(axis=1))
    runs = mx.Runs.from_arrays(domains, mixtures, ["perplexity"], y[:, None], tokens=tokens)
    result = mx.solve(autoscale(runs, tokens=4e9))
    law = AutoScale.fit(runs)
    slopes = law.b[0] * (law.a[0] + 4 * weights(result)) ** (-law.b[0] - 1)
    assert np.ptp(slopes[weights(result) > 1e-6]) < 1e-6
    held = mx.solve(autoscale(law, tokens=4e9, floor=0.9))
    assert 4 * weights(held).min() == pytest.approx(0.9, abs=1e-6)


def test_the_published_scales_of_autoscale():
    small = np.array([1.55818971, 0.2, 1.1645966, 1.42333261, 1.49550525, 0.68184781, 0.47652801]) * 0.3e9 / 7
    large = np.array([1.63121445, 0.2, 1.30180479, 1.21425702, 1.83266187, 0.62006189, 0.2]) * 1.2e9 / 7
    names = list("abcdefg")
    first, second = dict(zip(names, small, strict=True)), dict(zip(names, large, strict=True))
    totals = []
    for _ in range(4):
        first, second = second, next_scale(first, second)
        totals.append(sum(second.values()) / 1e9)
    np.testing.assert_allclose(totals, [5.000487, 21.389334, 93.228146, 412.440027], rtol=1e-6)
    with pytest.raises(mx.InputError, match="different domains"):
        next_scale({"a": 1.0}, {"b": 1.0})
    with pytest.raises(mx.InputError, match=r"'a' has 0 and 1 tokens"):
        next_scale({"a": 0.0}, {"a": 1.0})


def test_reuse_keeps_the_old_ratios_by_a_constraint_or_by_one_merged_domain():
    previous = {"web": 0.6, "code": 0.3, "gone": 0.05, "books": 0.05}
    kept = np.array([0.6, 0.3, 0.05]) / 0.95
    slopes = np.array([[-1.0, 0.6, 0.2, -0.9], [-0.2, -0.5, 0.4, 0.3], [0.1, 0.2, -1.5, -0.7]])
    law, w = Exponential.fit(proxies(slopes)), mx.Mixture(DOMAINS)
    bound = mx.solve(dml(law, subject_to=[reuse(w, previous)]))
    x = weights(bound)
    np.testing.assert_allclose(x[:3] / x[:3].sum(), kept, atol=1e-6)

    shares = np.linspace(0, 1, 30)
    mixtures = np.column_stack([shares[:, None] * kept, 1 - shares])
    swarm = mx.Runs.from_arrays(
        mx.Domains(DOMAINS, tokens=list(TOKENS.values())), mixtures, ["chat", "python", "news"], law.predict(mixtures), tokens=1e9
    )
    small = merged(swarm, previous)
    assert small.domains.names == ("existing", "maths")
    assert small.domains.tokens is None  # 5 % of books are over 5 times 5 % web: no epoch of them all
    np.testing.assert_array_equal(small.tokens, swarm.tokens)
    free = mx.solve(dml(small))
    full = unmerged(free.weights, {n: previous[n] for n in DOMAINS if n in previous})
    np.testing.assert_allclose([full[n] for n in DOMAINS], x, atol=1e-4)
    assert free.value == pytest.approx(bound.value, abs=1e-7)


def test_caps_of_a_reused_mixture_are_those_of_its_parts():
    """A law of runs over merged domains, solved over all domains: the part that runs out first binds, by a closed answer."""
    previous = {"web": 0.5, "code": 0.5}
    share = np.linspace(0, 1, 20)
    rows = np.column_stack([share / 2, share / 2, 1 - share])
    names, sizes = ["web", "code", "maths"], [8e11, 1e11, 4e11]
    swarm = mx.Runs.from_arrays(mx.Domains(names, sizes), rows, ["loss"], (2 + np.exp(-share))[:, None])
    w = mx.Mixture(swarm.domains)
    law = Exponential.fit(merged(swarm, previous))
    limits = [reuse(w, previous), mx.graph.epochs(w, budget=1e12, at_most=4)]
    result = mx.solve(mx.minimize(law(merged(w, previous))["loss"], over=w, subject_to=limits))
    np.testing.assert_allclose(weights(result), [0.4, 0.4, 0.2], atol=1e-6)  # code: 4 x 1e11 of 1e12; merged sizes would allow it all
    natural = {"web": 8, "code": 1}
    assert merged(swarm.subset([0]), natural).domains.tokens == pytest.approx((9e11, 4e11))


@given(seed=st.integers(0, 10**6), k=st.integers(2, 6), new=st.integers(1, 3))
@settings(deadline=None, max_examples=25)
def test_merged_runs_are_written_out_again_as_they_were(seed, k, new):
    rng = np.random.default_rng(seed)
    names = [f"d{i}" for i in range(k + new)]
    previous = dict(zip(names, rng.dirichlet(np.ones(k)), strict=False))
    shares = rng.dirichlet(np.ones(1 + new), 4)
    mixtures = np.column_stack([shares[:, :1] * np.array(list(previous.values())), shares[:, 1:]])
    runs = mx.Runs.from_arrays(names, mixtures, ["loss"], rng.normal(size=(4, 1)), steps=[1, 2, 3, 4])
    small = merged(runs, previous)
    np.testing.assert_allclose(small.mixtures, shares, atol=1e-12)
    np.testing.assert_array_equal(small.steps, runs.steps)
    for row, full in zip(small.mixtures, runs.mixtures, strict=True):
        again = unmerged(dict(zip(small.domains, row, strict=True)), previous)
        np.testing.assert_allclose([again[n] for n in names], full, atol=1e-12)


def test_what_reuse_refuses():
    w, runs = mx.Mixture(DOMAINS), proxies()
    with pytest.raises(mx.InputError, match=r"share \(web\); reuse binds two domains or more"):
        reuse(w, {"web": 1.0, "gone": 1.0})
    with pytest.raises(mx.InputError, match="must be >= 0 and not all 0"):
        reuse(w, {"web": 0.0, "code": 0.0})
    with pytest.raises(mx.InputError, match=r"run '\d+' does not keep the ratios"):
        merged(runs, {"web": 0.5, "code": 0.5})
    with pytest.raises(mx.InputError, match="a domain 'maths' already"):
        merged(runs, {"web": 0.5, "code": 0.5}, name="maths")
    with pytest.raises(mx.InputError, match="none of the domains"):
        merged(runs, {"x": 1.0})
    with pytest.raises(mx.InputError, match=r"none of the domains .* those of the mixture"):
        merged(w, {"x": 1.0})
    with pytest.raises(mx.InputError, match="'existing' is expected"):
        unmerged({"web": 1.0}, {"code": 1.0})


def test_inputs_that_do_not_fit():
    law = Exponential.fit(proxies())
    with pytest.raises(mx.InputError, match="the first argument is a Exponential; give Runs, or a fitted law of"):
        apple(law, params=1e9, tokens=1e9)
    with pytest.raises(mx.InputError, match=r"no target 'chta'.*did you mean 'chat'"):
        dml(law, {"chta": 1})
    with pytest.raises(mx.InputError, match="weights of targets are >= 0 and not all 0"):
        dml(law, [1, -1, 0])
    with pytest.raises(mx.InputError, match="faithful_to is 'survey'"):
        autoscale_runs(mx.Domains(DOMAINS), 1e9, faithful_to="survey")
    with pytest.raises(mx.InputError, match="tokens are 0"):
        autoscale_runs(mx.Domains(DOMAINS), 0)
    with pytest.raises(mx.InputError, match="floor is -1"):
        autoscale(proxies(), tokens=1e9, floor=-1)
