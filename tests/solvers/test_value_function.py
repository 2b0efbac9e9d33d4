"""ValueFunction against closed forms and by hand, its bias against its order, and on learners that cannot be differentiated twice."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mixopt as mx
from mixopt.errors import InputError, RefusalError
from mixopt.forms import Abilities
from mixopt.solvers import Implicit, Inner, Unrolled, ValueFunction

from .small import Once, validation

W = np.array([0.4, 0.3, 0.2, 0.1])
RULES = ("one-sided", "central", "richardson")
BEST = np.array([0.0, 3.0])
TARGET = 1.0


def line(wrap=lambda x: x):
    """One parameter x, losses (x - c_i)^2 / 2 and (x - t)^2 / 2; the trained x is the mean of c, and the optimum puts it on t."""
    centres = torch.tensor(BEST)
    losses = {"train": lambda x: wrap(x - centres) ** 2 / 2, "val": lambda x: (wrap(x - TARGET) ** 2).sum() / 2}
    return validation(losses, torch.zeros(1, dtype=torch.float64))


def by_hand(w, penalty):
    """F2SA's difference in numpy: penalty (l_i(u) - l_i(y)), y the least of lower, u that of penalty lower + upper."""
    y = w @ BEST
    u = (penalty * y + TARGET) / (penalty + 1)
    return penalty * ((u - BEST) ** 2 - (y - BEST) ** 2) / 2


@pytest.mark.parametrize("penalty", [1.0, 30.0])
@pytest.mark.parametrize("w", [[0.5, 0.5], [0.1, 0.9]])
def test_one_sided_differences_are_those_by_hand(w, penalty):
    problem, learner = line()
    gradient = mx.hypergradient(problem, learner, at=w, solver=ValueFunction(penalty=penalty, differences="one-sided"))
    assert gradient == pytest.approx(by_hand(np.array(w), penalty), rel=1e-9)


def test_the_sign_is_that_of_the_hypergradient():
    """The mean 1.5 of the centres is above the target 1, so more of the lower centre helps: its derivative is below zero."""
    problem, learner = line()
    for differences in RULES:
        near, far = mx.hypergradient(problem, learner, at=[0.5, 0.5], solver=ValueFunction(differences=differences))
        assert near < 0 < far
        assert [near, far] == pytest.approx([-0.75, 0.75], abs=1e-2)  # (t - mean) (mean - c_i), by the implicit function theorem


def test_the_first_step_moves_the_weights_by_a_tenth_down_the_gradient():
    problem, learner = line()
    result = mx.solve(problem, learner, solver=ValueFunction(differences="one-sided"), budget=mx.Budget(steps=1))
    g = by_hand(np.array([0.5, 0.5]), 1000.0)
    assert result.trace.weights[0] == pytest.approx(0.5 - 0.1 * (g - g.mean()) / np.ptp(g), rel=1e-9)
    assert result.trace.weights[0] == pytest.approx([0.55, 0.45])


@pytest.mark.parametrize(("differences", "order"), [("one-sided", 1), ("central", 2), ("richardson", 2)])
def test_the_bias_falls_by_its_order_when_the_penalty_doubles(toy, differences, order):
    """In the penalty for one-sided differences, in its square for the others; and the sign of the bias is the same throughout."""
    error = [
        mx.hypergradient(toy.problem(), toy.learner, at=W, solver=ValueFunction(penalty=p, differences=differences)) - toy.gradient(W)
        for p in (100, 200, 400)
    ]
    sizes = [float(np.linalg.norm(e)) for e in error]
    assert sizes[0] / sizes[1] == pytest.approx(2**order, rel=0.02 * order)
    assert sizes[1] / sizes[2] == pytest.approx(2**order, rel=0.02 * order)
    assert error[0] @ error[2] > 0.99 * sizes[0] * sizes[2]


def test_the_default_is_within_a_millionth_of_the_closed_gradient(toy):
    for w in (W, [0.25] * 4, [0.0, 0.5, 0.5, 0.0]):
        assert mx.hypergradient(toy.problem(), toy.learner, at=w, solver=ValueFunction()) == pytest.approx(toy.gradient(w), abs=3e-6)


@pytest.mark.parametrize("differences", RULES)
def test_a_direct_term_is_part_of_the_hypergradient(toy, differences):
    problem = mx.minimize(toy.upper + 0.3 * mx.sum_squares(toy.w), over=toy.w)
    bare, whole = (mx.hypergradient(p, toy.learner, at=W, solver=ValueFunction(differences=differences)) for p in (toy.problem(), problem))
    assert whole - bare == pytest.approx(0.6 * W, abs=1e-9)


