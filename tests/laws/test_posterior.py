"""What a law's posterior says: its spread against the closed form, the coverage of its intervals, and where to run next."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import stdtrit

from mixopt.errors import InputError
from mixopt.laws import Exponential, Linear, cross_validate
from mixopt.laws.laplace import covariance, half_hessian
from mixopt.laws.law import At
from mixopt.laws.leverage import left_out, without_fold
from mixopt.laws.posterior import Gain, Posterior, bootstrap, jackknife, laplace, regions
from mixopt.laws.suggestion import _of_draws, suggest
from mixopt.runs import Runs, Targets

REGMIX = Path(__file__).parents[2] / "../shared/data/regmix"
needs_regmix = pytest.mark.skipif(not REGMIX.exists(), reason="needs ../shared/data/regmix beside the project")
A = np.array([[-1.0, 0.6, 0.2], [0.5, -2.0, 0.4]])
NAMES = ["web", "code", "books"]


def table(rows: int = 60, noise: float = 0.02, seed: int = 0, together: float = 0.0, up: bool = False) -> Runs:
    rng = np.random.default_rng(seed)
    w = rng.dirichlet(np.ones(3), rows)
    e = rng.normal(size=(rows, 2))
    e[:, 1] = together * e[:, 0] + np.sqrt(1 - together**2) * e[:, 1]
    y = 1.5 + np.exp(w @ A.T) + noise * e
    ways = {"python": "max"} if up else {}
    return Runs.from_arrays(NAMES, w, Targets(["chat", "python"], ways), y * ([1, -1] if up else [1, 1]))


def mean(metrics: np.ndarray) -> np.ndarray:
    return metrics.mean(axis=-1)


def test_the_draws_have_the_covariance_of_the_linearised_least_squares():
    runs = table(noise=0.01, together=0.8)
    law = Exponential.fit(runs)
    found = laplace(law, runs, draws=4000)
    theta = np.array([d.theta for d in found.draws])
    sigma = covariance(found.validation.predicted - found.validation.measured)
    J = [law.curve.jacobian(law.theta[[j]], At.of(runs))[0] for j in range(2)]
    pinv = [np.linalg.pinv(j) for j in J]
    for a, b in ((0, 0), (0, 1), (1, 1)):
        wanted = sigma[a, b] * pinv[a] @ pinv[b].T
        got = (theta[:, a] - law.theta[a]).T @ (theta[:, b] - law.theta[b]) / len(theta)
        np.testing.assert_allclose(got, wanted, atol=0.12 * np.abs(wanted).max())
    assert sigma[0, 1] / np.sqrt(sigma[0, 0] * sigma[1, 1]) > 0.6


def test_parameters_are_within_their_own_intervals_as_often_as_these_say():
    hits = []
    for seed in range(40):
        runs = table(40, noise=0.02, seed=seed)
        found = laplace(Exponential.fit(runs), runs, draws=200)
        theta = np.array([d.theta for d in found.draws])
        low, high = np.quantile(theta, (0.05, 0.95), axis=0)
        truth = np.column_stack([[1.5, 1.5], A])
        hits.append((low <= truth) & (truth <= high))
    assert 0.84 <= np.mean(hits) <= 0.97


def test_draws_keep_the_bounds_of_the_curve():
    rng = np.random.default_rng(0)
    w = rng.dirichlet(np.ones(3), 30)
    runs = Runs.from_arrays(NAMES, w, ["chat"], np.exp(w @ A[:1].T) * np.exp(0.05 * rng.normal(size=(30, 1))))  # the floor is 0
    law = Exponential.fit(runs)
    found = laplace(law, runs, draws=300)
    floors = np.array([d.c[0] for d in found.draws])
    assert (floors >= 0).all()
    assert (floors == 0).any()
    assert (floors > 0.01).any()
    errors = np.array([np.abs(d.predict(w) - law.predict(w)).max() for d in found.draws])
    assert errors.max() < 0.5


def test_what_no_run_tells_is_left_to_the_ridge():
    runs = table(30)
    flat = runs.mixtures.copy()
    flat[:, 2] = 0
    short = Runs.from_arrays(NAMES, flat / flat.sum(1, keepdims=True), ["chat", "python"], runs.metrics)
    law, checked = Exponential.fit(short, ridge=1e-3), cross_validate(short, ridge=1e-3)
    found = laplace(law, short, draws=200)
    free = np.array([d.A[0, 2] - d.A[0].mean() for d in found.draws])
    seen = np.array([d.A[0, 0] - d.A[0, 1] for d in found.draws])
    assert seen.std() < free.std() < 2 * checked.rmse[0] / np.sqrt(1e-3)


@pytest.mark.parametrize("loss", [None, mean], ids=["targets", "objective"])
def test_intervals_hold_unseen_runs_as_often_as_they_say(loss):
    runs, unseen = table(300, noise=0.05, seed=1), table(2000, noise=0.05, seed=2)
    found = laplace(Exponential.fit(runs), runs)
    spans = found.intervals(unseen.mixtures, 0.9, loss)
    truth = unseen.metrics if loss is None else loss(unseen.metrics)
    hit = (spans[..., 0] <= truth) & (truth <= spans[..., 1])
    assert 0.85 <= hit.mean() <= 0.95
    wider = found.intervals(unseen.mixtures, 0.95, loss)
    assert (np.diff(wider) >= np.diff(spans)).all()


def test_a_target_to_be_maximised_has_the_intervals_of_its_negative():
    down, up = table(40), table(40, up=True)
    one, other = (laplace(Exponential.fit(r), r) for r in (down, up))
    point = down.mixtures[:3]
    np.testing.assert_allclose(other.intervals(point)[:, 1], -one.intervals(point)[:, 1, ::-1])
    np.testing.assert_allclose(other.intervals(point)[:, 0], one.intervals(point)[:, 0])


def test_the_error_of_a_gain_is_smaller_than_that_of_either_value_and_covers_the_truth():
    hits, better, worse = [], np.array([0.5, 0.4, 0.1]), np.array([0.4, 0.4, 0.2])
    for seed in range(40):
        runs = table(40, noise=0.02, seed=seed)
        found = laplace(Exponential.fit(runs), runs, draws=200)
        gain = found.gain(better, worse, mean)
        truth = (np.exp(A @ worse) - np.exp(A @ better)).mean()
        low, high = gain.interval(0.9)
        hits.append(low <= truth <= high)
    assert 0.8 <= np.mean(hits) <= 1.0
    assert gain.error < found.spread([better, worse], mean).max()
    assert Gain(1.0, 0.0).interval() == (1.0, 1.0)


def test_a_bootstrap_agrees_with_laplace_where_the_law_is_right():
    runs = table(120, noise=0.02)
    checked = cross_validate(runs)
    one = laplace(Exponential.fit(runs), runs, draws=300)
    other = bootstrap(Exponential.fit, runs, checked, draws=60)
    np.testing.assert_array_equal(one.law.theta, other.law.theta)
    points = np.random.default_rng(0).dirichlet(np.ones(3), 20)
    regions = jackknife(Exponential.fit, runs, checked, groups=20)
    assert np.median(regions.spread(points) / one.spread(points)) == pytest.approx(1, abs=0.5)


def test_the_doubt_of_a_law_that_bends_wrongly_is_told_by_its_regions_and_not_by_noise():
    """The truth is no exponential, and nothing is noise: Laplace's error of the gain is far too small, the jackknife's is not."""
    better, worse = np.array([0.3, 0.4, 0.3]), np.array([0.7, 0.2, 0.1])

    def truth(w: np.ndarray) -> np.ndarray:
        return (w + 0.02) ** -0.4 @ np.array([1.0, 0.5, 0.2])

    z = {laplace: [], jackknife: []}
    for seed in range(20):
        w = np.random.default_rng(seed).dirichlet(np.ones(3), 60)
        runs = Runs.from_arrays(NAMES, w, ["chat"], truth(w)[:, None])
        law, checked = Exponential.fit(runs), cross_validate(runs)
        gain = truth(worse) - truth(better)
        for doubt, found in ((laplace, laplace(law, runs)), (jackknife, jackknife(Exponential.fit, runs, checked))):
            told = found.gain(better, worse, mean)
            z[doubt].append(abs(told.value - gain) / told.error)
    assert np.median(z[jackknife]) < np.median(z[laplace])
    assert np.mean(np.array(z[jackknife]) < 2.26) > np.mean(np.array(z[laplace]) < 1.96)


def test_regions_part_the_mixtures_and_one_that_is_needed_is_kept():
    rows = np.vstack([np.random.default_rng(0).dirichlet(np.array(a) * 50.0, 20) for a in ([8, 1, 1], [1, 8, 1], [1, 1, 8])])
    place = regions(rows, 3)
    assert sorted(np.bincount(place)) == [20, 20, 20]
    assert len(set(place[:20])) == 1
    assert regions(np.ones((5, 3)) / 3, 4).max() == 0
    runs = table(40)
    sparse = runs.mixtures.copy()
    sparse[5:, 2] = 0  # books only in five runs, all of one region
    sparse[:5] = [0.1, 0.1, 0.8] + 0.01 * np.random.default_rng(0).random((5, 3))
    runs = Runs.from_arrays(NAMES, sparse / sparse.sum(1, keepdims=True), runs.targets, runs.metrics)
    assert len(jackknife(Exponential.fit, runs, groups=4).draws) == 3


def test_the_next_runs_are_d_optimal():
    runs = table(20, noise=0.02)
    law = Exponential.fit(runs)
    candidates = np.random.default_rng(1).dirichlet(np.ones(3), 30)

    def information(rows: np.ndarray) -> float:
        J = [law.curve.jacobian(law.theta[[j]], At(np.vstack([runs.mixtures, rows])))[0] for j in range(2)]
        return sum(np.linalg.slogdet(j.T @ j)[1] for j in J)

    found = suggest(law, runs, 3, candidates=candidates)
    kept: list[np.ndarray] = []
    for row in found:
        gains = [information(np.array([*kept, c])) for c in candidates if not any((c == k).all() for k in kept)]
        assert information(np.array([*kept, row])) == pytest.approx(max(gains))
        kept.append(row)
    drawn = suggest(laplace(law, runs, draws=2000), runs, 1, candidates=candidates)
    order = np.argsort([-information(c[None]) for c in candidates])
    assert drawn[0].tolist() in candidates[order[:5]].tolist()


def test_the_draws_of_a_jackknife_count_as_far_apart_as_they_stand_for():
    runs = table(30, noise=0.02)
    law, near = Linear.fit(runs), jackknife(Linear.fit, runs)
    middle = np.mean([one.theta for one in near.draws], axis=0)
    far = tuple(replace(law, theta=middle + near.widen * (one.theta - middle)) for one in near.draws)
    points = np.random.default_rng(0).dirichlet(np.ones(3), 10)
    np.testing.assert_allclose(_of_draws(near, points), _of_draws(replace(near, draws=far, widen=1.0), points))


def test_suggestions_are_mixtures_near_the_runs():
    runs = table(15)
    found = suggest(Exponential.fit(runs), runs, 6)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert len(np.unique(found, axis=0)) == 6
    np.testing.assert_array_equal(found, suggest(Exponential.fit(runs), runs, 6))


def once():
    """A fit that fails after its first time."""
    left = iter([Exponential.fit])

    def fit(runs: Runs) -> Exponential:
        for law in left:
            return law(runs)
        raise InputError("no more")

    return fit


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda runs, law: laplace(law, runs, draws=1), "1 draws tell no spread"),
        (lambda runs, law: bootstrap(Exponential.fit, runs, draws=1), "1 draws tell no spread"),
        (lambda runs, law: laplace(law, runs).intervals(runs.mixtures, 0.999), "60 runs are too few for intervals"),
        (lambda runs, law: laplace(law, runs).intervals(runs.mixtures, 90), "the level is 90"),
        (lambda runs, law: jackknife(Exponential.fit, runs, groups=1), "1 regions leave nothing"),
        (lambda runs, law: jackknife(once(), runs, cross_validate(runs)), "cannot be fitted without a region .*: no more"),
        (lambda runs, law: suggest(law, runs, 0), "0 mixtures are to be chosen"),
        (lambda runs, law: suggest(law, runs, 2, candidates=[[0.5, 0.5]]), r"candidates have shape \(1, 2\); \[N, 3\]"),
    ],
)
def test_what_cannot_be_told_is_refused(call, message):
    runs = table()
    with pytest.raises(InputError, match=message):
        call(runs, Exponential.fit(runs))


def test_the_half_hessian_is_that_of_the_ridge():
    runs = table(20)
    law = Exponential.fit(runs, ridge=0.1)
    jacobian, rows, inverse = half_hessian(law, runs, 0)
    np.testing.assert_allclose(inverse @ (jacobian.T @ jacobian + rows.T @ rows), np.eye(4), atol=1e-6)
    np.testing.assert_allclose(rows.T @ rows, 0.1 * law.curve.penalty(3).T @ law.curve.penalty(3))


def test_the_doubt_without_a_fold_is_that_of_a_fit_without_it():
    rng = np.random.default_rng(0)
    J, ridge = rng.normal(size=(20, 3)), 0.3 * np.eye(3)
    folds = np.arange(20) % 4
    root = np.linalg.cholesky(np.linalg.inv(J.T @ J + ridge)).T @ J.T
    wanted = [j @ np.linalg.inv(J[folds != f].T @ J[folds != f] + ridge) @ j for j, f in zip(J, folds, strict=True)]
    np.testing.assert_allclose(without_fold(root, folds), wanted)
    one = np.zeros((1, 20))
    one[0, 3] = np.sqrt(0.99)
    assert without_fold(one, folds)[3] == pytest.approx(3)  # known by the fold alone, and worse without it by no more than fourfold
    assert without_fold(one, np.arange(20))[3] == pytest.approx(9)  # and without one run by no more than tenfold
    assert without_fold(10 * one, folds)[3] == without_fold(10 * one, None)[3] == pytest.approx(99)


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_what_is_left_out_to_first_order_is_of_a_linear_law_what_fits_without_it_say(ridge):
    runs = table(12, noise=0.2, up=True)
    law, found = Linear.fit(runs, ridge=ridge), left_out(Linear.fit(runs, ridge=ridge), runs)
    refits = [Linear.fit(runs.subset(np.arange(12) != r), ridge=ridge).predict(runs.mixtures[r]) for r in range(12)]
    jacobian, _, inverse = half_hessian(law, runs, 0)
    left = 12 - np.trace(jacobian @ inverse @ jacobian.T)
    np.testing.assert_allclose(found - runs.metrics, np.sqrt(left / (left - 2)) * (np.array(refits) - runs.metrics))
    gone = runs.metrics.copy()
    gone[3, 0] = np.nan
    holes = Runs.from_arrays(NAMES, runs.mixtures, runs.targets, gone)
    fewer = runs.subset(np.arange(12) != 3)
    lacking, without = (left_out(Linear.fit(r, ridge=ridge), r)[:, 0] for r in (holes, fewer))
    np.testing.assert_allclose(np.delete(lacking, 3), without)


def test_of_linear_laws_the_intervals_of_a_mean_are_those_of_multivariate_regression():
    """Three targets that err together: as many unseen runs lie inside as is said, and the width is that of Student's intervals."""
    rng, root = np.random.default_rng(0), np.array([[0.3, 0, 0], [-0.2, 0.2, 0], [0.1, 0.1, 0.1]])
    hits, ratios, single = [], [], []
    for _ in range(60):
        w = rng.dirichlet(np.ones(4), 140)
        y = w @ rng.normal(size=(4, 3)) + rng.normal(size=(140, 3)) @ root.T
        runs = Runs.from_arrays(list("abcd"), w, ["x", "y", "z"], y)
        known, unseen = runs.subset(np.arange(40)), runs.subset(np.arange(40, 140))
        posterior = laplace(Linear.fit(known, ridge=0.0), known, draws=100)
        low, high = posterior.intervals(unseen.mixtures, loss=mean).T
        hits.append((low <= mean(unseen.metrics)) & (mean(unseen.metrics) <= high))
        spans = posterior.intervals(unseen.mixtures)
        single.append((spans[..., 0] <= unseen.metrics) & (unseen.metrics <= spans[..., 1]))
        residual = np.linalg.lstsq(w[:40], mean(y[:40]), rcond=None)[1][0]
        leverage = np.einsum("ri,ij,rj->r", w[40:], np.linalg.inv(w[:40].T @ w[:40]), w[40:])
        ratios.append((high - low) / 2 / (stdtrit(36, 0.95) * np.sqrt(residual / 36 * (1 + leverage))))
    assert np.mean(hits) == pytest.approx(0.9, abs=0.02)
    assert np.mean(single) == pytest.approx(0.9, abs=0.02)
    assert np.mean(ratios) == pytest.approx(1, abs=0.05)


