"""Schedules: saddles pushed by measurements, equal to those that train; states; triggers; what is measured badly."""

import io
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mixopt as mx
from mixopt.errors import InputError, ProblemError, RefusalError
from mixopt.rules import Need, Rule, Scene, Seen, Standing
from mixopt.solvers import AdaGradNorm, BestResponse, ChiSquare, DescentAscent, Entropic, Extragradient, Normalised, Tail

DOMAINS = mx.Domains(["web", "code", "books"])
K = len(DOMAINS)
CENTRES = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 0.5]], dtype=torch.float64)


def game(*limits: mx.Relation, history: bool = False) -> mx.Problem:
    w, theta = mx.Mixture(DOMAINS), mx.model()
    payoff = mx.losses(theta, DOMAINS) - mx.parameter("reference", K)
    if history:
        payoff = payoff - 0.5 * mx.previous(mx.losses(theta, DOMAINS))
    return mx.minimize(mx.maximize(w @ payoff, over=w, subject_to=list(limits)), over=theta)


def learner() -> mx.FunctionLearner:
    start = {"x": torch.tensor([0.3, 0.2], dtype=torch.float64)}
    return mx.FunctionLearner(start, {"train": lambda p: ((p["x"] - CENTRES) ** 2).sum(dim=1)})


REFERENCE = {"reference": [0.1, 0.2, 0.3]}


@pytest.mark.parametrize(
    "solver",
    [
        DescentAscent(rate=0.3),
        DescentAscent(rate=0.3, smoothing=0.01, average="last"),
        DescentAscent(rate=0.3, temperature=0.2, order="simultaneous"),
        DescentAscent(rate=0.1, optimistic=True),
        DescentAscent(rate=0.1, geometry="euclidean"),
        DescentAscent(rate=Normalised(0.2)),
        DescentAscent(rate=0.3, schedule=AdaGradNorm(), model_rate=0.1),
        BestResponse(Entropic(0.5)),
    ],
    ids=str,
)
@pytest.mark.parametrize("history", [False, True])
def test_weights_pushed_by_measurements_are_those_of_the_solver_that_trains(solver, history):
    w = mx.Mixture(DOMAINS)
    problem = game(w["web"] <= 0.6, history=history)
    pulled = mx.solve(problem, learner(), solver=solver, given=REFERENCE, budget=mx.Budget(steps=12))
    schedule = mx.online(problem, solver, REFERENCE)
    rows = []
    for losses in pulled.trace["losses"]:
        assert schedule.observe(train=torch.tensor(losses))
        rows.append(schedule.w)
    if isinstance(solver, DescentAscent) and isinstance(solver.schedule, AdaGradNorm):
        np.testing.assert_allclose(rows, pulled.trace.weights, atol=1e-12)
    else:
        np.testing.assert_allclose(rows, pulled.trace.weights, atol=1e-14)


@pytest.mark.filterwarnings("ignore:the weights are collapsing")
@pytest.mark.parametrize("ball", [None, Tail(0.5), ChiSquare(0.4)], ids=str)
def test_best_responses_pushed_are_those_of_the_solver_that_trains(ball):
    pulled = mx.solve(game(), learner(), solver=BestResponse(ball), given=REFERENCE, budget=mx.Budget(steps=6))
    assert_pushed_alike(game(), BestResponse(ball), pulled)


@pytest.mark.parametrize("geometry", ["entropic", "euclidean"])
def test_weights_that_constraints_tie_are_those_of_the_solver_that_trains(geometry):
    w, solver = mx.Mixture(DOMAINS), DescentAscent(rate=0.3, geometry=geometry, smoothing=0.01)
    problem = game(w["web"] + w["code"] <= 0.6)
    pulled = mx.solve(problem, learner(), solver=solver, given=REFERENCE, budget=mx.Budget(steps=6))
    assert_pushed_alike(problem, solver, pulled)


def assert_pushed_alike(problem, solver, pulled):
    schedule = mx.online(problem, solver, REFERENCE)
    for losses, weights in zip(pulled.trace["losses"], pulled.trace.weights, strict=True):
        schedule.observe(train=torch.tensor(losses))
        np.testing.assert_allclose(schedule.w, weights, atol=1e-12)


