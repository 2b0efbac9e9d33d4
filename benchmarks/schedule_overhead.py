"""What a schedule costs inside a training loop: the same step with it and without, in turns.

The bare step is a forward pass over windows of all domains, a backward pass and AdamW. With a schedule the loop also adds up the losses by
domain that the forward pass has anyway, tells them, and takes the weights for the next step; a schedule by gradients also takes the
alignment of the domains by one forward-mode pass, every so many steps: over the whole model on the step's windows, or over its last layer
on half of them. Both train models that are equal at the start.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, in_turns, interval, write
from torch import Tensor

import mixopt as mx
from mixopt.problems import ado, odm, online_doge, online_doremi
from mixopt.runtime.fleet import token_losses
from mixopt.runtime.gpt import GPT, parameter_count
from mixopt.runtime.streams import Streams

DOMAINS = tuple("abcde")


def losses_of(module: GPT, windows: Tensor) -> Tensor:
    """Mean losses [k] of windows [k, n, context+1]."""
    flat = windows.flatten(0, 1)
    return token_losses(module(flat[:, :-1]), flat[:, 1:]).view(len(windows), -1).mean(1)


class Loop:
    """A model in training, with or without a schedule."""

    def __init__(self, given: argparse.Namespace, streams: Streams, schedule: mx.Schedule | None, every: int = 1, layers: Any = "all"):
        self.module = GPT(width=given.width, layers=given.layers, heads=4, seed=0)
        self.optimizer = torch.optim.AdamW(self.module.parameters(), lr=1e-3)
        self.generator = torch.Generator().manual_seed(0)
        self.given, self.streams, self.schedule, self.every, self.layers, self.step = given, streams, schedule, every, layers, 0

    def run(self) -> None:
        """A few steps."""
        for _ in range(self.given.steps):
            windows = self.streams.draw(self.given.per_domain, self.generator)
            losses = losses_of(self.module, windows)
            w = torch.full((len(DOMAINS),), 1 / len(DOMAINS)) if self.schedule is None else torch.from_numpy(self.schedule.w).float()
            self.optimizer.zero_grad()
            (w @ losses).backward()
            self.optimizer.step()
            self.step += 1
            if self.schedule is not None:
                self._tell(windows, losses)

    def _tell(self, windows: Tensor, losses: Tensor) -> None:
        assert self.schedule is not None
        if "alignment" not in self.schedule.needs:
            name = next(iter(self.schedule.needs))
            self.schedule.observe(**{name: losses.detach()}, tokens=windows.numel())
        elif self.step % self.every == 0:
            some = windows if self.layers == "all" else windows[:, : max(1, windows.shape[1] // 2)]
            scores = mx.scores.alignment(self.module, dict(zip(DOMAINS, some, strict=True)), layers=self.layers)
            self.schedule.observe(alignment=scores, step=self.step)


def observed(make: Callable[[], mx.Schedule], count: int = 500) -> float:
    """Microseconds of one ``observe`` that moves the weights, the middle of many."""
    schedule, draw = make(), np.random.default_rng(0)
    name = next(iter(schedule.needs))
    rows = torch.tensor(draw.uniform(1, 3, (count, len(DOMAINS))), dtype=torch.float32)
    times = []
    for row in rows:
        start = time.perf_counter()
        schedule.observe(**{name: row}, tokens=1000)
        times.append(time.perf_counter() - start)
    return 1e6 * float(np.median(times))


def main() -> None:
    """Measure, print a table, and write the figures with what they were measured on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--steps", type=int, default=10, help="steps timed together")
    parser.add_argument("--width", type=int, default=144)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--per-domain", type=int, default=4, help="windows of each domain in a batch")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS / "schedule_overhead.json")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    draw = np.random.default_rng(0)
    streams = Streams({name: draw.choice(256, 50_000, p=draw.dirichlet(np.full(256, 0.1))) for name in DOMAINS}, 64)
    domains = mx.Domains(DOMAINS, tokens=[50_000] * len(DOMAINS))
    w, theta = mx.Mixture(domains), mx.model()
    game = mx.minimize(mx.maximize(w @ mx.losses(theta, domains), over=w), over=theta)
    solver = mx.solvers.DescentAscent(rate=1e-3, smoothing=1e-2, average="last")
    made: dict[str, tuple[Callable[[], mx.Schedule], int]] = {
        "group DRO, every step": (lambda: mx.online(game, solver), 1),
        "group DRO, every=10": (lambda: mx.online(game, solver, every=10), 10),
        "group DRO, capped": (lambda: mx.online(game, solver, subject_to=[w <= 0.5]), 1),
        "online DoReMi": (lambda: mx.online(online_doremi(domains, rate=1e-3)), 1),
        "ODM": (lambda: mx.online(odm(domains), every=1), 1),
        "ADO": (lambda: mx.online(ado(domains), every=1), 1),
        "DoGE every 10 steps, whole model": (lambda: mx.online(online_doge(domains), every=1), 10),
        "DoGE every 10 steps, last layer": (lambda: mx.online(online_doge(domains), every=1), 10),
    }
    bare = Loop(given, streams, None)
    loops = {name: Loop(given, streams, make(), every, "last" if "last" in name else "all") for name, (make, every) in made.items()}
    times = in_turns([bare.run, *(loop.run for loop in loops.values())], given.rounds)
    rows: list[dict[str, Any]] = []
    step = 1e3 * float(np.median(times[:, 0])) / given.steps
    print(f"{parameter_count(bare.module):,} parameters, a bare step {step:.1f} ms")
    print("schedule                          with / without, median [95 % interval]   one observe")
    for i, (name, (make, _)) in enumerate(made.items(), 1):
        ratio, low, high = interval(times[:, i] / times[:, 0])
        micro = None if "DoGE" in name or "every=10" in name else observed(make)
        told = "" if micro is None else f"{micro:7.0f} us = {micro / step / 10:.2f} % of a step"
        print(f"{name:33s} {ratio:.4f} [{low:.4f}, {high:.4f}]{'':13s} {told}")
        rows.append({"schedule": name, "ratio": ratio, "low": low, "high": high, "observe_us": micro, "bare_step_ms": step})
    write(given.out, __doc__, {"rounds": given.rounds, "steps": given.steps, "parameters": parameter_count(bare.module)}, rows)


if __name__ == "__main__":
    main()