def test_a_fit_that_leaves_no_freedom_is_told_by_its_cross_validation():
    runs = table(5, noise=0.1)
    law = Exponential.fit(runs, ridge=1e-8)
    assert left_out(law, runs) is None
    with pytest.raises(InputError, match="a fit of 4 parameters to 5 runs leaves no errors to tell; give cross_validate"):
        laplace(law, runs)
    checked = cross_validate(runs, ridge=1e-8)
    assert laplace(law, runs, checked).validation is checked
    assert jackknife(Exponential.fit, runs, checked, ridge=1e-8).validation is checked
    assert jackknife(Exponential.fit, table(20), checked).validation is not checked


@pytest.mark.parametrize(("rows", "seeds"), [(34, 5), (64, 8), (128, 5)])
def test_ninety_percent_intervals_cover_unseen_runs_of_a_known_law(rows, seeds):
    found = []
    for seed in range(seeds):
        rng = np.random.default_rng([rows, seed])
        slopes = rng.normal(size=(2, 6))
        w = rng.dirichlet(np.ones(6), rows + 300)
        runs = Runs.from_arrays([f"d{i}" for i in range(6)], w, ["a", "b"], 1 + np.exp(w @ slopes.T) + 0.03 * rng.normal(size=(len(w), 2)))
        known, unseen = runs.subset(np.arange(rows)), runs.subset(np.arange(rows, rows + 300))
        spans = laplace(Exponential.fit(known), known, draws=50).intervals(unseen.mixtures)
        found.append((spans[..., 0] <= unseen.metrics) & (unseen.metrics <= spans[..., 1]))
    assert 0.86 <= np.mean(found) <= 0.94


