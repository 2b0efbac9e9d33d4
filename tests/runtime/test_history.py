"""History in a run: closed trajectories, steps by hand, what gradients see, how it is saved, and where the check finds it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mixopt as mx
from mixopt.compiler.binding import bind_losses
from mixopt.compiler.classify import classify
from mixopt.errors import InputError
from mixopt.runtime.gpt import GPT
from mixopt.runtime.history import moved, restored, saved
from mixopt.runtime.modelled import Modelled
from mixopt.runtime.region import Region
from mixopt.solver import Task, run
from mixopt.solvers import DescentAscent

NAMES = ["a", "b", "c"]
CENTRES = torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)
LR, START, STEPS = 0.2, 4.0, 6


def sgd(tensors):
    return torch.optim.SGD(tensors, lr=LR)


def learner(centres=CENTRES, start=START):
    """Losses (x - c_i)^2 / 2 of one parameter under plain gradient steps."""
    return mx.FunctionLearner(torch.tensor([start], dtype=torch.float64), {"train": lambda x: (x - centres) ** 2 / 2}, optimizer=sgd)


def alone(of):
    """A saddle over one domain, whose weight is 1, so that the payoff's values are those of an expression of its loss."""
    w, theta = mx.Mixture(["a"]), mx.model()
    f = mx.losses(theta, ["a"])
    return mx.minimize(mx.maximize(mx.surrogate(w @ of(f), gradient=w @ f), over=w), over=theta)


def values(of):
    """The payoff at each step, for the loss (x - 1)^2 / 2 from x = 4."""
    result = mx.solve(alone(of), learner(CENTRES[:1]), solver=DescentAscent(steps=STEPS))
    return result.trace.series["value"]


LOSS = 9 / 2 * (1 - LR) ** (2 * np.arange(STEPS))  # x_t - 1 = 3 (1 - LR)^t
BEFORE = np.concatenate([LOSS[:1], LOSS[:-1]])


def averaged(x, rate):
    """The moving average as a sum: (1 - rate)^t x_0 + sum over s of rate (1 - rate)^(t - s) x_s."""
    return np.array([(1 - rate) ** t * x[0] + sum(rate * (1 - rate) ** (t - s) * x[s] for s in range(1, t + 1)) for t in range(len(x))])


CLOSED = {
    "previous": (mx.previous, BEFORE),
    "initial": (mx.initial, np.full(STEPS, LOSS[0])),
    "ema": (lambda f: mx.ema(f, 0.3), averaged(LOSS, 0.3)),
    "the first difference": (lambda f: f - mx.previous(f), LOSS - BEFORE),
    "previous of previous": (lambda f: mx.previous(mx.previous(f)), np.concatenate([LOSS[:1], BEFORE[:-1]])),
    "ema of a difference": (lambda f: mx.ema(f - mx.previous(f), 0.3), averaged(LOSS - BEFORE, 0.3)),
    "ema of ema": (lambda f: mx.ema(mx.ema(f, 0.3), 0.5), averaged(averaged(LOSS, 0.3), 0.5)),
    "a ratio to the start": (lambda f: mx.log(f / mx.initial(f)), 2 * np.arange(STEPS) * np.log(1 - LR)),
    "a stop": (lambda f: mx.ema(mx.exp(-f), 1), np.exp(-LOSS)),
}


@pytest.mark.parametrize("name", CLOSED)
def test_a_trajectory_has_its_closed_form(name):
    of, expected = CLOSED[name]
    assert values(of) == pytest.approx(expected, rel=1e-12, abs=1e-13)


def test_an_average_with_a_gradient_is_written_out():
    """(1 - rate) previous(ema) + rate x has the values of ema, and the gradient rate dx."""
    w, theta = mx.Mixture(["a"]), mx.model()
    f = mx.losses(theta, ["a"])
    smooth = 0.7 * mx.previous(mx.ema(f, 0.3)) + 0.3 * f
    result = mx.solve(mx.minimize(mx.maximize(w @ smooth, over=w), over=theta), learner(CENTRES[:1]), solver=DescentAscent(steps=3))
    loss = 9 / 2 * (1 - 0.3 * LR) ** (2 * np.arange(3))
    assert result.trace.series["value"][1:] == pytest.approx(averaged(loss, 0.3)[1:])
    assert result.parameters.item() == pytest.approx(1 + 3 * (1 - 0.3 * LR) ** 3)


def test_no_gradient_flows_through_history():
    """The model follows w @ f / initial(f): its step is scaled by the first losses, which are numbers."""
    w, theta = mx.Mixture(["a"]), mx.model()
    f = mx.losses(theta, ["a"])
    result = mx.solve(
        mx.minimize(mx.maximize(w @ (f / mx.initial(f)), over=w), over=theta), learner(CENTRES[:1]), solver=DescentAscent(steps=1)
    )
    assert result.parameters.item() == pytest.approx(4 - LR * 3 / 4.5)


