"""Ensembles of several sizes of program against training the same models one by one, side by side in one run.

Programs train in lanes, as many as there are threads; the loop has all threads for each model.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, interval, seconds, write
from torch.nn import functional as F  # noqa: N812  (the usual name)

from mixopt.runtime.ensemble import Recipe, train
from mixopt.runtime.gpt import GPT, parameter_count
from mixopt.runtime.streams import Streams

CONTEXT = 64


def one_by_one(make: Callable[[int], GPT], mixtures: np.ndarray, streams: Streams, recipe: Recipe) -> None:
    """The same training as a plain loop of torch over the models, with none of mixopt's ensemble."""
    for run, mixture in enumerate(mixtures):
        module = make(run)
        optimiser = torch.optim.AdamW(module.parameters(), lr=recipe.rate, betas=recipe.betas, weight_decay=recipe.weight_decay, fused=True)
        generator, bounds = torch.Generator().manual_seed(0), streams.bounds(mixture)
        for step in range(recipe.steps):
            uniform = torch.rand(1, recipe.batch + 1, generator=generator, dtype=torch.float64)
            windows = streams.mixed(bounds, uniform)[0]
            optimiser.zero_grad()
            F.cross_entropy(module(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten()).backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), recipe.clip)
            optimiser.param_groups[0]["lr"] = recipe.rate_at(step)
            optimiser.step()


def measure(width: int, chunks: list[int], given: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each chunk size at one width: interleaved with the loop, so that both meet the same machine."""
    random = np.random.default_rng(0)
    streams = Streams({name: random.integers(0, 256, 100_000) for name in "abcde"}, CONTEXT)
    mixtures, recipe = random.dirichlet(np.ones(5), given.runs), Recipe(given.steps, given.batch)

    def make(seed: int) -> GPT:
        return GPT(width=width, context=CONTEXT, seed=seed)

    def loop() -> None:
        one_by_one(make, mixtures, streams, recipe)

    def together(chunk: int) -> None:
        train(make, mixtures, streams, recipe, seeds=range(given.runs), data_seed=0, chunk=chunk or None)

    loop()  # a first turn for both, uncounted
    together(chunks[0])
    times: dict[int, list[tuple[float, float]]] = {chunk: [] for chunk in chunks}
    for _ in range(given.repeats):
        for chunk in chunks:
            times[chunk].append((seconds(loop), seconds(partial(together, chunk))))
    count = parameter_count(make(0))
    work = 6e-9 * count * recipe.tokens(CONTEXT) * given.runs
    rows = []
    for chunk, pairs in times.items():
        alone, stacked = np.array(pairs).T
        ratio, low, high = interval(alone / stacked)
        speed = {"gflops": work / float(np.median(stacked)), "gflops_one_by_one": work / float(np.median(alone))}
        rows.append({"parameters": count, "runs": given.runs, "chunk": chunk, "speedup": ratio, "low": low, "high": high, **speed})
    return rows


def main() -> None:
    """Measure, print a table, and write the figures with what they were measured on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=16, help="models of the ensemble")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch", type=int, default=16, help="windows of 64 tokens in a batch")
    parser.add_argument("--repeats", type=int, default=12, help="interleaved pairs for each row")
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--chunks", type=int, nargs="+", default=[0, 1, 2, 4, 8], help="models of a program; 0 for what is planned")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--out", type=Path, default=RESULTS / "ensemble.json")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print("parameters  chunk  one by one / ensemble, median [95 % interval]   GFLOP/s of both (6 x parameters x tokens)")
    rows = []
    for width in given.widths:
        for row in measure(width, given.chunks, given):
            rows.append(row)
            print(
                f"{row['parameters']:10d} {row['chunk']:6d}  {row['speedup']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
                f"{'':30s} {row['gflops_one_by_one']:5.0f} {row['gflops']:5.0f}",
                flush=True,
            )
    settings = {"runs": given.runs, "steps": given.steps, "batch": given.batch, "context": CONTEXT, "repeats": given.repeats}
    write(given.out, __doc__, settings, rows)


if __name__ == "__main__":
    main()
