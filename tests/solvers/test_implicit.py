"""Implicit against closed forms, finite differences, SciPy, and by what it refuses and reports."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

import mixopt as mx
from mixopt.api import bilevel_task
from mixopt.errors import InputError, LearnerError, RefusalError
from mixopt.forms import Abilities
from mixopt.solvers import ConjugateGradients, Dense, DescentAscent, Implicit, Inner, Normalised, Unrolled

from .small import Twice, validation

POINTS = [[0.25, 0.25, 0.25, 0.25], [0.7, 0.1, 0.1, 0.1], [0.0, 0.5, 0.5, 0.0]]


@pytest.mark.parametrize("w", POINTS)
def test_the_hypergradient_is_the_closed_one(toy, w):
    assert mx.hypergradient(toy.problem(), toy.learner, at=w) == pytest.approx(toy.gradient(w), rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("w", POINTS)
def test_the_closed_gradient_is_that_of_finite_differences(toy, w):
    shift = 1e-6 * np.eye(4)
    differences = [(toy.value(w + s) - toy.value(w - s)) / 2e-6 for s in shift]
    assert toy.gradient(w) == pytest.approx(differences, abs=1e-8)


def test_a_direct_term_is_part_of_the_hypergradient(toy):
    problem = mx.minimize(toy.upper + 0.3 * mx.sum_squares(toy.w), over=toy.w)
    w = np.array([0.4, 0.3, 0.2, 0.1])
    assert mx.hypergradient(problem, toy.learner, at=w) == pytest.approx(toy.gradient(w) + 0.6 * w, rel=1e-10)


def test_what_comes_back_of_a_maximisation_is_in_its_own_sense(toy):
    """Gradient, audit, value and course belong to the objective as the user wrote it."""
    upside = mx.maximize(1 - toy.upper, over=toy.w)
    w = np.array([0.4, 0.3, 0.2, 0.1])
    assert mx.hypergradient(upside, toy.learner, at=w) == pytest.approx(-toy.gradient(w), rel=1e-10)
    up, down = (mx.audit(p, toy.learner, at=w, steps=5) for p in (upside, toy.problem()))
    np.testing.assert_allclose(up.hypergradient, -down.hypergradient)
    np.testing.assert_allclose(up.outcome, -down.outcome, atol=1e-12)
    assert up.cosine == pytest.approx(down.cosine)
    seen = []
    result = mx.solve(upside, toy.learner, watch=lambda progress: seen.append(progress.info["value"]))
    assert result.trace["value"][-1] == pytest.approx(result.value, abs=1e-6)
    assert seen == result.trace["value"].tolist()
    assert result.value == pytest.approx(1 - mx.solve(toy.problem(), toy.learner).value, abs=1e-6)


def test_numbers_are_given_to_a_hypergradient_and_an_audit_too(toy):
    problem = mx.minimize(mx.parameter("scale") * toy.upper, over=toy.w)
    w = np.array([0.4, 0.3, 0.2, 0.1])
    assert mx.hypergradient(problem, toy.learner, at=w, given={"scale": 3.0}) == pytest.approx(3 * toy.gradient(w), rel=1e-10)
    assert mx.audit(problem, toy.learner, at=w, given={"scale": 3.0}, steps=2).hypergradient == pytest.approx(
        3 * toy.gradient(w), rel=1e-10
    )


def ridge(dtype, seed=0):
    """Four random least-squares domains and a validation loss, in a dtype."""
    draw = np.random.default_rng(seed)
    X, rows, centres = draw.normal(size=(4, 30, 10)), draw.normal(size=(40, 10)), draw.normal(size=(4, 10))
    X, Y, rows, goal = (torch.tensor(a, dtype=dtype) for a in (X, np.einsum("knd,kd->kn", X, centres), rows, rows @ centres.mean(axis=0)))
    losses = {"train": lambda p: ((X @ p - Y) ** 2).mean(1), "val": lambda p: ((rows @ p - goal) ** 2).mean()}
    return validation(losses, torch.zeros(10, dtype=dtype), names="abcd", ridge=0.05)


@pytest.mark.parametrize("steps", [1, 3, 5, 8])
def test_the_parameters_that_come_back_are_those_of_the_weights(steps):
    """The line search lets the value rise between steps, so the last step need not be the best, which is the answer."""
    problem, learner = ridge(torch.float64, seed=2)
    result = mx.solve(problem, learner, budget=mx.Budget(steps=steps))
    assert result.value == pytest.approx(result.trace["value"].min(), abs=1e-8)
    assert float(learner.losses((result.parameters,), "val", None)) == pytest.approx(result.value, abs=1e-8)


def test_single_precision_trains_the_lower_level_as_far_as_it_carries_and_no_longer():
    """Its rounding is taken for what it is: the line search neither fails on it nor halves its steps away."""
    double, single = (mx.solve(*ridge(dtype)) for dtype in (torch.float64, torch.float32))
    assert single.check.inner <= 100 * np.finfo(np.float32).eps
    assert single.check.gap <= 3e-3  # the best value is the answer, and values tell gaps apart to the root of their rounding
    assert single.vector == pytest.approx(double.vector, abs=1e-3)
    assert single.cost.forward_passes <= 20 * double.cost.forward_passes


def test_damping_shrinks_the_hypergradient_by_the_known_factor(toy):
    """H is (1 + rho) I, so damping d multiplies the gradient by (1 + rho) / (1 + rho + d)."""
    damped = mx.hypergradient(toy.problem(), toy.learner, solver=Implicit(system=ConjugateGradients(damping=0.5)))
    assert damped == pytest.approx(toy.gradient([0.25] * 4) * 1.25 / 1.75, rel=1e-10)


def constrained(toy):
    """Constraints in mixopt's words and in SciPy's."""
    w = toy.w
    return {
        "none": ([], []),
        "caps": ([(w["b"] <= 0.3).named("cap"), (w["c"] >= 0.2).named("floor")], [(lambda u: 0.3 - u[1]), (lambda u: u[2] - 0.2)]),
        "group": ([(mx.mass(w, ["b", "d"]) <= 0.4).named("group")], [lambda u: 0.4 - u[1] - u[3]]),
        "both": (
            [(mx.mass(w, ["b", "d"]) <= 0.4).named("group"), (w["d"] <= 0.1).named("cap")],
            [lambda u: 0.4 - u[1] - u[3], lambda u: 0.1 - u[3]],
        ),
    }


@pytest.mark.parametrize("which", ["none", "caps", "group", "both"])
def test_constraints_agree_with_scipy_on_the_closed_form(toy, which):
    relations, limits = constrained(toy)[which]
    result = mx.solve(toy.problem(*relations), toy.learner, solver=Implicit())
    scipy = minimize(
        toy.value,
        np.full(4, 0.25),
        method="SLSQP",
        bounds=[(0, 1)] * 4,
        constraints=[{"type": "eq", "fun": lambda u: u.sum() - 1}, *({"type": "ineq", "fun": f} for f in limits)],
        options={"ftol": 1e-14},
    )
    assert result.status is mx.Status.STATIONARY
    assert result.value == pytest.approx(scipy.fun, abs=1e-8)
    assert toy.value(result.vector) == pytest.approx(scipy.fun, abs=1e-8)
    assert result.check.feasible
    assert result.check.gap < 1e-6
    assert result.check.kkt < 1e-5


def test_the_dual_of_a_cap_is_the_slope_of_the_optimal_value(toy):
    def best(limit):
        return mx.solve(toy.problem((mx.mass(toy.w, ["b", "d"]) <= limit).named("group")), toy.learner, solver=Implicit())

    step = 1e-4
    slope = (best(0.4 + step).value - best(0.4 - step).value) / (2 * step)
    assert best(0.4).duals["group"] == pytest.approx(-slope, rel=1e-3)


def test_the_first_step_moves_along_the_projected_gradient(toy):
    """The first length is 0.1 / spread of g, and a full projected step is taken where it descends."""
    w, g = np.full(4, 0.25), toy.gradient([0.25] * 4)
    target = w - 0.1 / np.ptp(g) * g
    expected = target - (target.sum() - 1) / 4
    assert (expected > 0).all()
    result = mx.solve(toy.problem(), toy.learner, solver=Implicit(), budget=mx.Budget(steps=1))
    assert result.trace.weights[0] == pytest.approx(expected, abs=1e-9)
    assert result.trace["value"][0] == pytest.approx(toy.value(expected), abs=1e-10)


def test_the_parameters_are_those_trained_under_the_weights(toy):
    result = mx.solve(toy.problem(), toy.learner, solver=Implicit())
    found = torch.cat([result.parameters["x"], result.parameters["y"]]).numpy()
    assert found == pytest.approx(toy.theta(result.vector), abs=1e-8)
    assert float(toy.learner.start()[0]) == 0.0


def test_inplace_writes_the_parameters_into_the_user_s_tensors():
    p = torch.zeros(1, dtype=torch.float64)
    centres = torch.tensor([0.0, 2.0], dtype=torch.float64)
    problem, learner = validation({"train": lambda q: (q - centres) ** 2, "val": lambda q: ((q - 1.2) ** 2).sum()}, p)
    mx.solve(problem, learner)
    assert p.item() == 0
    mx.solve(problem, learner, inplace=True)
    assert p.item() == pytest.approx(1.2, abs=1e-6)


def far_out():
    """A lower level with next to no curvature (1e-15) where it starts, so that it takes more than one Newton step."""
    centres = torch.tensor([-3.0, 5.0], dtype=torch.float64)
    losses = {"train": lambda q: torch.logaddexp(q - centres, centres - q), "val": lambda q: ((q - 1) ** 2).sum()}
    return validation(losses, torch.full((1,), 20.0, dtype=torch.float64))


def test_an_unconverged_lower_level_is_said_with_the_mend():
    result = mx.solve(*far_out(), solver=Implicit(inner=Inner(steps=1), outer_steps=2))
    assert "the lower level has not converged: |grad| = " in result.message
    assert "after 1 Newton steps" in result.message
    assert "Inner(steps=...)" in result.message
    assert result.status is not mx.Status.STATIONARY
    assert result.check.inner <= 1e-9  # the check trains further, by its own settings


def test_a_hypergradient_at_an_unconverged_lower_level_warns_with_the_mend():
    with pytest.warns(UserWarning, match=r"the lower level has not converged.*Inner\(steps=\.\.\.\)"):
        mx.hypergradient(*far_out(), solver=Implicit(inner=Inner(steps=1)))


def test_negative_curvature_at_the_lower_level_is_a_warning_and_a_note_and_not_silently_zero():
    """The learner starts on a ridge: its gradient is 0 there, and the Hessian negative in one direction."""
    losses = {"train": lambda q: torch.stack([q[0] ** 2 - q[1] ** 2, q[0] ** 2 - 2 * q[1] ** 2]), "val": lambda q: (q - 1).square().sum()}
    problem, learner = validation(losses)
    with pytest.warns(UserWarning, match=r"negative curvature.*Raise damping"):
        mx.hypergradient(problem, learner)
    assert "negative curvature" in str(mx.solve(problem, learner, solver=Implicit(outer_steps=1)).check)


def test_parameters_that_the_lower_level_bends_in_part_or_not_at_all():
    """theta = (x, u, z): the losses are quadratic in x, linear in u, and z is not used. With damping d, q_u = v_u / d by hand."""
    centres, pull = torch.tensor([[0.0, 0.0], [2.0, 0.0]], dtype=torch.float64), torch.tensor([1.0, -2.0], dtype=torch.float64)
    losses = {
        "train": lambda p: ((p["x"] - centres) ** 2).sum(1) / 2 + pull * p["u"],
        "val": lambda p: ((p["x"] - 0.3) ** 2).sum() / 2 + 3 * p["u"] + p["z"],
    }
    start = {name: torch.zeros(n, dtype=torch.float64).squeeze() for name, n in (("x", 2), ("u", 1), ("z", 1))}
    problem, learner = validation(losses, start)
    model = bilevel_task(problem, learner, None, Implicit(), None)[1].model
    slope = Implicit(system=Dense(damping=0.5)).slope(model, model.weights(np.array([0.5, 0.5])), learner.start(), None, None)
    q_x, q_u = np.array([-0.3, -0.3]) / 1.5, 3 / 0.5
    assert slope.gradient.numpy() == pytest.approx(centres.numpy() @ q_x - pull.numpy() * q_u)


def test_a_lower_level_without_curvature_is_refused_in_words():
    problem, learner = validation({"train": lambda q: q * 2, "val": lambda q: (q * q).sum()}, torch.zeros(2))
    with pytest.raises(LearnerError, match=r"linear in the model.*sum_squares"):
        mx.solve(problem, learner, solver=Implicit())


def test_a_value_that_is_nan_at_the_start_fails_at_once_and_keeps_the_start():
    centres = torch.tensor([1.0, 2.0], dtype=torch.float64)
    losses = {"train": lambda q: (q - centres) ** 2, "val": lambda q: torch.log(0.5 - q).sum()}
    problem, learner = validation(losses, torch.zeros(1, dtype=torch.float64))
    result = mx.solve(problem, learner, solver=Implicit())
    assert result.status is mx.Status.FAILED
    assert "the upper objective is nan" in result.message
    assert result.vector.tolist() == [0.5, 0.5]


def test_a_value_that_is_nan_beyond_a_point_is_walked_around():
    """The upper objective exists for theta < 1.5 only, and falls towards it."""
    centres = torch.tensor([1.0, 2.0], dtype=torch.float64)
    losses = {"train": lambda q: (q - centres) ** 2, "val": lambda q: (-torch.log(1.5 - q) * 0.01 + (q - 1.6) ** 2).sum()}
    problem, learner = validation(losses, torch.zeros(1, dtype=torch.float64))
    result = mx.solve(problem, learner, solver=Implicit(), start=[0.9, 0.1])
    assert result.status is mx.Status.STATIONARY
    t = 1 + result.vector[1]
    assert 0.01 / (1.5 - t) + 2 * (t - 1.6) == pytest.approx(0, abs=1e-4)


def test_refusals_say_why(toy):
    form = mx.plan(toy.problem()).form
    exact, none = Abilities(exact=True), Abilities(exact=True, double_backward=False)
    assert Implicit().refuses(form, exact) == ()
    assert "no Gauss-Newton products" in Implicit(curvature="gauss-newton").refuses(form, exact)[0]
    assert "cannot be differentiated twice" in Implicit().refuses(form, none)[0]
    program = mx.minimize(mx.sum_squares(toy.w), over=toy.w)
    with pytest.raises(RefusalError, match="it takes bilevel problems, and this is a program"):
        mx.solve(program, solver=Implicit())
    bent = toy.problem((mx.sum_squares(toy.w) >= 0.5).named("ball"))
    with pytest.raises(RefusalError, match="constraint 'ball' is not convex"):
        mx.solve(bent, toy.learner, solver=Implicit())
    with pytest.raises(RefusalError, match="it takes saddles"):
        mx.solve(toy.problem(), toy.learner, solver=DescentAscent())


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Implicit(curvature="newton"), "'hessian' or 'gauss-newton'"),
        (lambda: Inner(tolerance=0), "both are > 0"),
        (lambda: Inner(steps=0), "both are > 0"),
        (lambda: ConjugateGradients(damping=-1), "damping is >= 0"),
        (lambda: ConjugateGradients(steps=0), "steps and tolerance are > 0"),
        (lambda: Implicit(rate=0), "the rate is 0"),
        (lambda: Implicit(smoothing=1), "smoothing is 1"),
        (lambda: Implicit(geometry="round"), "the geometry is 'round'"),
        (lambda: Normalised(move=0), "moves by 0"),
        (lambda: Unrolled(steps=0), "steps of Unrolled is 0; it is a whole number >= 1"),
        (lambda: Unrolled(steps=1.5), "steps of Unrolled is 1.5; it is a whole number >= 1"),
        (lambda: Unrolled(step_size=0), "the step_size of Unrolled is 0; it is > 0"),
        (lambda: Implicit(outer_steps=0), "outer_steps of Implicit is 0"),
        (lambda: Implicit(warmup=-1), "warmup of Implicit is -1; it is a whole number >= 0"),
        (lambda: Implicit(train=0), "train of Implicit is 0"),
        (lambda: Implicit(average="best of all"), "the average is 'best of all'; it is 'last', 'mean', 'mean with start'"),
        (lambda: DescentAscent(average="avg"), "the average is 'avg'"),
        (lambda: DescentAscent(steps=0), "steps of DescentAscent is 0"),
        (lambda: DescentAscent(rate="fast"), "the rate is 'fast'; it is a finite number > 0, or Normalised"),
    ],
)
def test_settings_outside_their_range_are_refused_when_made(make, text):
    with pytest.raises(InputError, match=text):
        make()


def test_a_plan_notes_the_settings_that_nothing_reads(toy):
    noted = str(mx.plan(toy.problem(), toy.learner, solver=Implicit(rate=0.1, warmup=5, tolerance=1e-6)))
    assert "Implicit does not read rate, warmup with an exact learner" in " ".join(noted.split())
    assert "does not read" not in str(mx.plan(toy.problem(), toy.learner, solver=Implicit(geometry="entropic")))
    form = mx.plan(toy.problem()).form
    assert Implicit(rate=0.1, inner=Inner(steps=3)).idle(form, Abilities(exact=False)) == (
        "Implicit does not read inner with a learner on batches",
    )


def test_the_text_of_a_solver_shows_what_is_not_a_default():
    assert str(Implicit()) == "Implicit()"
    assert "damping=0.1" in str(Implicit(system=ConjugateGradients(damping=0.1)))


@pytest.mark.parametrize(("products", "levels"), [("reverse", 0), ("forward", None), ("differences", 0)])
def test_the_products_of_all_domains_are_one_derivative(toy, monkeypatch, products, levels):
    """Of the graph that the Hessian products keep where there is one, without another forward pass; else by one forward-mode pass."""
    from torch.autograd import forward_ad

    import mixopt.solvers.implicit as engine

    entered, crossed = [], []
    level, term = forward_ad.dual_level, engine.cross_term
    monkeypatch.setattr(forward_ad, "dual_level", lambda: entered.append(1) or level())
    monkeypatch.setattr(engine, "cross_term", lambda *a: crossed.append(1) or term(*a))
    found = mx.hypergradient(toy.problem(), toy.learner, solver=Implicit(products=products))
    assert found == pytest.approx(toy.gradient([0.25] * 4), rel=1e-5)
    assert len(crossed) == (products == "forward")
    assert levels is None or len(entered) == levels


@pytest.mark.parametrize("solver", [Implicit(), Unrolled()], ids=str)
def test_an_operation_without_forward_mode_is_answered_by_a_second_backward_pass(solver):
    centres = torch.tensor([[0.0, 0.0], [2.0, 0.0], [1.0, 0.5]], dtype=torch.float64)
    goal = torch.tensor([0.8, 0.1], dtype=torch.float64)

    def pulled(square):
        return validation({"train": lambda q: square(q - centres).sum(1) / 2, "val": lambda q: ((q - goal) ** 2).sum()}, names="abc")

    plain, custom = (mx.hypergradient(*pulled(f), at=[0.2, 0.3, 0.5], solver=solver) for f in (torch.square, Twice.apply))
    assert custom == pytest.approx(plain, abs=1e-12)