def two_steps(score, rate=0.5):
    """Weights and model by hand after two steps of w ∝ w exp(rate score(f, previous, initial)), the model on w @ f."""
    w, x, c = np.full(3, 1 / 3), START, CENTRES.numpy()
    first = before = (x - c) ** 2 / 2
    for _ in range(2):
        f = (x - c) ** 2 / 2
        w = w * np.exp(rate * score(f, before, first))
        w, before = w / w.sum(), f
        x = x - LR * w @ (x - c)
    return w, x


def played(payoff):
    """The same by DescentAscent, for a payoff of w and the losses."""
    w, theta = mx.Mixture(NAMES), mx.model()
    f = mx.losses(theta, NAMES)
    problem = mx.minimize(mx.maximize(mx.surrogate(w @ payoff(f), gradient=w @ f), over=w), over=theta)
    result = mx.solve(problem, learner(), solver=DescentAscent(rate=0.5, steps=2, average="last"))
    return result.vector, result.parameters.item()


TARGET = np.array([0.5, 1.0, 2.0])
METHODS = {
    "FAMO": (lambda f: mx.log(f) - mx.log(mx.previous(f)), lambda f, before, first: np.log(f / before)),
    "Velocitune": (
        lambda f: mx.clip((f - TARGET) / (mx.initial(f) - TARGET), 0, 1),
        lambda f, before, first: np.clip((f - TARGET) / (first - TARGET), 0, 1),
    ),
    "ODM": (lambda f: mx.ema(mx.exp(0.1 * f), 0.25), None),
}


@pytest.mark.parametrize("name", ["FAMO", "Velocitune"])
def test_two_steps_of_a_method_by_hand(name):
    payoff, score = METHODS[name]
    weights, x = two_steps(score)
    found = played(payoff)
    assert found[0] == pytest.approx(weights, rel=1e-12)
    assert found[1] == pytest.approx(x, rel=1e-12)
    assert np.ptp(found[0]) > 1e-3, "the second step moves the weights"


def test_two_steps_of_an_averaged_reward_by_hand():
    kept = []

    def score(f, before, first):
        kept.append(np.exp(0.1 * f) if not kept else 0.75 * kept[-1] + 0.25 * np.exp(0.1 * f))
        return kept[-1]

    weights, x = two_steps(score)
    found = played(METHODS["ODM"][0])
    assert found[0] == pytest.approx(weights, rel=1e-12)
    assert found[1] == pytest.approx(x, rel=1e-12)


def test_history_is_measured_before_the_weights_move_and_copied():
    """previous(w) is the weights that the last step began with; a loss that is the parameter itself is kept as it was."""
    w, theta = mx.Mixture(["a", "b"]), mx.model()
    f = mx.losses(theta, ["a", "b"])
    itself = mx.FunctionLearner(torch.tensor([1.0, 2.0], dtype=torch.float64), {"train": lambda x: x}, optimizer=sgd)
    payoff = w @ f + mx.sum(mx.previous(w) * [1.0, 0.0]) + 10 * mx.sum(mx.previous(f))
    result = mx.solve(mx.minimize(mx.maximize(payoff, over=w), over=theta), itself, solver=DescentAscent(rate=0.1, steps=3))
    weights = np.vstack([[0.5, 0.5], result.trace.weights])
    x = np.array([1.0, 2.0]) - LR * np.cumsum(np.vstack([np.zeros(2), result.trace.weights]), axis=0)
    expected = [weights[t] @ x[t] + weights[max(t - 1, 0)][0] + 10 * x[max(t - 1, 0)].sum() for t in range(3)]
    assert result.trace.series["value"] == pytest.approx(expected)


def test_the_check_judges_with_history_as_the_run_left_it():
    w, theta = mx.Mixture(NAMES), mx.model()
    f = mx.losses(theta, NAMES)
    payoff = w @ (f - mx.previous(f)) + mx.sum(mx.initial(f)) + mx.mean(mx.ema(f, 0.5))
    result = mx.solve(mx.minimize(mx.maximize(payoff, over=w), over=theta), learner(), solver=DescentAscent(rate=0.1, steps=4))
    losses = np.vstack([result.trace.series["losses"], ((result.parameters.numpy() - CENTRES.numpy()) ** 2 / 2)[None]])
    change = losses[4] - losses[3]
    mean = np.array([averaged(losses[:, i], 0.5)[-1] for i in range(3)]).mean()
    assert result.value == pytest.approx(result.vector @ change + losses[0].sum() + mean)
    assert result.check.gap == pytest.approx(change.max() - result.vector @ change)
    assert result.check.oracle == "the best response in the weights to the trained model, exact, with history as the run left it"


