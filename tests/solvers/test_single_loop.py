"""First-order methods of one loop: steps by hand, closed quadratics, refusals, and what each says of itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mixopt as mx
from mixopt.errors import InputError, RefusalError
from mixopt.forms import Abilities
from mixopt.solvers import BOME, GPBGD, VPBGD, OneStep, ScaleBiO

CENTRES, TARGET, RATE = np.array([0.0, 3.0]), 1.0, 0.2
LOOPS = (VPBGD, GPBGD, BOME, ScaleBiO, OneStep)


def line(start=0.0, rate=RATE, *constraints):
    """One parameter x, losses (x - c_i)^2 / 2 and (x - t)^2 / 2; the trained x is the mean of c, which [2/3, 1/3] puts on t."""
    centres = torch.tensor(CENTRES)
    learner = mx.FunctionLearner(
        torch.full((1,), start, dtype=torch.float64),
        {"train": lambda x: (x - centres) ** 2 / 2, "val": lambda x: ((x - TARGET) ** 2).sum() / 2},
        optimizer=lambda tensors: torch.optim.SGD(tensors, lr=rate),
    )
    w, theta = mx.Mixture(["a", "b"]), mx.model()
    trained = mx.argmin(w @ mx.losses(theta, ["a", "b"]), over=theta)
    return mx.minimize(mx.loss(trained, "val"), over=w, subject_to=[c(w) for c in constraints]), learner


def losses(x):
    """The two losses [2] by hand."""
    return (x - CENTRES) ** 2 / 2


def on_simplex(w):
    """The projection of two numbers."""
    first = np.clip((w[0] - w[1] + 1) / 2, 0, 1)
    return np.array([first, 1 - first])


def test_two_steps_of_v_pbgd_are_those_by_hand():
    """omega descends lower; theta and w descend upper + p (lower(theta) - lower(omega)) times 1 / p, at the old w and theta."""
    p, w, x, y = 5.0, np.array([0.5, 0.5]), 2.0, 2.0
    result = mx.solve(*line(2.0), solver=VPBGD(penalty=p, rate=0.1, steps=2, inner_steps=2))
    for step in range(2):
        for _ in range(2):
            y -= RATE * (y - w @ CENTRES)
        direction = losses(x) - losses(y)
        x -= RATE * ((x - TARGET) / p + x - w @ CENTRES)
        w = on_simplex(w - 0.1 * direction)
        assert result.trace.weights[step] == pytest.approx(w, abs=1e-12)
    assert result.parameters.item() == pytest.approx(y, abs=1e-12)  # the follower, which the upper objective has not bent


def test_the_ramp_of_v_pbgd_begins_low():
    """Below a penalty of 1 nothing is scaled: the first step of 4 has a quarter of it."""
    result = mx.solve(*line(2.0), solver=VPBGD(penalty=0.4, ramp=3, rate=0.1, steps=1))
    y = 2.0 - RATE * (2.0 - 1.5)
    assert result.trace.weights[0] == pytest.approx(on_simplex(0.5 - 0.1 * 0.1 * (losses(2.0) - losses(y))), abs=1e-12)


def test_a_step_of_g_pbgd_is_that_by_hand():
    """d/dx of p/2 (x - m)^2 is p (x - m), the Hessian being 1; d/dw_i is p (x - c_i) (x - m)."""
    result = mx.solve(*line(2.0), solver=GPBGD(penalty=4.0, rate=0.1, steps=1))
    gap = 2.0 - 1.5
    assert result.trace.weights[0] == pytest.approx(on_simplex(0.5 - 0.1 * (2.0 - CENTRES) * gap), abs=1e-12)
    assert result.parameters.item() == pytest.approx(2.0 - RATE * ((2.0 - TARGET) / 4 + gap))
    assert result.cost.hessian_products == 1


@pytest.mark.parametrize("barrier", ["gradient", "gap"])
def test_a_step_of_bome_is_that_by_hand(barrier):
    solver = BOME(inner_steps=2, step_size=0.3, eta=0.5, barrier=barrier, rate=0.1, steps=1)
    result = mx.solve(*line(1.2), solver=solver)
    x, y, m = 1.2, 1.2, 1.5
    for _ in range(2):
        y -= 0.3 * (y - m)
    q = losses(x) - losses(y)
    inside, slope, top = q - q.mean(), x - m, x - TARGET
    square = inside @ inside + slope**2
    gap = ((x - CENTRES) ** 2).mean() / 2 - ((y - CENTRES) ** 2).mean() / 2
    psi = 0.5 * (square if barrier == "gradient" else gap)
    multiplier = max((psi - slope * top) / square, 0)
    assert multiplier > 0.3
    assert result.trace.weights[0] == pytest.approx(on_simplex(0.5 - 0.1 * multiplier * q), abs=1e-12)
    assert result.parameters.item() == pytest.approx(y)


def test_two_steps_of_scalebio_are_simultaneous():
    """u, theta and the logits all move from the old iterates; AdamW's decay pulls the logits to 0."""
    p, x, u = 3.0, 2.0, 2.0
    result = mx.solve(*line(2.0, 0.1), solver=ScaleBiO(penalty=p, rate=0.05, decay=0.1, steps=2))
    logits = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.AdamW([logits], lr=0.05, weight_decay=0.1)
    for step in range(2):
        w = logits.detach().softmax(0).numpy()
        d = p * (losses(x) - losses(u))
        mean = w @ CENTRES
        x, u = x - 0.1 * (x - TARGET + p * (x - mean)), u - 0.1 * p * (u - mean)
        logits.grad = torch.tensor(w * (d - w @ d))
        adam.step()
        assert result.trace.weights[step] == pytest.approx(logits.detach().softmax(0).numpy(), abs=1e-12)
    assert result.parameters.item() == pytest.approx(u)
    assert result.trace.weights[0] == pytest.approx([0.5, 0.5])  # u and theta begin at one point, where nothing moves the logits
    assert result.trace.weights[1][0] > 0.5  # the mean 1.5 is above the target 1, so the lower centre helps


