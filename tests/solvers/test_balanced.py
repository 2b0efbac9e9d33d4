"""Balanced: first steps by hand for every rule, Pareto-stationary ends, constraints, memory, sampled learners, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import mixopt as mx
from mixopt.balancing import FAMO, IMTLG, IMTLL, MGDA, CAGrad, CoBa, GramRule, PCGrad, Static, TorchJD, UPGrad
from mixopt.runtime.gpt import GPT
from mixopt.runtime.simplex import project
from mixopt.solvers import Balanced
from mixopt.solvers.text import from_text

NAMES = ["a", "b", "c"]
W, THETA = mx.Mixture(NAMES), mx.model()
LOSSES, VAL = mx.losses(THETA, NAMES), mx.losses(THETA, NAMES, name="val")
STEP = W @ (LOSSES - mx.previous(LOSSES))
CENTRES = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
START, RATE = np.array([3.0, 1.5]), 0.1


def game(payoff=STEP, subject_to=()):
    return mx.minimize(mx.maximize(payoff, over=W, subject_to=subject_to), over=THETA)


def losses(x, offset=0.1):
    """|x - c_i|^2 / 2 + offset [k]."""
    return ((x - CENTRES) ** 2).sum(-1) / 2 + offset


def learner(dtype=torch.float64, start=START, order=(0, 1, 2), rate=RATE):
    c = torch.tensor(CENTRES, dtype=dtype)
    names = [NAMES[i] for i in order]
    return mx.FunctionLearner(
        torch.tensor(start, dtype=dtype),
        {
            "train": (lambda x: (((x - c) ** 2).sum(1) / 2 + 0.1)[list(order)], names),
            "val": (lambda x: (((x - c) ** 2).sum(1) / 2 + 0.3)[list(order)], names),
        },
        optimizer=lambda leaves: torch.optim.SGD(leaves, lr=rate),
    )


RULES = [MGDA(), MGDA("norm"), CAGrad(), CAGrad(c=0.5, rescale=1, summed=True), PCGrad("natural"), IMTLG(), UPGrad()]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)], ids=["as given", "another order"])
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_the_first_step_of_a_rule_on_inner_products(rule, order):
    result = mx.solve(game(), learner(order=order), solver=Balanced(rule, steps=1))
    slopes = START - CENTRES
    found = rule.direction(slopes @ slopes.T)
    np.testing.assert_allclose(result.trace["coefficients"][0], found.coefficients, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(result.parameters.numpy(), START - RATE * found.coefficients @ slopes, rtol=1e-12)
    weights = found.mixture if found.inner is None else found.inner
    np.testing.assert_allclose(result.vector, weights, atol=1e-10)
    assert result.trace.effective_domains[0] == pytest.approx(np.exp(result.trace.entropy[0]))
    assert result.cost.gradients == 4
    assert result.trace["value"][0] == 0, "no step has been made before the first"


def test_the_first_two_steps_of_famo():
    """Logits 0: weights 1/3, coefficients (1/l_i) / sum; then each logit moves by the rate against the sign of J' delta."""
    result = mx.solve(game(), learner(), solver=Balanced(FAMO(gamma=0.0), steps=2, average="last"))
    before = losses(START)
    share = (1 / before) / (1 / before).sum()
    np.testing.assert_allclose(result.trace["coefficients"][0], share, rtol=1e-7)
    x = START - RATE * share @ (START - CENTRES)
    fall = np.log(before) - np.log(losses(x))
    logits = -0.025 * np.sign(fall - fall.mean())
    z = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(result.vector, z, rtol=1e-6)
    second = (z / losses(x)) / (z / losses(x)).sum()
    np.testing.assert_allclose(result.trace["coefficients"][1], second, rtol=1e-6)
    assert result.cost.gradients == 2


def test_famo_may_follow_validation_losses():
    payoff = mx.surrogate(W @ (mx.log(VAL) - mx.log(mx.previous(VAL))), gradient=W @ LOSSES)
    result = mx.solve(game(payoff), learner(), solver=Balanced(FAMO(gamma=0.0, watch="val"), steps=2, average="last"))
    share = (1 / losses(START)) / (1 / losses(START)).sum()
    np.testing.assert_allclose(result.trace["coefficients"][0], share, rtol=1e-7)
    x = START - RATE * share @ (START - CENTRES)
    fall = np.log(losses(START, 0.3)) - np.log(losses(x, 0.3))
    logits = -0.025 * np.sign(fall - fall.mean())
    np.testing.assert_allclose(result.vector, np.exp(logits) / np.exp(logits).sum(), rtol=1e-6)


