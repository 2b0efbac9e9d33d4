"""One hypergradient of a stored ridge case by mixopt, by hand and by other libraries, each to the same accuracy, in turns in one process.

The case's exact hypergradient at uniform weights is stored beside it. A method is timed only where its own is within ``--goal`` of it,
relatively: unrolled training takes the least number of gradient steps that is, in steps of 25; the implicit ones solve the lower level and
the linear system tightly. TorchOpt leaves the lower level to the user: it gets the Newton steps of the hand-written loop. jaxopt's
lower level is its gradient descent, and the whole is compiled; the first call, which compiles, does not count. A library that is not
installed, in the environment or in the folder ``--peers``, is left out in words.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, in_turns, interval, write
from hypergradient import INNER, MOST, RHO, SYSTEM, K, Ridge, by_hand, lower, newton
from torch import Tensor

import mixopt as mx
from mixopt.solvers import ConjugateGradients, Dense, Implicit, Inner
from mixopt.solvers.systems import System

UNIFORM = np.full(K, 1 / K)
Method = Callable[[], np.ndarray]


def by_mixopt(data: Ridge, system: System) -> Method:
    """mixopt's Implicit with a linear system, planned once."""
    domains = mx.Domains([f"d{i}" for i in range(K)])
    w, theta = mx.Mixture(domains), mx.model()
    trained = mx.argmin(w @ mx.losses(theta, domains) + RHO / 2 * mx.sum_squares(theta), over=theta)
    problem = mx.minimize(mx.loss(trained, "val"), over=w)
    learner = mx.FunctionLearner(start(data), losses={"train": data.train, "val": data.val})
    return mx.plan(problem, learner, solver=Implicit(inner=Inner(tolerance=INNER), system=system)).hypergradient


def start(data: Ridge) -> Tensor:
    """The parameters that every method begins at."""
    return torch.zeros(data.X.shape[2], dtype=torch.float64)


def unrolled_by_hand(data: Ridge, steps: int, rate: float) -> Method:
    """Plain autograd through gradient steps."""

    def hypergradient() -> np.ndarray:
        w, theta = torch.from_numpy(UNIFORM).clone().requires_grad_(), start(data).requires_grad_()
        for _ in range(steps):
            theta = theta - rate * torch.autograd.grad(lower(data, theta, w), theta, create_graph=True)[0]
        return torch.autograd.grad(data.val(theta), w)[0].numpy()

    return hypergradient


def by_torchopt(data: Ridge) -> Method:
    """TorchOpt's custom_root with conjugate gradients."""
    import torchopt

    def optimality(theta: Tensor, w: Tensor) -> Tensor:
        with torch.enable_grad():
            return torch.func.grad(lambda at: lower(data, at, w))(theta)

    @torchopt.diff.implicit.custom_root(optimality, argnums=1, solve=torchopt.linear_solve.solve_cg(rtol=SYSTEM, maxiter=MOST))
    def solved(theta: Tensor, w: Tensor) -> Tensor:
        with torch.enable_grad():
            return newton(data, theta, w.detach())[0].detach().requires_grad_()

    def hypergradient() -> np.ndarray:
        w = torch.from_numpy(UNIFORM).clone().requires_grad_()
        return torch.autograd.grad(data.val(solved(start(data).requires_grad_(), w)), w)[0].numpy()

    return hypergradient


class Held(torch.nn.Module):
    """The parameters as a module, which libraries of unrolled training ask for."""

    def __init__(self, data: Ridge):
        super().__init__()
        self.theta = torch.nn.Parameter(start(data))
        self.data = data

    def forward(self, w: Tensor) -> Tensor:
        """The lower objective []."""
        return lower(self.data, self.theta, w)


def unrolled_by_torchopt(data: Ridge, steps: int, rate: float) -> Method:
    """TorchOpt's MetaSGD."""
    import torchopt

    def hypergradient() -> np.ndarray:
        w, module = torch.from_numpy(UNIFORM).clone().requires_grad_(), Held(data)
        optimizer = torchopt.MetaSGD(module, lr=rate)
        for _ in range(steps):
            optimizer.step(module(w))
        return torch.autograd.grad(data.val(module.theta), w)[0].numpy()

    return hypergradient


def unrolled_by_higher(data: Ridge, steps: int, rate: float) -> Method:
    """higher's differentiable SGD."""
    import higher

    def hypergradient() -> np.ndarray:
        w, module = torch.from_numpy(UNIFORM).clone().requires_grad_(), Held(data)
        with higher.innerloop_ctx(module, torch.optim.SGD(module.parameters(), lr=rate)) as (run, optimizer):
            for _ in range(steps):
                optimizer.step(run(w))
            return torch.autograd.grad(data.val(run.theta), w)[0].numpy()

    return hypergradient


