"""One exact hypergradient through mixopt against the same Newton-CG algorithm written by hand with plain autograd.

Both train the lower level to the same |grad|, solve the same linear system to the same residual, and start from the same
point; the inner residuals and the hypergradients are compared as well as the times. The machine may be shared with other
work: the two are timed in turns, so that both meet the same neighbours.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from common import RESULTS, interleaved, interval, write
from torch import Tensor
from torch.autograd import forward_ad

import mixopt as mx
from mixopt.compiler.binding import bind_losses
from mixopt.runtime.modelled import Modelled
from mixopt.solvers import ConjugateGradients, Implicit, Inner
from mixopt.solvers.bilevel import Trained

K, D, N, RHO = 8, 50, 60, 0.01
INNER, SYSTEM, MOST = 1e-9, 1e-9, 200


class Ridge:
    """k ridge regressions of n rows in d dimensions, with labels of growing noise, and a clean validation set (float64).

    From a case with arrays X [k, n, d], y, Xv and yv where a file is given, else made of random numbers of that shape.
    """

    def __init__(self, seed: int, case: Path | None):
        if case is not None:
            with np.load(case) as stored:
                self.X, self.y, self.Xv, self.yv = (torch.from_numpy(stored[name]) for name in ("X", "y", "Xv", "yv"))
            return
        draw = torch.Generator().manual_seed(seed)
        truth = torch.randn(D, generator=draw, dtype=torch.float64)
        self.X = torch.randn(K, N, D, generator=draw, dtype=torch.float64)
        noise = torch.linspace(0.1, 2.0, K, dtype=torch.float64)[:, None]
        self.y = self.X @ truth + noise * torch.randn(K, N, generator=draw, dtype=torch.float64)
        self.Xv = torch.randn(400, D, generator=draw, dtype=torch.float64)
        self.yv = self.Xv @ truth + 0.1 * torch.randn(400, generator=draw, dtype=torch.float64)

    def train(self, theta: Tensor) -> Tensor:
        """Losses of the domains [k]."""
        return ((self.X @ theta - self.y) ** 2).mean(1) / 2

    def val(self, theta: Tensor) -> Tensor:
        """Validation loss []."""
        return ((self.Xv @ theta - self.yv) ** 2).mean() / 2


def lower(data: Ridge, theta: Tensor, w: Tensor) -> Tensor:
    """The lower objective []."""
    return w @ data.train(theta) + RHO / 2 * (theta * theta).sum()


def by_hand(data: Ridge, w: Tensor, forward: bool = False) -> tuple[Tensor, float]:
    """Hypergradient [k] and the inner |grad|, as one would write them for this problem alone.

    The mixed derivative is taken of the graph that the products keep, or by ``forward`` mode, which takes another pass.
    """
    free = w.clone().requires_grad_()
    theta, slope, size = newton(data, torch.zeros(D, dtype=torch.float64), free)
    (v,) = torch.autograd.grad(data.val(theta), theta)
    q = cg(hessian(slope, theta), v, SYSTEM)
    if not forward:
        return -torch.autograd.grad(slope, free, q)[0], size
    with forward_ad.dual_level():
        (over_w,) = torch.autograd.grad(lower(data, forward_ad.make_dual(theta.detach(), q), free), free)
        cross = forward_ad.unpack_dual(over_w).tangent
    return -cross, size


def newton(data: Ridge, theta: Tensor, w: Tensor) -> tuple[Tensor, Tensor, float]:
    """The lower level's minimum by Newton steps, its gradient there on a graph that is kept, and |it|."""
    last, share = float("inf"), 1e-3
    while True:
        theta = theta.detach().requires_grad_()
        (slope,) = torch.autograd.grad(lower(data, theta, w), theta, create_graph=True)
        flat = slope.detach()
        size = float(flat.norm())
        if size <= INNER:
            return theta, slope, size
        share = min(share, (size / last) ** 2) if last < float("inf") else share
        path = cg(hessian(slope, theta), -flat, max(0.1 * INNER / size, share))
        theta = searched(lambda at: lower(data, at, w), theta.detach(), path, float(path @ flat))
        last = size


