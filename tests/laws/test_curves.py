"""What every static curve keeps: derivatives, expressions that equal predictions, files, scipy's optimum, and truth within intervals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

from mixopt.errors import InputError
from mixopt.language.curvature import curvature
from mixopt.language.symbols import Mixture
from mixopt.laws import LAWS, AdditivePower, BiMix, Exponential, Linear, load
from mixopt.laws.bimix import BiMixCurve
from mixopt.laws.exponential import ExponentialCurve
from mixopt.laws.law import At
from mixopt.laws.least_squares import Settings, rho_of
from mixopt.laws.linear import LinearCurve
from mixopt.laws.power import AdditivePowerCurve
from mixopt.report.ranks import spearman
from mixopt.runs import Runs
from mixopt.runtime.batch import Batch
from mixopt.runtime.layout import Layout

REGMIX = Path(__file__).parents[2] / "../shared/data/regmix"
needs_regmix = pytest.mark.skipif(not REGMIX.exists(), reason="needs ../shared/data/regmix beside the project")

NAMES = ["web", "code", "books", "maths"]
OWN = np.array([0, 1])
SLOPES = np.array([[-1.0, 0.6, 0.2, 1.1], [0.5, -2.0, 0.4, 0.3]])
TRUTHS = {
    Exponential: (ExponentialCurve(), np.column_stack([[2.0, 1.2], SLOPES])),
    AdditivePower: (AdditivePowerCurve(), np.column_stack([[2.0, 1.2], np.log([0.4, 1.5]), SLOPES])),
    Linear: (LinearCurve(), 3 + SLOPES),
    BiMix: (BiMixCurve(OWN, True), np.array([[0.1, 2.0, 1.0, 0.5], [0.3, 1.5, 0.4, 0.9]])),
}
each = pytest.mark.parametrize("kind", list(TRUTHS), ids=lambda kind: kind.name)


def table(kind, rows: int = 60, seed: int = 0, noise: float = 0.0) -> Runs:
    """Runs of the law's true parameters; its targets are the first two domains."""
    rng = np.random.default_rng(seed)
    w, steps = rng.dirichlet(np.ones(4), rows), rng.choice([2e3, 1e4, 4e4], rows)
    curve, theta = TRUTHS[kind]
    y = curve.value(theta, At(w, steps=steps)).T + noise * rng.normal(size=(rows, 2))
    return Runs.from_arrays(NAMES, w, NAMES[:2], y, steps=steps)


def scale(law) -> dict[str, float]:
    return {"steps": 3e4} if law.requires else {}


@each
@given(seed=st.integers(0, 10**6))
@settings(deadline=None, max_examples=10)
def test_derivatives_are_those_of_the_value(kind, jacobian_error, seed):
    rng = np.random.default_rng(seed)
    curve, theta = TRUTHS[kind]
    theta = theta + rng.uniform(0, 0.3, theta.shape)
    w = rng.dirichlet(np.full(4, 0.6), 7) if kind is BiMix else np.vstack([rng.dirichlet(np.full(4, 0.6), 6), [0, 0.5, 0.5, 0]])
    at = At(w, steps=rng.uniform(1e3, 1e5, 7))
    assert jacobian_error(curve, theta, at) < 1e-5 * np.abs(curve.jacobian(theta, at)).max()
    pull = rng.normal(size=(2, 7))
    bend = curve.bend(theta, at, pull)
    if bend is not None:
        slope = lambda t: np.einsum("br,brp->bp", pull, curve.jacobian(t, at))  # noqa: E731
        numeric = np.stack([(slope(theta + h) - slope(theta - h)) / 2e-6 for h in 1e-6 * np.eye(theta.shape[1])], axis=2)
        np.testing.assert_allclose(bend, numeric, atol=1e-6 * max(1, np.abs(bend).max()))


@each
def test_parameters_come_back_from_runs_without_noise(kind):
    law, (_, theta) = kind.fit(table(kind)), TRUTHS[kind]
    assert law.converged.all()
    assert law.fitted.identified.tolist() == [theta.shape[1]] * 2
    np.testing.assert_allclose(law.theta, theta, rtol=1e-4, atol=1e-5)