def test_stages_multiply_the_penalty_and_divide_the_rates():
    """Two stages of one step: the second has twice the penalty and half the rates; a cosine begins at the full rate."""
    problem, learner = line(2.0, 0.1)
    result = mx.solve(problem, learner, solver=ScaleBiO(penalty=3.0, steps=2, stages=2))
    u = 2.0 - 0.1 * 3 * 0.5
    u -= 0.05 * 6 * (u - result.trace.weights[0] @ CENTRES)
    assert result.parameters.item() == pytest.approx(u)
    falling = mx.solve(problem, learner, solver=ScaleBiO(penalty=3.0, steps=2, cosine=True))
    u = 2.0 - 0.1 * 3 * 0.5
    assert falling.parameters.item() == pytest.approx(u - 0.05 * 3 * (u - falling.trace.weights[0] @ CENTRES))


def test_a_step_of_one_step_is_doge_s():
    """w_i proportional to w_i exp(eta <g_i, g> / mu), and the model descends under the new w."""
    problem, learner = line(2.0)
    result = mx.solve(problem, learner, solver=OneStep(step_size=0.01, rate=1 / 0.1, steps=1))
    score = 0.01 * (2.0 - CENTRES) * (2.0 - TARGET)
    w = np.exp(score / 0.1)
    assert result.trace.weights[0] == pytest.approx(w / w.sum(), abs=1e-12)
    assert result.parameters.item() == pytest.approx(2.0 - RATE * (2.0 - w / w.sum() @ CENTRES))


def test_the_code_of_doge_divides_clips_and_floors():
    problem, learner = line(2.0)
    g = 2.0 - CENTRES  # 2 and -1; the target's is 1
    code = OneStep(step_size=0.01, rate=10.0, normalised=True, floor=0.0, ceiling=1.0, steps=1)
    score = 0.01 * np.clip(g / (np.abs(g).mean() + 1e-6), 0, 1)
    w = np.exp(10 * score)
    assert mx.solve(problem, learner, solver=code).trace.weights[0] == pytest.approx(w / w.sum(), abs=1e-12)
    clipped = OneStep(step_size=0.01, rate=10.0, clip=1.5, steps=1)
    w = np.exp(0.1 * np.array([1.5 * 2 / (2 + 1e-6), -1.0]))
    assert mx.solve(problem, learner, solver=clipped).trace.weights[0] == pytest.approx(w / w.sum(), abs=1e-9)


