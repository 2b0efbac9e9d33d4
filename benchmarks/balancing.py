"""Weights of MGDA, CAGrad and FAMO against TorchJD's, and inner products of gradients against stacked gradients, for k = 4 ... 256.

Weights: random gradients with a common part, so that they conflict and agree; both get the same inner products, in turns. What is
left to gain is |g_w|^2 - min_i <g_i, g_w> over the longest squared gradient (MGDA; 0 at the optimum), and how much lower
the worst inner product with the direction is than under the better of the two (CAGrad). FAMO: one step of the weights, losses given.

Gradients: a GPT over k domains of random bytes. "stacked" holds all k gradients; "kept" one, beside the graph of the losses and the
forward-mode product; "lean" one, and measures the losses again. Memory is the peak of live tensors above that of one plain gradient of the
mean loss, in copies of the model; times are of one call.
"""

from __future__ import annotations

import argparse
import warnings
import weakref
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, interleaved, interval, seconds, write
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mixopt.balancing import FAMO, MGDA, CAGrad, TorchJD
from mixopt.balancing.nearest import gap
from mixopt.runtime.gpt import GPT
from mixopt.runtime.gramian import gramian, lean_gramian
from mixopt.runtime.torch_learner import TorchLearner
from mixopt.runtime.tree import Leaves

C = 0.4


def compared(k: int, pairs: int, seed: int) -> list[dict[str, Any]]:
    """MGDA, CAGrad and FAMO at one k: seconds of both, their ratio, and how exact each is."""
    draw = np.random.default_rng(seed)
    g = draw.normal(size=(k, 4 * k)) + 0.2
    gram = g @ g.T
    longest = float(np.diag(gram).max())
    rows = []
    for name, ours, theirs in (("MGDA", MGDA(), TorchJD("mgda")), ("CAGrad", CAGrad(C), TorchJD("cagrad", {"c": C}))):
        made = theirs.begin(k, 0)
        found = [ours.direction(gram).coefficients, theirs.direction(gram, memory=made).coefficients]
        worst = [float((gram @ a).min()) for a in found]
        left = [gap(gram, w) if name == "MGDA" else max(worst) - low for w, low in zip(found, worst, strict=True)]
        mine, other = interleaved(lambda: ours.direction(gram), lambda: theirs.direction(gram, memory=made), pairs)  # noqa: B023
        rows.append(row(name, k, mine, other, [x / longest for x in left]))
    rows.append(famo(k, pairs, draw))
    return rows


def famo(k: int, pairs: int, draw: np.random.Generator) -> dict[str, Any]:
    """One step of FAMO's weights; the distance of the weights after 50 steps stands for both."""
    from torchjd import scalarization

    rule, other = FAMO(), scalarization.FAMO(k, lr=0.025, weight_decay=0.01)
    course = 2 + draw.random((51, k)).cumsum(axis=0)[::-1] / 50
    memory = rule.begin(k)
    for before, after in pairwise(course):
        memory = rule.after(memory, before, after)
        other(torch.tensor(before, dtype=torch.float32))
        other.update(torch.tensor(after, dtype=torch.float32))
    values = torch.tensor(course[0], dtype=torch.float32)
    ours = rule.direction(memory, course[1], course[1])[0].coefficients

    def mine() -> None:
        rule.direction(memory, course[0], course[0])
        rule.after(memory, course[0], course[1])

    def theirs() -> None:
        other(values.requires_grad_()).backward()
        other.update(values.detach())

    at = torch.tensor(course[1], dtype=torch.float32, requires_grad=True)
    (slope,) = torch.autograd.grad(other(at), at)
    apart = float(np.abs(ours - slope.numpy()).max())
    return row("FAMO", k, *interleaved(mine, theirs, pairs), [apart, apart])


def row(name: str, k: int, mine: np.ndarray, other: np.ndarray, left: list[float]) -> dict[str, Any]:
    """One line of figures."""
    ratio, low, high = interval(mine / other)
    times = {"mixopt_ms": 1e3 * float(np.median(mine)), "torchjd_ms": 1e3 * float(np.median(other))}
    return {"what": name, "k": k, "ratio": ratio, "low": low, "high": high, **times, "left_mixopt": left[0], "left_torchjd": left[1]}


