"""Online laws: derivatives, truth back from exact rounds, Skill-It's graph and Aioli's LearnParams as fits, scores, files, refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixopt.errors import InputError
from mixopt.language.curvature import curvature
from mixopt.language.symbols import Mixture
from mixopt.laws import Exponential, Linear, Online, load
from mixopt.laws.law import At
from mixopt.laws.online import OnlineCurve
from mixopt.runs import Runs, Targets
from mixopt.runtime.batch import Batch
from mixopt.runtime.layout import Layout

NAMES, TARGETS = ["web", "code", "books"], ["val web", "val code"]
NOW = np.array([3.0, 2.0])
A = np.array([[0.30, 0.05, 0.10], [0.04, 0.20, -0.02]])  # [m, k]
FLOORS = np.array([[1.5], [0.8]])
CASES = {
    "relative": (OnlineCurve("identity", NOW), A),
    "absolute": (OnlineCurve("identity", NOW, relative=False), A),
    "exp": (OnlineCurve("exp", NOW), np.hstack([FLOORS, 2 * A])),
    "static": (OnlineCurve("exp"), np.hstack([FLOORS, -1 + A])),
    "static identity": (OnlineCurve("identity"), A),
}
each = pytest.mark.parametrize("case", list(CASES))


def rounds(case, rows=12, seed=0, noise=0.0):
    """Runs whose losses are those of a true law after one round at Dirichlet mixtures."""
    rng = np.random.default_rng(seed)
    curve, theta = CASES[case]
    w = rng.dirichlet(np.ones(3), rows)
    return Runs.from_arrays(NAMES, w, TARGETS, curve.value(theta, At(w)).T + noise * rng.normal(size=(rows, 2)))


def fitted(case, runs, **how):
    curve, _ = CASES[case]
    return Online.fit(runs, curve.now, curve.sigma, curve.relative, **how)


@each
@given(seed=st.integers(0, 10**6))
@settings(deadline=None, max_examples=10)
def test_derivatives_are_those_of_the_value(case, jacobian_error, seed):
    rng = np.random.default_rng(seed)
    curve, theta = CASES[case]
    at = At(np.vstack([rng.dirichlet(np.full(3, 0.6), 5), np.eye(3)]))
    assert jacobian_error(curve, theta + rng.uniform(0, 0.3, theta.shape), at) < 1e-6


@each
def test_the_truth_comes_back_from_rounds_without_noise(case):
    law, (_, theta) = fitted(case, rounds(case)), CASES[case]
    assert law.converged.all()
    np.testing.assert_allclose(law.theta, theta, atol=1e-5)
    np.testing.assert_allclose(law.A, theta[:, -3:].T, atol=1e-5)
    points = np.random.default_rng(3).dirichlet(np.ones(3), 5)
    inner = -points @ law.A
    np.testing.assert_allclose(law.predict(points), law.c + law.b * (np.exp(inner) if "exp" in law._curve.sigma else inner), rtol=1e-12)


@each
def test_the_expression_is_convex_and_equals_the_prediction_and_its_slope_the_score(case):
    law, w = fitted(case, rounds(case, noise=0.01)), Mixture(NAMES)
    whole = law(w)
    assert curvature(whole) in ("convex", "affine")
    points = np.random.default_rng(3).dirichlet(np.ones(3), 5)
    np.testing.assert_allclose(Batch(whole, Layout((w,)), {})(points), law.predict(points), rtol=1e-9)
    at = points[0]
    slopes = [(law.predict(at + h) - law.predict(at - h)).sum() / 2e-6 for h in 1e-6 * np.eye(3)]
    np.testing.assert_allclose(law.score(at), np.negative(slopes), atol=1e-7)


@each
def test_a_saved_law_is_read_back_equal(case, tmp_path):
    law = fitted(case, rounds(case, noise=0.01))
    law.save(tmp_path / "law.json")
    back = load(tmp_path / "law.json")
    assert isinstance(back, Online)
    points = np.random.default_rng(3).dirichlet(np.ones(3), 5)
    np.testing.assert_array_equal(back.predict(points), law.predict(points))


def test_a_run_on_each_domain_alone_is_skill_its_graph():
    """A_ij = (l_j(start) - l_j(after i)) / l_j(start), by interpolation."""
    after = np.array([[2.1, 1.9], [2.9, 1.5], [2.8, 2.1]])
    law = Online.fit(Runs.from_arrays(NAMES, np.eye(3), TARGETS, after), dict(zip(TARGETS, NOW, strict=True)))
    np.testing.assert_allclose(law.A, (NOW - after) / NOW, atol=1e-12)


def test_smoothed_one_hot_rounds_are_aiolis_learn_params(shared):
    rows = {row["id"]: row for row in json.loads(shared("cases/vectors.json").read_text(encoding="utf-8"))}
    case = rows["aioli-learnparams"]
    drops, factor, k = np.array(case["inputs"]["loss_drop_val_by_mixture"]), case["inputs"]["one_hot_factor"], case["inputs"]["k"]
    mixtures = np.full((k, k), (1 - factor) / (k - 1)) + (factor - (1 - factor) / (k - 1)) * np.eye(k)
    now = np.array([2.0, 3.0, 2.5])
    law = Online.fit(Runs.from_arrays(NAMES, mixtures, ["a", "b", "c"], now - drops.T), now, relative=False)
    np.testing.assert_allclose(law.A.T, case["expected"]["A_val_by_train"], atol=case["tol"])


def test_one_static_round_is_the_exponential_or_the_linear_law():
    runs = rounds("static", 30, noise=0.01)
    law, other = Online.fit(runs, sigma="exp"), Exponential.fit(runs, ridge=0.0)
    np.testing.assert_allclose(law.predict(runs.mixtures), other.predict(runs.mixtures), atol=1e-6)
    np.testing.assert_allclose(Online.fit(runs).predict(runs.mixtures), Linear.fit(runs, ridge=0.0).predict(runs.mixtures), atol=1e-10)


def test_the_law_moves_on_to_the_next_round():
    law = fitted("relative", rounds("relative"))
    later = law.after([1.5, 1.0])
    np.testing.assert_allclose(later.predict([0.5, 0.3, 0.2]), [1.5, 1.0] * (1 - A @ [0.5, 0.3, 0.2]), atol=1e-9)
    np.testing.assert_allclose(later.score([1 / 3] * 3), law.score([1 / 3] * 3) / 2, atol=1e-12)
    exp = fitted("exp", rounds("exp"))
    np.testing.assert_allclose(exp.after({"val web": 2.0, "val code": 1.0}).b, [0.5, 0.2], atol=1e-5)
    with pytest.raises(InputError, match="one for each"):
        law.after({"val web": 1.0})


def test_a_round_that_begins_at_the_floor_or_after_a_static_law_is_refused():
    """There b would be <= 0, and what helps would seem to harm; a static law's effects are no shares of any loss."""
    with pytest.raises(
        InputError, match=r"'val code' is 0\.7 before the round, and the effects are shares of what it can still gain to 0\.8"
    ):
        fitted("exp", rounds("exp")).after([2.0, 0.7])
    with pytest.raises(InputError, match="gain to 0; fit the law again"):
        fitted("relative", rounds("relative")).after([-1.0, 1.0])
    assert fitted("absolute", rounds("absolute")).after([-1.0, 1.0]).predict([1, 0, 0])[0] < -1
    with pytest.raises(InputError, match="one static round"):
        fitted("static", rounds("static")).after([2.0, 1.0])


def test_a_score_that_rises_keeps_its_sign():
    """Of targets that are to rise the law holds the negative, and its score still says what makes them better."""
    curve, theta = CASES["absolute"]
    w = np.random.default_rng(0).dirichlet(np.ones(3), 8)
    gains = 1 - curve.value(theta, At(w)).T
    runs = Runs.from_arrays(NAMES, w, Targets(TARGETS, "max"), gains)
    law = Online.fit(runs, 1 - NOW, relative=False)
    np.testing.assert_allclose(law.predict(w), gains, atol=1e-9)
    np.testing.assert_allclose(law.score(w[0]), A.sum(axis=0), atol=1e-9)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"sigma": "tanh"}, "sigma is 'tanh'"),
        ({"now": [1.0]}, "a finite number for each"),
        ({"now": [0.0, 1.0]}, "losses > 0"),
        ({"now": [np.nan, 1.0]}, "finite"),
    ],
)
def test_refusals(given, text):
    with pytest.raises(InputError, match=text):
        Online.fit(rounds("relative"), **given)


def test_too_few_rounds_are_refused():
    with pytest.raises(InputError, match="too few"):
        Online.fit(rounds("relative", 2), NOW)
