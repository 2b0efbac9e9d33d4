"""The classical saddle methods on games whose course is known: cycles, spirals, convergence, first steps by hand, closed forms."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

import mixopt as mx
from mixopt.forms import Abilities
from mixopt.solvers import (
    AdaGradNorm,
    Backtracking,
    BestResponse,
    ChiSquare,
    Decaying,
    DescentAscent,
    Entropic,
    Extragradient,
    SmoothedDescentAscent,
    Suffix,
    Tail,
    Window,
)

ETA = 0.1


def game(losses, start, subject_to=lambda w: []):
    """min over theta of max over w of w @ losses(theta), as a problem and an exact learner in float64."""
    start = torch.as_tensor(start, dtype=torch.float64)
    domains = [f"d{i}" for i in range(len(losses(start)))]
    w, theta = mx.Mixture(domains), mx.model()
    inner = mx.maximize(w @ mx.losses(theta, domains), over=w, subject_to=subject_to(w))
    learner = mx.FunctionLearner(start, {"train": losses}, optimizer=lambda p: torch.optim.SGD(p, lr=ETA))
    return mx.minimize(inner, over=theta), learner


def bilinear():
    """x y with y = 10 (w_0 - 1/2), from x = y = 1; rates ETA / 50 and ETA are ETA for both players."""
    return game(lambda x: torch.cat([5 * x, -5 * x]), [1.0])


def course(solver):
    """The (x, y) [T + 1, 2] of a run on the bilinear game: the losses of a step show x before it."""
    result = mx.solve(*bilinear(), solver=solver, start=[0.6, 0.4])
    x = np.append(result.trace["losses"][:, 0] / 5, result.parameters.item())
    return np.column_stack([x, np.append(1.0, 10 * (result.trace.weights[:, 0] - 0.5))])


FLAT = {"rate": ETA / 50, "model_rate": ETA, "geometry": "euclidean", "average": "last", "tolerance": 1e-15}


def test_simultaneous_steps_spiral_outwards_by_the_known_factor():
    xy = course(DescentAscent(order="simultaneous", steps=20, **FLAT))
    norms = np.linalg.norm(xy, axis=1)
    assert norms[1:] / norms[:-1] == pytest.approx(np.sqrt(1 + ETA**2), abs=1e-12)


def test_alternating_steps_stay_on_an_ellipse():
    """Weights first: y' = y + eta x, x' = x - eta y' keep x^2 + y^2 + eta x y."""
    xy = course(DescentAscent(steps=200, **FLAT))
    kept = (xy**2).sum(axis=1) + ETA * xy.prod(axis=1)
    assert kept == pytest.approx(kept[0], abs=1e-10)
    assert xy[:, 0].min() < -1 < 1 < xy[:, 0].max()


def test_extragradient_steps_spiral_inwards_by_the_known_factor():
    xy = course(Extragradient(steps=30, **FLAT))
    norms = np.linalg.norm(xy, axis=1)
    assert norms[1:] / norms[:-1] == pytest.approx(np.sqrt(1 - ETA**2 + ETA**4), abs=1e-12)
    by_hand = np.array([1 - ETA - ETA**2, 1 + ETA - ETA**2])  # from (1, 1): x - eta (y + eta x), y + eta (x - eta y)
    assert xy[1] == pytest.approx(by_hand, abs=1e-12)


@pytest.mark.parametrize(
    "solver",
    [
        DescentAscent(order="simultaneous", optimistic=True, steps=800, **FLAT),
        SmoothedDescentAscent(pull=1.0, follow=0.1, steps=500, **FLAT),
        Extragradient(**FLAT | {"rate": 0.2, "model_rate": 10.0}, schedule=Backtracking(), steps=100),
        Extragradient(**FLAT | {"rate": 0.02, "model_rate": 1.0}, schedule=AdaGradNorm(), steps=400),
        DescentAscent(order="simultaneous", restart=63, steps=630, **FLAT),
    ],
    ids=str,
)
def test_these_converge_on_the_bilinear_game(solver):
    xy = course(solver)
    assert np.linalg.norm(xy[-1]) < 0.03 < 1 < np.linalg.norm(xy[0])