def by_jaxopt(data: Ridge, rate: float) -> Method:
    """jaxopt's gradient descent with implicit differentiation by conjugate gradients, compiled."""
    import jax
    import jax.numpy as jnp
    import jaxopt

    jax.config.update("jax_enable_x64", True)
    X, y, Xv, yv = (jnp.asarray(a.numpy()) for a in (data.X, data.y, data.Xv, data.yv))

    def below(theta: Any, w: Any) -> Any:
        return w @ (((X @ theta - y) ** 2).mean(1) / 2) + RHO / 2 * (theta**2).sum()

    def solve(matvec: Any, b: Any) -> Any:
        return jaxopt.linear_solve.solve_cg(matvec, b, tol=SYSTEM, maxiter=MOST)

    descent = jaxopt.GradientDescent(below, stepsize=rate, maxiter=10_000, tol=INNER, acceleration=False, implicit_diff_solve=solve)

    def upper(w: Any) -> Any:
        theta = descent.run(jnp.zeros(X.shape[2]), w).params
        return ((Xv @ theta - yv) ** 2).mean() / 2

    slope, at = jax.jit(jax.grad(upper)), jnp.asarray(UNIFORM)
    return lambda: np.asarray(slope(at))


def methods(data: Ridge, exact: np.ndarray, goal: float, rate: float) -> dict[str, Method]:
    """What is installed and accurate, with unrolled training at the steps that it needs."""
    even = torch.from_numpy(UNIFORM)
    found: dict[str, Method] = {
        "mixopt, Implicit": by_mixopt(data, ConjugateGradients(steps=MOST, tolerance=SYSTEM)),
        "mixopt, Implicit, Dense": by_mixopt(data, Dense()),
        "by hand, Newton and conjugate gradients": lambda: by_hand(data, even)[0].numpy(),
        "the same, mixed derivative by forward mode": lambda: by_hand(data, even, forward=True)[0].numpy(),
    }
    steps = next((n for n in range(25, 1001, 25) if off(unrolled_by_hand(data, n, rate)(), exact) <= goal), 1000)
    found[f"by hand, {steps} steps unrolled"] = unrolled_by_hand(data, steps, rate)
    peers: dict[str, Callable[[], Method]] = {
        "TorchOpt, custom_root by conjugate gradients": lambda: by_torchopt(data),
        f"TorchOpt, MetaSGD, {steps} steps unrolled": lambda: unrolled_by_torchopt(data, steps, rate),
        f"higher, SGD, {steps} steps unrolled": lambda: unrolled_by_higher(data, steps, rate),
        "jaxopt, GradientDescent, implicit, compiled": lambda: by_jaxopt(data, rate),
    }
    for name, make in peers.items():
        try:
            found[name] = make()
            error = off(found[name](), exact)
        except ImportError as missing:
            print(f"{name}: left out, {missing}")
            found.pop(name, None)
            continue
        if not error <= goal:
            print(f"{name}: left out, {error:.1e} off the exact hypergradient, against a goal of {goal:.0e}")
            del found[name]
    return found


def off(found: np.ndarray, exact: np.ndarray) -> float:
    """The relative error of a hypergradient."""
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def main() -> None:
    """Check, measure, print a table, and write the figures with what they were measured on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--goal", type=float, default=1e-8, help="the relative error that a method must reach to be timed")
    parser.add_argument("--case", type=Path, required=True, help="the stored ridge case [8, 60, 50] (.npz), expected.json beside it")
    parser.add_argument("--peers", type=Path, help="a folder that other libraries were installed to (pip install --target)")
    parser.add_argument("--out", type=Path, default=RESULTS / "hypergradient_peers.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
    if given.peers:
        sys.path.append(str(given.peers))
    figures = json.loads((given.case.parent / "expected.json").read_text())["cases"][given.case.stem]
    exact = np.array(figures["points"]["uniform"]["hypergrad"])
    data = Ridge(0, given.case)
    found = methods(data, exact, given.goal, figures["approx_at_uniform"]["eta"])
    times = in_turns(list(found.values()), given.pairs)
    rows = []
    print(f"{'':46s} {'ms':>8s}   mixopt's time over it    error")
    for j, (name, method) in enumerate(found.items()):
        ratio = interval(times[:, 0] / times[:, j])
        rows.append({"method": name, "ms": 1e3 * float(np.median(times[:, j])), "ratio": ratio, "error": off(method(), exact)})
        print(f"{name:46s} {rows[-1]['ms']:8.2f}   {ratio[0]:.3f} [{ratio[1]:.3f}, {ratio[2]:.3f}]    {rows[-1]['error']:.1e}")
    write(given.out, __doc__, {"pairs": given.pairs, "goal": given.goal, "inner": INNER, "system": SYSTEM}, rows)


if __name__ == "__main__":
    main()