@each
def test_the_expression_is_convex_and_equals_the_prediction(kind):
    law, w = kind.fit(table(kind, noise=0.01)), Mixture(NAMES)
    whole, one = law(w, **scale(law)), law["code"](w, **scale(law))
    assert (whole.index, whole.shape, one.shape) == (("web", "code"), (2,), ())
    assert all(curvature(e) in ("convex", "affine") for e in (whole, one))
    points = np.random.default_rng(3).dirichlet(np.ones(4), 5)
    told = law.predict(points, **scale(law))
    layout = Layout((w,))
    np.testing.assert_allclose(Batch(whole, layout, {})(points), told, rtol=1e-9)
    np.testing.assert_allclose(Batch(one, layout, {})(points), told[:, 1], rtol=1e-9)


@each
def test_a_saved_law_is_read_back_equal(kind, tmp_path):
    law = kind.fit(table(kind, 16, noise=0.01))
    law.save(tmp_path / "law.json")
    back = load(tmp_path / "law.json")
    assert type(back) is kind is LAWS[kind.name]
    assert back.requires == law.requires
    assert back.settings.ridge == law.settings.ridge
    for name in ("theta", "rmse"):
        np.testing.assert_array_equal(getattr(back, name), getattr(law, name))
    np.testing.assert_array_equal(back.fitted.ridge, law.fitted.ridge)


@pytest.mark.parametrize("how", [Settings(), Settings(1e-3), Settings(0.0, "huber", 0.02), Settings(1e-3, "huber", 0.02)], ids=str)
@each
@given(seed=st.integers(0, 10**6))
@settings(deadline=None, max_examples=3)
def test_the_optimum_is_no_worse_than_that_of_scipy(kind, how, seed):
    runs = table(kind, 30, seed, noise=0.03)
    law = kind.fitted_to(runs, TRUTHS[kind][0], how)
    assert law.converged.all()
    for j in range(2):
        curve, at, y = law.curve.of_target(j), At.of(runs), runs.metrics[:, j]
        rows = law.ridge_rows(j, at)
        fun = lambda t: np.concatenate([curve.value(t[None], at)[0] - y, rows @ t])  # noqa: B023, E731
        rho = rho_of(how.loss, len(y))
        cost = lambda t: how.huber_delta**2 * rho((fun(t) / how.huber_delta) ** 2)[0].sum()  # noqa: B023, E731
        low, high = curve.bounds(at, y)
        start = np.clip(law.theta[j], low + 1e-9, high)
        theirs = least_squares(
            fun, start, bounds=(low, high), loss=rho, f_scale=how.huber_delta, x_scale="jac", xtol=1e-12, ftol=1e-12, gtol=1e-12
        )
        assert cost(law.theta[j]) <= cost(theirs.x) * (1 + 1e-7) + 1e-12


@each
def test_the_truth_is_within_intervals_as_often_as_they_say(kind):
    curve, truth = TRUTHS[kind]
    inside = []
    for seed in range(30):
        runs = table(kind, 60, seed, noise=0.01)
        law = kind.fit(runs)
        for j in range(2):
            jacobian = curve.of_target(j).jacobian(law.theta[[j]], At.of(runs))[0]
            sigma = law.rmse[j] * np.sqrt(60 / (60 - jacobian.shape[1]))
            error = sigma * np.sqrt(np.diag(np.linalg.inv(jacobian.T @ jacobian)))
            inside.append(np.abs(law.theta[j] - truth[j]) <= 1.645 * error)
    assert 0.84 <= np.mean(inside) <= 0.95


def test_steps_that_are_all_the_same_leave_the_share_alone():
    runs = table(BiMix)
    same = Runs.from_arrays(NAMES, runs.mixtures, NAMES[:2], 2 * runs.mixtures[:, :2] ** -np.array([0.1, 0.3]), steps=[5e3] * 60)
    law = BiMix.fit(same)
    assert law.requires == ()
    np.testing.assert_allclose(law.alpha, [0.1, 0.3], atol=1e-8)
    np.testing.assert_allclose(law.C, 2, atol=1e-8)
    assert not law.B.any()
    assert not law.beta.any()
    np.testing.assert_allclose(law.predict([0.5, 0.5, 0, 0]), 2 * 0.5 ** -np.array([0.1, 0.3]))


def test_the_factors_of_bimix_are_told_for_steps_as_they_are():
    law = BiMix.fit(table(BiMix))
    r, s = 0.3, 3e4
    by_hand = (law.B / s**law.beta + law.C) / r**law.alpha
    np.testing.assert_allclose(law.predict([r, r, 0.4, 0], steps=s), by_hand, rtol=1e-9)


