"""Schedules: states, triggers, what is handed out, and what is measured badly."""

import io
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mixopt as mx
from mixopt.errors import InputError, ProblemError, RefusalError
from mixopt.solvers import AdaGradNorm, DescentAscent, Extragradient

from .games import DOMAINS, REFERENCE, K, game


def test_measurements_between_two_moves_are_averaged_by_their_tokens():
    schedule = mx.online(game(), DescentAscent(), REFERENCE, every=2)
    assert not schedule.observe(train=[1.0, 2.0, 3.0], counts={"train": [10, 0, 30]})
    assert schedule.observe(train=[2.0, 5.0, 1.0], counts={"train": [30, 5, 10]})
    whole = mx.online(game(), DescentAscent(), REFERENCE)
    whole.observe(train=[70 / 40, 5.0, 100 / 40])
    np.testing.assert_allclose(schedule.w, whole.w, atol=1e-15)
    assert schedule.tokens == 85
    sums = mx.online(game(), DescentAscent(), REFERENCE, every=2)
    sums.observe(train=torch.tensor([10.0, 0.0, 90.0]), counts={"train": torch.tensor([10, 0, 30])}, summed=True)
    sums.observe(train=np.array([60.0, 25.0, 10.0]), counts={"train": {"web": 30, "code": 5, "books": 10}}, summed=True)
    np.testing.assert_allclose(sums.w, whole.w, atol=1e-15)


def test_triggers():
    by_tokens = mx.online(game(), None, REFERENCE, every=mx.Every(tokens=100))
    moved = [by_tokens.observe(train=[1.0, 2.0, 3.0], tokens=40) for _ in range(6)]
    assert moved == [False, False, True, False, False, True]
    waits = mx.online(game(), None, REFERENCE, every=2, warmup=3)
    moved = [waits.observe(train=[1.0, 2.0, 3.0]) for _ in range(7)]
    assert moved == [False, False, False, False, True, False, True]
    told = mx.online(game(), None, REFERENCE, every=5)
    assert not told.observe(train=[1.0, 2.0, 3.0], step=4)
    assert told.observe(train=[1.0, 2.0, 3.0], step=6)
    with pytest.raises(InputError, match="not after step 6"):
        told.observe(train=[1.0, 2.0, 3.0], step=6)


def test_constraints_smoothing_and_inertia_hold_for_what_is_handed_out():
    w = mx.Mixture(DOMAINS)
    schedule = mx.online(game(), DescentAscent(rate=50.0), REFERENCE, subject_to=[w["web"] <= 0.5, w["code"] >= 0.2])
    for _ in range(5):
        schedule.observe(train=[9.0, 0.0, 1.0])
    np.testing.assert_allclose(schedule.w, [0.5, 0.2, 0.3], atol=1e-9)
    calm = mx.online(game(), DescentAscent(rate=50.0), REFERENCE, inertia=0.9)
    calm.observe(train=[9.0, 0.0, 0.0])
    np.testing.assert_allclose(calm.w, 0.9 / 3 + 0.1 * np.array([1.0, 0.0, 0.0]), atol=1e-9)
    mixed = mx.online(game(), DescentAscent(rate=50.0), REFERENCE, smoothing=0.3)
    mixed.observe(train=[9.0, 0.0, 0.0])
    np.testing.assert_allclose(mixed.w, [0.8, 0.1, 0.1], atol=1e-9)


def test_smoothing_is_no_stronger_with_inertia():
    schedule = mx.online(game(), DescentAscent(rate=50.0), REFERENCE, inertia=0.9, smoothing=0.3)
    rows = []
    for _ in range(200):
        schedule.observe(train=[9.0, 0.0, 0.0])
        rows.append(schedule.w)
    np.testing.assert_allclose(rows[-1], [0.8, 0.1, 0.1], atol=1e-7)
    assert np.min(rows) >= 0.1 - 1e-12


def test_what_is_refused_leaves_no_trace():
    w, theta, other = mx.Mixture(DOMAINS), mx.model(), mx.model("reference")
    payoff = mx.losses(theta, DOMAINS) - mx.losses(other, DOMAINS)
    problem = mx.minimize(mx.maximize(w @ payoff, over=w), over=theta)
    fresh, again = mx.online(problem, every=2), mx.online(problem, every=2)
    with pytest.raises(InputError, match=r"value of reference has the shape"):
        again.observe(train=[9.0, 0.0, 0.0], reference=[1.0, 2.0])
    for schedule in (fresh, again):
        for _ in range(2):
            schedule.observe(train=[1.0, 2.0, 3.0], reference=[1.0, 1.0, 1.0])
    assert (fresh.w == again.w).all()


