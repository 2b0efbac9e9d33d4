"""Optima of fitted laws: the references on RegMix's runs by every solver that takes them, and those of known laws found again."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.optimize import least_squares

import mixopt as mx
from mixopt.laws import AdditivePower, Exponential
from mixopt.laws.exponential import ExponentialCurve
from mixopt.laws.law import At
from mixopt.laws.least_squares import Settings, rho_of
from mixopt.laws.power import AdditivePowerCurve
from mixopt.solvers import Conic, Lagrangian, Projected

NAMES = ["web", "code", "books", "maths"]
SLOPES = np.array([[-2.0, 0.6, 0.2, 1.1], [0.5, -2.0, 0.4, 0.3], [0.3, 0.2, -1.5, 0.4], [0.2, 0.1, 0.3, -1.0]])


@pytest.fixture
def regmix(shared):
    folder = shared("data/regmix")
    runs = mx.Runs.from_csv(folder / "train_mixture_1m.csv", folder / "train_pile_loss_1m.csv")
    prior = json.loads((folder / "pile_prior.json").read_text())["prior"]
    natural = np.array([prior[f"train_{name}"] for name in runs.domains])
    return runs, natural / natural.sum()


def test_the_reference_optima_of_the_exponential_law_by_three_solvers(regmix):
    runs, natural = regmix
    law, w = Exponential.fit(runs, ridge=0, loss="linear"), mx.Mixture(runs.domains)
    mean, kl = mx.mean(law(w)), 0.05 * mx.kl(w, natural)
    for goal, reference in ((mean, 4.5422), (mean + kl, 4.5625)):
        conic, projected = (mx.solve(mx.minimize(goal, over=w), solver=s) for s in (Conic(), Projected()))
        assert conic.status is mx.Status.OPTIMAL
        assert conic.value == pytest.approx(reference, abs=1e-3)
        assert projected.value == pytest.approx(conic.value, abs=1e-3)
    worst = mx.solve(mx.minimize(mx.max(law(w)), over=w), solver=Conic())
    assert worst.value == pytest.approx(5.2773, abs=1e-3)
    smooth = mx.solve(mx.minimize(mx.logsumexp(law(w), 2e-4), over=w), solver=Projected())
    assert law.predict(smooth.vector).max() == pytest.approx(worst.value, abs=1e-3)
    near = mx.minimize(mean, over=w, subject_to=[mx.kl(w, natural) <= 0.2361])  # the divergence of the optimum with KL
    lagrangian, conic = (mx.solve(near, solver=s) for s in (Lagrangian(), Conic()))
    assert lagrangian.value == pytest.approx(conic.value, abs=1e-3)
    assert conic.value + 0.05 * 0.2361 == pytest.approx(4.5625, abs=1e-3)


def test_the_additive_power_law_is_solved_alike_by_power_cones_and_by_descent(regmix):
    runs, natural = regmix
    law, w = AdditivePower.fit(runs), mx.Mixture(runs.domains)
    problem = mx.minimize(mx.mean(law(w)) + 0.05 * mx.kl(w, natural), over=w)
    conic, projected = (mx.solve(problem, solver=s) for s in (Conic(), Projected()))
    assert conic.status is mx.Status.OPTIMAL
    assert conic.check.gap < 1e-5
    assert projected.value == pytest.approx(conic.value, abs=1e-6)
    np.testing.assert_allclose(projected.vector, conic.vector, atol=1e-3)


@pytest.mark.parametrize(
    ("kind", "curve", "theta"),
    [
        (Exponential, ExponentialCurve(), np.column_stack([[2.0, 1.2, 1.5, 1.0], SLOPES])),
        (AdditivePower, AdditivePowerCurve(), np.column_stack([[2.0, 1.2, 1.5, 1.0], np.log([0.4, 1.5, 1, 1]), SLOPES])),
    ],
    ids=lambda x: getattr(x, "name", ""),
)
def test_the_optimum_of_a_known_law_is_found_again_from_runs_with_noise(kind, curve, theta):
    rng, w = np.random.default_rng(1), mx.Mixture(NAMES)
    mixtures = rng.dirichlet(np.ones(4), 100)
    truth = curve.value(theta, At(mixtures)).T
    expression = curve.expression(theta, w, tuple(NAMES), {})
    best = mx.solve(mx.minimize(mx.mean(expression), over=w))
    law = kind.fit(mx.Runs.from_arrays(NAMES, mixtures, NAMES, truth + 0.005 * rng.normal(size=truth.shape)))
    found = mx.solve(mx.minimize(mx.mean(law(w)), over=w))
    np.testing.assert_allclose(found.vector, best.vector, atol=0.03)
    loss = curve.value(theta, At(np.array([found.vector, best.vector]))).mean(axis=0)
    assert loss[0] - loss[1] < 1e-3


@pytest.mark.parametrize("how", [Settings(), Settings(1e-3), Settings(0.0, "huber")], ids=str)
def test_the_fits_of_real_runs_are_those_of_scipy_from_the_same_starts(regmix, how):
    runs, _ = regmix
    curve, at, rho = ExponentialCurve(), At.of(runs), rho_of(how.loss, len(runs))
    law, delta = Exponential.fitted_to(runs, curve, how), how.huber_delta
    rows = law.ridge_rows(0, at)
    for j in range(0, len(runs.targets), 4):
        y = runs.metrics[:, j]

        def gaps(theta, y=y):
            return np.concatenate([curve.value(theta[None], at)[0] - y, rows @ theta])

        def cost(theta, gaps=gaps):
            return delta**2 * float(rho((gaps(theta) / delta) ** 2)[0].sum())

        start = min(curve.starts(at, y, how), key=cost)
        slope = lambda theta: np.vstack([curve.jacobian(theta[None], at)[0], rows])  # noqa: E731
        tight = {"xtol": 1e-12, "ftol": 1e-12, "gtol": 1e-12}
        theirs = least_squares(gaps, start, slope, tuple(curve.bounds(at, y)), x_scale="jac", loss=rho, f_scale=delta, **tight)
        assert cost(law.theta[j]) <= cost(theirs.x) * (1 + 1e-10)
        np.testing.assert_allclose(curve.value(law.theta[[j]], at)[0], curve.value(theirs.x[None], at)[0], atol=1e-5)
