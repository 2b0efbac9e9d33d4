"""Blends of laws: the contract, their shares against closed answers, and what "auto" makes of runs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mixopt as mx
from mixopt.errors import InputError, MissingExtraError
from mixopt.laws import Blended, Exponential, Linear, load
from mixopt.laws.accuracy import expected_regret
from mixopt.laws.blend import blended
from mixopt.laws.choice import choose
from mixopt.laws.comparison import compare_laws
from mixopt.laws.named import fitter
from mixopt.laws.stacking import _least_squares, shares_of
from mixopt.runs import Runs, Targets

A = np.array([[-1.5, 0.6, 0.4], [0.5, -2.0, 0.4]])
NAMES = ["web", "code", "books"]


def table(rows: int = 40, noise: float = 0.01, seed: int = 0, up: bool = True) -> Runs:
    rng = np.random.default_rng(seed)
    w = rng.dirichlet(np.ones(3), rows)
    y = 1.5 + np.exp(w @ A.T) + 0.5 * w[:, :1] * w[:, 1:2] + noise * rng.normal(size=(rows, 2))
    return Runs.from_arrays(NAMES, w, Targets(["chat", "python"], {"python": "max"} if up else {}), y * ([1, -1] if up else [1, 1]))


def test_a_blend_is_the_weighted_mean_of_its_parts_and_an_expression_where_they_are():
    runs = table()
    parts = [Exponential.fit(runs), Linear.fit(runs)]
    found = Blended.of(parts, [3, 1], runs)
    np.testing.assert_allclose(found.shares, [0.75, 0.25])
    w = runs.mixtures
    np.testing.assert_allclose(found.predict(w), 0.75 * parts[0].predict(w) + 0.25 * parts[1].predict(w))
    np.testing.assert_allclose(found.rmse, np.sqrt(((found.predict(w) - runs.metrics) ** 2).mean(axis=0)))
    symbol = mx.Mixture(runs.domains)
    whole = mx.minimize(mx.mean(found.losses(symbol)), over=symbol)
    solved = mx.solve(whole, solver=mx.solvers.Conic())
    assert solved.check is not None
    assert solved.check.gap < 1e-5
    values = (found.sign * found.predict(np.vstack([w, np.eye(3)]))).mean(axis=1)
    assert solved.value <= values.min() + 1e-8
    assert solved.value == pytest.approx((found.sign * found.predict(solved.vector)).mean(), abs=1e-8)
    one = mx.minimize(found.loss_of(1, symbol), over=symbol)
    assert mx.solve(one, solver=mx.solvers.Conic()).value == pytest.approx(-found.predict(np.eye(3))[:, 1].max(), abs=1e-6)
    assert mx.curvature(found.losses(symbol)) == "convex"


def test_a_blend_with_trees_is_one_opaque_atom():
    pytest.importorskip("lightgbm")
    runs = table()
    found = Blended.of([Exponential.fit(runs), fitter("lightgbm", rounds=20)(runs)], [0.6, 0.4], runs)
    symbol = mx.Mixture(runs.domains)
    solved = mx.solve(mx.minimize(mx.mean(found.losses(symbol)), over=symbol), solver=mx.solvers.Simulation(draws=300))
    assert solved.status is mx.Status.SEARCHED
    one = mx.solve(mx.minimize(found.loss_of(1, symbol), over=symbol), solver=mx.solvers.Simulation(draws=300))
    assert one.value == pytest.approx(-found.predict(one.vector)[1])
    assert found.is_opaque
    assert Blended.of([found, Linear.fit(runs)], [1, 1], runs).is_opaque


def test_a_blend_of_laws_with_sizes_asks_for_what_its_parts_need():
    rng = np.random.default_rng(0)
    w, tokens = rng.dirichlet(np.ones(3), 40), rng.uniform(1e9, 1e10, 40)
    y = 1.5 + np.exp(w @ A[:1].T) + 20 * tokens[:, None] ** -0.3
    runs = Runs.from_arrays(NAMES, w, ["chat"], y, tokens=tokens)
    sized = fitter("c + exp(A @ w) + b*D**-0.3")(runs)
    found = Blended.of([sized, Exponential.fit(runs)], [0.5, 0.5], runs)
    assert found.requires == sized.requires == ("tokens",)
    with pytest.raises(InputError, match=r"give tokens="):
        found.predict(w)
    symbol = mx.Mixture(runs.domains)
    value = mx.solve(mx.minimize(found.losses(symbol, tokens=5e9)["chat"], over=symbol), solver=mx.solvers.Conic()).value
    assert value == pytest.approx(found.predict(np.eye(3), tokens=5e9).min(), abs=1e-6)


def test_a_saved_blend_is_read_back_equal(tmp_path):
    runs = table()
    found = Blended.fit(runs, ["linear", "exponential", "additive-power"])
    assert isinstance(found, Blended)
    found.save(tmp_path / "law.json")
    for back in (load(tmp_path / "law.json"), Blended.load(tmp_path / "law.json")):
        np.testing.assert_array_equal(back.predict(runs.mixtures), found.predict(runs.mixtures))
        assert str(back) == str(found)
        assert back.report() == found.report()
    assert found.words in found.report()
    assert "additive-power law" in found.report()
    text = (tmp_path / "law.json").read_text().replace('"law": "additive-power"', '"law": "additive"')
    (tmp_path / "law.json").write_text(text)
    with pytest.raises(InputError, match="changed or cut"):
        load(tmp_path / "law.json")


@given(st.integers(0, 10_000), st.integers(2, 5))
@settings(deadline=None, max_examples=30)
def test_the_least_squares_half_is_the_optimum_on_the_simplex(seed, laws):
    errors = np.random.default_rng(seed).normal(size=(laws, 12)) + np.arange(laws)[:, None]
    found = _least_squares(errors)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1)
    slope = errors @ (errors.T @ found)
    assert found @ slope <= slope.min() + 1e-8 * np.abs(slope).max()  # first-order optimality: no vertex is better


def test_shares_are_half_by_errors_and_half_by_decisions():
    rng = np.random.default_rng(1)
    y = rng.normal(size=60)
    predicted = np.array([y + 0.3 * rng.normal(size=60), y + 0.5 * rng.normal(size=60), rng.normal(size=60)])[:, None]
    regrets = np.array([expected_regret(p[0], y) for p in predicted])
    decisions = 1 / (regrets + 0.01) ** 2
    wanted = (_least_squares(predicted[:, 0] - y) + decisions / decisions.sum()) / 2
    wanted[wanted < 0.05] = 0
    np.testing.assert_allclose(shares_of(predicted, y), wanted / wanted.sum())
    assert shares_of(predicted, y)[2] == 0
    np.testing.assert_array_equal(shares_of(np.array([[y], [np.full(60, np.inf)]]), y), [1, 0])
    hole = y.copy()
    hole[3] = np.nan
    np.testing.assert_allclose(shares_of(predicted[:, :, np.arange(60) != 3], y[np.arange(60) != 3]), shares_of(predicted, hole))
    with pytest.raises(InputError, match="only 2 runs have all targets of the objective"):
        shares_of(predicted[:, :, :4], np.array([1.0, 2.0, np.nan, np.nan]))
    level = np.ones(8)  # nothing to decide: errors alone
    np.testing.assert_allclose(shares_of(np.array([[level + 0.1], [level - 0.1]]), level), [0.5, 0.5])


def test_the_blend_of_a_comparison_is_judged_by_shares_that_did_not_see_the_fold():
    runs = table(30, noise=0.1)
    compared = compare_laws(runs, ["linear", "exponential"], repeats=2)
    whole = blended(compared)
    assert whole.name.startswith("blend (")
    losses = np.array([[(v.predicted * [1, -1]).mean(axis=1) for v in e.validations] for e in compared.fitted])
    measured = (runs.metrics * [1, -1]).mean(axis=1)
    for r, checked in enumerate(whole.validations):
        out = checked.folds == 2
        shares = shares_of(losses[..., ~out], measured[~out])
        by_hand = sum(a * e.validations[r].predicted[out] for a, e in zip(shares, compared.fitted, strict=True))
        np.testing.assert_allclose(checked.predicted[out], by_hand)
    law = whole.fit(runs)
    assert isinstance(law, Blended)
    np.testing.assert_allclose(law.shares, shares_of(losses, measured))
    alone = compared.judged_by(lambda metrics: metrics[..., 0])
    assert blended(alone).name != whole.name


def test_where_one_law_has_the_whole_share_it_is_taken_as_it_is():
    runs = table(40, noise=0)

    def poor(some: Runs) -> mx.laws.Law:
        flipped = Runs.from_arrays(some.domains, some.mixtures, some.targets, some.metrics[::-1])
        return Linear.fit(flipped, ridge=1.0)

    found = choose(runs, {"poor": poor, "good": Exponential.fit}, blend=True)
    assert found.name == "good"
    assert isinstance(found.fit(runs), Exponential)
    assert isinstance(Blended.fit(runs, {"good": Exponential.fit}), Exponential)


def test_auto_recommends_by_a_blend_and_says_of_what(monkeypatch):
    def absent():
        raise MissingExtraError("lightgbm", "trees", "the lightgbm law")

    monkeypatch.setattr("mixopt.laws.trees._lightgbm", absent)
    runs = table(40, noise=0.05, up=False)
    found = mx.fitting.recommend(runs, law="auto", kl=0.05, prior={"web": 0.4, "code": 0.4, "books": 0.2})
    assert found.law.name == "blend"
    assert "blend (" in found.notes[-len(found.law.fitted.notes) - 1]
    assert "% exponential" in found.sentence or "% exponential" in " ".join(found.notes)
    assert sum(found.weights.values()) == pytest.approx(1)
    assert found.found.choice is not None
    assert found.found.choice.comparison.entries[-1] is found.found.choice.entry


@pytest.mark.parametrize(
    ("shares", "message"),
    [([1.0], "shares of 2 laws are"), ([-1.0, 2.0], "one number >= 0 a law"), ([0.0, 0.0], "one of them > 0"), ([np.nan, 1.0], ">= 0")],
)
def test_shares_that_are_none_are_refused(shares, message):
    runs = table(20)
    with pytest.raises(InputError, match=message):
        Blended.of([Linear.fit(runs), Exponential.fit(runs)], shares, runs)


def test_laws_of_other_runs_are_refused():
    runs = table(20)
    other = Runs.from_arrays(["a", "b", "c"], runs.mixtures, runs.targets, runs.metrics)
    with pytest.raises(InputError, match="a blend needs laws of the domains and targets"):
        Blended.of([Linear.fit(runs), Linear.fit(other)], [1, 1], runs)