def test_the_first_two_steps_of_imtl_l():
    result = mx.solve(game(), learner(), solver=Balanced(IMTLL(rate=0.2), steps=2))
    x = START - RATE * np.ones(3) @ (START - CENTRES)
    scales = -0.2 * (losses(START) - 1)
    np.testing.assert_allclose(result.trace["coefficients"], [np.ones(3), np.exp(scales)], rtol=1e-12)
    np.testing.assert_allclose(result.parameters.numpy(), x - RATE * np.exp(scales) @ (x - CENTRES), rtol=1e-12)


def test_coba_is_uniform_in_its_warm_up_and_then_follows_its_formulas():
    payoff = mx.surrogate(W @ (VAL / mx.initial(VAL)), gradient=W @ LOSSES)
    rule = CoBa(warmup=4, history=6)
    result = mx.solve(game(payoff), learner(), solver=Balanced(rule, steps=8))
    memory, x = rule.begin(3), START
    for taken in result.trace["coefficients"]:
        found, memory = rule.direction(memory, losses(x), losses(x, 0.3))
        np.testing.assert_allclose(taken, found.coefficients, rtol=1e-9)
        x = x - RATE * found.coefficients @ (x - CENTRES)
    np.testing.assert_allclose(result.trace["coefficients"][:3], 1 / 3)
    assert np.ptp(result.trace["coefficients"][4]) > 0.01


def test_static_weights_descend_the_weighted_losses():
    result = mx.solve(game(), learner(), solver=Balanced(Static([1, 3, 0]), steps=500))
    assert result.status is mx.Status.STATIONARY
    np.testing.assert_allclose(result.vector, [0.25, 0.75, 0.0])
    np.testing.assert_allclose(result.parameters.numpy(), [1.5, 0.0], atol=1e-7)


@pytest.mark.parametrize("rule", [MGDA(), UPGrad()], ids=str)
def test_a_run_ends_where_no_step_improves_all_domains(rule):
    result = mx.solve(game(), learner(), solver=Balanced(rule, steps=1000))
    assert result.status is mx.Status.STATIONARY
    assert "Pareto-stationary" in result.message
    slopes = result.parameters.numpy() - CENTRES
    assert np.linalg.norm(result.trace["coefficients"][-1] @ slopes) < 1e-7
    if isinstance(rule, MGDA):
        assert np.linalg.norm(result.vector @ slopes) < 1e-7, "the weights say of which mixture this model is the optimum"
    assert (losses(result.parameters.numpy()) <= losses(START)).all()


@pytest.mark.parametrize("rule", [MGDA(), CAGrad(c=0.3)], ids=str)
@pytest.mark.parametrize(
    ("limits", "holds"),
    [
        (lambda w: [w["b"] <= 0.3], lambda w: w[1] <= 0.3 + 1e-9),
        (lambda w: [mx.mass(w, ["b", "c"]) <= 0.4, w["a"] <= 0.7], lambda w: w[1] + w[2] <= 0.4 + 1e-9 and w[0] <= 0.7 + 1e-9),
    ],
    ids=["a cap", "a group"],
)
def test_constraints_cut_the_mixtures_that_a_rule_minimises_over(rule, limits, holds):
    """The weights of the first step are the minimum over the mixtures allowed: no other of a fine grid has less."""
    result = mx.solve(game(subject_to=limits(W)), learner(), solver=Balanced(rule, steps=1))
    assert result.check.feasible
    slopes = START - CENTRES
    gram, mean = slopes @ slopes.T, slopes.mean(0)

    def value(w):
        length = np.sqrt(w @ gram @ w)
        return length if isinstance(rule, MGDA) else w @ slopes @ mean + rule.c * np.linalg.norm(mean) * length

    grid = np.array([(i, j, 100 - i - j) for i in range(101) for j in range(101 - i)]) / 100
    assert value(result.vector) <= min(value(w) for w in grid if holds(w)) + 1e-9
    assert value(result.vector) > min(value(w) for w in grid) + 1e-3, "the constraints bind"


def test_signed_weights_are_told_and_the_trace_has_them():
    start = [1.5, 0.5]
    slopes = np.array(start) - CENTRES
    signed = IMTLG().direction(slopes @ slopes.T).coefficients
    assert signed.min() < 0
    result = mx.solve(game(), learner(start=start), solver=Balanced(IMTLG(), steps=1))
    np.testing.assert_allclose(result.trace["coefficients"][0], signed, rtol=1e-8)
    assert "coefficients were negative at 1 step, whose weights are the nearest mixtures" in result.message
    np.testing.assert_allclose(result.vector, project(signed), atol=1e-10)


