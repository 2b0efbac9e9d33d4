"""Skill-It's rule, ODM and stages: moves by hand, the traps of the sources, weights on the simplex, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mixopt as mx
from mixopt.errors import InputError
from mixopt.problems import by_score, odm, online_law, skill_it, stages
from mixopt.rules import ODM, LawStep, Stages

DOMAINS = mx.Domains(["web", "code", "books"], tokens=[6e9, 3e9, 1e9])
A = np.array([[0.3, 0.1, 0.0], [0.0, 0.4, 0.1], [0.2, 0.0, 0.2]])
LOSSES = st.lists(st.lists(st.floats(0.1, 12), min_size=3, max_size=3), min_size=1, max_size=8)


def softmax(x):
    grown = np.exp(x - np.max(x))
    return grown / grown.sum()


def fed(schedule, rows, **more):
    """The weights after each row of losses."""
    (name,) = [n for n in schedule.needs if n in ("val", "train")]
    found = []
    for row in rows:
        schedule.observe(**{name: row}, **more)
        found.append(schedule.w)
    return np.array(found)


def test_skill_it_restarts_from_its_prior_and_the_surveys_form_accumulates():
    """Trap T18: with losses that stay, the code's weights stay and the survey's run off to one domain, of which the schedule warns."""
    code = fed(mx.online(skill_it(DOMAINS, A, prior=[0.5, 0.3, 0.2], window=1)), 40 * [[3.0, 2.0, 1.0]])
    assert code[-1] == pytest.approx(code[0], abs=1e-15)
    assert code[0] == pytest.approx(softmax(np.log([0.5, 0.3, 0.2]) + 0.2 * A @ [3.0, 2.0, 1.0]), abs=1e-14)
    survey = mx.online(skill_it(DOMAINS, A, faithful_to="survey", rate=1.0))
    with pytest.warns(UserWarning, match="collapsing on 'web'"):
        assert fed(survey, 40 * [[3.0, 2.0, 1.0]])[-1].max() > 0.98


def test_the_window_counts_evaluations_and_sums_them():
    rows = [[3.0, 2.0, 1.0], [2.0, 2.0, 1.0], [1.0, 1.0, 1.0], [1.0, 0.5, 0.5]]
    found = fed(mx.online(skill_it(DOMAINS, A, evaluations=2)), rows)
    begin = softmax(0.2 * A.sum(axis=1))
    assert found[0] == pytest.approx(begin, abs=1e-14)
    assert found[1] == pytest.approx(softmax(0.2 * A @ np.sum(rows[:2], axis=0)), abs=1e-14)
    assert (found[2] == found[1]).all()
    assert found[3] == pytest.approx(softmax(0.2 * A @ np.sum(rows[1:], axis=0)), abs=1e-14)


def test_skill_it_for_targets_of_their_own_takes_the_mean_of_the_window():
    targets = mx.Domains(["chat", "python"])
    schedule = mx.online(skill_it(DOMAINS, A[:, :2], targets=targets))
    rows = np.array([[3.0, 2.0], [2.0, 1.0]])
    assert schedule.needs["val"].names == ("chat", "python")
    assert fed(schedule, rows)[-1] == pytest.approx(softmax(0.2 * A[:, :2] @ rows.mean(axis=0)), abs=1e-14)


def test_the_further_settings_of_skill_its_code():
    first, last = np.array([4.0, 2.0, 1.0]), np.array([2.0, 1.0, 0.5])
    more = {"window": 1}
    assert fed(mx.online(skill_it(DOMAINS, A, over_first=True, **more)), [first, last])[1] == pytest.approx(
        softmax(0.2 * A @ (last / first))
    )
    assert fed(mx.online(skill_it(DOMAINS, A, cooling=True, **more)), [first, last])[1] == pytest.approx(softmax(0.4 * A @ last))
    halved = np.where(np.eye(3) == 1, A, A / 2)
    assert fed(mx.online(skill_it(DOMAINS, A, halving=True, **more)), [first, last])[1] == pytest.approx(softmax(0.2 * halved @ last))
    lone = np.array([[1.0, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    found = fed(mx.online(skill_it(DOMAINS, lone * [[1.0, 1.0, 0.9]], lone=True, **more)), [first])[0]
    assert found[2] == pytest.approx(1 / 3)
    assert found[:2] == pytest.approx(2 / 3 * softmax(0.2 * (lone @ first)[:2]))
    assert fed(mx.online(skill_it(DOMAINS, np.eye(3), lone=True)), [first])[0] == pytest.approx(1 / 3)


def test_graphs_of_0_and_1_are_read_as_the_code_reads_them():
    graph = np.array([[1, 1, 0], [0, 1, 0], [1, 0, 1]])
    assert skill_it(DOMAINS, graph).solver.rule.effects == ((1.0, 0.5, 0.0), (0.0, 1.0, 0.0), (0.5, 0.0, 1.0))
    assert skill_it(DOMAINS, 2.0 * graph).solver.rule.effects[0] == (2.0, 2.0, 0.0)


def test_an_exponential_online_law_steps_along_its_own_slope():
    w = np.random.default_rng(0).dirichlet(np.ones(3), 12)
    now, floors = np.array([3.0, 2.0, 4.0]), np.array([1.0, 0.5, 2.0])
    runs = mx.Runs.from_arrays(DOMAINS, w, DOMAINS.names, floors + (now - floors) * np.exp(-w @ A))
    law = mx.laws.Online.fit(runs, now, sigma="exp")
    schedule = mx.online(online_law(DOMAINS, law, rate=0.7), start=[0.5, 0.3, 0.2])
    later = np.array([2.5, 1.5, 3.0])
    expected = softmax(np.log([0.5, 0.3, 0.2]) + 0.7 * law.after(later).score([0.5, 0.3, 0.2]))
    assert fed(schedule, [later])[0] == pytest.approx(expected, abs=1e-12)


def test_exp3_by_hand():
    schedule = mx.online(odm(DOMAINS, alpha=0.5), start=[0.5, 0.3, 0.2])
    schedule.observe(train={"web": 3.0, "code": 2.0}, counts={"train": {"web": 5, "code": 5}})
    rewards = 0.5 * np.array([3.0 / 0.5, 2.0 / 0.3, 0.0])
    assert schedule.w == pytest.approx(1 / 3)  # at the first step e_1 = 1/k
    schedule.observe(step=10, train=[3.0, 3.0, 3.0])
    rewards = 0.5 * rewards + 0.5 * 3.0 * 3
    share = np.sqrt(np.log(3) / 30)
    assert schedule.w == pytest.approx((1 - 3 * share) * softmax(rewards / 3) + share, abs=1e-14)


@pytest.mark.parametrize("source", ["paper", "code"])
@given(rows=LOSSES)
@settings(deadline=None, max_examples=20)
def test_odm_keeps_every_domain(source, rows):
    found = fed(mx.online(odm(DOMAINS, faithful_to=source)), rows)
    steps = np.arange(1, len(rows) + 1)
    shares = np.minimum(1 / 3, np.sqrt(np.log(3) / (3 * steps)))
    assert (found >= shares[:, None] - 1e-12).all()
    assert found.sum(axis=1) == pytest.approx(1, abs=1e-12)


def test_odm_as_in_the_code_forgets_its_start_and_a_domain_that_is_not_drawn_keeps_the_least():
    schedule = mx.online(odm(DOMAINS, warmup=3, faithful_to="code"), start=DOMAINS.natural)
    assert fed(schedule, 3 * [[3.0, 2.0, 1.0]]) == pytest.approx(np.tile(DOMAINS.natural, (3, 1)))
    schedule.observe(train={"web": 3.0, "code": 3.0}, counts={"train": {"web": 1, "code": 1}})
    share = np.sqrt(np.log(3) / 12)
    assert schedule.w == pytest.approx([(1 - share) / 2, (1 - share) / 2, share])


@pytest.mark.parametrize("seed", range(3))
def test_constraints_hold_at_every_move(seed):
    w, rng = mx.Mixture(DOMAINS), np.random.default_rng(seed)
    rows, cap = rng.uniform(0.1, 9, (6, 3)), rng.uniform(0.4, 0.9)
    limits = [w["web"] <= cap, w["code"] <= 0.8, w["books"] <= 0.8, w["books"] >= 0.05]
    law = mx.laws.Online.fit(mx.Runs.from_arrays(DOMAINS, np.eye(3), DOMAINS.names, 1 - A), np.ones(3))
    for method in (
        skill_it(DOMAINS, A, subject_to=limits),
        online_law(DOMAINS, law, rate=2.0, subject_to=limits),
        odm(DOMAINS, subject_to=limits),
        odm(DOMAINS, faithful_to="code", subject_to=limits),
        by_score(DOMAINS, mx.losses(mx.model(), DOMAINS), subject_to=limits),
    ):
        found = fed(mx.online(method), rows)
        assert found[:, 0].max() <= cap + 1e-9
        assert found[:, 2].min() >= 0.05 - 1e-9
        assert found.sum(axis=1) == pytest.approx(1, abs=1e-12)


def test_stages_hold_and_pass():
    rows = dict(zip((0, 3, 5), 0.1 + 0.7 * np.eye(3), strict=True))
    held = mx.online(stages(DOMAINS, rows))
    course = [held.w]
    for _ in range(6):
        held.observe()
        course.append(held.w)
    assert np.argmax(course, axis=1).tolist() == [0, 0, 0, 1, 1, 2, 2]
    passing = mx.online(stages(DOMAINS, rows, between="linear"))
    for _ in range(4):
        passing.observe()
    assert passing.w == pytest.approx([0.1, 0.45, 0.45])
    by_tokens = mx.online(stages(DOMAINS, [rows[0], rows[3]], marks=[0, 1000], by="tokens"))
    by_tokens.observe(tokens=600)
    assert by_tokens.weights["web"] == pytest.approx(0.8)
    by_tokens.observe(tokens=600)
    assert by_tokens.weights["code"] == pytest.approx(0.8)
    static = mx.online(stages(DOMAINS, [DOMAINS.natural]))
    static.observe()
    assert static.weights == pytest.approx(dict(zip(DOMAINS, DOMAINS.natural, strict=True)))


def test_the_stages_that_a_problem_finds():
    """A curriculum in three stages, its mass of code rising as asked, as a schedule."""
    w = mx.Mixture(DOMAINS, stages=3)
    found = mx.solve(
        mx.minimize(sum(mx.sum_squares(w[t] - 1 / 3) for t in range(3)), over=w, subject_to=[w[1]["code"] >= 0.4, w[2]["code"] >= 0.5])
    )
    schedule = mx.online(stages(DOMAINS, found.vector, marks=[0, 10, 20]))
    schedule.observe(step=20)
    assert schedule.weights["code"] == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: skill_it(DOMAINS, A[:2]), "one row a domain"),
        (lambda: skill_it(DOMAINS, [1.0, 2.0]), "finite table"),
        (lambda: skill_it(DOMAINS, A, faithful_to="paper"), "'code' or 'survey'"),
        (lambda: skill_it(DOMAINS, A, prior=[0.5, 0.3, 0.2], faithful_to="survey"), "from the last weights"),
        (lambda: skill_it(DOMAINS, A, rate=0), "the rate is 0"),
        (lambda: LawStep(((1.0,),), window=0), "window is 0"),
        (lambda: LawStep(((1.0,),), centre="first"), "centre is 'first'"),
        (lambda: LawStep(((1.0,),), targets=("a", "b")), "2 targets"),
        (lambda: LawStep(((1.0,),), floors=(1.0, 2.0)), "2 floors"),
        (lambda: mx.online(skill_it(DOMAINS, A, prior=[1.0, 1.0, 1.0])), "sum to 3"),
        (lambda: odm(DOMAINS, faithful_to="survey"), "'paper' or 'code'"),
        (lambda: odm(DOMAINS, alpha=1.0), "alpha is 1.0"),
        (lambda: ODM(warmup=-1), "warm-up is -1"),
        (lambda: ODM("bandit"), "form is 'bandit'"),
        (lambda: by_score(DOMAINS, mx.loss(mx.model(), "val")), "one number for each"),
        (lambda: by_score(DOMAINS, mx.losses(mx.model(), DOMAINS), centre="first"), "'last' or 'start'"),
        (lambda: by_score(DOMAINS, mx.losses(mx.model(), DOMAINS), centre="start", every=2), "to mx.online"),
        (lambda: stages(DOMAINS, np.eye(3)), "marks"),
        (lambda: stages(DOMAINS, np.eye(3), marks=[0, 5, 5]), "rise"),
        (lambda: stages(DOMAINS, {0: [0.5, 0.2, 0.2]}), "sum to 0.9"),
        (lambda: stages(DOMAINS, {0: DOMAINS.natural}, marks=[1]), "leave marks out"),
        (lambda: Stages((0.0,), ((0.5, 0.4),)), "sum to 1"),
        (lambda: Stages((0.0,), ((1.0,),), by="epochs"), "'epochs'"),
        (lambda: Stages((0.0,), ((1.0,),), between="cosine"), "'cosine'"),
    ],
)
def test_refusals(make, text):
    with pytest.raises(InputError, match=text):
        make()


def test_a_static_law_and_one_of_other_domains_are_no_schedule():
    runs = mx.Runs.from_arrays(DOMAINS, np.eye(3), DOMAINS.names, 1 - A)
    with pytest.raises(InputError, match="static round"):
        online_law(DOMAINS, mx.laws.Online.fit(runs))
    with pytest.raises(InputError, match="the law is over"):
        online_law(mx.Domains(["a", "b", "c"]), mx.laws.Online.fit(runs, np.ones(3)))


def test_first_losses_that_are_not_above_zero_are_told():
    schedule = mx.online(skill_it(DOMAINS, A, over_first=True))
    with pytest.raises(InputError, match="first loss"):
        schedule.observe(val=[1.0, 0.0, 1.0])
