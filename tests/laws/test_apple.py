"""Apple's laws: gradients, recovery from few projected starts, imposed convexity, and optima that do or do not move with scale."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from mixopt.api import solve
from mixopt.errors import InputError
from mixopt.language.atoms import mean
from mixopt.language.curvature import curvature
from mixopt.language.domains import Domains
from mixopt.language.problem import minimize
from mixopt.language.symbols import Mixture
from mixopt.laws import AppleAdditive, AppleJoint, load
from mixopt.laws.apple import AppleCurve
from mixopt.laws.law import At
from mixopt.runs import Runs

NAMES = ["web", "code", "books"]
OWN = [1.5, 0.3, 0.35, *np.log([2, 1, 0.7]), -0.5, 0.2, 0.8]
ADDITIVE = np.array([[*OWN, *np.log([0.4, 0.5])], [1.2, 0.25, 0.4, *np.log([0.5, 2, 1]), 0.4, -0.3, 0.1, *np.log([0.5, 0.3])]])
JOINT = np.array(
    [
        [*OWN, *np.log([0.4, 0.5, 0.3]), 1.3, *np.log([0.7, 0.3, 0.5]), 1.1],
        [1.2, 0.25, 0.4, *np.log([0.5, 2, 1]), 0.4, -0.3, 0.1, *np.log([0.6, 0.3, 0.4]), 1.5, *np.log([0.2, 0.5, 0.6]), 1.2],
    ]
)


def table(joint: bool, noise: float = 0.0, seed: int = 0) -> Runs:
    rng = np.random.default_rng(seed)
    at = At(
        np.repeat(rng.dirichlet(np.ones(3), 25), 4, axis=0),
        params=rng.choice([2e8, 5e8, 1e9, 2e9], 100),
        tokens=rng.uniform(2e9, 5e10, 100),
    )
    y = AppleCurve(joint).value(JOINT if joint else ADDITIVE, at).T
    return Runs.from_arrays(NAMES, at.mixtures, ["x", "y"], y + noise * rng.normal(size=y.shape), params=at.params, tokens=at.tokens)


@cache
def fitted(joint: bool) -> AppleAdditive | AppleJoint:
    """The law of a table with noise, fitted once."""
    return (AppleJoint if joint else AppleAdditive).fit(table(joint, 0.003))


@pytest.mark.parametrize(
    "curve",
    [AppleCurve(), AppleCurve(convex=False), AppleCurve(True), AppleCurve(True, True, (True, False))],
    ids=["additive", "free", "joint", "falling"],
)
def test_the_jacobian_is_that_of_the_losses_at_zeros_too(jacobian_error, curve):
    rng = np.random.default_rng(0)
    at = At(np.vstack([np.eye(3), rng.dirichlet(np.ones(3), 4)]), params=rng.uniform(1e8, 4e9, 7), tokens=rng.uniform(1e8, 4e10, 7))
    names = curve.parameters(Domains(NAMES))
    assert len(names) == (5 + 4 * 3 if curve.joint else 5 + 2 * 3)
    assert jacobian_error(curve, rng.uniform(0.2, 1, (2, len(names))), at) < 1e-7


@pytest.mark.parametrize("joint", [False, True])
def test_known_parameters_come_back_without_random_starts(joint):
    law = (AppleJoint if joint else AppleAdditive).fit(table(joint))
    np.testing.assert_allclose(law.theta, JOINT if joint else ADDITIVE, atol=1e-6)
    np.testing.assert_allclose(law.gamma, 1 / (1 + np.exp(-law.theta[:, 6:9])))


@pytest.mark.parametrize("joint", [False, True])
def test_noise_leaves_the_error_at_the_noise_and_the_optimum_near(joint):
    curve, truth = AppleCurve(joint), JOINT if joint else ADDITIVE
    w, scale = Mixture(NAMES), {"params": 1e9, "tokens": 2e10}
    exact = solve(minimize(mean(curve.expression(truth, w, ("x", "y"), scale)), over=w))
    law = fitted(joint)
    assert law.rmse.max() < 0.0033
    found = solve(minimize(mean(law(w, **scale)), over=w))
    assert found.status.name == "OPTIMAL"
    np.testing.assert_allclose(list(found.weights.values()), list(exact.weights.values()), atol=0.03)
    rows = np.array([list(found.weights.values())])
    reached = curve.value(truth, At(rows, params=np.array([1e9]), tokens=np.array([2e10]))).mean()
    assert reached - exact.value < 1e-3


def test_the_best_mixture_moves_with_scale_in_the_joint_law_only():
    w = Mixture(NAMES)
    for law, moves in ((fitted(False), False), (fitted(True), True)):
        small, large = (
            np.array(list(solve(minimize(mean(law(w, params=n, tokens=d)), over=w)).weights.values()))
            for n, d in ((2e8, 2e9), (7e10, 1.4e12))
        )
        assert (np.abs(small - large).max() > 1e-3) == moves


def test_convexity_is_imposed_and_may_be_given_up():
    runs = table(False, 0.003)
    law, free = fitted(False), AppleAdditive.fit(runs, convex=False)
    w, scale = Mixture(NAMES), {"params": 1e9, "tokens": 2e10}
    assert curvature(law(w, **scale)) == curvature(fitted(True)(w, **scale)) == "convex"
    assert (free.rmse <= law.rmse + 1e-6).all()


@pytest.mark.parametrize("law", [AppleAdditive, AppleJoint])
def test_a_saved_law_is_the_same(law, tmp_path):
    first, scale = fitted(law is AppleJoint), {"params": 1e9, "tokens": 2e10}
    first.save(tmp_path / "law.json")
    again = load(tmp_path / "law.json")
    assert again.curve == first.curve
    np.testing.assert_array_equal(again.predict([0.2, 0.3, 0.5], **scale), first.predict([0.2, 0.3, 0.5], **scale))


def test_too_few_runs_and_scales_that_lack():
    with pytest.raises(InputError, match="11 runs are too few for the 11 parameters"):
        AppleAdditive.fit(table(False).subset(range(11)))
    runs = table(False)
    with pytest.raises(InputError, match=r"apple-additive law needs \(params, tokens\)"):
        AppleAdditive.fit(Runs.from_arrays(NAMES, runs.mixtures, ["x", "y"], runs.metrics))


@pytest.mark.parametrize("joint", [False, True])
def test_a_ridge_draws_domains_together_and_lets_few_runs_be_fitted(joint):
    kind, runs = (AppleJoint if joint else AppleAdditive), table(joint, 0.003)
    spans = [np.ptp(law.theta[:, 3:6], axis=1) for law in (fitted(joint), kind.fit(runs, ridge=10.0))]
    assert (spans[1] < 0.25 * spans[0]).all()
    few = kind.fit(runs.subset(range(0, 100, 9)), ridge=1e-4)
    assert np.isfinite(few.predict(runs.mixtures, params=runs.params, tokens=runs.tokens)).all()


def test_predictions_are_within_their_errors_as_often_as_they_should():
    inside = []
    for seed in range(8):
        runs = table(False, 0.003, seed)
        law = AppleAdditive.fit(runs)
        at, truth = At.of(runs), AppleCurve().value(ADDITIVE, At.of(runs))
        jacobian = law.curve.jacobian(law.theta, at)
        for j in range(2):
            variance = law.rmse[j] ** 2 * len(runs) / (len(runs) - 11)
            told = np.linalg.pinv(jacobian[j].T @ jacobian[j])
            spread = np.sqrt(variance * np.einsum("rp,pq,rq->r", jacobian[j], told, jacobian[j]))
            inside.append(np.abs(law.curve.value(law.theta, at)[j] - truth[j]) < 1.645 * spread)
    assert 0.8 < np.mean(inside) < 0.98
