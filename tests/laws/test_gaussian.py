"""The Gaussian process: scikit-learn's own predictions, its expression and gradient, files and doubt."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

import mixopt as mx
from mixopt.laws import GaussianProcess
from mixopt.runs import Targets
from mixopt.runtime.program import Function
from mixopt.solvers import Projected

pytest.importorskip("sklearn")

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
    from sklearn.gaussian_process import GaussianProcessRegressor, kernels

    runs, (amplitude, length, noise) = runs_of(40), law.kernel[0]
    fixed = kernels.ConstantKernel(amplitude, "fixed") * kernels.RBF(length, "fixed") + kernels.WhiteKernel(noise, "fixed")
    theirs = GaussianProcessRegressor(fixed, normalize_y=True).fit(runs.mixtures, runs.metrics[:, 0])
    at = runs_of(30, seed=1).mixtures
    mean, deviation = theirs.predict(at, return_std=True)
    spread = runs.metrics[:, 0].std()
    np.testing.assert_allclose(law.predict(at)[:, 0], mean, rtol=1e-7)
    np.testing.assert_allclose(law.deviation(at)[:, 0] ** 2 + noise * spread**2, deviation**2, rtol=1e-4)


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
    law = GaussianProcess.fit(mx.Runs.from_arrays(NAMES, runs.mixtures, runs.targets, metrics), restarts=0)
    assert law.fitted.runs.tolist() == [30, 22]
    law.save(tmp_path / "law.json")
    again = mx.laws.load(tmp_path / "law.json")
    assert (again.predict(runs.mixtures) == law.predict(runs.mixtures)).all()
    content = json.loads((tmp_path / "law.json").read_text())
    content["kernel"][0][1] = -1.0
    (tmp_path / "law.json").write_text(json.dumps(content))
    with pytest.raises(mx.InputError, match="changed or cut"):
        mx.laws.load(tmp_path / "law.json")


def test_what_it_refuses(monkeypatch):
    with pytest.raises(mx.InputError, match="'bowl' has 4 runs that vary; a Gaussian process needs 5"):
        GaussianProcess.fit(runs_of(4))
    with pytest.raises(mx.InputError, match=r"noise is 2\.0"):
        GaussianProcess.fit(runs_of(10), noise=2.0)
    monkeypatch.setitem(sys.modules, "sklearn.gaussian_process", None)
    with pytest.raises(mx.MixoptError, match=r"the gaussian-process law needs scikit-learn, .*pip install 'mixopt\[trees\]'"):
        GaussianProcess.fit(runs_of(10))
