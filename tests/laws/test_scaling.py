"""Laws of scale: Chinchilla's constants come back, and ADO's curves by either of its fits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from mixopt.errors import InputError
from mixopt.language.symbols import Mixture
from mixopt.laws import ADO, Chinchilla, load
from mixopt.laws.ado import code_objective
from mixopt.laws.law import At
from mixopt.laws.scaling import ScaleCurve
from mixopt.runs import Runs

HOFFMANN = (1.69, 406.4, 0.34, 410.7, 0.28)


def chinchilla(n, d, e=1.69, a=406.4, alpha=0.34, b=410.7, beta=0.28):
    return e + a / n**alpha + b / d**beta


def sizes(rows: int = 60, noise: float = 0.0, seed: int = 0, **extra) -> Runs:
    rng = np.random.default_rng(seed)
    n, d = rng.choice([7e7, 1.6e8, 4e8, 1e9], rows), rng.uniform(1e9, 3e10, rows)
    y = np.stack([chinchilla(n, d), chinchilla(n, d, 1.2, 100, 0.3, 700, 0.32)], axis=1)
    known = {"params": n, "tokens": d} | extra
    return Runs.from_arrays(["web", "code"], np.full((rows, 2), 0.5), ["chat", "python"], y + noise * rng.normal(size=y.shape), **known)


def curves(noise: float = 0.0, floors=(1.9, 1.7), seed: int = 0) -> Runs:
    n = np.geomspace(1e5, 1e7, 200) * 1024
    y = np.stack([floors[0] + 3 * (n / 1e9) ** -0.3, floors[1] + 5 * (n / 1e9) ** -0.2], axis=1)
    y += noise * np.random.default_rng(seed).normal(size=y.shape)
    return Runs.from_arrays(["web", "code"], np.full((len(n), 2), 0.5), ["web", "code"], y, tokens=n)


@pytest.mark.parametrize("scales", [("params", "tokens"), ("tokens",)])
def test_the_jacobian_is_that_of_the_losses(jacobian_error, scales):
    rng = np.random.default_rng(0)
    at = At(np.full((6, 2), 0.5), params=rng.uniform(1e8, 4e9, 6), tokens=rng.uniform(1e8, 4e10, 6))
    assert jacobian_error(ScaleCurve(scales), rng.uniform(0.2, 1, (3, 1 + 2 * len(scales))), at) < 1e-7


def test_the_published_constants_come_back_and_predict_a_larger_run():
    law = Chinchilla.fit(sizes())
    e, a, alpha, b, beta = law.theta[0]
    found = (e, np.exp(a) * 1e9**alpha, alpha, np.exp(b) * 1e9**beta, beta)
    np.testing.assert_allclose(found, HOFFMANN, rtol=1e-6)
    assert law.predict([0.5, 0.5], params=7e10, tokens=1.4e12)[0] == pytest.approx(chinchilla(7e10, 1.4e12), abs=1e-9)
    assert law.fitted.identified.tolist() == [5, 5]


def test_intervals_of_the_exponents_hold_the_truth_as_often_as_they_should():
    inside = []
    for seed in range(40):
        runs = sizes(noise=0.003, seed=seed)
        law = Chinchilla.fit(runs)
        jacobian = law.curve.jacobian(law.theta, At.of(runs))
        for j, truth in enumerate([(0.34, 0.28), (0.3, 0.32)]):
            variance = law.rmse[j] ** 2 * len(runs) / (len(runs) - 5)
            errors = np.sqrt(variance * np.diag(np.linalg.inv(jacobian[j].T @ jacobian[j])))[[2, 4]]
            inside.extend(np.abs(law.theta[j, [2, 4]] - truth) < 1.645 * errors)
    assert 0.83 < np.mean(inside) < 0.97


def test_a_law_of_scale_is_a_constant_of_the_mixture_and_is_saved(tmp_path):
    law = Chinchilla.fit(sizes())
    w = Mixture(["web", "code"])
    found = law(w, params=1e9, tokens=2e10)
    assert found.index == ("chat", "python")
    np.testing.assert_allclose(found.data.value, law.predict([0.3, 0.7], params=1e9, tokens=2e10))
    law.save(tmp_path / "law.json")
    np.testing.assert_array_equal(load(tmp_path / "law.json").theta, law.theta)


def test_what_lacks_or_looks_odd_is_said():
    with pytest.raises(InputError, match=r"chinchilla law needs \(params\) of every run.*params=\.\.\."):
        Chinchilla.fit(sizes(params=None))
    with pytest.raises(InputError, match=r"depends on .*training tokens D.*give tokens=\.\.\."):
        Chinchilla.fit(sizes()).predict([0.5, 0.5], params=1e9)
    with pytest.raises(InputError, match=r"tokens .* must be finite and > 0"):
        Chinchilla.fit(sizes()).predict([0.5, 0.5], params=1e9, tokens=0)
    with pytest.raises(InputError, match="5 runs are too few for the 5 parameters"):
        Chinchilla.fit(sizes(5))
    in_millions = Chinchilla.fit(sizes(tokens=np.geomspace(1e3, 3e4, 60)))
    assert any("tokens are at most 3e+04: if millions or billions are meant" in note for note in in_millions.fitted.notes)
    one_size = Chinchilla.fit(sizes(params=1e9))
    assert "params are 1e+09 in every run, so nothing is learnt of how the metrics depend on them" in one_size.fitted.notes
    assert "params are" not in str(Chinchilla.fit(sizes()))


def test_ado_fits_curves_and_tells_their_slope():
    law = ADO.fit(curves())
    np.testing.assert_allclose(law.theta, [[1.9, np.log(3), 0.3], [1.7, np.log(5), 0.2]], atol=1e-6)
    w, n, step = [0.5, 0.5], 4e9, 1e5
    numeric = (law.predict(w, tokens=n + step) - law.predict(w, tokens=n - step)) / (2 * step / 1e9)
    np.testing.assert_allclose(law.slopes(n), numeric, rtol=1e-5)


@pytest.mark.parametrize("floors", [(1.9, 1.7), (1.0, 0.6)], ids=["free", "held at exp(0.5) by the penalty"])
def test_ado_as_in_code_is_no_worse_than_a_simplex_search_of_its_objective(floors):
    runs = curves(0.01, floors)
    law = ADO.fit(runs, faithful_to="code")
    for j in range(2):
        samples, y = runs.tokens / 1024, runs.metrics[:, j]

        def objective(x, samples=samples, y=y):
            return code_objective(x[None], samples, y)[0]

        e, a, alpha = law.theta[j]
        found = objective(np.array([a + alpha * np.log(1e9 / 1024), np.log(e), alpha]))
        tight = {"xatol": 1e-9, "fatol": 1e-14, "maxiter": 4000}
        others = [minimize(objective, x, method="Nelder-Mead", options=tight).fun for x in ([3, 0.5, 0.2], [4, 0.6, 0.3], [5, 0.6, 0.5])]
        assert found < min(others) + 1e-9
        assert (abs(e - np.exp(0.5)) < 1e-6) == (floors[j] < 1.5)
    assert law.rmse.max() < (0.011 if floors[0] > 1.5 else 0.1)


def test_ado_refuses_what_the_code_cannot_fit():
    runs = curves(floors=(1.9, -9.0))
    with pytest.raises(InputError, match="fits log losses, and some are not > 0"):
        ADO.fit(runs, faithful_to="code")
    with pytest.raises(InputError, match="'survey'; it is 'code', or left out"):
        ADO.fit(runs, faithful_to="survey")
    with pytest.raises(InputError, match=r"needs \(tokens\)"):
        ADO.fit(Runs.from_arrays(["a"], np.ones((9, 1)), ["a"], np.arange(1.0, 10)[:, None]))