def rock_paper_scissors(solver):
    beats = torch.tensor([[0.0, 1.0, -1.0], [-1.0, 0.0, 1.0], [1.0, -1.0, 0.0]], dtype=torch.float64)
    return mx.solve(*game(lambda x: beats @ x, [0.1, 0.0, -0.1]), solver=solver, start=[0.5, 0.3, 0.2])


def test_mirror_prox_finds_the_middle_of_rock_paper_scissors_and_plain_steps_leave_it():
    """w is even and all losses are equal at the saddle; simultaneous entropic steps drift towards the edge."""
    away = rock_paper_scissors(DescentAscent(rate=ETA, model_rate=ETA, order="simultaneous", average="last", steps=600))
    assert away.trace.entropy[-200:].min() < 0.3 < away.trace.entropy[:50].min()
    found = rock_paper_scissors(Extragradient(rate=0.5, model_rate=0.5, steps=400))
    assert found.vector == pytest.approx(1 / 3, abs=1e-6)
    assert found.value == pytest.approx(0, abs=1e-6)
    assert found.check.gap < 1e-6


def points(centres, offsets):
    c, r = (torch.as_tensor(v, dtype=torch.float64) for v in (centres, offsets))
    return game(lambda x: ((x - c) ** 2).sum(1) / 2 - r, np.zeros(c.shape[1]))


CONVERGENT = [
    DescentAscent(rate=ETA, average="last", steps=8000, tolerance=1e-10),
    DescentAscent(rate=ETA, average="last", steps=8000, tolerance=1e-10, order="simultaneous", optimistic=True),
    Extragradient(rate=ETA, steps=8000, tolerance=1e-10),
    Extragradient(rate=1.0, model_rate=1.0, schedule=Backtracking(), steps=3000, tolerance=1e-10),
    SmoothedDescentAscent(rate=ETA, geometry="euclidean", steps=8000, tolerance=1e-10),
]


@pytest.mark.parametrize("solver", CONVERGENT, ids=str)
def test_saddles_of_shifted_quadratics(solver):
    """Domains 0 and 2 are worst at the saddle: x between them such that their losses are equal, w such that x is their mean."""
    c, r = np.array([-1.0, 0.5, 3.0]), np.array([0.3, 0.2, -0.4])
    x = ((c[0] ** 2 - c[2] ** 2) / 2 - (r[0] - r[2])) / (c[0] - c[2])
    result = mx.solve(*points(c[:, None], r), solver=solver)
    assert result.parameters.item() == pytest.approx(x, abs=1e-6)
    assert result.vector == pytest.approx([(c[2] - x) / (c[2] - c[0]), 0, (x - c[0]) / (c[2] - c[0])], abs=1e-6)
    assert result.value == pytest.approx((x - c[0]) ** 2 / 2 - r[0], abs=1e-6)
    assert result.check.saddle < 1e-6


def test_the_mixmax_saddle_in_a_table_of_logits():
    """min over logits of max over w of sum_i w_i E_i[-log softmax]: mirror-prox finds what the concave program has, to 1e-5."""
    draw = np.random.default_rng(1)
    tables = draw.dirichlet(np.full(6, 0.7), size=3).reshape(3, 2, 3)
    domains = mx.Domains(["d0", "d1", "d2"])
    program = mx.solve(mx.problems.mixmax(domains, tables))
    joint = torch.as_tensor(tables)
    problem, learner = game(lambda logits: -(joint * logits.log_softmax(1)).sum((1, 2)), np.zeros((2, 3)))
    solver = Extragradient(rate=3.0, model_rate=3.0, schedule=Backtracking(), steps=3000, tolerance=1e-7)
    saddle = mx.solve(problem, learner, solver=solver)
    assert saddle.value == pytest.approx(program.value, abs=1e-5)
    assert saddle.vector == pytest.approx(program.vector, abs=1e-3)
    assert saddle.check.saddle < 1e-5


