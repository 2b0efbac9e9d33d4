"""ValueFunction on batches: its steps by hand, one dropout mask for all models, and modules without second derivatives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import mixopt as mx
from mixopt.api import bilevel_task
from mixopt.solvers import ValueFunction

from .small import Once

NAMES = ("a", "b", "c")


def tokens(seed, shift):
    """Tokens that mostly go on by the shift of their domain."""
    draw = np.random.default_rng(seed)
    jumps = np.where(draw.random(600) < 0.8, shift, draw.integers(8, size=600))
    return np.cumsum(jumps) % 8


TRAIN = {name: tokens(i, i + 1) for i, name in enumerate(NAMES)}
VAL = {"target": tokens(9, 1)}  # of the same kind as domain a


class Bigram(nn.Module):
    """Logits of the next token from the last one alone."""

    def __init__(self, dropout=0.0, wrap=lambda x: x):
        super().__init__()
        torch.manual_seed(0)
        self.table, self.out, self.drop, self.wrap = nn.Embedding(8, 8), nn.Linear(8, 8), nn.Dropout(dropout), wrap

    def forward(self, windows):
        return self.wrap(self.out(self.drop(self.table(windows))))


def learner(module=None, rate=0.5, **options):
    settings = {"context": 8, "per_domain": 4, "evaluation": 16, "optimizer": lambda p: torch.optim.SGD(p, lr=rate)}
    return mx.TorchLearner(module or Bigram(), {"train": TRAIN, "val": VAL}, **(settings | options))


def problem():
    w, theta = mx.Mixture(NAMES), mx.model()
    trained = mx.argmin(w @ mx.losses(theta, NAMES), over=theta)
    return mx.minimize(mx.mean(mx.losses(trained, ["target"], name="val")), over=w)


def test_two_steps_are_those_by_hand():
    """One warm-up step and two outer steps of F2SA with a growing penalty, in plain torch on the same batches."""
    solver = ValueFunction(
        penalty=20, growth=1, differences="one-sided", rate=1e-3, warmup=1, train=1, outer_steps=2, geometry="euclidean", average="last"
    )
    double = learner(dtype=torch.float64)
    result = mx.solve(problem(), double, solver=solver, seed=3)
    draw, w = torch.Generator().manual_seed(3), torch.full((3,), 1 / 3, dtype=torch.float64)
    y = u = double.start()

    def trained(leaves, batch, penalty):
        at = tuple(leaf.detach().requires_grad_() for leaf in leaves)
        value = w @ double.losses(at, "train", batch)
        if penalty:
            value = value + double.losses(at, "val", batch).mean() / penalty
        return tuple(leaf - 0.5 * g for leaf, g in zip(at, torch.autograd.grad(value, at), strict=True))

    batch = double.draw(draw)
    u, y = trained(u, batch, 20), trained(y, batch, None)
    for step in range(2):
        batch, penalty = double.draw(draw), 20 * (1 + step)
        gradient = penalty * (double.losses(u, "train", batch) - double.losses(y, "train", batch)).detach()
        w = w - 1e-3 * (gradient - gradient.mean())
        assert result.trace.weights[step] == pytest.approx(w.numpy(), rel=1e-9)
        u, y = trained(u, batch, 20 * (2 + step)), trained(y, batch, None)
    assert result.parameters["table.weight"].numpy() == pytest.approx(y[0].detach().numpy(), rel=1e-9)


def test_one_probe_step_is_the_inner_product_of_gradients():
    """penalty (l_i(theta - s (g + f / penalty)) - l_i(theta - s g)) tends to -s <grad l_i, f>, grad l_i at the moved model."""
    double = learner(dtype=torch.float64)
    solver = ValueFunction(penalty=1e5, differences="central", steps=1, step_size=0.2)
    found = mx.hypergradient(problem(), double, solver=solver)
    batch, at = double.evaluation(), tuple(leaf.requires_grad_() for leaf in double.start())
    f = torch.autograd.grad(double.losses(at, "val", batch).mean(), at)
    g = torch.autograd.grad(double.losses(at, "train", batch).mean(), at)
    moved = tuple((leaf - 0.2 * part).detach().requires_grad_() for leaf, part in zip(at, g, strict=True))
    slopes = [torch.autograd.grad(loss, moved, retain_graph=True) for loss in double.losses(moved, "train", batch)]
    expected = [-0.2 * sum(float((a * b).sum()) for a, b in zip(slope, f, strict=True)) for slope in slopes]
    assert found == pytest.approx(expected, rel=1e-6)
    assert np.argmin(found) == 0


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
@pytest.mark.parametrize("differences", ["one-sided", "central", "richardson"])
def test_a_run_finds_the_domain_that_the_target_is_of_and_lowers_its_loss(differences, optimizer):
    made = learner(rate=1.0) if optimizer == "SGD" else learner(optimizer=lambda p: torch.optim.AdamW(p, lr=0.03))
    solver = ValueFunction(differences=differences, warmup=5, outer_steps=15, train=4, average="last")
    result = mx.solve(problem(), made, solver=solver)
    assert result.weights["a"] > 0.9
    assert result.trace["value"][-1] < 0.8 * result.trace["value"][0]
    assert result.check.oracle == f"{solver.oracle}, on the evaluation sample"
    assert result.cost.hessian_products == 0
    again = mx.solve(problem(), made, solver=solver)
    assert np.array_equal(again.trace.weights, result.trace.weights)


def test_without_a_warm_up_the_first_direction_is_probed_on_the_batch():
    result = mx.solve(problem(), learner(), solver=ValueFunction(outer_steps=1))
    assert np.argmax(result.trace.weights[0]) == 0


def test_dropout_takes_the_same_units_in_all_models():
    """With a penalty beyond all bounds the companions are the model itself, step for step."""
    noisy = learner(Bigram(dropout=0.5), dtype=torch.float64)
    solver = ValueFunction(penalty=1e300, warmup=6)
    _, task, _ = bilevel_task(problem(), noisy, None, solver, None)
    memory = solver.begin(task).memory
    for companion in memory.warm.leaves.values():
        for own, other in zip(memory.leaves, companion, strict=True):
            assert torch.equal(own, other)


def test_under_bfloat16_the_losses_are_in_float32():
    result = mx.solve(problem(), learner(autocast="bf16"), solver=ValueFunction(warmup=5, outer_steps=10, train=2, average="last"))
    assert result.weights["a"] > 0.8
    assert np.isfinite(result.trace["value"]).all()


def test_a_module_without_second_derivatives_is_found_out_and_run():
    made = learner(Bigram(wrap=Once.apply))
    assert not made.abilities.double_backward
    assert not made.abilities.gauss_newton
    plan = mx.plan(problem(), made)
    assert str(plan.solver) == "ValueFunction(outer_steps=50, warmup=100, train=10)"
    assert set(plan.choice.refusals) >= {"Implicit", "Unrolled"}
    result = plan.run(budget=mx.Budget(steps=5))
    assert result.weights["a"] > 0.5
    assert learner().abilities.double_backward
    assert learner().abilities.gauss_newton


def test_an_audit_holds_it_against_the_outcome_of_training():
    audit = mx.audit(problem(), learner(), solver=ValueFunction(), steps=10)
    assert audit.cosine > 0.9
