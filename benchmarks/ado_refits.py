"""What ADO's refits cost a training run: none, in the step that is due, and in a thread with the result used 80 steps later.

Each turn is 100 training steps of a GPT on random tokens, with one refit of all domains' curves in it; the losses that ADO is told are
made up, falling by powers, so that every curve has its full number of points. Reported are the three times in turns, their ratios to no
refit, and the longest step.
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


def course(k: int) -> np.ndarray:
    """Losses [BEFORE + STEPS, k] that fall by powers to floors above the code's."""
    n, rng = np.arange(1, BEFORE + STEPS + 1)[:, None], np.random.default_rng(0)
    return np.linspace(2.0, 3.0, k) + 8 * n ** -np.linspace(0.2, 0.5, k) + 0.02 * rng.normal(size=(len(n), k))


def schedule(domains: mx.Domains, losses: np.ndarray, refit: int, lag: int) -> mx.Schedule:
    """A schedule that has seen the first ``BEFORE`` losses."""
    made = mx.online(ado(domains, start=refit, refit=refit, skip=1000, lag=lag))
    for row in losses[:BEFORE]:
        made.observe(train=row)
    return made


def turn(model: torch.nn.Module, made: mx.Schedule, tokens: torch.Tensor, told: torch.Tensor) -> np.ndarray:
    """Seconds of each of the steps [STEPS]: train on a batch, tell the schedule losses."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    times = np.empty(STEPS)
    for step in range(STEPS):
        start = time.perf_counter()
        logits = model(tokens[:, :-1])
        losses = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none").view(len(tokens), -1).mean(1)
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()
        made.observe(train=told[step])
        times[step] = time.perf_counter() - start
    return times


def main() -> None:
    """Time the three in turns, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--domains", type=int, default=22)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS / "ado_refits.json")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    domains = mx.Domains([f"d{i}" for i in range(given.domains)])
    model = GPT(256, 64, given.width, 3, 4)
    tokens = torch.randint(0, 256, (16, 65), generator=torch.Generator().manual_seed(0))
    ways = {"none": (10**6, 0), "at once": (REFIT, 0), "in a thread": (REFIT, 80)}
    losses = course(len(domains))
    made = {name: schedule(domains, losses, *way) for name, way in ways.items()}
    states = {name: one.state_dict() for name, one in made.items()}
    times: dict[str, list[np.ndarray]] = {name: [] for name in ways}
    for at in range(given.turns + 1):
        for name in np.roll(list(ways), at):
            made[name].load_state_dict(states[name])
            found = turn(model, made[name], tokens, torch.from_numpy(losses[BEFORE:]))
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
