"""The Gaussian process: scikit-learn's own predictions and optimum, its expression and gradient, files and doubt."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

import mixopt as mx
from mixopt.laws import GaussianProcess
from mixopt.laws.evidence import distances, kernels, likelihood
from mixopt.runs import Targets
from mixopt.runtime.program import Function
from mixopt.solvers import Projected

NAMES = ["web", "code", "books"]
W = mx.Mixture(NAMES)


def runs_of(count, seed=0, noise=0.003):
    """A bowl about (0.5, 0.3, 0.2), and a score to be maximised with its best at the same place."""
    rng = np.random.default_rng(seed)
    rows = rng.dirichlet(np.ones(3), size=count)
    bowl = ((rows - [0.5, 0.3, 0.2]) ** 2).sum(axis=1) + noise * rng.normal(size=count)
    return mx.Runs.from_arrays(
        NAMES, rows, Targets(["bowl", "peak"], {"bowl": "min", "peak": "max"}), np.column_stack([2 + bowl, 1 - bowl])
    )


@pytest.fixture(scope="module")
def law():
    return GaussianProcess.fit(runs_of(40))


def test_it_predicts_as_scikit_learn_does(law):
    process = pytest.importorskip("sklearn.gaussian_process")
    runs, (amplitude, length, noise) = runs_of(40), law.kernel[0]
    parts = process.kernels
    fixed = parts.ConstantKernel(amplitude, "fixed") * parts.RBF(length, "fixed") + parts.WhiteKernel(noise, "fixed")
    theirs = process.GaussianProcessRegressor(fixed, normalize_y=True).fit(runs.mixtures, runs.metrics[:, 0])
    at = runs_of(30, seed=1).mixtures
    mean, deviation = theirs.predict(at, return_std=True)
    spread = runs.metrics[:, 0].std()
    np.testing.assert_allclose(law.predict(at)[:, 0], mean, rtol=1e-7)
    np.testing.assert_allclose(law.deviation(at)[:, 0] ** 2 + noise * spread**2, deviation**2, rtol=1e-4)


def test_its_likelihood_is_scikit_learns_and_nowhere_less_than_from_starts_at_random():
    process = pytest.importorskip("sklearn.gaussian_process")
    rng, parts = np.random.default_rng(0), process.kernels
    x = rng.dirichlet(np.ones(4), 40)
    y = np.column_stack(
        [np.sin(6 * x[:, 0]) + 0.1 * rng.normal(size=40), rng.normal(size=40), x @ [1, 2, 3, 4] + 0.01 * rng.normal(size=40)]
    )
    y = (y - y.mean(axis=0)) / y.std(axis=0)
    shape = parts.ConstantKernel(1.0, (1e-3, 1e5)) * parts.RBF(0.5, (1e-2, 1e2)) + parts.WhiteKernel(1e-4, (1e-10, 1.0))
    found, converged = kernels(x, y)
    assert converged.all()
    for j, theta in enumerate(np.log(found)):
        theirs = process.GaussianProcessRegressor(shape, n_restarts_optimizer=2, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of bounds
            theirs.fit(x, y[:, j])
        own, slope = likelihood(theta, distances(x, x), y[:, j])
        assert own == pytest.approx(theirs.log_marginal_likelihood(theta), abs=1e-6)
        assert own >= theirs.log_marginal_likelihood_value_ - 1e-6 * abs(own)
        np.testing.assert_allclose(slope, theirs.log_marginal_likelihood(theta, eval_gradient=True)[1], atol=1e-5)


def test_the_gradient_of_the_likelihood_is_that_of_differences():
    runs = runs_of(30)
    y, apart = runs.metrics[:, 0] - runs.metrics[:, 0].mean(), distances(runs.mixtures, runs.mixtures)
    theta, step = np.log([0.7, 0.4, 0.01]), 1e-5 * np.eye(3)
    told = [(likelihood(theta + s, apart, y)[0] - likelihood(theta - s, apart, y)[0]) / 2e-5 for s in step]
    np.testing.assert_allclose(likelihood(theta, apart, y)[1], told, rtol=1e-6)


def test_two_hills_of_the_likelihood_are_told_apart():
    x = np.random.default_rng(1).dirichlet(np.ones(3), 60)
    ripple = x @ [3.0, 1.0, 0.0] + 0.3 * np.sin(25 * x[:, 0])  # a long wave, and a short one on it that looks like noise
    y = ((ripple - ripple.mean()) / ripple.std())[:, None]
    (own,), _ = kernels(x, y)
    apart = distances(x, x)
    lengths = [[a, length, n] for a in (0.1, 1, 10, 100) for length in np.geomspace(0.02, 5, 40) for n in (1e-6, 1e-3, 1e-2, 1e-1)]
    best = max(likelihood(np.log(point), apart, y[:, 0])[0] for point in lengths)
    assert likelihood(np.log(own), apart, y[:, 0])[0] >= best


def test_runs_of_one_mixture_do_no_harm():
    runs = runs_of(20, noise=0.0)
    again = mx.Runs.from_arrays(NAMES, np.vstack([runs.mixtures] * 2), runs.targets, np.vstack([runs.metrics] * 2))
    assert (GaussianProcess.fit(again).rmse < 1e-4).all()


def test_it_finds_the_bowl_and_doubts_away_from_it(law):
    assert (law.rmse < 0.005).all()
    assert law.converged.all()
    found = mx.solve(mx.minimize(law["bowl"](W), over=W), solver=Projected())
    np.testing.assert_allclose(found.vector, [0.5, 0.3, 0.2], atol=0.03)
    assert found.check.gap <= 1e-6
    risen = mx.solve(mx.maximize(law["peak"](W), over=W), solver=Projected())
    np.testing.assert_allclose(risen.vector, [0.5, 0.3, 0.2], atol=0.03)
    near, far = law.deviation([[0.5, 0.3, 0.2]])[0, 0], law.deviation([[-1.0, 3.0, -1.0]])[0, 0]
    assert far > 3 * near


def test_its_expression_is_its_prediction_and_differences_hold(law):
    at = runs_of(5, seed=2).mixtures
    function = Function(law.losses(W)["peak"], W, {})
    np.testing.assert_allclose([function.value(w) for w in at], -law.predict(at)[:, 1], rtol=1e-9)
    np.testing.assert_allclose(Function(law(W)["peak"], W, {}).value(at[0]), law.predict(at)[0, 1], rtol=1e-9)
    step = 1e-6 * np.array([1.0, -2.0, 1.0])
    ahead, behind = function.value(at[0] + step), function.value(at[0] - step)
    assert function.gradient(at[0]) @ step * 2 == pytest.approx(ahead - behind, rel=1e-3, abs=1e-12)


def test_a_file_holds_it_and_missing_metrics_are_left_out(tmp_path):
    runs = runs_of(30)
    metrics = runs.metrics.copy()
    metrics[::4, 1] = np.nan
    law = GaussianProcess.fit(mx.Runs.from_arrays(NAMES, runs.mixtures, runs.targets, metrics))
    assert law.fitted.runs.tolist() == [30, 22]
    law.save(tmp_path / "law.json")
    again = mx.laws.load(tmp_path / "law.json")
    assert (again.predict(runs.mixtures) == law.predict(runs.mixtures)).all()
    content = json.loads((tmp_path / "law.json").read_text())
    content["kernel"][0][1] = -1.0
    (tmp_path / "law.json").write_text(json.dumps(content))
    with pytest.raises(mx.InputError, match="changed or cut"):
        mx.laws.load(tmp_path / "law.json")


def test_weights_of_runs_are_left_aside_with_a_word():
    runs = runs_of(12)
    weighed = mx.Runs.from_arrays(NAMES, runs.mixtures, runs.targets, runs.metrics, weights=np.arange(1, 13))
    law = GaussianProcess.fit(weighed)
    assert law.fitted.notes == ("the weights of the runs were left aside: each counts the same",)
    np.testing.assert_array_equal(law.kernel, GaussianProcess.fit(runs).kernel)
    assert not GaussianProcess.fit(runs).fitted.notes


def test_what_it_refuses():
    with pytest.raises(mx.InputError, match="'bowl' has 4 runs that vary; a Gaussian process needs 5"):
        GaussianProcess.fit(runs_of(4))
    flat = mx.Runs.from_arrays(NAMES, runs_of(9).mixtures, ["flat"], np.ones((9, 1)))
    with pytest.raises(mx.InputError, match="'flat' has 9 runs that vary"):
        GaussianProcess.fit(flat)