def test_where_a_draw_says_infinity_the_interval_has_no_end():
    runs = table(30)
    law = Exponential.fit(runs)
    wild = replace(law, theta=law.theta * [1, 1e4, 1e4, 1e4])
    spans = Posterior(law, (law, wild), cross_validate(runs)).intervals(np.eye(3))
    assert np.isinf(spans).any()
    assert not np.isnan(spans).any()


@needs_regmix
def test_ninety_percent_intervals_cover_the_unseen_regmix_runs_with_few_runs():
    train, test = (Runs.from_csv(REGMIX / f"{part}_mixture_1m.csv", REGMIX / f"{part}_pile_loss_1m.csv") for part in ("train", "test"))
    found = []
    for seed in range(3):
        runs = train.subset(np.sort(np.random.default_rng([64, seed]).permutation(512)[:64]))
        spans = laplace(Exponential.fit(runs), runs, draws=50).intervals(test.mixtures)
        found.append((spans[..., 0] <= test.metrics) & (test.metrics <= spans[..., 1]))
    assert 0.85 <= np.mean(found) <= 0.95


@needs_regmix
def test_ninety_percent_intervals_cover_the_unseen_regmix_runs():
    train, test = (Runs.from_csv(REGMIX / f"{part}_mixture_1m.csv", REGMIX / f"{part}_pile_loss_1m.csv") for part in ("train", "test"))
    found = laplace(Exponential.fit(train), train, draws=100)
    spans = found.intervals(test.mixtures)
    assert 0.85 <= ((spans[..., 0] <= test.metrics) & (test.metrics <= spans[..., 1])).mean() <= 0.95