def changed(part, value, **extra) -> Runs:
    runs = table(BiMix)
    w, y = runs.mixtures.copy(), runs.metrics.copy()
    (w if part == "w" else y)[3] = value
    return Runs.from_arrays(NAMES, w, extra.get("targets", NAMES[:2]), y)


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (lambda: changed("w", [0, 0.5, 0.5, 0]), r"run '3' has weight 0 for 'web', where the law of 'web'.*additive-power, which takes"),
        (lambda: changed("y", 0.0), r"target 'web' is no loss > 0"),
        (lambda: changed("y", 1.0, targets=["web", "chat"]), r"no domain is called 'chat'; give own="),
    ],
)
def test_runs_that_bimix_cannot_take_are_refused(runs, message):
    with pytest.raises(InputError, match=message):
        BiMix.fit(runs())


def test_a_bimix_law_of_several_numbers_of_steps_asks_for_them():
    law = BiMix.fit(table(BiMix))
    with pytest.raises(InputError, match=r"depends on \(optimiser steps s\); give steps="):
        law.predict([0.25] * 4)


def test_the_additive_power_law_of_a_large_power_is_the_exponential_law():
    w = np.random.default_rng(0).dirichlet(np.ones(4), 20)
    theta = np.column_stack([[2.0, 1.2], np.log([1e6, 1e6]), SLOPES])
    found = AdditivePowerCurve().value(theta, At(w))
    np.testing.assert_allclose(found, ExponentialCurve().value(np.delete(theta, 1, axis=1), At(w)), rtol=1e-5)


def test_the_coefficients_are_those_of_the_formula():
    law = AdditivePower.fit(table(AdditivePower, noise=0.01))
    w = np.array([0.4, 0.3, 0.2, 0.1])
    np.testing.assert_allclose(law.predict(w), law.E + (law.C @ w) ** -law.g)
    linear = Linear.fit(table(Linear, noise=0.01))
    np.testing.assert_allclose(linear.A, linear.predict(np.eye(4)).T)


def test_the_linear_law_is_least_squares_and_its_ridge_has_a_closed_form():
    runs = table(Linear, noise=0.1)
    w, y = runs.mixtures, runs.metrics
    np.testing.assert_allclose(Linear.fit(runs, ridge=0).theta.T, np.linalg.lstsq(w, y)[0], atol=1e-9)
    centre = np.eye(4) - 1 / 4
    np.testing.assert_allclose(Linear.fit(runs, ridge=0.3).theta.T, np.linalg.solve(w.T @ w + 0.3 * centre, w.T @ y), atol=1e-9)


def test_olmix_is_the_exponential_law_with_its_settings():
    runs = table(Exponential, noise=0.05)
    np.testing.assert_array_equal(Exponential.olmix(runs).theta, Exponential.fit(runs, ridge=0, loss="huber", huber_delta=0.02).theta)


def test_many_targets_are_fitted_as_each_alone():
    runs = table(Exponential, 40, noise=0.02)
    y = np.column_stack([runs.metrics + shift for shift in np.linspace(0, 1, 40)])
    many = Exponential.fit(Runs.from_arrays(NAMES, runs.mixtures, [f"t{i}" for i in range(80)], y))
    alone = Exponential.fit(Runs.from_arrays(NAMES, runs.mixtures, ["t77"], y[:, [77]]))
    np.testing.assert_allclose(many.theta[77], alone.theta[0], atol=1e-6)


@needs_regmix
def test_the_laws_rank_the_unseen_regmix_runs_as_well_as_known():
    train, test = (Runs.from_csv(REGMIX / f"{part}_mixture_1m.csv", REGMIX / f"{part}_pile_loss_1m.csv") for part in ("train", "test"))
    ranks = {}
    for kind in (Exponential, AdditivePower, Linear):
        law = kind.fit(train)
        assert law.converged.all()
        predicted = law.predict(test.mixtures)
        ranks[kind] = [spearman(p, y) for p, y in zip(predicted.T, test.metrics.T, strict=True)]
    assert np.mean(ranks[Exponential]) >= 0.975
    assert np.mean(ranks[AdditivePower]) >= 0.981
    cc = train.targets.index("the_pile_pile_cc")
    assert ranks[AdditivePower][cc] == pytest.approx(0.9701, abs=1e-3)
    assert ranks[Linear][cc] == pytest.approx(0.9021, abs=1e-3)
    assert np.mean(ranks[Linear]) == pytest.approx(0.8311, abs=1e-3)