def regressions():
    """Four domains with two features each: mean squared errors of one linear model, with a small ridge."""
    draw = np.random.default_rng(3)
    X, true = draw.normal(size=(4, 12, 2)), draw.normal(size=(4, 2))
    y = np.einsum("kni,ki->kn", X, true) + 0.1 * draw.normal(size=(4, 12))
    return X, y


def test_all_convergent_solvers_agree_on_a_convex_problem_and_cvxpy_with_them():
    X, y = regressions()
    tX, ty = torch.as_tensor(X), torch.as_tensor(y)
    theta, t = cp.Variable(2), cp.Variable()
    worst = [cp.sum_squares(X[i] @ theta - y[i]) / 24 <= t for i in range(4)]
    cp.Problem(cp.Minimize(t), worst).solve(solver=cp.CLARABEL)
    expected = np.array([np.ravel(limit.dual_value)[0] for limit in worst])
    for solver in CONVERGENT:
        problem, learner = game(lambda p: ((tX @ p - ty) ** 2).mean(1) / 2, np.zeros(2))
        result = mx.solve(problem, learner, solver=solver)
        assert result.value == pytest.approx(t.value, abs=1e-5), solver
        assert result.vector == pytest.approx(expected / expected.sum(), abs=1e-4), solver
        assert result.check.saddle < 1e-5, solver
        assert "L-BFGS" in str(result.check)


def test_the_saddle_gap_is_what_the_model_could_still_gain():
    """At w = (1/2, 1/2) fixed by a tiny rate and a model not yet moved, the gap is max l(0) - min over x of the mean."""
    c = np.array([-1.0, 3.0])
    result = mx.solve(*points(c[:, None], [0.0, 0.0]), solver=DescentAscent(rate=1e-12, model_rate=1e-12, average="last", steps=1))
    assert result.check.saddle == pytest.approx(9 / 2 - 4 / 2, abs=1e-6)
    assert result.check.gap == pytest.approx(9 / 2 - 5 / 2, abs=1e-6)


def test_no_saddle_gap_where_the_model_has_no_minimum_or_the_players_have_two_payoffs():
    result = mx.solve(*bilinear(), solver=DescentAscent(steps=3, **FLAT), start=[0.6, 0.4])
    assert result.check.saddle is None
    assert "no saddle gap: L-BFGS found no minimum" in str(result.check)
    w, theta = mx.Mixture(["a", "b"]), mx.model()
    losses = mx.losses(theta, ["a", "b"])
    two = mx.minimize(mx.maximize(mx.surrogate(w @ mx.pos(losses), gradient=w @ losses), over=w), over=theta)
    learner = mx.FunctionLearner(torch.zeros(1).double(), {"train": lambda x: torch.cat([(x - 1) ** 2, (x + 1) ** 2])})
    assert mx.solve(two, learner, budget=mx.Budget(steps=3)).check.saddle is None


def scored(scores, ball, start=None):
    """The weights that a best response gives to fixed scores."""
    numbers = torch.as_tensor(scores, dtype=torch.float64)
    problem, learner = game(lambda x: numbers + (x**2).sum() / 2, [0.0])
    return mx.solve(problem, learner, solver=BestResponse(ball=ball, steps=1), start=start).vector


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("ball", [Tail(0.4), ChiSquare(0.3), ChiSquare(2.5), Entropic(0.5), None], ids=str)
def test_best_responses_are_the_maxima_that_cvxpy_finds(ball, seed):
    draw = np.random.default_rng(seed)
    scores, centre = draw.normal(size=5), draw.dirichlet(np.full(5, 3.0))
    w = cp.Variable(5, nonneg=True)
    limits, payoff = [cp.sum(w) == 1], scores @ w
    if isinstance(ball, Tail):
        limits.append(w <= centre / ball.share)
    elif isinstance(ball, ChiSquare):
        limits.append(cp.sum(cp.multiply(1 / centre, cp.square(w - centre))) <= ball.radius)
    elif isinstance(ball, Entropic):
        payoff -= ball.temperature * cp.sum(cp.rel_entr(w, centre))
    cp.Problem(cp.Maximize(payoff), limits).solve(solver=cp.CLARABEL)
    assert scored(scores, ball, centre) == pytest.approx(w.value, abs=1e-4)  # cvxpy's tolerance, not ours


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=6), st.floats(0.05, 4.0))
def test_a_chi_square_response_lies_in_its_ball_and_on_its_edge_unless_it_is_a_corner(scores, radius):
    w = scored(scores, ChiSquare(radius))
    k = len(w)
    distance = float(((w - 1 / k) ** 2 * k).sum())
    assert distance <= radius + 1e-6
    if w.max() < 1 - 1e-9 and np.sum(np.array(scores) > max(scores) - 1e-3) == 1:
        assert distance == pytest.approx(radius, abs=1e-6)


