"""AutoScale's law: the released notebook's numbers, its allocation by three routes, and what cannot be fitted."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq, minimize

from mixopt.api import solve
from mixopt.errors import InputError
from mixopt.language.atoms import sum
from mixopt.language.curvature import curvature
from mixopt.language.problem import minimize as minimise
from mixopt.language.symbols import Mixture
from mixopt.laws import AutoScale, load
from mixopt.laws.autoscale import AutoScaleCurve
from mixopt.laws.law import At
from mixopt.runs import Runs

NAMES = ["cc", "c4", "github", "books", "arxiv", "wiki", "stackexchange"]
# The aggregate validation perplexities printed in the notebook DDO_example (feiyang-k/AutoScale, MIT): the base run, then each domain
# reduced, then each at three times its amount.
BASE = 28.11373645
REDUCED = [30.11152249, 28.37687875, 29.85955983, 29.90195668, 30.37704005, 29.23766591, 28.92552215]
TRIPLED = [25.78619752, 27.68033216, 26.25833879, 26.47376351, 25.49797272, 27.01485416, 27.24200395]
PUBLISHED = [1.62475, 0.2, 1.27415, 1.17980, 1.85190, 0.63716, 0.23224]


def notebook(reduced: float = 1 / 5) -> Runs:
    n = np.vstack([np.ones(7), 1 + (reduced - 1) * np.eye(7), 1 + 2 * np.eye(7)])
    y = np.array([BASE, *REDUCED, *TRIPLED])[:, None]
    ids = ["base", *(f"less {d}" for d in NAMES), *(f"more {d}" for d in NAMES)]
    return Runs.from_arrays(NAMES, n / n.sum(axis=1, keepdims=True), ["perplexity"], y, ids=ids, tokens=n.sum(axis=1) * 1.2e9 / 7)


def allocation(law: AutoScale) -> np.ndarray:
    w = Mixture(NAMES)
    problem = minimise(sum(law.losses(w, tokens=1.2e9)), over=w, subject_to=[w >= 0.2 / 7])
    return 7 * np.array(list(solve(problem).weights.values()))


def test_the_jacobian_is_that_of_the_losses(jacobian_error):
    rng = np.random.default_rng(0)
    at = At(np.vstack([np.eye(3), rng.dirichlet(np.ones(3), 5)]), tokens=rng.uniform(1e9, 3e9, 8))
    assert jacobian_error(AutoScaleCurve(np.array([1e9, 5e8, 2e8])), rng.uniform(-0.5, 1, (2, 7)), at) < 1e-7


def test_the_notebooks_fit_and_allocation():
    law = AutoScale.fit(notebook())
    assert law.rmse[0] < 1e-9
    assert (law.a[0, 0], law.b[0, 0]) == (pytest.approx(2.6659, abs=1e-4), pytest.approx(1.2492, abs=1e-4))
    assert 1 - (1 + law.a[0, 0]) ** -law.b[0, 0] == pytest.approx(0.8027, abs=1e-4)
    assert curvature(law.losses(Mixture(NAMES), tokens=1.2e9)) == "convex"
    np.testing.assert_allclose(allocation(law), PUBLISHED, atol=2e-5)


def test_slsqp_and_water_filling_give_the_same_allocation():
    law = AutoScale.fit(notebook())
    a, b = law.a[0], law.b[0]
    found = minimize(
        lambda n: ((a + n) ** -b).sum(),
        np.ones(7),
        jac=lambda n: -b * (a + n) ** (-b - 1),
        method="SLSQP",
        bounds=[(0.2, None)] * 7,
        constraints={"type": "eq", "fun": lambda n: n.sum() - 7},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    level = brentq(lambda p: np.maximum((p / b) ** (-1 / (1 + b)) - a, 0.2).sum() - 7, 1e-6, 10, xtol=1e-14)
    filled = np.maximum((level / b) ** (-1 / (1 + b)) - a, 0.2)
    np.testing.assert_allclose(found.x, filled, atol=1e-5)
    np.testing.assert_allclose(allocation(law), filled, atol=1e-5)


def test_a_third_in_place_of_a_fifth_moves_the_allocation_as_known():
    law = AutoScale.fit(notebook(1 / 3))
    np.testing.assert_allclose(allocation(law), [1.501, 0.2, 1.247, 1.177, 1.666, 0.758, 0.452], atol=1e-3)


def test_a_table_with_noise_gives_the_allocation_back_and_is_saved(tmp_path):
    rng = np.random.default_rng(0)
    w, tokens, unit = rng.dirichlet(np.full(3, 3.0), 80), rng.uniform(2e9, 6e9, 80), np.full(3, 1e9)
    w[0], tokens[0] = 1 / 3, 3e9
    theta = np.array([[20.0, *np.log([0.8, 2.0, 1.5]), *np.log([0.8, 1.1, 1.4])]])
    curve = AutoScaleCurve(unit)
    y = curve.value(theta, At(w, tokens=tokens)).T
    a, b, x, found = *np.exp(theta[0, 1:]).reshape(2, 3), Mixture(["a", "b", "c"]), []
    for noise in (0.0, 0.02):
        runs = Runs.from_arrays(["a", "b", "c"], w, ["ppl"], y + noise * rng.normal(size=y.shape), tokens=tokens)
        law = AutoScale.fit(runs, base="0")
        found.append(np.array(list(solve(minimise(sum(law.losses(x, tokens=4e9)), over=x)).weights.values())))
    np.testing.assert_allclose(np.ptp(b * (a + 4 * found[0]) ** (-b - 1)), 0, atol=1e-6)
    np.testing.assert_allclose(found[1], found[0], atol=0.05)
    law.save(tmp_path / "law.json")
    again = load(tmp_path / "law.json")
    np.testing.assert_array_equal(again.predict(w, tokens=tokens), law.predict(w, tokens=tokens))


def test_the_base_run_may_be_named():
    np.testing.assert_allclose(AutoScale.fit(notebook(), base="base").a, AutoScale.fit(notebook()).a, rtol=1e-6)
    with pytest.raises(InputError, match="no run is called 'bse'"):
        AutoScale.fit(notebook(), base="bse")


def test_what_cannot_be_fitted():
    runs = notebook()
    with pytest.raises(InputError, match=r"autoscale law needs \(tokens\)"):
        AutoScale.fit(Runs.from_arrays(NAMES, runs.mixtures, ["ppl"], runs.metrics))
    with pytest.raises(InputError, match="14 runs are too few for the 15 parameters"):
        AutoScale.fit(runs.subset(range(14)))
    with pytest.raises(InputError, match="of a metric > 0 that falls with more data"):
        AutoScale.fit(Runs.from_arrays(NAMES, runs.mixtures, ["ppl"], runs.metrics * 0, tokens=runs.tokens))
    sparse = np.repeat(np.eye(7), 3, axis=0)
    with pytest.raises(InputError, match=r"fewer than half of the runs.*name a base run"):
        AutoScale.fit(Runs.from_arrays(NAMES, sparse, ["ppl"], np.arange(1.0, 22)[:, None], tokens=1e9))


def test_a_ridge_draws_the_curves_together():
    free, held = AutoScale.fit(notebook()), AutoScale.fit(notebook(), ridge=100.0)
    assert np.ptp(np.log(held.a)) < 0.2 * np.ptp(np.log(free.a))
    assert np.ptp(np.log(held.b)) < 0.5 * np.ptp(np.log(free.b))
    assert AutoScale.fit(notebook().subset(range(8)), ridge=1e-3).rmse[0] < 0.1