def test_what_the_weights_do_not_enter_need_not_be_observed():
    w, theta = mx.Mixture(DOMAINS), mx.model()
    apart = 0.1 * mx.sum_squares(theta) + mx.loss(theta, "val")
    payoff = w @ (mx.losses(theta, DOMAINS) - mx.parameter("reference", K)) - 0.1 * mx.kl(w, [0.2, 0.3, 0.5])
    schedule = mx.online(mx.minimize(mx.maximize(apart + payoff, over=w), over=theta), None, REFERENCE)
    assert list(schedule.needs) == ["train"]
    alone = mx.online(mx.minimize(mx.maximize(payoff, over=w), over=theta), None, REFERENCE)
    for one in (schedule, alone):
        one.observe(train=[1.0, 2.0, 3.0])
    assert (schedule.w == alone.w).all()
    with pytest.raises(RefusalError, match="a summand apart"):
        mx.online(mx.minimize(mx.maximize(w @ (mx.losses(theta, DOMAINS) * mx.sum_squares(theta)), over=w), over=theta))


def test_a_parameter_may_have_the_name_of_what_is_measured_where_it_has_a_number():
    w, theta = mx.Mixture(DOMAINS), mx.model()
    problem = mx.minimize(mx.maximize(w @ (mx.losses(theta, DOMAINS) - mx.parameter("train", K)), over=w), over=theta)
    named, plain = mx.online(problem, None, {"train": [0.1, 0.2, 0.3]}), mx.online(game(), None, REFERENCE)
    for one in (named, plain):
        one.observe(train=[1.0, 2.0, 3.0])
    assert (named.w == plain.w).all()
    with pytest.raises(ProblemError, match="rename the parameter"):
        mx.online(problem)


def test_one_step_by_hand():
    schedule = mx.online(game(), DescentAscent(rate=2.0, smoothing=0.1), REFERENCE)
    assert list(schedule.needs) == ["train"]
    assert schedule.observe(train={"books": 0.9, "web": 1.0, "code": 0.5})
    raised = np.exp(2.0 * np.array([0.9, 0.3, 0.6]))
    np.testing.assert_allclose(schedule.w, 0.9 * raised / raised.sum() + 0.1 / 3, atol=1e-15)
    assert schedule.weights == dict(zip(DOMAINS, schedule.w.tolist(), strict=True))


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


def test_an_absent_domain_counts_as_the_solver_says():
    carry = mx.online(game(), DescentAscent(absent="carry", unseen=0.0), REFERENCE)
    carry.observe(train=[1.0, 2.0, 3.0])
    before = carry.w
    carry.observe(train=[1.0, 99.0, 3.0], counts={"train": [1, 0, 1]})
    score = np.array([0.9, 1.8, 2.7])
    np.testing.assert_allclose(carry.w, before * np.exp(score) / (before * np.exp(score)).sum(), atol=1e-14)
    zero = mx.online(game(), DescentAscent(absent="zero"), REFERENCE)
    zero.observe(train={"web": 1.0, "books": 3.0}, counts={"train": {"web": 1, "books": 1}})
    raised = np.exp([0.9, 0.0, 2.7])
    np.testing.assert_allclose(zero.w, raised / raised.sum(), atol=1e-14)


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


def test_a_move_at_every_evaluation():
    w, theta = mx.Mixture(DOMAINS), mx.model()
    gap = mx.losses(theta, DOMAINS, "val") - mx.parameter("target", K)
    problem = mx.minimize(mx.maximize(mx.surrogate(w @ gap, gradient=w @ mx.losses(theta, DOMAINS)), over=w), over=theta)
    schedule = mx.online(problem, None, {"target": [1.0, 1.0, 1.0]}, every=mx.Every(seen="val"))
    assert list(schedule.needs) == ["val"]
    assert schedule.observe(val=[2.0, 1.0, 1.0])
    with pytest.raises(InputError, match="needs \\(val\\)"):
        mx.online(problem, None, {"target": [1.0, 1.0, 1.0]}, every=mx.Every(seen="vall"))


