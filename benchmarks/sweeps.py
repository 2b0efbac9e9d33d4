"""Proxy runs by ensemble, one after another, and by as many processes as there are cores, in turns: tokens per second and memory.

The same runs on the same data by each executor, their tables compared. Processes are started anew for each sweep, as they are for a
user, so small sweeps show what that costs. ``--ray`` adds a local Ray cluster. The journal's share is the time of its transactions in a
sweep of runs of the smallest size.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, write

import mixopt as mx
from mixopt.runtime.gpt import GPT, parameter_count
from mixopt.runtime.recipe import Recipe
from mixopt.runtime.streams import Streams
from mixopt.sweeps import Ensemble, Executor, Journal, Processes, Ray, Sequential

DOMAINS = tuple("abcde")


def gpt(vocabulary: int, context: int, width: int, layers: int, seed: int) -> GPT:
    """A GPT that other processes can make."""
    return GPT(vocabulary=vocabulary, context=context, width=width, layers=layers, seed=seed)


class Memory:
    """The most that the processes of this one hold beyond what they held before, in MiB, looked at every 20 ms; a GPU's own count there."""

    def __init__(self, device: str):
        self.device, self.most, self._over = device, 0.0, threading.Event()

    def __enter__(self) -> Memory:
        self._before = self._held()
        if self.device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats()
            return self
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.device.startswith("cuda"):
            self.most = torch.cuda.max_memory_allocated() / 2**20
            return
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.02):
            self.most = max(self.most, self._held() - self._before)

    def _held(self) -> float:
        """Resident MiB of this process and of its children."""
        total = 0
        for place in Path("/proc").glob("[0-9]*"):
            try:
                stat = (place / "stat").read_text().rpartition(")")[2].split()
                if int(place.name) == os.getpid() or int(stat[1]) == os.getpid():
                    total += int(stat[21]) * resource.getpagesize()
            except (OSError, ValueError, IndexError):
                continue
        return total / 2**20


def main() -> None:
    """Measure, print a table, and write the figures with what they were measured on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--vocabulary", type=int, default=256)
    parser.add_argument("--context", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=None, help="processes; else one for each core")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compiled", action="store_true", help="also the ensemble by torch.compile")
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS / "sweeps.json")
    given = parser.parse_args()
    draw = np.random.default_rng(0)
    tokens = {name: draw.choice(given.vocabulary, 50_000, p=draw.dirichlet(np.full(given.vocabulary, 0.1))) for name in DOMAINS}
    streams = Streams(tokens, given.context, vocabulary=given.vocabulary)
    held = Streams({name: rows[:2000] for name, rows in tokens.items()}, given.context, vocabulary=given.vocabulary)
    ways: dict[str, Executor] = {
        "one by one": Sequential(device=given.device),
        "processes": Processes(workers=given.workers, device=given.device),
        "ensemble": Ensemble(device=given.device),
    }
    ways |= {"ensemble, compiled": Ensemble(device=given.device, compiled=True)} if given.compiled else {}
    ways |= {"ray": Ray(gpus=0.0 if given.device == "cpu" else 0.25)} if given.ray else {}
    rows: list[dict[str, Any]] = []
    print("parameters  runs  executor             tokens/s      MiB   times one by one   losses apart")
    for width in given.widths:
        factory = partial(gpt, given.vocabulary, given.context, width, given.layers)
        for count in given.runs:
            mixtures = draw.dirichlet(np.ones(len(DOMAINS)), count)
            recipe = Recipe(steps=given.steps, batch=given.batch)

            def swept(
                executor: Executor, factory: Callable[..., Any] = factory, mixtures: Any = mixtures, recipe: Recipe = recipe
            ) -> mx.Runs:
                return mx.sweep(streams, factory, mixtures, targets=held, windows=4, recipe=recipe, executor=executor)

            seconds: dict[str, list[float]] = {name: [] for name in ways}
            memory, tables = dict.fromkeys(ways, 0.0), {}
            for _ in range(given.rounds):
                for name, executor in ways.items():
                    with Memory(given.device) as held_now:
                        start = time.perf_counter()
                        tables[name] = swept(executor).metrics
                        seconds[name].append(time.perf_counter() - start)
                    memory[name] = max(memory[name], held_now.most)
            read = count * recipe.tokens(given.context)
            for name in ways:
                speed = read / float(np.median(seconds[name]))
                ratio = float(np.median(np.array(seconds["one by one"]) / np.array(seconds[name])))
                apart = float(np.abs(tables[name] - tables["one by one"]).max())
                size = parameter_count(factory(seed=0))
                print(f"{size:10,}  {count:4d}  {name:18s} {speed:10,.0f}  {memory[name]:7.0f}   {ratio:16.2f}   {apart:.1e}")
                row = {"parameters": size, "runs": count, "executor": name, "tokens_per_second": speed, "mib": memory[name]}
                rows.append({**row, "times_one_by_one": ratio, "losses_apart": apart, "seconds": seconds[name]})
    share = journal_share(streams, held, partial(gpt, given.vocabulary, given.context, given.widths[0], given.layers), given)
    print(f"the journal takes {100 * share:.2f} % of a sweep of 64 runs of 200 steps of the smallest size")
    rows.append({"journal_share": share})
    settings = {name: value for name, value in vars(given).items() if name != "out"}
    write(given.out, __doc__, settings, rows)


def journal_share(streams: Streams, held: Streams, factory: Callable[..., Any], given: argparse.Namespace) -> float:
    """The part of a sweep's seconds that goes to its journal."""
    spent, count = 0.0, 0
    add, take = Journal.add, Journal.take

    def timed(method: Any) -> Any:
        def call(*args: Any) -> Any:
            nonlocal spent, count
            start = time.perf_counter()
            try:
                return method(*args)
            finally:
                spent, count = spent + time.perf_counter() - start, count + 1

        return call

    with tempfile.TemporaryDirectory() as folder:
        Journal.add, Journal.take = timed(add), timed(take)  # type: ignore[method-assign]
        try:
            start = time.perf_counter()
            mixtures = np.random.default_rng(1).dirichlet(np.ones(len(DOMAINS)), 64)
            recipe = Recipe(steps=200, batch=given.batch)
            executor = Ensemble(device=given.device)
            mx.sweep(streams, factory, mixtures, targets=held, windows=4, recipe=recipe, executor=executor, resume=Path(folder) / "j")
            return spent / (time.perf_counter() - start)
        finally:
            Journal.add, Journal.take = add, take  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