def test_kl_and_cvar_robust_optima_in_closed_form():
    """The entropic ball's descent ends at the minimum of t logsumexp(l / t) - t log k; the tail's at that of the worst two of four."""
    c = np.array([-1.0, 0.5, 1.0, 3.0])
    losses = lambda x: (x - c) ** 2 / 2  # noqa: E731
    soft = mx.solve(*points(c[:, None], np.zeros(4)), solver=BestResponse(ball=Entropic(0.7), average="last", steps=3000))
    best = minimize_scalar(lambda x: 0.7 * logsumexp(losses(x) / 0.7), bracket=(0, 1), tol=1e-12)
    assert soft.parameters.item() == pytest.approx(best.x, abs=1e-6)
    assert soft.vector == pytest.approx(np.exp(losses(best.x) / 0.7) / np.exp(losses(best.x) / 0.7).sum(), abs=1e-6)
    assert soft.message == "stationary for the payoff under Entropic(temperature=0.7)"
    solver = BestResponse(ball=Tail(0.5), model_rate=1.0, schedule=Decaying(power=1.0), steps=1500)
    tail = mx.solve(*points(c[:, None], np.zeros(4)), solver=solver)
    cvar = minimize_scalar(lambda x: np.sort(losses(x))[2:].mean(), bracket=(0, 1), tol=1e-12)
    assert tail.parameters.item() == pytest.approx(cvar.x, abs=3e-3)


def test_a_best_response_respects_constraints():
    numbers = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    problem, learner = game(lambda x: numbers + (x**2).sum() / 2, [0.0], lambda w: [w["d2"] <= 0.5, mx.mass(w, ["d1", "d2"]) <= 0.7])
    found = [mx.solve(problem, learner, solver=BestResponse(ball=ball, steps=1)).vector for ball in (None, Tail(0.75), Entropic(1e-3))]
    assert found[0] == pytest.approx([0.3, 0.2, 0.5], abs=1e-9)
    assert found[1] == pytest.approx([0.3, 0.7 - 4 / 9, 4 / 9], abs=1e-9)  # w <= 1 / (3 * 0.75)
    assert found[2] == pytest.approx([0.3, 0.2, 0.5], abs=1e-6)


def test_step_size_rules_by_hand():
    """Losses (1, 0): the log odds grow by rate times the factor at each step."""
    numbers = torch.tensor([1.0, 0.0], dtype=torch.float64)
    odds = {}
    for schedule in (None, Decaying(power=0.5, horizon=2.0), AdaGradNorm(floor=4.0)):
        solver = DescentAscent(rate=0.3, schedule=schedule, average="last", steps=3)
        w = mx.solve(*game(lambda x: numbers + (x**2).sum() / 2, [0.0]), solver=solver).trace.weights
        odds[type(schedule)] = np.diff(np.log(w[:, 0] / w[:, 1]), prepend=0.0) / 0.3
    assert odds[type(None)] == pytest.approx(1.0)
    assert odds[Decaying] == pytest.approx([(1 + t / 2) ** -0.5 for t in range(3)])
    assert odds[AdaGradNorm] == pytest.approx([(4 + 0.5 * t) ** -0.5 for t in (1, 2, 3)])  # |(1, 0) - 1/2|^2 = 1/2