def hessian(slope: Tensor, theta: Tensor) -> Callable[[Tensor], Tensor]:
    """p -> H p on one retained graph."""
    return lambda p: torch.autograd.grad(slope, theta, p, retain_graph=True)[0]


def cg(product: Callable[[Tensor], Tensor], b: Tensor, tolerance: float) -> Tensor:
    """Conjugate gradients, looked at after every product."""
    x, r, p = torch.zeros_like(b), b, b
    rr = r @ r
    goal = tolerance**2 * float(rr)
    for _ in range(MOST):
        Hp = product(p)
        step = rr / (p @ Hp)
        x, r = x + step * p, r - step * Hp
        new = r @ r
        if float(new) <= goal:
            break
        p, rr = r + new / rr * p, new
    return x


def searched(objective: Callable[[Tensor], Tensor], theta: Tensor, path: Tensor, descent: float) -> Tensor:
    """Armijo backtracking."""
    with torch.no_grad():
        value, share = float(objective(theta)), 1.0
        while float(objective(theta + share * path)) > value + 1e-4 * share * descent + 1e-13 * (1 + abs(value)):
            share /= 2
        return theta + share * path


def main() -> None:
    """Measure, print a table, and write the figures with what they were measured on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1, help="more than one hardly helps at this size")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=Path, help="a stored ridge case [8, 60, 50] (.npz) instead of a made one")
    parser.add_argument("--out", type=Path, default=RESULTS / "hypergradient.json")
    given = parser.parse_args()
    torch.set_num_threads(min(given.threads, os.cpu_count() or 1))
    data = Ridge(given.seed, given.case)
    domains = mx.Domains([f"d{i}" for i in range(K)])
    w, theta = mx.Mixture(domains), mx.model()
    trained = mx.argmin(w @ mx.losses(theta, domains) + RHO / 2 * mx.sum_squares(theta), over=theta)
    problem = mx.minimize(mx.loss(trained, "val"), over=w)
    learner = mx.FunctionLearner(torch.zeros(D, dtype=torch.float64), losses={"train": data.train, "val": data.val})
    solver = Implicit(inner=Inner(tolerance=INNER), system=ConjugateGradients(steps=MOST, tolerance=SYSTEM))
    at = np.full(K, 1 / K)

    mine = mx.hypergradient(problem, learner, solver=solver)
    form = mx.plan(problem, learner).form
    model = Modelled(form, learner, bind_losses(form, learner.abilities), {}, {})
    inner = solver.trained(model, model.weights(at), Trained(learner.start(), np.inf)).inner
    theirs, residual = by_hand(data, torch.from_numpy(at))
    apart = float(np.linalg.norm(mine - theirs.numpy()) / np.linalg.norm(mine))
    if not (residual <= INNER and inner <= INNER and apart < 1e-6):
        raise SystemExit(f"not the same computation: |grad| {inner:.1e} and {residual:.1e}, apart by {apart:.1e}")

    ready = mx.plan(problem, learner, solver=solver)
    ours, hand = interleaved(ready.hypergradient, lambda: by_hand(data, torch.from_numpy(at)), given.pairs)
    ratio, low, high = interval(ours / hand)
    row = {
        "ratio": ratio,
        "low": low,
        "high": high,
        "mixopt_ms": 1e3 * float(np.median(ours)),
        "by_hand_ms": 1e3 * float(np.median(hand)),
        "inner_mixopt": inner,
        "inner_by_hand": residual,
        "relative_difference": apart,
    }
    print("mixopt / by hand, median [95 % interval]    ms of both       inner |grad| of both     apart")
    print(
        f"{ratio:.3f} [{low:.3f}, {high:.3f}]{'':21s} {row['mixopt_ms']:.2f} {row['by_hand_ms']:.2f}"
        f"{'':7s} {inner:.1e} {residual:.1e}{'':9s} {apart:.1e}"
    )
    settings = {"k": K, "d": D, "n": N, "rho": RHO, "inner": INNER, "system": SYSTEM, "pairs": given.pairs, "seed": given.seed}
    write(given.out, __doc__, settings, [row])


if __name__ == "__main__":
    main()
