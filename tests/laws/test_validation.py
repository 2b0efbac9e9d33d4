"""Cross-validation of any law: its figures by hand, their intervals, and the regret that is expected of a pool."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixopt.errors import InputError
from mixopt.laws import Exponential, cross_validate
from mixopt.laws.accuracy import expected_regret, figures, intervals
from mixopt.runs import Runs

A = np.array([[-1.0, 0.6, 0.2], [0.5, -2.0, 0.4]])


def table(rows: int = 30, noise: float = 0.02) -> Runs:
    rng = np.random.default_rng(0)
    w = rng.dirichlet(np.ones(3), rows)
    return Runs.from_arrays(["web", "code", "books"], w, ["chat", "python"], 1.5 + np.exp(w @ A.T) + noise * rng.normal(size=(rows, 2)))


def test_leave_one_out_fits_as_often_as_there_are_runs():
    runs = table(12)
    checked = cross_validate(runs, folds=None)
    assert sorted(checked.folds) == list(range(12))
    others = np.arange(12) != 3
    np.testing.assert_array_equal(checked.predicted[3], Exponential.fit(runs.subset(others)).predict(runs.mixtures[3]))


def test_the_figures_of_an_objective_are_those_of_its_value():
    checked = cross_validate(table(), folds=3)
    found = checked.of(lambda metrics: metrics @ np.array([0.25, 0.75]))
    by_hand = figures(checked.predicted @ [0.25, 0.75], checked.measured @ [0.25, 0.75])
    assert found == by_hand
    assert found["rmse"] < checked.rmse.max()
    taken = (checked.predicted @ [0.25, 0.75]).argmin()
    y = checked.measured @ [0.25, 0.75]
    assert found["regret"] == pytest.approx((y[taken] - y.min()) / (y.mean() - y.min()))


def test_an_interval_holds_its_figure_and_narrows_with_runs():
    few, many = cross_validate(table(20), folds=4), cross_validate(table(200), folds=4)
    spans = [c.intervals(0.9, draws=200) for c in (few, many)]
    for name in ("rmse", "mae", "spearman", "r2"):
        assert (spans[0][name][:, 0] <= getattr(few, name)).all()
        assert (getattr(few, name) <= spans[0][name][:, 1]).all()
    assert np.ptp(spans[1]["rmse"], axis=1).max() < np.ptp(spans[0]["rmse"], axis=1).min()
    head, first = few.table(level=0.9).splitlines()[:2]
    assert len(few.table(level=0.9).splitlines()) == 4
    assert first.split()[1] == f"{few.rmse[0]:.4f}"
    assert first.count("[") == 5
    assert len(head) == len(first)
    assert "<td" in few._repr_html_()


def test_the_interval_of_an_error_covers_its_true_value_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(100):
        low, high = intervals(rng.normal(size=80), np.zeros(80), 0.9, draws=200)["rmse"]
        hits += low <= 1 <= high
    assert 80 <= hits <= 97


@given(seed=st.integers(0, 10**6), R=st.integers(2, 30), pool=st.integers(2, 12))
@settings(deadline=None, max_examples=25)
def test_the_expected_regret_is_that_of_pools_drawn_at_random(seed, R, pool):
    rng = np.random.default_rng(seed)
    y = rng.normal(size=R)
    p = y + rng.normal(size=R)
    drawn = rng.integers(0, R, (4000, pool))
    taken = np.take_along_axis(y[drawn], p[drawn].argmin(1)[:, None], 1).mean()
    best = y[drawn].min(1).mean()
    spread = 4 * np.std(y) / np.sqrt(4000)
    found = expected_regret(p, y, pool)
    scale = y.mean() - best
    if scale > 10 * spread:
        assert found == pytest.approx((taken - best) / scale, abs=8 * spread / scale)
    assert expected_regret(y, y, pool) == pytest.approx(0, abs=1e-9)


def test_the_expected_regret_of_large_pools_is_the_regret_and_of_no_prediction_is_that_of_chance():
    rng = np.random.default_rng(0)
    y = rng.normal(size=25)
    p = y + rng.normal(size=25)
    assert expected_regret(p, y, 4000) == pytest.approx(figures(p, y)["regret"])
    assert expected_regret(np.zeros(25), y) == pytest.approx(1)
    assert np.isnan(expected_regret(p, np.ones(25)))
    with pytest.raises(InputError, match="a pool of 1 runs"):
        expected_regret(p, y, 1)
    assert np.isnan(figures(p, np.full(25, np.nan))["rmse"])


def test_a_level_out_of_range_is_refused():
    with pytest.raises(InputError, match=r"the level is 95; it is a share"):
        cross_validate(table(12), folds=2).intervals(95)
    with pytest.raises(InputError, match="1 draws tell no interval"):
        cross_validate(table(12), folds=2).intervals(0.9, draws=1)


def test_predictions_too_far_off_for_squares_have_an_infinite_error():
    found = figures(np.array([1e200, 1.0, 2.0]), np.array([3.0, 1.0, 2.0]))
    assert found["rmse"] == np.inf
    assert found["r2"] == -np.inf
    assert found["regret"] == 0