def test_smoothed_steps_by_hand():
    """The first model step is plain, for the anchor is the start; the weights rise at the new model; then the pull is felt."""
    c = np.array([1.0, -3.0])
    solver = SmoothedDescentAscent(rate=0.2, pull=2.0, follow=0.25, model_rate=ETA, steps=2)
    result = mx.solve(*points(c[:, None], [0.0, 0.0]), solver=solver)
    x, z, w = 0.0, 0.0, np.full(2, 0.5)
    for _ in range(2):
        x -= ETA * (w @ (x - c) + 2.0 * (x - z))
        w = w * np.exp(0.2 * (x - c) ** 2 / 2)
        w, z = w / w.sum(), z + 0.25 * (x - z)
    assert result.parameters.item() == pytest.approx(x, abs=1e-12)
    assert result.vector == pytest.approx(w, abs=1e-12)


@pytest.mark.parametrize("smooth", [False, True])
def test_history_in_the_model_s_view_between_two_moves_of_the_weights(smooth):
    """Losses over their first values, in both views: the model descends w @ (l / l_0), also where the weights wait."""
    c = np.array([1.0, -3.0])
    w, theta = mx.Mixture(["d0", "d1"]), mx.model()
    losses = mx.losses(theta, ["d0", "d1"])
    problem = mx.minimize(mx.maximize(w @ (losses / mx.initial(losses)), over=w), over=theta)
    _, learner = points(c[:, None], [0.0, 0.0])
    far = {"rate": 0.2, "average": "last", "steps": 3}
    solver = SmoothedDescentAscent(pull=1e-12, **far) if smooth else DescentAscent(every=2, **far)
    result = mx.solve(problem, learner, solver=solver)
    x, weights, first = 0.0, np.full(2, 0.5), None
    for step in range(3):
        if smooth:
            first = c**2 / 2 if first is None else first
            x -= ETA * weights @ ((x - c) / first)
            first = (x - c) ** 2 / 2 if step == 0 else first  # as the weights see it, at the model after its first step
        if smooth or step % 2 == 0:
            first = (x - c) ** 2 / 2 if first is None else first
            weights = weights * np.exp(0.2 * (x - c) ** 2 / 2 / first)
            weights = weights / weights.sum()
        if not smooth:
            x -= ETA * weights @ ((x - c) / first)
    assert result.vector == pytest.approx(weights, abs=1e-10)
    assert result.parameters.item() == pytest.approx(x, abs=1e-10)


@pytest.mark.parametrize(("average", "kept"), [(Window(3), 3), (Suffix(0.5), 4), (Window(100), 7)])
def test_averages_over_a_window_and_a_suffix(average, kept):
    result = mx.solve(*points([[1.0], [-2.0]], [0.0, 0.0]), solver=DescentAscent(rate=ETA, average=average, steps=7))
    assert result.vector == pytest.approx(result.trace.weights[-kept:].mean(axis=0))


def test_a_restart_goes_on_from_the_mean_of_both_players():
    solver = DescentAscent(restart=4, order="simultaneous", steps=4, **FLAT)
    xy = course(DescentAscent(order="simultaneous", steps=4, **FLAT))[1:]
    assert course(solver)[-1] == pytest.approx(xy.mean(axis=0), abs=1e-12)


def test_a_collapse_is_told_with_the_knobs_that_help_and_a_solved_run_is_not_blamed():
    numbers = torch.tensor([1.0, 3.0, 0.5], dtype=torch.float64)
    problem, learner = game(lambda x: numbers + (x - 1).square().sum() / 2, [0.0])
    result = mx.solve(problem, learner, solver=DescentAscent(average="last", steps=20))
    assert result.status is mx.Status.BUDGET
    assert result.message.startswith("the weights are collapsing on 'd1': it has 1 at the end, and more than 0.9 since step 2 (effective")
    for knob in ("smoothing=1e-2", "temperature=0.1", "average='mean'", "w >= 0.033", "a lower rate"):
        assert knob in result.message
    assert result.trace.effective_domains[-1] == pytest.approx(1.0, abs=1e-6)
    assert result.trace.effective_domains[0] < 3
    warm = mx.solve(problem, learner, solver=DescentAscent(average="last", steps=20, temperature=2.0))
    assert warm.message == ""
    solved = mx.solve(problem, learner, solver=DescentAscent(average="last", steps=4000))
    assert solved.status is mx.Status.STATIONARY
    assert solved.message == ""