def test_what_waits_on_its_device_in_the_warm_up_is_not_looked_at_and_does_not_count():
    schedule, fresh = mx.online(game(), None, REFERENCE, warmup=5), mx.online(game(), None, REFERENCE)
    for _ in range(5):
        assert not schedule.observe(train=torch.tensor([9.0, 0.0, 0.0]), counts={"train": torch.tensor([1, 2, 3])})
    assert len(schedule._tallies["train"].waiting) == len(schedule._uncounted) == 5
    assert schedule.observe(train=[1.0, 2.0, 3.0])
    assert fresh.observe(train=[1.0, 2.0, 3.0])
    assert (schedule.w == fresh.w).all()
    assert schedule.tokens == 30
    by_tokens = mx.online(game(), None, REFERENCE, warmup=2, every=mx.Every(tokens=25))
    assert [by_tokens.observe(train=[1.0, 2.0, 3.0], tokens=10) for _ in range(8)] == [False] * 4 + [True, False, False, True]


def test_tokens_do_not_depend_on_when_they_are_looked_at():
    looked, left = (mx.online(game(), None, REFERENCE, every=1000) for _ in range(2))
    for i in range(60):
        for schedule in (looked, left):
            schedule.observe(train=[1.0, 2.0, 3.0], tokens=1 / (i + 3))
        if i == 30:
            looked.state_dict()
    assert looked.tokens == left.tokens


def test_numbers_given_as_tensors_that_train_are_taken():
    given = {"reference": torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64, requires_grad=True)}
    assert mx.online(game(), None, given).fingerprint == mx.online(game(), None, REFERENCE).fingerprint
    assert mx.Every(tokens=np.int64(100)).due(1, 100.0, frozenset())
    for bad in ({"web": 1.0, "code": 2.0, "books": 3.0}, "abc"):
        with pytest.raises(InputError, match="finite numbers of the shape"):
            mx.online(game(), None, {"reference": bad})


LOSSES = st.lists(st.lists(st.floats(0.1, 5.0), min_size=K, max_size=K), min_size=2, max_size=12)


@settings(max_examples=25, deadline=None)
@given(rows=LOSSES, cut=st.integers(1, 11), every=st.integers(1, 4), as_file=st.booleans())
def test_a_run_that_is_cut_goes_on_exactly(rows, cut, every, as_file, tmp_path_factory):
    def made() -> mx.Schedule:
        solver = DescentAscent(rate=0.7, optimistic=True, schedule=AdaGradNorm(), absent="carry")
        return mx.online(game(history=True), solver, REFERENCE, every=every, inertia=0.3)

    def told(schedule: mx.Schedule, part: list[list[float]]) -> None:
        for i, row in enumerate(part):
            schedule.observe(train=row, counts={"train": [1 + i % 3, i % 2, 2]})

    cut = min(cut, len(rows) - 1)
    whole, first, second = made(), made(), made()
    told(whole, rows[:cut])
    told(first, rows[:cut])
    if as_file:
        path = tmp_path_factory.mktemp("state") / "s.json"
        first.save(path)
        second.load(path)
    else:
        stored = io.BytesIO()
        torch.save(first.state_dict(), stored)
        stored.seek(0)
        second.load_state_dict(torch.load(stored, weights_only=True))
    told(whole, rows[cut:])
    told(second, rows[cut:])
    assert (whole.w == second.w).all()
    assert whole.mean == second.mean
    assert (whole.history.weights == second.history.weights).all()
    assert (whole.history.steps == second.history.steps).all()


def test_a_state_of_another_schedule_is_refused():
    schedule = mx.online(game(), None, REFERENCE)
    state = schedule.state_dict()
    for other, why in [
        (mx.online(game(), DescentAscent(rate=0.5), REFERENCE), "another schedule"),
        (mx.online(game(), None, {"reference": [0.0, 0.0, 0.0]}), "numbers"),
        (mx.online(game(), None, REFERENCE, every=2), "settings"),
    ]:
        with pytest.raises(InputError, match=why):
            other.load_state_dict(state)
    two = mx.Domains(["web", "code"])
    w, theta = mx.Mixture(two), mx.model()
    small = mx.online(mx.minimize(mx.maximize(w @ mx.losses(theta, two), over=w), over=theta))
    with pytest.raises(InputError, match="over the domains"):
        small.load_state_dict(state)
    with pytest.raises(InputError, match="format 99"):
        schedule.load_state_dict({**state, "mixopt schedule": 99})
    with pytest.raises(InputError, match="no state of a schedule"):
        schedule.load_state_dict({"a": 1})
    cut = {name: value for name, value in state.items() if name != "tallies"}
    with pytest.raises(InputError, match="no whole state"):
        schedule.load_state_dict(cut)


def test_a_file_that_is_no_state(tmp_path):
    schedule = mx.online(game(), None, REFERENCE)
    with pytest.raises(InputError, match="cannot be read"):
        schedule.load(tmp_path / "none.json")
    path = tmp_path / "half.json"
    schedule.save(path)
    path.write_text(path.read_text(encoding="utf-8")[:100], encoding="utf-8")
    with pytest.raises(InputError, match="cannot be read"):
        schedule.load(path)
    path.write_text(json.dumps([1]), encoding="utf-8")
    with pytest.raises(InputError, match="no state"):
        schedule.load(path)