@needs_regmix
def test_few_runs_are_steadied_by_the_ridge_that_is_chosen():
    train, test = (Runs.from_csv(REGMIX / f"{part}_mixture_1m.csv", REGMIX / f"{part}_pile_loss_1m.csv") for part in ("train", "test"))
    cc = train.targets.index("the_pile_pile_cc")
    ranks, errors = [], []
    for seed in range(8):
        few = np.sort(np.random.default_rng(seed).permutation(len(train))[:34])
        part = Runs.from_arrays(train.domains, train.mixtures[few], ["cc"], train.metrics[few][:, [cc]])
        predicted = Exponential.fit(part).predict(test.mixtures)[:, 0]
        ranks.append(spearman(predicted, test.metrics[:, cc]))
        errors.append(np.abs(predicted - test.metrics[:, cc]).mean())
    assert np.median(ranks) >= 0.91
    assert max(errors) < 3 * np.median(errors)


@needs_regmix
@pytest.mark.parametrize(
    ("kind", "size", "seed", "target"),
    [(Exponential, 34, 3, 0), (AdditivePower, 34, 1, 2), (AdditivePower, 64, 2, 0), (AdditivePower, 128, 2, 0)],
)
def test_no_target_is_wild_between_few_runs(kind, size, seed, target):
    """Without a ridge, which cross-validation preferred on these runs by chance, errors were several times the spread of the target."""
    train = Runs.from_csv(REGMIX / "train_mixture_1m.csv", REGMIX / "train_pile_loss_1m.csv")
    order = np.random.default_rng([size, seed + 1000]).permutation(len(train))
    runs, unseen = train.subset(np.sort(order[:size])), train.subset(order[size:])
    law = kind.fit(Runs.from_arrays(runs.domains, runs.mixtures, ["one"], runs.metrics[:, [target]]))
    errors = law.predicted(unseen.mixtures)[:, 0] - unseen.metrics[:, target]
    assert np.sqrt((errors**2).mean()) < unseen.metrics[:, target].std()


def test_a_ridge_is_always_taken_where_runs_are_few_for_their_parameters():
    runs = table(Exponential, 24, noise=0.02)
    assert (Exponential.fit(runs).fitted.ridge > 0).all()
    assert not Exponential.fit(table(Exponential, 60, noise=0.02)).fitted.ridge.any()


@pytest.mark.parametrize("loss", ["linear", "huber"])
@pytest.mark.parametrize("kind", [Exponential, Linear], ids=lambda kind: kind.name)
def test_more_domains_than_runs_are_fitted_in_the_directions_of_the_runs(kind, loss, monkeypatch):
    rng = np.random.default_rng(0)
    w = rng.dirichlet(np.ones(40), 25)
    runs = Runs.from_arrays([f"d{i}" for i in range(40)], w, ["t"], 2 + np.exp(w @ rng.normal(size=(40, 1))))
    short = kind.fit(runs, ridge=1e-3, loss=loss)
    assert short.converged.all()
    monkeypatch.setattr(kind.shape({}).__class__, "before_slopes", None)
    np.testing.assert_allclose(short.theta, kind.fit(runs, ridge=1e-3, loss=loss).theta, atol=1e-5)


def test_the_report_tells_ridges_and_what_is_told_apart():
    law = Exponential.fit(table(Exponential, 12, noise=0.05))
    lines = law.report().splitlines()
    assert lines[1].split() == ["target", "rmse", "runs", "ridge", "told", "apart", "converged"]
    assert lines[2].split()[:3] == ["web", f"{law.rmse[0]:.2g}", "12"]
    assert lines[2].split()[-2:] == ["5", "yes"]
    assert law.fitted.ridge.max() > 0
    assert lines[-1].startswith("ridge chosen by cross-validation")
    assert Exponential.fit(table(Exponential, 12), ridge=0).report().splitlines()[2].split()[3] == "-"


@pytest.mark.parametrize("kind", [Exponential, AdditivePower, Linear], ids=lambda kind: kind.name)
def test_one_domain_alone_has_a_level_and_no_more(kind):
    y = np.random.default_rng(0).uniform(1, 2, (20, 1))
    law = kind.fit(Runs.from_arrays(["web"], np.ones((20, 1)), ["loss"], y))
    assert law.predict([1.0])[0] == pytest.approx(y.mean(), abs=1e-6)
    assert law.fitted.identified[0] == 1
