"""What ADO's refits cost a training run: none, in the step that is due, and in a thread with the result used 80 steps later.

Each turn is 100 training steps of a GPT on random tokens, with one refit of all domains' curves in it; the losses before it are made up,
so that every curve has its full number of points. Reported are the three times in turns, their ratios to no refit, and the longest step.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from common import RESULTS, interval, write
from torch.nn import functional as F  # noqa: N812

import mixopt as mx
from mixopt.problems import ado
from mixopt.runtime.gpt import GPT

BEFORE, STEPS, REFIT = 10_900, 100, 10_910


def schedule(domains: mx.Domains, refit: int, lag: int) -> mx.Schedule:
    """A schedule that has seen ``BEFORE`` steps of losses that fall by powers."""
    made = mx.online(ado(domains, start=refit, refit=refit, skip=1000, lag=lag))
    k, rng = len(domains), np.random.default_rng(0)
    n = np.arange(1, BEFORE + 1)[:, None]
    losses = np.linspace(1.5, 2.5, k) + 8 * n ** -np.linspace(0.2, 0.5, k) + 0.02 * rng.normal(size=(BEFORE, k))
    for row in losses:
        made.observe(train=row)
    return made


def turn(model: torch.nn.Module, made: mx.Schedule, tokens: torch.Tensor) -> np.ndarray:
    """Seconds of each of the steps [STEPS]: train on a batch, tell the schedule its losses."""
    optimizer, k = torch.optim.AdamW(model.parameters(), lr=1e-3), len(made.domains)
    times = np.empty(STEPS)
    for step in range(STEPS):
        start = time.perf_counter()
        logits = model(tokens[:, :-1])
        losses = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none").view(len(tokens), -1).mean(1)
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()
        made.observe(train=losses.detach().double()[torch.arange(k) % len(losses)])
        times[step] = time.perf_counter() - start
    return times


def main() -> None:
    """Time the three in turns, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--domains", type=int, default=22)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS / "ado_refits.json")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    domains = mx.Domains([f"d{i}" for i in range(given.domains)])
    model = GPT(256, 64, given.width, 5, 4)
    tokens = torch.randint(0, 256, (16, 65), generator=torch.Generator().manual_seed(0))
    ways = {"none": (10**6, 0), "at once": (REFIT, 0), "in a thread": (REFIT, 80)}
    made = {name: schedule(domains, *way) for name, way in ways.items()}
    states = {name: one.state_dict() for name, one in made.items()}
    times: dict[str, list[np.ndarray]] = {name: [] for name in ways}
    for at in range(given.turns + 1):
        for name in np.roll(list(ways), at):
            made[name].load_state_dict(states[name])
            found = turn(model, made[name], tokens)
            if at:  # the first turn does not count
                times[name].append(found)
    none = np.array([t.sum() for t in times["none"]])
    rows = []
    for name, found in times.items():
        total = np.array([t.sum() for t in found])
        middle, low, high = interval(total / none)
        longest = float(np.median([t.max() for t in found]))
        told = f"{np.median(total):7.2f} s for {STEPS} steps, {middle:.3f} [{low:.3f}, {high:.3f}] of none"
        print(f"{name:12s} {told}, longest step {longest:.2f} s", flush=True)
        rows.append({"refit": name, "seconds": np.median(total), "ratio": [middle, low, high], "longest_step": longest})
    parameters = sum(p.numel() for p in model.parameters())
    write(given.out, __doc__, {"domains": given.domains, "parameters": parameters, "steps": STEPS, "turns": given.turns}, rows)


if __name__ == "__main__":
    main()