class Live(TorchDispatchMode):
    """The most bytes that tensors hold at once on the CPU, from the calls that make them to the end of their storage."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.known: dict[int, Any] = {}

    def _gone(self, key: int, size: int) -> None:
        self.known.pop(key, None)
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                key, size = storage._cdata, storage.nbytes()
                if key not in self.known:
                    self.known[key] = weakref.finalize(storage, self._gone, key, size)
                    self.now += size
                    self.most = max(self.most, self.now)
        return out


def peak(work: Callable[[], Any], device: torch.device) -> int:
    """The most bytes that a call holds beyond what is there before it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with Live() as live:
        work()
    return live.most


def gradients(k: int, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Time, memory and distance of each way at one k."""
    device = torch.device(given.device)
    draw = np.random.default_rng(given.seed)
    streams = {"train": {f"d{i}": draw.integers(0, 256, 4 * given.context) for i in range(k)}}
    module = GPT(256, given.context, given.width, given.layers, 4)
    learner = TorchLearner(module, streams, context=given.context, per_domain=1, evaluation=1, device=device)
    batch = learner.draw(torch.Generator().manual_seed(0))
    leaves = tuple(leaf.requires_grad_() for leaf in learner.start())
    size = sum(leaf.numel() * leaf.itemsize for leaf in leaves)

    def losses(at: Leaves) -> Tensor:
        with learner.second_order():
            return learner.losses(at, "train", batch)

    ways: dict[str, Callable[[], Tensor]] = {
        "stacked": lambda: gramian(losses(leaves), leaves, most=2**62),
        "kept": lambda: gramian(losses(leaves), leaves, again=losses, most=0),
        "lean": lambda: lean_gramian(losses, leaves, most=0),
    }
    plain = peak(lambda: torch.autograd.grad(losses(leaves).mean(), leaves), device)
    exact = ways["stacked"]()
    rows = []
    for name, way in ways.items():
        found = way()

        def timed(way: Callable[[], Tensor] = way) -> None:
            way().sum().item()

        rows.append(
            {
                "what": name,
                "k": k,
                "parameters": size // 4,
                "ms": 1e3 * min(seconds(timed) for _ in range(given.repeats)),
                "copies": (peak(way, device) - plain) / size,
                "apart": float((found - exact).abs().max() / exact.diagonal().max()),
            }
        )
    return rows


def main() -> None:
    """Measure, print two tables, and write the figures with what they were measured on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--most", type=int, default=256, help="the largest k; each is four times the one before, from 4")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--context", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS / "balancing.json")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    warnings.filterwarnings("ignore", category=UserWarning, module="cvxpy")
    sizes = [k for k in (4, 16, 64, 256, 1024) if k <= given.most]
    weights = [found for k in sizes for found in compared(k, given.pairs, given.seed)]
    print("rule      k  mixopt / TorchJD, median [95 % interval]   ms of both          left to gain: mixopt, TorchJD")
    for r in weights:
        times = f"{r['ratio']:.3f} [{r['low']:.3f}, {r['high']:.3f}]{'':18} {r['mixopt_ms']:8.3f} {r['torchjd_ms']:9.3f}"
        print(f"{r['what']:6} {r['k']:4d}  {times}   {r['left_mixopt']:.1e} {r['left_torchjd']:.1e}")
    stacks = [found for k in sizes for found in gradients(k, given)]
    print("\nway         k  ms a call  model copies above one gradient  apart from stacked")
    for r in stacks:
        print(f"{r['what']:8} {r['k']:4d}  {r['ms']:9.1f}  {r['copies']:31.2f}  {r['apart']:.1e}")
    names = ("pairs", "most", "width", "layers", "context", "repeats", "device", "seed")
    write(given.out, __doc__, {name: getattr(given, name) for name in names}, weights + stacks)


if __name__ == "__main__":
    main()
