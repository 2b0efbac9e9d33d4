"""ADO's rule: smoothing and thinning, fits at their time, threads and restarts that change nothing, the trap of its experiments."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from scipy.signal import savgol_filter

import mixopt as mx
from mixopt.errors import InputError
from mixopt.laws.ado import as_in_code
from mixopt.problems import ado
from mixopt.rules import ADO
from mixopt.rules import ado as module
from mixopt.rules.later import Later

DOMAINS = mx.Domains(["web", "code", "books"], tokens=[6e9, 3e9, 1e9])
MU = np.array([0.6, 0.3, 0.1])
SMALL = {"start": 150, "skip": 20, "refit": 75, "smooth": 21, "context": 64}
"""Settings for runs of a few hundred steps."""


def curves(steps, seed=0, noise=0.02):
    """Losses [steps, 3] of which the second falls fastest and the third no more."""
    n = np.arange(1, steps + 1)[:, None] * 16.0
    truth = np.array([2.0, 1.7, 3.0]) + np.array([6.0, 40.0, 0.0]) * n ** -np.array([0.4, 0.5, 0.1])
    return truth + noise * np.random.default_rng(seed).normal(size=(steps, 3))


def run(schedule, rows, counts=None):
    found = []
    for losses in rows:
        schedule.observe(train=losses, tokens=16 * 64, **({} if counts is None else {"share": counts}))
        found.append(schedule.w)
    return np.array(found)


def test_weights_are_the_prior_until_the_first_fit_and_then_follow_the_slopes():
    schedule = mx.online(ado(DOMAINS, **SMALL))
    found = run(schedule, curves(400))
    assert found[:149] == pytest.approx(np.tile(MU, (149, 1)))
    assert (found[149] != found[148]).any()
    shares = found / MU
    assert (shares[160:].argmax(axis=1) == 1).all()  # the curve that falls fastest, for its prior
    assert (shares[160:].argmin(axis=1) == 2).all()
    assert found.sum(axis=1) == pytest.approx(1, abs=1e-12)
    assert found.min() > 0


def test_the_rule_sees_the_losses_that_the_code_smooths_and_thins(monkeypatch):
    """The rows of a fit are those of scipy's filter over all losses, from the first that is not skipped on, every tenth."""
    seen = []
    monkeypatch.setattr(module, "fitted", lambda rows, weight, curve: seen.append((rows, weight)) or np.full((3, 3), 0.5))
    losses = curves(200, noise=0.3)
    run(mx.online(ado(DOMAINS, start=200, skip=17, refit=50, smooth=31, context=64)), losses)
    ((rows, weight),) = seen
    expected = savgol_filter(losses, 31, 3, axis=0)[17::10]
    np.testing.assert_allclose(rows[:, 1:], expected, atol=1e-10)
    np.testing.assert_array_equal(rows[:, 0], 16.0 * np.arange(1, 201)[17::10])
    assert weight == 1


def test_many_points_are_thinned_and_count_for_those_they_stand_for(monkeypatch):
    seen = []
    monkeypatch.setattr(module, "fitted", lambda rows, weight, curve: seen.append((rows, weight)) or np.full((3, 3), 0.5))
    losses = curves(600)
    schedule = mx.online(ado(DOMAINS, points=20, **SMALL | {"refit": 300, "start": 300}))
    run(schedule, losses)
    rows, weight = seen[-1]
    assert weight == 4
    assert len(rows) <= 22
    np.testing.assert_allclose(rows[:, 1:], savgol_filter(losses, 21, 3, axis=0)[20::40], atol=1e-10)
    assert schedule.state_dict()["memory"]["curve"].shape[0] <= 20


def test_a_point_that_counts_twice_is_two_points():
    n, y = 1000.0 * np.arange(1, 40), curves(39)[:, 0]
    once, twice = as_in_code(np.repeat(n, 2), np.repeat(y, 2)), as_in_code(n, y, 2.0)
    assert once == pytest.approx(twice, rel=1e-4)


@pytest.mark.parametrize("lag", [1, 30])
def test_a_fit_in_a_thread_moves_the_weights_as_one_found_at_its_time(lag, monkeypatch):
    losses = curves(260)
    threaded = run(mx.online(ado(DOMAINS, lag=lag, **SMALL)), losses)
    monkeypatch.setattr(Later, "start", lambda *_: None)
    waited = run(mx.online(ado(DOMAINS, lag=lag, **SMALL)), losses)
    assert (threaded == waited).all()
    assert threaded[: 149 + lag] == pytest.approx(np.tile(MU, (149 + lag, 1)))
    assert (threaded[149 + lag] != threaded[148 + lag]).any()


