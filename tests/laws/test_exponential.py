"""Exponential laws: known parameters recovered, published figures reached, and what cannot be fitted refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from mixopt.errors import InputError
from mixopt.language.atoms import mean
from mixopt.language.curvature import curvature
from mixopt.language.domains import Domains
from mixopt.language.expression import Expr
from mixopt.language.symbols import Mixture
from mixopt.laws import Exponential, cross_validate
from mixopt.laws import least_squares as inner
from mixopt.report.ranks import spearman
from mixopt.runs import Runs, Targets

REGMIX = Path(__file__).parents[2] / "../shared/data/regmix"
needs_regmix = pytest.mark.skipif(not REGMIX.exists(), reason="needs ../shared/data/regmix beside the project")

NAMES = ["web", "code", "books", "maths"]
C = np.array([2.0, 1.2])
A = np.array([[-1.0, 0.6, 0.2, 1.1], [0.5, -2.0, 0.4, 0.3]])


def table(rows: int = 40, seed: int = 0, noise: float = 0.0, c=C, a=A) -> Runs:
    rng = np.random.default_rng(seed)
    w = rng.dirichlet(np.ones(a.shape[1]), rows)
    y = c + np.exp(w @ a.T) + noise * rng.normal(size=(rows, len(c)))
    return Runs.from_arrays([*NAMES, *"efgh"][: a.shape[1]], w, ["chat", "python"][: len(c)], y)


def value(expr: Expr, w: np.ndarray) -> np.ndarray:
    """The value of an expression of the few operations a law uses, independent of the runtime."""
    if expr.op == "mixture":
        return w
    if expr.op == "constant":
        return expr.data.value
    parts = [value(a, w) for a in expr.args]
    if expr.op == "take":
        return parts[0][list(expr.data) if isinstance(expr.data, tuple) else expr.data]
    return {"add": np.add, "exp": np.exp, "matmul": np.matmul, "mean": np.mean}[expr.op](*parts)


@pytest.fixture(scope="module")
def regmix() -> tuple[Runs, Runs, Exponential]:
    train, test = (Runs.from_csv(REGMIX / f"{part}_mixture_1m.csv", REGMIX / f"{part}_pile_loss_1m.csv") for part in ("train", "test"))
    return train, test, Exponential.fit(train)


@given(seed=st.integers(0, 10**6), k=st.integers(2, 6))
@settings(deadline=None, max_examples=15)
def test_known_parameters_come_back_from_data_without_noise(seed, k):
    rng = np.random.default_rng(seed)
    c, a = rng.uniform(0.5, 4, 2), rng.uniform(-1, 1, (2, k)) + np.linspace(-1, 1, k)
    law = Exponential.fit(table(60, seed, c=c, a=a))
    assert law.converged.all()
    np.testing.assert_allclose(law.c, c, atol=1e-6)
    np.testing.assert_allclose(law.A, a, atol=1e-6)
    assert law.rmse.max() < 1e-8


def test_the_derivatives_of_huber_are_right_and_spare_the_ridge():
    rho = inner.rho_of("huber", 4)
    z = np.array([0.2, 0.9, 1.7, 30.0, 30.0])
    out = rho(z)
    np.testing.assert_allclose(out[0], [0.2, 0.9, 2 * math.sqrt(1.7) - 1, 2 * math.sqrt(30) - 1, 30])
    step = 1e-6
    np.testing.assert_allclose(out[1], (rho(z + step)[0] - rho(z - step)[0]) / (2 * step), atol=1e-8)
    np.testing.assert_allclose(out[2], (rho(z + step)[1] - rho(z - step)[1]) / (2 * step), atol=1e-8)


@pytest.mark.parametrize("settings", [{"ridge": 0}, {"ridge": 1e-3}, {"ridge": 0, "loss": "huber"}], ids=str)
def test_a_weight_of_two_is_the_run_twice_and_a_weight_of_zero_no_run(settings):
    runs, times = table(noise=0.05), np.arange(40) % 3
    copied = np.repeat(np.arange(40), times)
    weighted = Runs.from_arrays(NAMES, runs.mixtures, runs.targets, runs.metrics, weights=times)
    repeated = Runs.from_arrays(NAMES, runs.mixtures[copied], runs.targets, runs.metrics[copied])
    one, two = Exponential.fit(weighted, **settings), Exponential.fit(repeated, **settings)
    np.testing.assert_allclose(one.theta, two.theta, atol=1e-5)
    np.testing.assert_allclose(one.rmse, two.rmse, rtol=1e-6)
    assert one.fitted.runs.tolist() == [26, 26]


@pytest.mark.parametrize("settings", [{}, {"ridge": 1e-3}, {"loss": "huber"}], ids=str)
def test_the_order_of_domains_does_not_matter(settings):
    runs, order = table(noise=0.02), [2, 0, 3, 1]
    turned = Runs.from_arrays([NAMES[i] for i in order], runs.mixtures[:, order], runs.targets, runs.metrics)
    one, two = Exponential.fit(runs, **settings), Exponential.fit(turned, **settings)
    np.testing.assert_allclose(two.A, one.A[:, order], atol=1e-5)
    np.testing.assert_allclose(two.c, one.c, atol=1e-5)


@pytest.mark.parametrize(("ridge", "at_zero"), [(1e-5, [False, False]), (0.1, [True, True])], ids=["interior", "floor at zero"])
def test_the_fit_is_a_stationary_point_of_the_documented_objective(ridge, at_zero):
    runs, delta = table(noise=0.02), 0.02
    law = Exponential.fit(runs, ridge=ridge, loss="huber", huber_delta=delta)
    assert (law.c < 1e-6).tolist() == at_zero
    assert law.c.min() >= 0

    def objective(x: np.ndarray, j: int) -> float:
        r = np.abs(x[0] + np.exp(runs.mixtures @ x[1:]) - runs.metrics[:, j])
        return np.where(r <= delta, r**2, 2 * delta * r - delta**2).sum() + ridge * ((x[1:] - x[1:].mean()) ** 2).sum()

    for j in range(2):
        x = np.append(law.c[j], law.A[j])
        slopes = [(objective(x + h, j) - objective(x - h, j)) / 2e-6 for h in 1e-6 * np.eye(5)]
        np.testing.assert_allclose(slopes[1:], 0, atol=1e-6)
        assert slopes[0] > 1e-4 if at_zero[j] else abs(slopes[0]) < 1e-6


@pytest.mark.parametrize("size", [4.0, -4.0])
def test_huber_ignores_runs_that_went_wrong_and_plain_squares_do_not(size):
    runs = table(60, noise=0.002)
    spoilt = runs.metrics.copy()
    spoilt[[5, 17, 33]] += size
    bad = Runs.from_arrays(runs.domains, runs.mixtures, runs.targets, spoilt)
    truth = table(200, seed=9)
    error = {loss: np.abs(Exponential.fit(bad, loss=loss).predict(truth.mixtures) - truth.metrics).max() for loss in ("linear", "huber")}
    assert error["huber"] < 0.05
    assert error["linear"] > 0.3


def test_a_ridge_tames_few_runs():
    wide = np.vstack([np.linspace(-1, 1, 8), np.linspace(1, -0.5, 8)])
    truth = table(300, seed=99, a=wide)
    worst = {
        ridge: max(
            float(
                np.sqrt(((Exponential.fit(table(10, seed, 0.2, a=wide), ridge=ridge).predict(truth.mixtures) - truth.metrics) ** 2).mean())
            )
            for seed in range(6)
        )
        for ridge in (0.0, 1e-3)
    }
    assert worst[1e-3] < 0.5
    assert worst[0.0] > 100
    assert Exponential.fit(table(5, a=wide), ridge=1e-3).converged.all()


def test_a_ridge_pulls_the_slopes_together():
    spread = [np.ptp(Exponential.fit(table(noise=0.01), ridge=r).A, axis=1).max() for r in (0, 0.1, 10)]
    assert spread[0] > spread[1] > spread[2]


@pytest.mark.parametrize(("shift", "share"), [(3, 1e-2), (-3, 5e-3)])
def test_a_target_that_is_straight_in_w_is_fitted_by_a_low_floor(shift, share):
    w = np.random.default_rng(3).dirichlet(np.ones(4), 50)
    y = shift + w @ np.array([[0.1], [0.2], [-0.3], [0.4]])
    law = Exponential.fit(Runs.from_arrays(NAMES, w, ["straight"], y))
    assert law.rmse[0] < share * np.ptp(y)
    assert law.converged.all()
    assert law.c[0] >= (0 if shift > 0 else y.min() - 100 * np.ptp(y))


def test_one_target_alone_is_smallest_at_its_vertex():
    law = Exponential.fit(table())
    assert [law[t].vertex for t in law.targets.names] == ["web", "code"]
    draws = np.random.default_rng(1).dirichlet(np.full(4, 0.5), 2000)
    for j, name in enumerate(law.targets.names):
        at_vertex = law.predict(np.eye(4)[law.domains.index(law[name].vertex)])[j]
        assert at_vertex <= law.predict(draws)[:, j].min()
    assert "web" in str(law).splitlines()[2]


def test_the_law_of_a_mixture_symbol_is_a_convex_expression_with_the_same_values():
    law = Exponential.fit(table(noise=0.01))
    w, point = Mixture(Domains(NAMES)), np.array([0.1, 0.2, 0.3, 0.4])
    whole, one = law(w), law["python"](w)
    assert (whole.shape, whole.index) == ((2,), ("chat", "python"))
    assert one.shape == ()
    assert curvature(mean(whole)) == curvature(one) == "convex"
    np.testing.assert_allclose(value(whole, point), law.predict(point), rtol=1e-14)
    np.testing.assert_allclose(value(one, point), law.predict(point)[1], rtol=1e-14)
    np.testing.assert_allclose(value(whole["chat"], point), law.predict(point)[0], rtol=1e-14)


def test_domains_are_bound_by_name():
    law, order = Exponential.fit(table()), [3, 1, 0, 2]
    w = Mixture(Domains([NAMES[i] for i in order]))
    point = np.array([0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(value(law(w), point[order]), law.predict(point), rtol=1e-14)
    np.testing.assert_allclose(value(law["chat"](w), point[order]), law.predict(point)[0], rtol=1e-14)


def test_other_domains_and_unknown_targets_are_refused():
    law = Exponential.fit(table())
    with pytest.raises(InputError, match=r"over the domains \(web, code, books, maths\), but 'w' is over \(web, code\)"):
        law(Mixture(Domains(["web", "code"])))
    with pytest.raises(InputError, match=r"this is a ndarray; for numbers write law.predict"):
        law(np.full(4, 0.25))
    with pytest.raises(InputError, match=r"no target 'pyton'.*did you mean 'python'"):
        law["pyton"]
    with pytest.raises(InputError, match=r"mixtures have shape \(2, 3\)"):
        law.predict(np.ones((2, 3)))


def test_beyond_tells_where_the_law_extrapolates():
    law = Exponential.fit(table())
    far = law.beyond({"web": 1.0, "code": 0, "books": 0, "maths": 0})
    assert far == {"web": pytest.approx(1 - table().mixtures[:, 0].max())}
    assert law.beyond(np.full(4, 0.25)) == {}


def spoilt(change, **extras) -> Runs:
    runs = table(**extras)
    w, y = runs.mixtures.copy(), runs.metrics.copy()
    change(w, y)
    return Runs.from_arrays(runs.domains, w / w.sum(1, keepdims=True), runs.targets, y)


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (lambda: table(5), r"5 runs are too few for the 5 parameters.*give ridge=1e-3, or more runs"),
        (
            lambda: spoilt(lambda w, y: y.__setitem__((slice(5, None), 1), np.nan)),
            r"5 runs with target 'python' are too few for the 5 parameters",
        ),
        (lambda: spoilt(lambda w, y: y.__setitem__((slice(None), 0), 2.5)), r"target 'chat' is 2\.5 in every run"),
        (lambda: spoilt(lambda w, y: w.__setitem__((slice(None), 2), 0)), r"\(books\) has weight 0 in all of them"),
        (lambda: spoilt(lambda w, y: w.__setitem__((slice(None), 2), w[:, 0])), r"some weights always move together"),
    ],
)
def test_runs_that_cannot_be_fitted_are_refused(runs, message):
    with pytest.raises(InputError, match=message):
        Exponential.fit(runs())


def turned(runs: Runs, names: list[str]) -> Runs:
    """The same runs with these targets by their negative, to be maximised."""
    signs = np.array([-1 if t in names else 1 for t in runs.targets.names])
    targets = Targets(runs.targets.names, dict.fromkeys(names, "max"))
    return Runs.from_arrays(runs.domains, runs.mixtures, targets, signs * runs.metrics)


def test_a_target_to_be_maximised_is_fitted_by_its_negative_and_predicted_in_its_own_unit():
    runs = table(noise=0.01, c=C - 8)  # below zero, so that the floor's bound is the same both ways
    plain, up = Exponential.fit(runs), Exponential.fit(turned(runs, ["python"]))
    np.testing.assert_array_equal(up.sign, [1, -1])
    np.testing.assert_array_equal(up.A, plain.A)
    point = np.array([0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(up.predict(point), [1, -1] * plain.predict(point))
    np.testing.assert_array_equal(up.rmse, plain.rmse)
    assert up["python"].vertex == plain["python"].vertex


def test_what_is_minimised_is_convex_for_either_direction():
    law = Exponential.fit(turned(table(noise=0.01), ["python"]))
    w, point = Mixture(Domains(NAMES)), np.array([0.1, 0.2, 0.3, 0.4])
    assert curvature(law["python"](w)) == "concave"
    assert curvature(-law["python"](w)) == curvature(law["chat"](w)) == curvature(law.losses(w)) == "convex"
    np.testing.assert_allclose(value(law.losses(w), point), [1, -1] * law.predict(point), rtol=1e-14)
    assert law(w).index == ("chat", "python")
    both = Exponential.fit(turned(table(noise=0.01), ["chat", "python"]))
    assert curvature(mean(both(w))) == "concave"


def test_regret_and_ranks_of_a_target_to_be_maximised_are_those_of_its_negative():
    runs = table(30, noise=0.05, c=C - 8)
    plain, up = cross_validate(runs, folds=3), cross_validate(turned(runs, ["chat", "python"]), folds=3)
    for figure in ("rmse", "mae", "spearman", "r2", "regret"):
        np.testing.assert_allclose(getattr(up, figure), getattr(plain, figure))
    np.testing.assert_allclose(up.predicted, -plain.predicted)


def test_a_missing_metric_leaves_its_run_out_for_that_target_alone():
    whole = table(30, noise=0.02)
    holes = whole.metrics.copy()
    holes[[2, 7], 1] = np.nan
    runs = Runs.from_arrays(whole.domains, whole.mixtures, whole.targets, holes)
    law = Exponential.fit(runs, ridge=0)
    there = [r for r in range(30) if r not in (2, 7)]
    np.testing.assert_allclose(law.A[0], Exponential.fit(whole, ridge=0).A[0], atol=1e-8)
    np.testing.assert_allclose(law.A[1], Exponential.fit(whole.subset(there), ridge=0).A[1], atol=1e-8)
    assert np.isfinite(law.rmse).all()
    checked = cross_validate(runs, folds=3)
    assert np.isfinite(checked.predicted).all()
    errors = checked.predicted[there, 1] - holes[there, 1]
    assert checked.rmse[1] == pytest.approx(np.sqrt((errors**2).mean()))


def test_a_saved_law_is_read_back_equal(tmp_path):
    law = Exponential.fit(turned(table(noise=0.01), ["python"]))
    law.save(tmp_path / "law.json")
    back = Exponential.load(tmp_path / "law.json")
    assert (back.domains, back.targets) == (law.domains, law.targets)
    for name in ("c", "A", "seen", "rmse", "converged"):
        np.testing.assert_array_equal(getattr(back, name), getattr(law, name))
        assert getattr(back, name).dtype == getattr(law, name).dtype


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: text[:-40], "cannot be read as a saved law"),
        (lambda text: text.replace("law 1", "law 9"), r"is no saved law; give a file written by law\.save"),
        (lambda text: text.replace('"theta": [', '"theta": [[1.5],'), "was changed or cut.*(shape|inhomogeneous)"),
        (lambda text: text.replace('"seen"', '"saw"'), "was changed or cut.*seen"),
        (lambda text: "[]", "is no saved law"),
    ],
)
def test_a_file_that_is_no_whole_law_is_refused(tmp_path, spoil, message):
    path = tmp_path / "law.json"
    Exponential.fit(table()).save(path)
    path.write_text(spoil(path.read_text()))
    with pytest.raises(InputError, match=message):
        Exponential.load(path)


@pytest.mark.parametrize(
    "settings", [{"ridge": -1}, {"ridge": math.nan}, {"loss": "absolute"}, {"loss": "huber", "huber_delta": 0}], ids=str
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(InputError, match=r"ridge is|loss is|huber_delta is"):
        Exponential.fit(table(), **settings)


def test_cross_validation_predicts_each_run_without_having_seen_it():
    runs = table(30, noise=0.02)
    checked = cross_validate(runs, folds=3, seed=4, ridge=1e-3)
    assert sorted(np.bincount(checked.folds)) == [10, 10, 10]
    for f in range(3):
        law = Exponential.fit(runs.subset(checked.folds != f), ridge=1e-3)
        np.testing.assert_array_equal(checked.predicted[checked.folds == f], law.predict(runs.mixtures[checked.folds == f]))
    error = checked.predicted - runs.metrics
    np.testing.assert_allclose(checked.rmse, np.sqrt(np.mean(error**2, 0)))
    np.testing.assert_allclose(checked.mae, np.mean(np.abs(error), 0))
    np.testing.assert_allclose(checked.r2, 1 - np.mean(error**2, 0) / runs.metrics.var(0))
    np.testing.assert_allclose(checked.spearman, [spearmanr(checked.predicted[:, j], runs.metrics[:, j])[0] for j in range(2)])
    best = runs.metrics[checked.predicted[:, 0].argmin(), 0]
    assert checked.regret[0] == pytest.approx((best - runs.metrics[:, 0].min()) / (runs.metrics[:, 0].mean() - runs.metrics[:, 0].min()))
    np.testing.assert_array_equal(cross_validate(runs, folds=3, seed=4, ridge=1e-3).predicted, checked.predicted)
    assert not np.array_equal(cross_validate(runs, folds=3, seed=5, ridge=1e-3).folds, checked.folds)
    lines = checked.table().splitlines()
    assert len(lines) == 4
    assert lines[1].split() == ["chat", *(f"{getattr(checked, c)[0]:.4f}" for c in ("rmse", "mae", "spearman", "r2", "regret"))]


def test_folds_out_of_range_are_refused():
    for folds in (1, 41):
        with pytest.raises(InputError, match="give from 2 to 40"):
            cross_validate(table(), folds=folds)


def test_rank_correlation_agrees_with_scipy_and_is_nan_where_undefined():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, 30), rng.integers(0, 5, 30)
    assert spearman(a, b) == pytest.approx(spearmanr(a, b)[0], abs=1e-14)
    assert math.isnan(spearman(np.ones(4), np.arange(4)))


@needs_regmix
def test_ranks_the_unseen_regmix_runs_as_published_fits_do(regmix):
    _, test, law = regmix
    predicted = law.predict(test.mixtures)
    ranks = [spearman(p, y) for p, y in zip(predicted.T, test.metrics.T, strict=True)]
    squares = ((predicted - test.metrics) ** 2).mean(0)
    j = law.targets.index("the_pile_pile_cc")
    assert law.converged.all()
    assert np.mean(ranks) >= 0.97
    # figures of an independent fit: 97.56 on average, 96.59 on Pile-CC, squared errors .0448 and .00849
    assert np.mean(ranks) == pytest.approx(0.9756, abs=1e-4)
    assert ranks[j] == pytest.approx(0.9659, abs=1e-4)
    assert squares.mean() == pytest.approx(0.0448, abs=1e-4)
    assert squares[j] == pytest.approx(0.00849, abs=1e-5)


@needs_regmix
def test_the_regmix_law_at_known_points(regmix):
    train, _, law = regmix
    prior = json.loads((REGMIX / "pile_prior.json").read_text())["prior"]
    w = np.array([prior[f"train_{d}"] for d in train.domains])
    at_prior = law.predict(w / w.sum())
    cc = law["the_pile_pile_cc"]
    assert at_prior.mean() == pytest.approx(4.6397, abs=1e-4)
    assert at_prior[law.targets.index("the_pile_pile_cc")] == pytest.approx(5.3574, abs=1e-4)
    assert cc.vertex == "the_pile_pile_cc"
    assert law.predict(np.eye(17)[law.domains.index(cc.vertex)])[cc.j] == pytest.approx(5.24386, abs=1e-4)
