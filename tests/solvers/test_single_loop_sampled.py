"""First-order methods of one loop on batches of a small module: what they find, LISA's blocks, dropout, bfloat16, sampling by weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import mixopt as mx
from mixopt.api import plan
from mixopt.solver import Budget
from mixopt.solvers import BOME, GPBGD, VPBGD, Normalised, OneStep, ScaleBiO, ValueFunction

DOMAINS = mx.Domains(["a", "b", "c"])
TARGET = mx.Domains(["target"])


def tokens(seed, shift):
    """Tokens that mostly go on by the shift of their domain."""
    draw = np.random.default_rng(seed)
    return np.cumsum(np.where(draw.random(600) < 0.8, shift, draw.integers(8, size=600))) % 8


STREAMS = {"train": {name: tokens(i, i + 1) for i, name in enumerate(DOMAINS.names)}, "val": {"target": tokens(9, 1)}}  # as domain a


class Blocks(nn.Module):
    """Logits of the next token by numbered blocks on an embedding."""

    def __init__(self, dropout=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.table, self.out, self.drop = nn.Embedding(8, 8), nn.Linear(8, 8), nn.Dropout(dropout)
        self.h = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def forward(self, windows):
        x = self.table(windows)
        for block in self.h:
            x = x + self.drop(torch.tanh(block(x)))
        return self.out(x)


def learner(module=None, **options):
    settings = {"context": 8, "per_domain": 4, "evaluation": 16, "optimizer": lambda p: torch.optim.AdamW(p, lr=0.02)}
    return mx.TorchLearner(module or Blocks(), STREAMS, **(settings | options))


PROBLEM = mx.problems.validation_problem(DOMAINS, TARGET)
RUNS = [
    VPBGD(penalty=20, rate=1.0, steps=80),
    GPBGD(penalty=1, rate=0.3, steps=80),
    BOME(rate=0.1, steps=60, step_size=0.2, inner_steps=3),
    ScaleBiO(rate=0.1, steps=60),
    OneStep(rate=Normalised(0.1), steps=60, average="last"),
]


@pytest.mark.parametrize("solver", RUNS, ids=lambda solver: type(solver).__name__)
def test_each_finds_the_domain_that_the_target_is_of(solver):
    result = mx.solve(PROBLEM, learner(), solver=solver)
    assert max(result.weights, key=result.weights.get) == "a"
    assert result.weights["a"] > 0.45
    assert sum(result.weights.values()) == pytest.approx(1)
    assert result.cost.tokens > 0
    assert "no gap: the solver has no hypergradient" in result.check.notes[0]
    again = mx.solve(PROBLEM, learner(), solver=solver)
    assert np.array_equal(again.trace.weights, result.trace.weights)


@pytest.mark.parametrize(
    "solver",
    [ScaleBiO(rate=0.1, steps=60), VPBGD(penalty=20, rate=1.0, steps=80), ValueFunction(warmup=5, outer_steps=15, train=4)],
    ids=str,
)
def test_training_at_its_weights_lowers_the_validation_loss_against_uniform(solver):
    """A paired test: the same start, batches and steps under the weights found and under uniform ones, for each of four seeds."""
    weights = mx.solve(PROBLEM, learner(), solver=solver).weights
    gains = []
    for seed in range(4):
        found, even = (mx.train(PROBLEM, learner(), w, budget=Budget(steps=60), seed=seed) for w in (weights, [1 / 3] * 3))
        gains.append(even.losses["val"]["target"] - found.losses["val"]["target"])
    assert min(gains) > 0
    assert np.mean(gains) > 3 * np.std(gains, ddof=1) / 2  # t = 3 at four pairs


def state_after(solver, made, steps):
    """The solver's state after some steps."""
    from mixopt.planned import task_of

    task = task_of(plan(PROBLEM, made, solver=solver), None, 0, None)
    state = solver.begin(task)
    for _ in range(steps):
        state = solver.step(task, state)
    return state


def test_lisa_trains_one_block_and_what_is_in_none():
    made = learner()
    names, first = list(made.tree(made.start())), made.start()
    loop = state_after(ScaleBiO(layers=1), made, 3).memory
    for leaves in (loop.leaves, loop.follower):
        moved = {name.rsplit(".", 1)[0] for name, leaf, was in zip(names, leaves, first, strict=True) if not torch.equal(leaf, was)}
        assert {"table", "out"} < moved
        assert len({name for name in moved if name.startswith("h.")}) == 1
    assert state_after(ScaleBiO(layers=3), made, 1).memory.kept.blocks.count("h.1") == 2