def test_a_shuffled_order_is_drawn_by_the_seed():
    solver = Balanced(PCGrad(), steps=5)
    draws = [mx.solve(game(), learner(start=[0.7, 0.7]), solver=solver, seed=seed).trace["coefficients"] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert np.abs(draws[0] - draws[2]).max() > 1e-3


def proxy(**options):
    """A small GPT over three domains of random bytes."""
    draw = np.random.default_rng(0)
    streams = {name: {d: draw.integers(0, 16, 400) for d in NAMES} for name in ("train", "val")}
    module = GPT(vocabulary=16, context=8, width=8, layers=1, heads=2)
    return mx.TorchLearner(module, streams, context=8, per_domain=2, optimizer=lambda p: torch.optim.SGD(p, lr=0.1), **options)


@pytest.mark.parametrize("rule", [MGDA(), CAGrad(), PCGrad("natural"), IMTLG(), UPGrad()], ids=str)
def test_gradients_that_are_never_held_together_make_the_same_steps(rule):
    held, lean = (mx.solve(game(), proxy(), solver=Balanced(rule, steps=3, stacked=most)) for most in (2**30, 0))
    np.testing.assert_allclose(lean.trace["coefficients"], held.trace["coefficients"], rtol=1e-3, atol=1e-4)
    assert held.cost.gradients == lean.cost.gradients == 3 * 4
    assert lean.cost.forward_passes > held.cost.forward_passes
    for name, leaf in held.parameters.items():
        np.testing.assert_allclose(lean.parameters[name].numpy(), leaf.numpy(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("rule", [MGDA(), FAMO(), IMTLL(), Static()], ids=str)
def test_sampled_learners_train(rule):
    result = mx.solve(game(), proxy(), solver=Balanced(rule, steps=40))
    assert result.status is mx.Status.BUDGET
    first, last = result.trace["losses"][:5].mean(), result.trace["losses"][-5:].mean()
    assert last < first
    assert result.check.feasible


def test_payoffs_with_a_part_that_is_not_weighted_count_it_at_every_corner():
    """w @ l + r has the entries l_i + r, since the weights sum to 1: the same step as the payoff w @ (l + r)."""
    beside = 0.5 * mx.sum_squares(THETA)
    one = mx.solve(game(STEP + beside), learner(), solver=Balanced(MGDA(), steps=1))
    slopes = START - CENTRES + START
    found = MGDA().direction(slopes @ slopes.T)
    np.testing.assert_allclose(one.parameters.numpy(), START - RATE * found.coefficients @ slopes, rtol=1e-12)


def test_one_domain_alone_has_all_weight():
    w, theta = mx.Mixture(["a"]), mx.model()
    l = mx.losses(theta, ["a"])  # noqa: E741
    problem = mx.minimize(mx.maximize(w @ (l - mx.previous(l)), over=w), over=theta)
    for rule in (MGDA(), CAGrad(), PCGrad(), IMTLG(), UPGrad(), FAMO(), IMTLL(), Static()):
        one = mx.FunctionLearner(torch.tensor([2.0], dtype=torch.float64), {"train": lambda x: x**2 / 2 + 0.1})
        result = mx.solve(problem, one, solver=Balanced(rule, steps=3))
        assert result.weights == {"a": 1.0}


def test_gradients_that_are_all_zero():
    flat = mx.FunctionLearner(torch.zeros(2, dtype=torch.float64), {"train": lambda x: (x**2).sum() * torch.ones(3) + 1.0})
    for rule in (MGDA(), IMTLG(), PCGrad()):
        result = mx.solve(game(), flat, solver=Balanced(rule))
        assert (result.status, result.cost.steps) == (mx.Status.STATIONARY, 1)
        np.testing.assert_allclose(result.vector, 1 / 3)


class Still(torch.nn.Module):
    """Logits that do not depend on the parameter, though they carry a gradient."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, tokens):
        return torch.zeros(*tokens.shape, 16) + 0 * self.scale


def test_a_sampled_learner_whose_losses_do_not_move_is_told():
    draw = np.random.default_rng(0)
    still = mx.TorchLearner(Still(), {"train": {d: draw.integers(0, 16, 100) for d in NAMES}}, context=8)
    with pytest.raises(mx.LearnerError, match="the gradients of all losses are 0 on this batch; do the losses depend on the parameters"):
        mx.solve(game(), still, solver=Balanced())


@pytest.mark.parametrize(
    ("rule", "problem", "reason"),
    [
        (MGDA(), lambda: game(mx.entropy(W) + STEP), "the payoff is not linear in the weights"),
        (
            PCGrad(),
            lambda: game(subject_to=[W["a"] <= 0.5]),
            r"PCGrad is no minimisation over mixtures that constraints could cut; MGDA\(\)",
        ),
        (FAMO(), lambda: game(subject_to=[W["a"] <= 0.5]), "FAMO is no minimisation over mixtures"),
        (MGDA(), lambda: game(subject_to=[mx.sum_squares(W) >= 0.5]), "not convex by the rules"),
        (FAMO(watch="val"), game, "FAMO watches losses named 'val' over the domains of 'w', and the payoff has none"),
        (
            FAMO(),
            lambda: game(W @ mx.domain_mean(mx.tokens(THETA), NAMES)),
            "FAMO sees losses, and the model descends none over the domains",
        ),
        (MGDA(), lambda: mx.minimize(mx.kl(W, [0.2, 0.3, 0.5]), over=W), "it takes saddles, and this is a program"),
    ],
)
def test_what_it_refuses(rule, problem, reason):
    with pytest.raises(mx.RefusalError, match=reason):
        mx.plan(problem(), solver=Balanced(rule))


def test_a_learner_that_samples_by_weights_is_refused():
    with pytest.raises(mx.RefusalError, match="on batches that hold every domain alike, and this learner samples by weights"):
        mx.solve(game(W @ LOSSES), proxy(sampling="weights"), solver=Balanced())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Balanced("mgda"), r"the rule is 'mgda'; it is one of mixopt.balancing, such as MGDA\(\)"),
        (lambda: Balanced(average="best"), "the average is 'best'; it is 'mean' or 'last'"),
        (lambda: Balanced(steps=0), "steps of Balanced is 0; it is a whole number >= 1"),
        (lambda: Balanced(stacked=-1), "stacked of Balanced is -1"),
        (lambda: Balanced(tolerance=float("nan")), "the tolerance is nan"),
    ],
)
def test_settings_out_of_range(make, message):
    with pytest.raises(mx.InputError, match=message):
        make()


def test_a_rule_of_ones_own_is_a_class_with_one_function():
    class Mean(GramRule):
        def direction(self, gram, *, region=None, memory=None):
            return mx.balancing.Direction(np.full(len(gram), 1 / len(gram)))

    result = mx.solve(game(), learner(), solver=Balanced(Mean(), steps=500))
    np.testing.assert_allclose(result.parameters.numpy(), CENTRES.mean(0), atol=1e-7)


def test_a_start_of_weights_is_said_to_change_nothing():
    result = mx.solve(game(), learner(), solver=Balanced(steps=1), start=[0.2, 0.3, 0.5])
    assert "start is not used: Balanced does not go on from weights" in result.message


@pytest.mark.parametrize(
    "rule",
    [
        *RULES,
        PCGrad([2, 0, 1]),
        FAMO(watch="val"),
        IMTLL(rate=None),
        CoBa(slopes="paper"),
        Static([0.2, 0.8]),
        TorchJD("cagrad", {"c": 0.4}),
    ],
    ids=str,
)
def test_it_comes_back_from_its_text(rule):
    solver = Balanced(rule, steps=7)
    assert from_text(str(solver)) == solver


class Reads(TorchDispatchMode):
    """Counts the numbers that the host asks for, and with ``transfers`` the tensors that leave torch."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.name().split(".")[0] in ("aten::_local_scalar_dense", "aten::item", "aten::nonzero", "aten::is_nonzero")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("rule", "most"), [(MGDA(), 1), (CAGrad(), 1), (FAMO(), 3), (Static(), 2)], ids=str)
def test_a_step_brings_one_small_tensor_a_need_to_the_host(monkeypatch, rule, most):
    """The inner products, or the losses, those watched, and those after the step; besides what a look every 25 steps brings."""

    def waits(steps):
        transfers, plain = [], torch.Tensor.numpy
        with monkeypatch.context() as patched, Reads() as reads:
            patched.setattr(torch.Tensor, "numpy", lambda self, *a, **k: transfers.append(1) or plain(self, *a, **k))
            mx.solve(game(), proxy(), solver=Balanced(rule, steps=steps))
        return reads.count + len(transfers)

    more = waits(24) - waits(4)
    assert more <= 20 * (most + isinstance(rule, GramRule))