def test_a_maximisation_is_in_its_own_sense(toy):
    upside = mx.maximize(1 - toy.upper, over=toy.w)
    assert mx.hypergradient(upside, toy.learner, at=W, solver=ValueFunction()) == pytest.approx(-toy.gradient(W), abs=3e-6)


@pytest.mark.parametrize("differences", RULES)
def test_what_is_descended_has_the_differences_as_its_gradient(toy, differences):
    """So that the line search and the gradient agree to rounding, whatever the bias."""
    from mixopt.api import bilevel_task
    from mixopt.solvers.bilevel import Trained

    solver = ValueFunction(penalty=5, differences=differences)
    _, task, _ = bilevel_task(toy.problem(), toy.learner, None, solver, None)
    model = task.model

    def value(w):
        weights = model.weights(w)
        return solver.value_of(model, weights, solver.trained(model, weights, Trained(toy.learner.start(), np.inf)))

    shift = 1e-5 * np.eye(4)
    slopes = [(value(W + s) - value(W - s)) / 2e-5 for s in shift]
    assert mx.hypergradient(toy.problem(), toy.learner, at=W, solver=solver) == pytest.approx(slopes, abs=1e-8)


def test_constraints_hold_and_the_certificate_is_the_implicit_one(toy):
    problem = toy.problem((mx.mass(toy.w, ["b", "d"]) <= 0.4).named("group"), (toy.w["d"] <= 0.1).named("cap"))
    result, other = (mx.solve(problem, toy.learner, solver=s) for s in (ValueFunction(), Implicit()))
    assert result.status is mx.Status.STATIONARY
    assert result.value == pytest.approx(other.value, abs=1e-9)
    assert result.check.gap < 1e-5
    assert "implicit function theorem" in result.check.oracle
    assert result.parameters["x"].item() == pytest.approx(toy.theta(result.vector)[0], abs=1e-9)  # the lower level's own solution


def test_products_taken_before_precondition_the_next(monkeypatch):
    """The same answer with less than half of the gradients, on quadratics of 30 parameters with condition numbers of 100."""
    draw = torch.Generator().manual_seed(0)
    turns = [torch.linalg.qr(torch.randn(30, 30, generator=draw, dtype=torch.float64))[0] for _ in range(3)]
    bends = torch.stack([q @ torch.diag(torch.logspace(0, 2, 30, dtype=torch.float64)) @ q.T for q in turns])
    centres, target = torch.randn(3, 30, generator=draw, dtype=torch.float64), torch.randn(30, generator=draw, dtype=torch.float64)
    losses = {
        "train": lambda x: torch.einsum("ki,kij,kj->k", x - centres, bends, x - centres) / 2,
        "val": (lambda x: (x - target).square().sum()[None], ["t"]),
    }
    problem = mx.problems.bilevel(mx.Domains(["a", "b", "c"]), mx.Domains(["t"]), solver=ValueFunction())
    learner = mx.FunctionLearner(torch.zeros(30, dtype=torch.float64), losses)
    with_them = mx.solve(problem, learner)
    monkeypatch.setattr("mixopt.runtime.secants.Secants.inverse", lambda self: None)
    without = mx.solve(problem, learner)
    assert with_them.vector == pytest.approx(without.vector, abs=1e-6)
    assert with_them.status is without.status is mx.Status.STATIONARY
    assert with_them.cost.gradients < without.cost.gradients / 2


def test_in_float32_it_says_what_rounding_and_penalty_leave():
    centres = torch.tensor([[0.1, 0.0], [2.3, 0.0], [0.0, 2.7]])
    target = torch.tensor([0.4, 1.1])
    learner = mx.FunctionLearner(
        torch.zeros(2), {"train": lambda x: ((x - centres) ** 2).sum(1) / 2, "val": lambda x: ((x - target) ** 2).sum() / 2}
    )
    names = ["a", "b", "c"]
    w, theta = mx.Mixture(names), mx.model()
    problem = mx.minimize(mx.loss(mx.argmin(w @ mx.losses(theta, names), over=theta), "val"), over=w)
    result = mx.solve(problem, learner, solver=ValueFunction(tolerance=1e-9), budget=mx.Budget(steps=3))
    assert "rounding of losses in float32 to about 1e-05 in the hypergradient" in result.message
    assert "Give parameters and losses in float64" in result.message