def test_needs_name_what_the_payoff_measures():
    w, theta = mx.Mixture(DOMAINS), mx.model()
    token = mx.domain_mean(mx.pos(mx.tokens(theta) - mx.tokens(mx.model("reference"))), DOMAINS)
    slopes = mx.gram(theta, DOMAINS, mx.loss(theta, "val"))
    value = token + 0.1 * slopes + 0.0 * mx.losses(mx.model("reference"), DOMAINS) + mx.parameter("bonus", K)
    problem = mx.minimize(mx.maximize(mx.surrogate(w @ value, gradient=w @ mx.losses(theta, DOMAINS)), over=w), over=theta)
    schedule = mx.online(problem)
    assert list(schedule.needs) == ["excess", "gram", "reference", "bonus"]
    assert "pos(tokens(theta" in str(schedule.needs["excess"])
    schedule.observe(excess=[1.0, 0.0, 0.0], gram=[0.0, 10.0, 0.0], reference=[5.0, 6.0, 7.0], bonus=[0.0, 0.0, 2.0])
    np.testing.assert_allclose(schedule.w, np.exp([1, 1, 2]) / np.exp([1, 1, 2]).sum(), atol=1e-14)


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


class Towards(Rule):
    """Half the way to the losses' shares at each move; remembers how many it has seen of each."""

    def needs(self, domains: mx.Domains) -> tuple[Need, ...]:
        return (Need("train", "losses", domains.names),)

    def move(self, scene: Scene, at: Standing, seen: Seen) -> Standing:
        count = np.asarray(at.memory.get("count", np.zeros(len(scene)))) + seen.present["train"]
        target = seen["train"] / seen["train"].sum()
        return Standing((at.weights + target) / 2, {"count": count}, {"target": target})


def test_a_rule_of_the_users_own_trains_a_learner_and_runs_in_a_loop():
    w, theta = mx.Mixture(DOMAINS), mx.model()
    problem = mx.minimize(mx.maximize(w @ mx.losses(theta, DOMAINS), over=w), over=theta)
    method = mx.Method(problem, mx.solvers.Online(Towards(), every=2), "towards")
    pulled = mx.solve(method, learner(), budget=mx.Budget(steps=9))
    assert pulled.trace["target"].shape == (9, K)
    schedule = mx.online(method)
    rows = [schedule.w for losses in pulled.trace["losses"] if schedule.observe(train=losses) or True]
    assert schedule.moves == 4
    moved = mx.online(method, every=1)
    for step, losses in enumerate(pulled.trace["losses"]):
        if step % 2 == 0:
            moved.observe(train=losses)
            np.testing.assert_allclose(moved.w, pulled.trace.weights[step], atol=1e-14)
    assert len(rows) == 9
    state = moved.state_dict()
    again = mx.online(method, every=1)
    again.load_state_dict(state)
    assert (again.w == moved.w).all()
    other = mx.minimize(mx.maximize(w @ mx.losses(theta, DOMAINS, "val"), over=w), over=theta)
    with pytest.raises(RefusalError, match="Towards needs train"):
        mx.plan(mx.Method(other, mx.solvers.Online(Towards())), learner_of_val())


class Loose(Towards):
    """Half the way to one domain after the other, without an eye on constraints."""

    constrained = False

    def move(self, scene: Scene, at: Standing, seen: Seen) -> Standing:
        return Standing((at.weights + np.eye(K)[(seen.move + 1) % K]) / 2)


def test_a_rule_that_knows_no_constraints_goes_on_from_the_weights_allowed():
    w, theta = mx.Mixture(DOMAINS), mx.model()
    problem = mx.minimize(mx.maximize(w @ mx.losses(theta, DOMAINS), over=w, subject_to=[w["code"] <= 0.3]), over=theta)
    method = mx.Method(problem, mx.solvers.Online(Loose()), "loose")
    pulled = mx.solve(method, learner(), budget=mx.Budget(steps=6))
    schedule = mx.online(method)
    for step, losses in enumerate(pulled.trace["losses"]):
        schedule.observe(train=losses)
        np.testing.assert_allclose(schedule.w, pulled.trace.weights[step], atol=1e-14)
    assert schedule.history.weights[1, 1] == pytest.approx(0.3)


def learner_of_val() -> mx.FunctionLearner:
    start = {"x": torch.zeros(2, dtype=torch.float64)}
    return mx.FunctionLearner(start, {"val": lambda p: ((p["x"] - CENTRES) ** 2).sum(dim=1)})


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
