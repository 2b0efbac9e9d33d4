"""The one loop: budgets, failures, interruptions, progress, averages and seeds, the same for every solver."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mixopt as mx
from mixopt.errors import InputError
from mixopt.problems import doremi
from mixopt.runtime.gpt import GPT
from mixopt.solvers import ConjugateGradients, DescentAscent, Implicit

NAMES = ("a", "b")
SHORT = ConjugateGradients(steps=3, damping=0.1)


def game(optimizer=None, breaks_at=np.inf, interrupt_at=np.inf):
    """A saddle between two points; the loss of b becomes NaN, or the user interrupts, at a given pass."""
    passes = []

    def losses(x):
        passes.append(1)
        if len(passes) - 1 == interrupt_at:  # the first pass is the learner's own check
            raise KeyboardInterrupt
        values = (x - torch.tensor([-1.0, 3.0], dtype=x.dtype)) ** 2 / 2
        return values * torch.tensor([1.0, float("nan")]) if len(passes) - 1 >= breaks_at else values

    learner = mx.FunctionLearner(torch.zeros(1, dtype=torch.float64), losses={"train": losses}, optimizer=optimizer)
    w, theta = mx.Mixture(NAMES), mx.model()
    return mx.minimize(mx.maximize(w @ mx.losses(theta, NAMES), over=w), over=theta), learner


def language_model(**options):
    """A tiny GPT on three domains of random bytes."""
    draw = np.random.default_rng(0)
    tokens = {name: draw.integers(0, 8, 200) for name in ("a", "b", "c")}
    module = GPT(vocabulary=8, context=8, width=8, layers=1, heads=1)
    return mx.TorchLearner(module, {"train": tokens, "val": tokens}, context=8, per_domain=2, evaluation=4, **options)


def bilevel():
    """The mean validation loss over the training domains."""
    w, theta = mx.Mixture(("a", "b", "c")), mx.model()
    trained = mx.argmin(w @ mx.losses(theta, ("a", "b", "c")), over=theta)
    return mx.minimize(mx.mean(mx.losses(trained, ("a", "b", "c"), name="val")), over=w)


def test_a_budget_of_steps():
    problem, learner = game()
    result = mx.solve(problem, learner, solver=DescentAscent(), budget=mx.Budget(steps=7))
    assert (result.status, result.cost.steps, len(result.trace)) == (mx.Status.BUDGET, 7, 7)


def test_a_budget_of_gradients_ends_at_the_step_that_spends_it():
    problem, learner = game()
    result = mx.solve(problem, learner, solver=DescentAscent(), budget=mx.Budget(gradients=5))
    assert (result.status, result.cost.gradients, result.cost.steps) == (mx.Status.BUDGET, 5, 5)


def test_a_budget_of_tokens_ends_at_the_step_that_spends_it():
    learner = language_model()
    method = doremi(mx.Domains(["a", "b", "c"]))
    one = 2 * 3 * 2 * 8  # two models, three domains, two windows, eight tokens
    result = mx.solve(method, learner, given={"reference": GPT(8, 8, 8, 1, 1, seed=1)}, budget=mx.Budget(tokens=3 * one - 1))
    assert (result.status, result.cost.tokens, result.cost.steps) == (mx.Status.BUDGET, 3 * one, 3)


def test_a_budget_of_seconds_that_is_spent_ends_after_a_step():
    problem, learner = game()
    result = mx.solve(problem, learner, solver=DescentAscent(steps=10**9), budget=mx.Budget(seconds=1e-9))
    assert (result.status, result.cost.steps) == (mx.Status.BUDGET, 1)


@pytest.mark.parametrize("name", ["steps", "tokens", "gradients", "seconds"])
def test_a_limit_is_above_zero(name):
    with pytest.raises(InputError, match=f"the budget of {name} is 0"):
        mx.Budget(**{name: 0})


def test_a_loss_that_becomes_nan_is_named_with_its_step_and_the_last_good_point_kept():
    problem, learner = game(breaks_at=4)
    result = mx.solve(problem, learner, solver=DescentAscent(rate=0.1, average="last"))
    assert result.status is mx.Status.FAILED
    assert result.message == "the loss of 'b' (nan) is not finite at step 4; the weights are those before it"
    assert len(result.trace) == 3
    assert result.vector == pytest.approx(result.trace.weights[-1])
    fresh = mx.solve(*game(), solver=DescentAscent(rate=0.1, average="last"), budget=mx.Budget(steps=3))
    assert result.vector == pytest.approx(fresh.vector)
    assert result.parameters.item() == pytest.approx(fresh.parameters.item())


def test_a_model_that_bursts_in_its_last_step_is_a_failure_too():
    problem, learner = game(optimizer=lambda p: torch.optim.SGD(p, lr=float("inf")))
    result = mx.solve(problem, learner, solver=DescentAscent(), budget=mx.Budget(steps=1))
    assert result.status is mx.Status.FAILED
    assert "parameters are not finite after step 1" in result.message


def test_a_sampled_run_that_bursts_between_looks_names_domain_and_step():
    learner = language_model(optimizer=lambda p: torch.optim.SGD(p, lr=1e30))
    w, theta = mx.Mixture(("a", "b", "c")), mx.model()
    problem = mx.minimize(mx.maximize(w @ mx.losses(theta, ("a", "b", "c")), over=w), over=theta)
    result = mx.solve(problem, learner, solver=DescentAscent(steps=50))
    assert result.status is mx.Status.FAILED
    assert "the loss of 'a' (" in result.message
    assert "is not finite at step 2" in result.message
    assert result.vector.sum() == pytest.approx(1)


def test_token_losses_are_named_by_domain_too():
    learner = language_model(optimizer=lambda p: torch.optim.SGD(p, lr=1e30))
    result = mx.solve(doremi(mx.Domains(["a", "b", "c"])), learner, given={"reference": GPT(8, 8, 8, 1, 1, seed=1)})
    assert result.status is mx.Status.FAILED
    assert "the loss of 'a' (" in result.message


def test_an_interrupted_run_returns_what_it_has():
    problem, learner = game(interrupt_at=6)
    result = mx.solve(problem, learner, solver=DescentAscent(rate=0.1, average="last"))
    assert (result.status, result.message, len(result.trace)) == (mx.Status.INTERRUPTED, "after 5 steps", 5)
    assert result.vector == pytest.approx(result.trace.weights[-1])
    assert result.parameters is not None


def test_a_run_interrupted_before_its_first_step_returns_the_start():
    centres = torch.tensor([0.0, 2.0], dtype=torch.float64)
    passes = []

    def train(x):
        passes.append(1)
        if len(passes) > 1:
            raise KeyboardInterrupt
        return (x - centres) ** 2

    learner = mx.FunctionLearner(torch.zeros(1, dtype=torch.float64), losses={"train": train, "val": lambda x: (x * x).sum()})
    w, theta = mx.Mixture(NAMES), mx.model()
    problem = mx.minimize(mx.loss(mx.argmin(w @ mx.losses(theta, NAMES), over=theta), "val"), over=w)
    from mixopt.api import plan
    from mixopt.planned import task_of
    from mixopt.solver import run

    ready = plan(problem, learner, solver=Implicit())
    outcome = run(Implicit(), task_of(ready, None, 0, [0.3, 0.7]))
    assert outcome.status is mx.Status.INTERRUPTED
    assert outcome.message == "after 0 steps"
    assert outcome.weights == pytest.approx([0.3, 0.7])


def test_the_watcher_sees_every_look():
    seen = []
    problem, learner = game()
    mx.solve(problem, learner, solver=DescentAscent(), budget=mx.Budget(steps=4), watch=seen.append)
    assert [p.step for p in seen] == [1, 2, 3, 4]
    assert {p.steps for p in seen} == {4}
    assert all(p.weights.sum() == pytest.approx(1) and np.isfinite(p.info["value"]) for p in seen)
    assert seen[0].seconds <= seen[-1].seconds


def test_a_sampled_run_is_looked_at_now_and_then_and_at_its_end():
    seen = []
    mx.solve(bilevel(), language_model(), solver=Implicit(curvature="gauss-newton", system=SHORT, outer_steps=7), watch=seen.append)
    assert [p.step for p in seen] == [5, 7]


@pytest.mark.parametrize("problem", ["saddle", "bilevel"])
def test_a_seed_fixes_the_run(problem):
    solver = DescentAscent(steps=5) if problem == "saddle" else Implicit(curvature="gauss-newton", system=SHORT, outer_steps=3, warmup=2)
    w, theta = mx.Mixture(("a", "b", "c")), mx.model()
    saddle = mx.minimize(mx.maximize(w @ mx.losses(theta, ("a", "b", "c")), over=w), over=theta)
    chosen = saddle if problem == "saddle" else bilevel()
    one, same, other = (mx.solve(chosen, language_model(), solver=solver, seed=s) for s in (3, 3, 4))
    assert np.array_equal(one.trace.weights, same.trace.weights)
    assert not np.array_equal(one.trace.weights, other.trace.weights)
    assert all(torch.equal(one.parameters[n], same.parameters[n]) for n in one.parameters)


def test_the_caller_s_random_state_is_left_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    mx.solve(bilevel(), language_model(), solver=Implicit(curvature="gauss-newton", system=SHORT, outer_steps=2))
    assert torch.equal(before, torch.get_rng_state())


def test_compare_takes_a_factory_of_learners_and_records_refusals():
    made = []

    def make(seed):
        made.append(seed)
        return language_model()

    table = mx.compare(bilevel(), make, [Implicit(curvature="gauss-newton", system=SHORT, outer_steps=2), DescentAscent()], seeds=(0, 1))
    assert made[:2] == [0, 1]
    assert len(table.results) == 2
    assert "it takes saddles" in str(table)


def test_a_start_goes_on_from_a_result():
    problem, learner = game()
    first = mx.solve(problem, learner, solver=DescentAscent(rate=0.1, average="last"), budget=mx.Budget(steps=3))
    second = mx.solve(problem, learner, solver=DescentAscent(rate=0.1, average="mean with start"), start=first, budget=mx.Budget(steps=1))
    assert second.vector == pytest.approx((first.vector + second.trace.weights[0]) / 2)