def test_it_stands_in_a_comparison_with_the_others(toy):
    table = mx.compare(toy.problem(), toy.learner, [Implicit(), Unrolled(steps=60, step_size=0.5), ValueFunction()])
    assert [row.result.status for row in table.rows] == [mx.Status.STATIONARY] * 3
    assert [row.result.value for row in table.rows] == pytest.approx([table.rows[0].result.value] * 3, abs=1e-9)
    last = table.rows[2].result
    assert last.cost.hessian_products == 0
    assert "ValueFunction()" in str(table)


def test_a_learner_without_double_backward_is_solved_by_default_and_says_by_whom_it_is_certified():
    problem, learner = line(Once.apply)
    assert not learner.abilities.double_backward
    plan = mx.plan(problem, learner)
    assert str(plan.solver) == "ValueFunction()"
    assert "differentiated twice" in plan.choice.refusals["Implicit"][0]
    assert "use ValueFunction()" in plan.choice.refusals["Unrolled"][0]
    result = mx.solve(problem, learner)
    assert result.status is mx.Status.STATIONARY
    assert result.vector == pytest.approx([2 / 3, 1 / 3], abs=1e-5)
    assert result.check.oracle.startswith("the value function (richardson differences, penalty 1000 in float64")
    assert result.check.gap < 1e-6
    assert result.value == pytest.approx(0.0, abs=1e-9)
    assert mx.hypergradient(problem, learner, at=[0.5, 0.5]) == pytest.approx([-0.75, 0.75], abs=1e-5)
    with pytest.raises(RefusalError, match=r"(?s)Implicit refuses.*ValueFunction\(\) would take it"):
        mx.solve(problem, learner, solver=Implicit())


def test_the_same_losses_with_and_without_double_backward_have_the_same_answer():
    twice, once = (mx.solve(*line(wrap), solver=ValueFunction()) for wrap in (lambda x: x, Once.apply))
    assert once.vector == pytest.approx(twice.vector, abs=1e-9)
    assert "implicit function theorem" in twice.check.oracle


def test_a_lower_level_that_does_not_converge_is_told_with_the_mend(toy):
    far = ValueFunction(inner=Inner(steps=1, tolerance=1e-13))
    problem, learner = line()
    bent = mx.FunctionLearner(learner.start()[0], {"train": lambda x: torch.cosh(x - torch.tensor(BEST)), "val": lambda x: (x**4).sum()})
    with pytest.warns(UserWarning, match=r"the lower level has not converged.* Give Inner\(steps=...\)"):
        mx.hypergradient(problem, bent, solver=far)
    with pytest.warns(UserWarning, match=r"the lower level - 1/penalty of the upper one has not converged.*or a larger penalty"):
        mx.hypergradient(toy.problem(), toy.learner, solver=ValueFunction(penalty=0.5, differences="central"))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"differences": "forward"}, "the differences are 'forward'; they are 'one-sided', 'central' or 'richardson'"),
        ({"penalty": 0.0}, "the penalty is 0.0; it is a finite number > 0, or None"),
        ({"penalty": float("inf")}, "the penalty is inf"),
        ({"growth": -1.0}, "growth is -1.0"),
        ({"step_size": 0.0}, "step_size 0.0"),
        ({"steps": 0}, "steps of ValueFunction is 0"),
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(settings, says):
    with pytest.raises(InputError, match=says):
        ValueFunction(**settings)


def test_it_refuses_other_forms_and_needs_no_ability(toy):
    form = mx.plan(toy.problem()).form
    assert ValueFunction().refuses(form, Abilities(exact=True, double_backward=False)) == ()
    assert ValueFunction().refuses(form, Abilities(exact=False, double_backward=False)) == ()
    with pytest.raises(RefusalError, match="ValueFunction refuses this program: it takes bilevel problems"):
        mx.solve(mx.minimize(mx.sum_squares(toy.w), over=toy.w), solver=ValueFunction())


def test_a_plan_states_the_form_that_is_solved(toy):
    route = str(mx.plan(toy.problem(), toy.learner, solver=ValueFunction(penalty=50, differences="one-sided")))
    assert "lower level -> value gap 'w @ losses(theta, 'train') + 0.125*sum_squares(theta) - (w @ losses(theta*, 'train')" in route
    assert "\n        value gap -> penalty, minimise 'loss(theta, 'val') + 50*(w @" in route
    assert "(one-sided differences: biased by O(1/penalty))" in route
    assert "value gap" not in str(mx.plan(toy.problem(), toy.learner))