def test_lisa_draws_new_blocks_each_period():
    made = learner()
    names, first = list(made.tree(made.start())), made.start()
    loop = state_after(ScaleBiO(layers=1, period=1), made, 30).memory
    moved = {n.rsplit(".", 1)[0] for n, leaf, was in zip(names, loop.leaves, first, strict=True) if not torch.equal(leaf, was)}
    assert moved == {"table", "out", "h.0", "h.1", "h.2"}


def test_a_learner_that_starts_with_frozen_blocks_is_not_thawed_by_lisa():
    module = Blocks()
    for parameter in module.h[0].parameters():
        parameter.requires_grad_(False)
    made = learner(module)
    loop = state_after(ScaleBiO(layers=1), made, 1).memory
    assert "h.0" not in loop.kept.blocks


@pytest.mark.parametrize(("solver", "rate"), [(VPBGD(penalty=1e12, rate=1e-9), 0.1), (ScaleBiO(penalty=1e12), 1e-13)], ids=str)
def test_dropout_takes_the_same_units_in_both_models(solver, rate):
    """With a penalty beyond all bounds theta is the follower, step for step."""
    made = learner(Blocks(dropout=0.5), dtype=torch.float64, optimizer=lambda p: torch.optim.SGD(p, lr=rate))
    loop = state_after(solver, made, 5).memory
    for own, other, was in zip(loop.leaves, loop.follower, made.start(), strict=True):
        assert float((own - other).detach().abs().max()) < 1e-9
        assert float((own - was).detach().abs().max()) > 1e-4


@pytest.mark.parametrize(
    "solver",
    [VPBGD(steps=12), BOME(steps=8), ScaleBiO(steps=12), OneStep(steps=12), ValueFunction(outer_steps=8)],
    ids=lambda solver: type(solver).__name__,
)
def test_a_model_in_bfloat16_has_its_losses_in_float32(solver):
    made = learner(dtype=torch.bfloat16)
    assert made.losses(made.start(), "train", made.evaluation()).dtype == torch.float32
    result = mx.solve(PROBLEM, made, solver=solver)
    assert np.isfinite(result.trace["value"]).all()
    assert sum(result.weights.values()) == pytest.approx(1)
    assert result.parameters["out.weight"].dtype == torch.bfloat16


@pytest.mark.parametrize("kind", [VPBGD, BOME, ScaleBiO, OneStep])
def test_batches_drawn_by_the_weights_still_measure_every_domain(kind):
    made = learner(sampling="weights")
    result = mx.solve(PROBLEM, made, solver=kind(steps=4), start=[0.0, 0.5, 0.5] if kind is VPBGD else None)
    assert np.isfinite(result.trace["losses"]).all()
    assert sum(result.weights.values()) == pytest.approx(1)


@pytest.mark.parametrize("targets", [None, TARGET], ids=["universal", "out of domain"])
def test_scores_by_one_forward_mode_product_are_those_of_a_backward_pass_a_domain(targets):
    """Both ways of DoGE's rule, on the same batches in float64: "paper" with one product, "code" without its constants."""
    problem = mx.problems.doge(DOMAINS, targets, name="val" if targets else "train", faithful_to="paper").problem
    made = learner(dtype=torch.float64)
    one, each = (mx.solve(problem, made, solver=OneStep(step_size=0.1, rate=1.0, steps=5, clip=clip)) for clip in (None, 1e9))
    assert one.trace.weights == pytest.approx(each.trace.weights, rel=1e-9)
    assert one.cost.gradients < each.cost.gradients
    assert np.ptp(one.vector) > 0.01


@pytest.mark.parametrize("faithful_to", [None, "paper", "code"])
def test_doge_out_of_domain_finds_the_domain_that_the_target_is_of(faithful_to):
    method = mx.problems.doge(DOMAINS, TARGET, mu=0.02, step_size=0.02, steps=40, faithful_to=faithful_to)
    result = mx.solve(method, learner())
    assert max(result.weights, key=result.weights.get) == "a"


@pytest.mark.parametrize("faithful_to", ["code", "paper", "survey"])
def test_scalebio_as_a_problem(faithful_to):
    method = mx.problems.scalebio(DOMAINS, TARGET, rate=0.1, steps=40, faithful_to=faithful_to)
    result = mx.solve(method, learner())
    assert max(result.weights, key=result.weights.get) == "a"
    assert sum(result.weights.values()) == pytest.approx(1)
