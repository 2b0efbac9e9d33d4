"""The D-CPT law: known parameters back, convexity with eta >= 1, and targets bound to their own domains."""

from __future__ import annotations

import numpy as np
import pytest

from mixopt.api import solve
from mixopt.errors import InputError
from mixopt.language.atoms import mean
from mixopt.language.curvature import curvature
from mixopt.language.expression import equal
from mixopt.language.problem import minimize
from mixopt.language.symbols import Mixture
from mixopt.laws import DCPT, load
from mixopt.laws.dcpt import DCPTCurve
from mixopt.laws.law import At
from mixopt.runs import Runs

GENERAL = (1.6, 0.4, 0.34, 0.5, 1.3, 0.3, 0.2, 0.05, 0.4)
CODE = (0.8, 0.3, 0.3, 0.4, 1.5, 0.35, 0.15, 0.02, 0.6)


def dcpt(r, n, d, e, a, alpha, b, eta, beta, c, epsilon, gamma):
    """Eq. 5 of the survey in reading T07, N and D in billions."""
    return e + a / (n / 1e9) ** alpha + b * r**eta / (d / 1e9) ** beta + c / (r + epsilon) ** gamma


def table(noise: float = 0.0, names=("general", "code"), seed: int = 0, **extra) -> Runs:
    ratios = [0, 0.1, 0.2, 1 / 3, 0.5, 2 / 3, 0.8, 0.9, 1]
    r, n, d = np.array([(r, n, d) for r in ratios for n in (5e8, 1.8e9, 4e9) for d in np.geomspace(1e9, 2e10, 6)]).T
    y = np.stack([dcpt(1 - r, n, d, *GENERAL), dcpt(r, n, d, *CODE)], axis=1)
    y += noise * np.random.default_rng(seed).normal(size=y.shape)
    return Runs.from_arrays(["general", "code"], np.stack([1 - r, r], axis=1), names, y, **({"params": n, "tokens": d} | extra))


def test_the_jacobian_is_that_of_the_losses_at_shares_of_zero_too(jacobian_error):
    rng = np.random.default_rng(0)
    at = At(np.array([[0.5, 0.5], [0, 1], [1, 0], [0.3, 0.7]]), params=rng.uniform(1e8, 4e9, 4), tokens=rng.uniform(1e8, 4e10, 4))
    theta = rng.uniform(0.2, 1, (3, 9)) + np.array([0, 0, 0, 0, 1, 0, 0, -3, 0])
    assert jacobian_error(DCPTCurve(np.array([0, 1, 1])), theta, at) < 1e-6


def test_known_parameters_come_back():
    law = DCPT.fit(table())
    logs = [1, 3, 6, 7]
    found = np.where(np.isin(np.arange(9), logs), np.exp(law.theta), law.theta)
    np.testing.assert_allclose(found, [GENERAL, CODE], rtol=1e-6)
    assert law.fitted.identified.tolist() == [9, 9]
    assert law.predict([0.5, 0.5], params=7e9, tokens=1e11)[1] == pytest.approx(dcpt(0.5, 7e9, 1e11, *CODE), abs=1e-7)


def test_noise_leaves_predictions_within_their_errors():
    inside = []
    for seed in range(8):
        runs = table(0.004, seed=seed)
        law = DCPT.fit(runs)
        jacobian = law.curve.jacobian(law.theta, At.of(runs))
        for j, truth in enumerate([dcpt(1 - runs.mixtures[:, 1], runs.params, runs.tokens, *GENERAL), None]):
            if truth is None:
                truth = dcpt(runs.mixtures[:, 1], runs.params, runs.tokens, *CODE)
            variance = law.rmse[j] ** 2 * len(runs) / (len(runs) - 9)
            spread = np.sqrt(variance * np.einsum("rp,pq,rq->r", jacobian[j], np.linalg.pinv(jacobian[j].T @ jacobian[j]), jacobian[j]))
            inside.append(np.abs(law.predict(runs.mixtures, params=runs.params, tokens=runs.tokens)[:, j] - truth) < 1.645 * spread)
    assert 0.8 < np.mean(inside) < 0.98


def test_the_expression_is_the_prediction_and_convex_only_as_fitted_to_be():
    law, w, scale = DCPT.fit(table(0.002)), Mixture(["general", "code"]), {"params": 2e9, "tokens": 5e9}
    assert curvature(law(w, **scale)) == "convex"
    x = np.array([0.7, 0.3])
    pinned = solve(minimize(mean(law(w, **scale)), over=w, subject_to=[equal(w["general"], x[0])]))
    assert pinned.value == pytest.approx(law.predict(x, **scale).mean(), abs=1e-7)
    assert law["code"](w, **scale).shape == ()
    concave = Runs.from_arrays(
        ["general", "code"],
        table().mixtures,
        ["code"],
        dcpt(table().mixtures[:, 1], table().params, table().tokens, 0.8, 0.3, 0.3, 0.4, 0.5, 0.35, 0.15, 0.02, 0.6)[:, None],
        params=table().params,
        tokens=table().tokens,
    )
    free, convex = DCPT.fit(concave, convex=False), DCPT.fit(concave)
    assert free.theta[0, 4] == pytest.approx(0.5, abs=1e-5)
    assert curvature(free(w, **scale)) == "unknown"
    assert convex.theta[0, 4] == 1
    assert curvature(convex(w, **scale)) == "convex"


def test_targets_name_their_domains(tmp_path):
    runs = table(names=("c4 loss", "python loss"))
    with pytest.raises(InputError, match=r"no domain is called 'c4 loss'; give own="):
        DCPT.fit(runs)
    with pytest.raises(InputError, match=r"no domain 'cod'.*did you mean 'code'"):
        DCPT.fit(runs, own={"c4 loss": "general", "python loss": "cod"})
    with pytest.raises(InputError, match="no target 'x'"):
        DCPT.fit(runs, own={"x": "general"})
    law = DCPT.fit(runs, own={"c4 loss": "general", "python loss": "code"})
    law.save(tmp_path / "law.json")
    again, scale = load(tmp_path / "law.json"), {"params": 2e9, "tokens": 5e9}
    np.testing.assert_array_equal(again.predict([0.2, 0.8], **scale), law.predict([0.2, 0.8], **scale))


def test_what_lacks_is_said():
    with pytest.raises(InputError, match=r"dcpt law needs \(params\)"):
        DCPT.fit(table(params=None))
    with pytest.raises(InputError, match="9 runs are too few for the 9 parameters"):
        DCPT.fit(table().subset(range(9)))
