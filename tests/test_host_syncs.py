"""How often a run waits for the device: counted on the CPU, where the same calls are made, and bounded.

Every number read by the host (``item``, ``tolist``, ``float``, ``bool``), every ``nonzero`` and every transfer is counted.
"""

from __future__ import annotations

from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import mixopt as mx
from mixopt.problems import doge, doremi
from mixopt.runtime.gpt import GPT
from mixopt.solvers import (
    AdaGradNorm,
    BestResponse,
    ChiSquare,
    ConjugateGradients,
    DescentAscent,
    Extragradient,
    Implicit,
    SmoothedDescentAscent,
    Tail,
)

READS = ("aten::_local_scalar_dense", "aten::item", "aten::nonzero", "aten::masked_select", "aten::is_nonzero", "aten::equal")


class Counting(TorchDispatchMode):
    """Counts the calls that make a host wait, and the arrays that leave torch."""

    def __init__(self):
        super().__init__()
        self.calls = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().split(".")[0]
        if name in READS:
            self.calls[name] += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture
def counted(monkeypatch):
    """A function that runs some work and returns how many reads and transfers to the host it made."""

    def count(work):
        transfers = []
        with monkeypatch.context() as patched, Counting() as mode:
            for name in ("numpy", "tolist"):
                plain = getattr(torch.Tensor, name)
                patched.setattr(torch.Tensor, name, lambda self, *a, plain=plain, **k: transfers.append(1) or plain(self, *a, **k))
            work()
        return sum(mode.calls.values()) + len(transfers)

    return count


DOMAINS = mx.Domains(["a", "b", "c"])


def learner(sampling="uniform"):
    draw = np.random.default_rng(0)
    tokens = {name: draw.integers(0, 8, 200) for name in DOMAINS}
    streams = {"train": tokens, "val": tokens}
    return mx.TorchLearner(GPT(8, 8, 8, 1, 1), streams, context=8, per_domain=2, evaluation=4, optimizer=sgd, sampling=sampling)


def sgd(tensors):
    return torch.optim.SGD(tensors, lr=0.01)


def extra(counted, problem, solver_of, steps, sampling="uniform", **options):
    """Reads and transfers that so many further steps add, the certificate and the start being the same for both."""
    few, many = 5, 5 + steps
    counts = [counted(lambda n=n: mx.solve(problem, learner(sampling), solver=solver_of(n), **options)) for n in (few, many)]
    return counts[1] - counts[0]


def test_the_counter_sees_what_it_is_to_count(counted):
    x = torch.ones(3)
    assert counted(lambda: float(x.sum())) >= 1
    assert counted(lambda: x.tolist()) >= 1
    assert counted(lambda: x.nonzero()) >= 1
    assert counted(lambda: x.numpy()) >= 1
    assert counted(lambda: x + x) == 0


LOOK = 6
"""What one look costs: the weights, what the solver tells (four series at most), whether the parameters are finite."""


def test_descent_ascent_waits_only_when_the_host_looks_every_25_steps(counted):
    reference = GPT(8, 8, 8, 1, 1, seed=1)

    def solver(steps):
        return DescentAscent(steps=steps, smoothing=1e-3)

    problem = doremi(DOMAINS).problem
    assert extra(counted, problem, solver, 20, given={"reference": reference}) == 0
    assert 0 < extra(counted, problem, solver, 45, given={"reference": reference}) <= LOOK


def test_history_is_kept_without_a_wait(counted):
    w, theta = mx.Mixture(DOMAINS), mx.model()
    seen, losses = mx.losses(theta, DOMAINS, name="val"), mx.losses(theta, DOMAINS)
    score = mx.ema(mx.log(seen) - mx.log(mx.previous(seen)), 0.1) / mx.initial(mx.mean(losses))
    problem = mx.minimize(mx.maximize(w @ mx.surrogate(score, gradient=losses), over=w), over=theta)
    assert extra(counted, problem, lambda steps: DescentAscent(steps=steps), 20) == 0


@pytest.mark.parametrize("sampling", ["weights", [0.5, 0.3, 0.2]])
def test_batches_are_drawn_by_the_weights_without_a_wait(counted, sampling):
    w, theta = mx.Mixture(DOMAINS), mx.model()
    problem = mx.minimize(mx.maximize(w @ mx.losses(theta, DOMAINS), over=w), over=theta)
    assert extra(counted, problem, lambda steps: DescentAscent(steps=steps), 20, sampling) == 0


@pytest.mark.parametrize(
    "kind",
    [
        partial(DescentAscent, optimistic=True, order="simultaneous", model_rate=0.01, schedule=AdaGradNorm(), every=2),
        partial(Extragradient, schedule=AdaGradNorm()),
        SmoothedDescentAscent,
        partial(BestResponse, ball=ChiSquare(0.1)),
        partial(BestResponse, ball=Tail(0.5)),
    ],
    ids=str,
)
def test_the_other_saddle_solvers_wait_no_oftener(counted, kind):
    w, theta = mx.Mixture(DOMAINS), mx.model()
    problem = mx.minimize(mx.maximize(w @ mx.losses(theta, DOMAINS), over=w), over=theta)
    assert extra(counted, problem, lambda steps: kind(steps=steps), 20) == 0


def test_one_step_bilevel_waits_only_when_the_host_looks_every_5_steps(counted):
    import dataclasses

    method = doge(DOMAINS)
    assert extra(counted, method.problem, lambda n: dataclasses.replace(method.solver, outer_steps=n), 20) <= 4 * (LOOK)


@pytest.mark.parametrize("name", ["VPBGD", "BOME", "OneStep"])
def test_single_loops_wait_only_when_the_host_looks_every_5_steps(counted, name):
    kind = getattr(mx.solvers, name)
    assert extra(counted, doge(DOMAINS).problem, lambda n: kind(steps=n), 20) <= 4 * (LOOK)


def test_implicit_waits_for_its_linear_system_alone(counted, monkeypatch):
    """With looks at every fifth product, as on a GPU: products / 5 reads, and the size of the right-hand side and of the residual."""
    from mixopt.solvers import systems

    original, products = systems.conjugate_gradients, 20
    monkeypatch.setattr(systems, "conjugate_gradients", lambda *a, **k: original(*a, **(k | {"look_every": 5})))

    def solver(steps):
        system = ConjugateGradients(steps=products, tolerance=1e-12, damping=0.1)
        return Implicit(curvature="gauss-newton", outer_steps=steps, system=system)

    system_reads = 2 + products // 5
    steps = 10
    w, theta = mx.Mixture(DOMAINS), mx.model()
    problem = mx.minimize(mx.mean(mx.losses(mx.argmin(w @ mx.losses(theta, DOMAINS), over=theta), DOMAINS, name="val")), over=w)
    assert extra(counted, problem, solver, steps) <= steps * system_reads + 2 * (LOOK)