@pytest.mark.parametrize(
    ("solver", "near"),
    [
        (VPBGD(penalty=10, rate=0.3), 1e-5),
        (GPBGD(penalty=10, rate=0.1, steps=2000), 1e-5),
        (BOME(rate=0.05, steps=400), 1e-5),
        (ScaleBiO(decay=0.0, penalty=4.0, steps=400, cosine=True), 2e-2),
        (OneStep(step_size=1.0, rate=0.3, average="last"), 1e-5),
    ],
    ids=str,
)
def test_each_reaches_the_closed_optimum_of_a_quadratic(solver, near):
    """The upper value is 0 there, so a penalty makes no bias; one-step directions are exact, the Hessian being 1."""
    result = mx.solve(*line(), solver=solver)
    assert result.vector == pytest.approx([2 / 3, 1 / 3], abs=near)
    assert result.status is (mx.Status.STATIONARY if near < 1e-3 else mx.Status.BUDGET)
    assert "implicit function theorem" in result.check.oracle
    assert result.check.gap < 3 * near


@pytest.mark.parametrize("kind", [VPBGD, GPBGD, BOME, OneStep])
def test_constraints_hold_at_every_step(kind):
    problem, learner = line(0.0, 0.2, lambda w: w["a"] <= 0.6)
    result = mx.solve(problem, learner, solver=kind(steps=60))
    assert result.trace.weights[:, 0].max() <= 0.6 + 1e-9
    assert result.check.feasible


def test_scalebio_refuses_constraints_and_names_who_takes_them():
    problem, learner = line(0.0, 0.2, lambda w: (w["a"] <= 0.6).named("cap"))
    with pytest.raises(RefusalError, match=r"softmax logits reach the whole simplex, and constraint 'cap'.*use VPBGD\(\)"):
        mx.solve(problem, learner, solver=ScaleBiO())


@pytest.mark.parametrize("kind", LOOPS)
def test_other_forms_are_refused(kind):
    w = mx.Mixture(["a", "b"])
    with pytest.raises(RefusalError, match="it takes bilevel problems"):
        mx.solve(mx.minimize(mx.sum_squares(w), over=w), solver=kind())


def test_what_a_learner_must_be_able_to_do():
    form = mx.plan(line()[0]).form
    neither = Abilities(exact=False, double_backward=False)
    for kind in (VPBGD, BOME, ScaleBiO):
        assert kind().refuses(form, neither) == ()
    assert "cannot be differentiated twice; use VPBGD()" in GPBGD().refuses(form, neither)[0]
    assert "neither a forward mode nor a double backward" in OneStep().refuses(form, neither)[0]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: VPBGD(penalty=0.0), r"the penalty is 0.0; it is a finite number > 0"),
        (lambda: GPBGD(penalty=float("inf")), "the penalty is inf"),
        (lambda: VPBGD(inner_steps=0), "inner_steps of VPBGD is 0"),
        (lambda: VPBGD(rate=-1.0), "the rate is -1.0"),
        (lambda: BOME(barrier="wall"), "the barrier is 'wall'; it is 'gradient'"),
        (lambda: BOME(eta=0.0), "eta 0.0; both are finite numbers > 0"),
        (lambda: ScaleBiO(layers=0), "layers of ScaleBiO is 0"),
        (lambda: ScaleBiO(geometry="entropic"), "ScaleBiO moves logits by AdamW"),
        (lambda: ScaleBiO(decay=-1.0), "decay is -1.0"),
        (lambda: ScaleBiO(penalty=-1.0), "the penalty is -1.0"),
        (lambda: OneStep(step_size=0.0), "step_size is 0.0"),
        (lambda: OneStep(floor=1.0, ceiling=0.0), "the floor is below the ceiling"),
    ],
)
def test_settings_out_of_range_are_refused(make, says):
    with pytest.raises(InputError, match=says):
        make()


def test_lisa_needs_numbered_blocks():
    problem, learner = line()
    with pytest.raises(InputError, match=r"layers=2 trains that many of a module's numbered blocks.*this model has 0"):
        mx.solve(problem, learner, solver=ScaleBiO(layers=2))


@pytest.mark.parametrize("kind", LOOPS)
def test_a_plan_says_what_is_made_of_the_lower_level(kind):
    assert "lower level -> " in str(mx.plan(*line(), solver=kind()))