def task(problem, of=None):
    """A task without constraints, and its model."""
    of = of or learner()
    form = classify(problem)
    model = Modelled(form, of, bind_losses(form, of.abilities), {}, {})
    return Task(form, Region.compile(form.mixture, (), {}), np.full(len(form.mixture), 1 / len(form.mixture)), {}, 0, model)


def test_a_failed_run_brings_the_history_of_its_last_good_step():
    w, theta = mx.Mixture(["a"]), mx.model()
    f = mx.losses(theta, ["a"])
    game = mx.minimize(mx.maximize(w @ (f - mx.previous(f)), over=w), over=theta)
    bounded = mx.FunctionLearner(
        torch.tensor([4.0], dtype=torch.float64),
        {"train": lambda x: torch.where(x.abs() < 100, x * x, torch.nan)},
        optimizer=lambda p: torch.optim.SGD(p, lr=1.5),
    )
    outcome = run(DescentAscent(steps=50), task(game, bounded))
    assert outcome.status is mx.Status.FAILED
    assert len(outcome.trace) == 5, "at 4, -8, 16, -32, 64; the loss at -128 is no number"
    assert [x.item() for x in outcome.past.values()] == [64.0**2]


def nested():
    w, theta = mx.Mixture(NAMES), mx.model()
    f = mx.losses(theta, NAMES)
    slope = mx.ema(f - mx.previous(f), 0.3)
    return mx.minimize(mx.maximize(mx.surrogate(w @ (slope / mx.initial(f)), gradient=w @ f), over=w), over=theta)


def test_a_run_goes_on_from_saved_history_bit_for_bit():
    solver, whole = DescentAscent(rate=0.5), task(nested())
    state = solver.begin(whole)
    for _ in range(3):
        state = solver.step(whole, state)
    nodes = whole.model.histories
    text = json.dumps(saved(nodes, state.past))
    again = replace(state, past=restored(nodes, json.loads(text)))
    assert list(map(str, nodes)) == [r["history"] for r in json.loads(text)]
    leaves = [leaf.detach().clone() for leaf in state.memory.leaves]
    first = solver.step(whole, state)
    with torch.no_grad():
        for leaf, old in zip(state.memory.leaves, leaves, strict=True):
            leaf.copy_(old)
    second = solver.step(whole, again)
    assert torch.equal(first.weights, second.weights)
    assert all(torch.equal(first.past[n], second.past[n]) for n in nodes)
    assert saved(nodes, {}) == []
    assert restored(nodes, []) == {}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_history_is_saved_in_its_own_precision(dtype):
    node = mx.previous(mx.losses(mx.model(), NAMES))
    x = torch.tensor([1 / 3, 1e-7, -12345.678], dtype=dtype)
    back = restored([node], json.loads(json.dumps(saved([node], {node: x}))))[node]
    assert back.dtype == dtype
    assert torch.equal(back, x)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: [{**r[0], "history": "previous(w)"}], "and the problem's is of .*saved by another problem"),
        (lambda r: [*r, *r], "saved by another problem"),
        (lambda r: [{**r[0], "shape": [2], "values": [1.0, 2.0]}], "saved by another problem"),
        (lambda r: [{**r[0], "values": "no"}], "this is no saved history"),
        (lambda r: [{**r[0], "dtype": "float99"}], "this is no saved history: AttributeError"),
        (lambda r: [{}], "this is no saved history: KeyError"),
    ],
)
def test_a_saved_history_that_does_not_fit_is_refused(change, words):
    node = mx.previous(mx.losses(mx.model(), NAMES))
    records = saved([node], {node: torch.ones(3)})
    with pytest.raises(InputError, match=words):
        restored([node], change(records))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8), st.floats(0.01, 0.99))
@settings(deadline=None)
def test_what_holds_of_any_history(xs, rate):
    """A rate of 1 is x itself; initial stays; an average stays within what there was; the old memory is not changed."""
    x = mx.parameter("x")
    kept = {mx.ema(x, 1): None, mx.ema(x, rate): None, mx.initial(x): None, mx.previous(x): None}
    for t, value in enumerate(xs):
        found = {node: moved(node, old, value) for node, old in kept.items()}
        sharp, mean, first, before = (v for v, _ in found.values())
        assert (sharp, first, before) == (value, xs[0], xs[max(t - 1, 0)])
        slack = 1e-9 * max(map(abs, xs))
        assert min(xs[: t + 1]) - slack <= mean <= max(xs[: t + 1]) + slack
        kept = {node: after for node, (_, after) in found.items()}