@pytest.mark.parametrize("cut", [30, 155, 240])
def test_a_run_that_is_cut_goes_on_exactly(cut, tmp_path):
    """Before the first fit, while one is under way, and later; by the file."""
    losses, method = curves(300), ado(DOMAINS, lag=20, **SMALL)
    whole = run(mx.online(method), losses)
    first, second = mx.online(method), mx.online(ado(DOMAINS, lag=20, **SMALL))
    run(first, losses[:cut])
    first.save(tmp_path / "state.json")
    second.load(tmp_path / "state.json")
    assert (run(second, losses[cut:]) == whole[cut:]).all()


def test_the_share_of_the_data_is_what_is_told_or_else_the_weights():
    losses = curves(160)
    told, untold = mx.online(ado(DOMAINS, **SMALL)), mx.online(ado(DOMAINS, **SMALL))
    a, b = run(told, losses, counts=[0.1, 0.1, 0.8]), run(untold, losses)
    assert a[-1, 2] > b[-1, 2]
    assert told.state_dict()["memory"]["share"].numpy() == pytest.approx([0.1, 0.1, 0.8], abs=1e-4)


def test_the_surveys_form_is_the_mean_of_the_preferences():
    losses = curves(155)
    schedule = mx.online(ado(DOMAINS, faithful_to="survey", **SMALL))
    found = run(schedule, losses)
    law = schedule.state_dict()["memory"]["law"].numpy()
    rho = ADO(steepest=0.0, floor=0.0).preference(law, 16.0 * 150, MU, MU)
    assert found[149] == pytest.approx(MU)
    assert found[150] == pytest.approx(MU + (rho - MU) / 151, abs=1e-12)  # the weights, and so their shares, have been MU


def test_a_fit_that_fails_leaves_the_last_one(monkeypatch):
    losses = curves(230)
    schedule = mx.online(ado(DOMAINS, **SMALL))
    run(schedule, losses[:200])
    law = schedule.state_dict()["memory"]["law"]
    monkeypatch.setattr(module, "fitted", lambda rows, weight, curve: np.full((3, 3), np.nan))
    run(schedule, losses[200:])
    assert (schedule.state_dict()["memory"]["law"] == law).all()


def test_losses_that_are_not_above_zero_are_fitted_by_no_curve_and_leave_the_prior():
    schedule = mx.online(ado(DOMAINS, **SMALL))
    found = run(schedule, curves(160) - 2.5)
    assert found == pytest.approx(np.tile(MU, (160, 1)))
    assert found[-1].sum() == pytest.approx(1, abs=1e-15)


def test_squares_follow_losses_below_the_floor_of_the_code_which_is_warned_of():
    losses = curves(160) - 1.0
    with pytest.warns(UserWarning, match="take curve='squares'"):
        run(mx.online(ado(DOMAINS, **SMALL)), losses)
    schedule = mx.online(ado(DOMAINS, curve="squares", **SMALL))
    found = run(schedule, losses)
    assert ((found / MU)[-1].argmax(), (found / MU)[-1].argmin()) == (1, 2)
    a, e, alpha = schedule.state_dict()["memory"]["law"].numpy()[1]
    n = 16.0 * np.arange(30, 150)
    assert np.exp(e) + np.exp(a) * n**-alpha == pytest.approx(0.7 + 40 * n**-0.5, abs=0.05)


def test_losses_that_never_change_have_no_curve():
    schedule = mx.online(ado(DOMAINS, curve="squares", **SMALL))
    assert run(schedule, np.full((160, 3), 2.0)) == pytest.approx(np.tile(MU, (160, 1)))


def test_a_rule_with_a_thread_can_be_copied_and_pickled():
    rule = ADO(lag=5)
    rule._later.start(1, sum, [1, 2])
    assert rule._later.result(1, sum, [5]) == 3
    assert rule._later.result(1, sum, [5]) == 5
    assert copy.deepcopy(rule) == pickle.loads(pickle.dumps(rule)) == rule


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"start": 500, "skip": 1000}, "would see 0 points for three parameters"),
        ({"start": 1000, "skip": 1000}, "would see 0 points"),
        ({"start": 1000, "skip": 990}, "would see 1 points"),
        ({"skip": 10}, "at least half of it is skipped"),
        ({"smooth": 100}, "the former is odd"),
        ({"lag": 1000}, "comes after the next one"),
        ({"refit": 0}, "refit is 0"),
        ({"curve": "linear"}, "curve is 'linear'"),
        ({"blend": 1.5}, "blend is 1.5"),
        ({"faithful_to": "paper"}, "'code' or 'survey'"),
    ],
)
def test_refusals(settings, text):
    with pytest.raises(InputError, match=text):
        ado(DOMAINS, **settings)