def test_values_that_are_not_finite_are_kept_out_counted_and_named():
    schedule = mx.online(game(), DescentAscent(rate=0.1, absent="carry"), REFERENCE)
    schedule.observe(train=[1.0, 2.0, 3.0])
    with pytest.warns(UserWarning, match="'code' was NaN or infinite"):
        schedule.observe(train=[1.0, float("nan"), 3.0])
    schedule.observe(train=[1.0, float("inf"), 3.0])
    assert schedule.dropped == {"code": 2}
    assert np.isfinite(schedule.w).all()
    assert abs(schedule.w.sum() - 1) < 1e-15


def test_a_collapse_is_warned_of_once():
    schedule = mx.online(game(), DescentAscent(rate=5.0), REFERENCE)
    with pytest.warns(UserWarning, match="collapsing on 'books'"):
        schedule.observe(train=[1.0, 1.0, 4.0])
    schedule.observe(train=[1.0, 1.0, 4.0])


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ({"train": [1.0, 2.0]}, r"shape \[2\], and \[3\] is expected"),
        ({"train": {"web": 1.0, "code": 2.0}}, "no entry for 'books'"),
        ({"train": {"web": 1.0, "code": 2.0, "book": 1.0}}, "did you mean 'books'"),
        ({"val": [1.0, 2.0, 3.0]}, "'val' is not measured for this schedule"),
        ({"trian": [1.0, 2.0, 3.0]}, "did you mean 'train'"),
        ({}, "observe was told nothing"),
        ({"train": [1.0, 2.0, 3.0], "counts": {"val": [1, 1, 1]}}, "not measured"),
        ({"train": [1.0, 2.0, 3.0], "summed": True}, None),
        ({"train": "abc"}, "numbers of the shape"),
        ({"train": [1.0, 2.0, 3.0], "counts": {"train": [-1, 1, 1]}}, "numbers of tokens, >= 0"),
        ({"train": [1.0, 2.0, 3.0], "tokens": float("nan")}, "finite number >= 0"),
        ({"train": [float("nan")] * 3}, "no train has been observed"),
    ],
)
def test_what_is_observed_badly_is_refused(what, told):
    schedule = mx.online(game(), None, REFERENCE)
    if told is None:
        with pytest.raises(InputError, match="sums take counts"):
            schedule.observe(**what)
        return
    with pytest.raises(InputError, match=told):
        schedule.observe(**what)


def test_what_cannot_be_a_schedule_is_refused_with_the_mend():
    w, theta = mx.Mixture(DOMAINS), mx.model()
    with pytest.raises(ProblemError, match=r"mx\.solve finds"):
        mx.online(mx.minimize(mx.kl(w, [0.5, 0.3, 0.2]), over=w))
    bilevel = mx.minimize(mx.loss(mx.argmin(w @ mx.losses(theta, DOMAINS), over=theta), "val"), over=w)
    with pytest.raises(ProblemError, match="online method"):
        mx.online(bilevel)
    with pytest.raises(RefusalError, match="looks at the model more than once"):
        mx.online(game(), Extragradient(), REFERENCE)
    with pytest.raises(RefusalError, match="leave restart out"):
        mx.online(game(), DescentAscent(restart=10), REFERENCE)
    with pytest.raises(InputError, match="whole number >= 1"):
        mx.online(game(), None, REFERENCE, every=0)
    with pytest.raises(InputError, match="one of steps="):
        mx.Every()
    with pytest.raises(InputError, match="did you mean 'reference'"):
        mx.online(game(), None, {"referense": [0, 0, 0]})
    with pytest.raises(InputError, match="finite numbers of the shape"):
        mx.online(game(), None, {"reference": [0, 0]})
    with pytest.raises(ProblemError, match="no weights meet"):
        mx.online(game(w["web"] >= 0.7, w["code"] >= 0.7), None, REFERENCE)
    for bad in ({"smoothing": 1.0}, {"inertia": -0.1}, {"warmup": -1}):
        with pytest.raises(InputError):
            mx.online(game(), None, REFERENCE, **bad)


def test_a_long_history_is_thinned_and_keeps_its_ends():
    from mixopt.schedules.history import MOST, History

    history = History(("a", "b"))
    for step in range(3 * MOST):
        history.add(step, float(step), np.array([0.25, 0.75]))
    assert len(history) <= MOST
    assert history.steps[0] == 0
    assert (np.diff(history.steps) == 4).all()
    again = History.of(("a", "b"), history.state())
    history.add(3 * MOST, 0.0, np.array([0.5, 0.5]))
    again.add(3 * MOST, 0.0, np.array([0.5, 0.5]))
    assert (again.steps == history.steps).all()
    assert list(history.frame().columns) == ["step", "tokens", "a", "b"]