def test_training_at_fixed_weights_keeps_history():
    """Uniform weights on f / initial(f): each loss falls at a rate set by its start; history alone has nothing to follow."""
    w, theta = mx.Mixture(NAMES), mx.model()
    f = mx.losses(theta, NAMES)
    done = mx.train(w @ (f / mx.initial(f)), learner(), [1 / 3] * 3, budget=mx.Budget(steps=4))
    x, c = START, CENTRES.numpy()
    first = (x - c) ** 2 / 2
    for _ in range(4):
        x = x - LR * np.mean((x - c) / first)
    assert done.parameters.item() == pytest.approx(x)
    with pytest.raises(mx.ProblemError, match="is no number with the losses of one model"):
        mx.train(w @ mx.previous(f), learner(), [1 / 3] * 3)


def sampled_by(sampling):
    """A small sampled model whose windows of training are drawn so."""
    draw = np.random.default_rng(0)
    tokens = {name: draw.integers(0, 8, 200) for name in NAMES}
    return mx.TorchLearner(
        GPT(8, 8, 8, 1, 1),
        {"train": tokens, "val": tokens},
        context=8,
        per_domain=2,
        evaluation=4,
        sampling=sampling,
        optimizer=lambda p: torch.optim.SGD(p, lr=0.01),
    )


class Forgetful(DescentAscent):
    """A solver that drops what histories keep."""

    def step(self, task, state):
        return replace(super().step(task, state), past={})


def test_a_solver_that_keeps_no_history_is_caught():
    with pytest.raises(InputError, match=r"Forgetful keeps no history for 'previous\(.*its step is to return past=env.kept"):
        run(Forgetful(steps=3), task(nested()))


def test_sampled_losses_of_another_name_and_their_history():
    """MFTCoder's reading of FAMO: the weights see validation losses, the model descends those of training."""
    of = sampled_by("uniform")
    w, theta = mx.Mixture(NAMES), mx.model()
    f, v = mx.losses(theta, NAMES), mx.losses(theta, NAMES, name="val")
    problem = mx.minimize(mx.maximize(w @ mx.surrogate(mx.log(v) - mx.log(mx.previous(v)), gradient=f), over=w), over=theta)
    result = mx.solve(problem, of, solver=DescentAscent(rate=1.0, steps=5))
    assert result.status is mx.Status.BUDGET
    assert result.trace.series["value"][0] == 0, "the first difference"
    assert abs(result.trace.series["value"][1:]).min() > 0
    assert result.check.oracle.endswith("on the evaluation sample, with history as the run left it")
    text = str(mx.plan(problem, of))
    assert "history: previous(losses(theta, 'val')) from step to step, a number to gradients" in text
    assert "'log(previous(losses(theta, 'val')))' bends a loss that is estimated on a batch" in text


def test_windows_drawn_by_the_weights_go_with_history():
    """Histories are of the batch that the weights see; a difference to one is still w @ losses to the model."""
    w, theta = mx.Mixture(NAMES), mx.model()
    f, v = mx.losses(theta, NAMES), mx.losses(theta, NAMES, name="val")
    for payoff in (w @ (f - mx.previous(f)), w @ mx.surrogate(v - mx.previous(v), gradient=f)):
        result = mx.solve(mx.minimize(mx.maximize(payoff, over=w), over=theta), sampled_by("weights"), solver=DescentAscent(steps=3))
        assert result.trace.series["value"][0] == 0
        assert result.trace.series["losses"].shape == (3, 3)
    with pytest.raises(mx.LearnerError, match="is to be 'w @ losses'"):
        mx.plan(mx.minimize(mx.maximize(w @ (f / mx.initial(f)), over=w), over=theta), sampled_by("weights"))


def test_another_batch_in_a_step_is_measured_anew_under_the_same_history():
    of = sampled_by("uniform")
    ready = task(nested(), of)
    model, generator = ready.model, torch.Generator().manual_seed(0)
    env = model.env(model.weights(ready.start), of.start(), of.draw(generator))
    model.first(env)
    other = env.at(env.w, of.draw(generator))
    model.second(other)
    (losses,) = (n for n in model.second.measures)
    assert not torch.equal(other.measured[losses], env.measured[losses])
    assert other.kept.keys() == env.kept.keys() == set(model.histories)
    assert all(torch.equal(other.kept[n], env.kept[n]) for n in model.histories)


def test_a_problem_without_history_keeps_nothing():
    w, theta = mx.Mixture(NAMES), mx.model()
    ready = task(mx.minimize(mx.maximize(w @ mx.losses(theta, NAMES), over=w), over=theta))
    solver = DescentAscent(steps=2)
    state = solver.step(ready, solver.begin(ready))
    assert (ready.model.histories, dict(state.past)) == ((), {})