def test_one_domain_only():
    result = mx.solve(*game(lambda x: (x - 1) ** 2, [0.0]), budget=mx.Budget(steps=3))
    assert result.weights == {"d0": 1.0}
    assert result.message == "there is one domain only, whose weight is 1 whatever the payoff"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: DescentAscent(order="first"), "the order is 'first'"),
        (lambda: DescentAscent(every=0), "every of DescentAscent is 0"),
        (lambda: DescentAscent(restart=1), "restart of DescentAscent is 1"),
        (lambda: DescentAscent(model_rate=-1.0), "the model's rate is -1.0"),
        (lambda: DescentAscent(schedule="decaying"), "the schedule is 'decaying'"),
        (lambda: DescentAscent(absent="skip"), "absent is 'skip'"),
        (lambda: DescentAscent(average="median"), r"the average is 'median'; .*Window\(steps\) or Suffix\(share\)"),
        (lambda: Extragradient(schedule=Backtracking()), "give a model_rate and a number as rate"),
        (lambda: SmoothedDescentAscent(pull=0.0), "pull is 0.0"),
        (lambda: Entropic(-0.1), "the temperature is -0.1"),
        (lambda: Tail(0.0), "the tail is the share 0.0"),
        (lambda: ChiSquare(-1.0), "the radius of a chi-square ball is -1.0"),
        (lambda: Decaying(power=2.0), "Decaying has power 2.0"),
        (lambda: AdaGradNorm(floor=0.0), "AdaGradNorm has the floor 0.0"),
        (lambda: Backtracking(shrink=1.0), "Backtracking shrinks by 1.0"),
        (lambda: Window(0), "a window is of 0 steps"),
        (lambda: Suffix(0.0), "a suffix is the share 0.0"),
    ],
)
def test_settings_out_of_range(make, says):
    with pytest.raises(mx.InputError, match=says):
        make()


@pytest.mark.parametrize(
    ("solver", "says"),
    [
        (BestResponse(), "its best response has no closed form"),
        (BestResponse(schedule=Decaying()), "its best response has no closed form"),
        (DescentAscent(schedule=Backtracking()), "it does not backtrack"),
        (Extragradient(geometry="euclidean", temperature=1.0), "a temperature goes with entropic steps"),
    ],
)
def test_what_is_refused(solver, says):
    w, theta = mx.Mixture(["a", "b"]), mx.model()
    payoff = w @ mx.losses(theta, ["a", "b"]) - 0.1 * mx.sum_squares(w)
    learner = mx.FunctionLearner(torch.zeros(1), {"train": lambda p: torch.cat([p**2, (p - 1) ** 2])})
    with pytest.raises(mx.RefusalError, match=says):
        mx.solve(mx.minimize(mx.maximize(payoff, over=w), over=theta), learner, solver=solver)
    with pytest.raises(mx.RefusalError, match="it takes saddles, and this is a program"):
        mx.solve(mx.minimize(mx.sum_squares(w), over=w), solver=solver)


def test_chi_square_and_constraints_and_backtracking_and_batches_do_not_go_together():
    problem, learner = game(lambda x: torch.cat([x**2, (x - 1) ** 2]), [0.0], lambda w: [w["d0"] <= 0.7])
    with pytest.raises(mx.RefusalError, match="on the whole simplex"):
        mx.solve(problem, learner, solver=BestResponse(ball=ChiSquare(0.1)))
    form = mx.plan(problem, learner).form
    sampled = Abilities(exact=False)
    assert "backtracking needs an exact learner" in " ".join(Extragradient(model_rate=0.1, schedule=Backtracking()).refuses(form, sampled))
    assert "restarts go on from the mean" in " ".join(DescentAscent(restart=5).refuses(form, sampled))
