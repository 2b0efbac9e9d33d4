"""Proxy runs by ensemble, one after another, and by as many processes as there are cores, in turns: tokens per second and memory.

The same runs on the same data by each executor, their tables compared. Each number of runs has the steps that take about ``--seconds``
one after another. Processes are started and models compiled anew for each sweep, as they are for a user, so there are two speeds: of
the whole sweep, and of the half of its tokens that was read last, when all that has been done. Models by ``torch.compile``, which finds
nothing that it compiled before this benchmark, and Ray's cluster take their turns with ``--heavy-runs`` runs alone, in one round. The
journal's share is the time of its transactions in a sweep of runs of the smallest size. Figures are written as they come.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import threading
import time
from dataclasses import replace
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
from mixopt.sweeps import Ensemble, Executor, Journal, Processes, Progress, Ray, Sequential

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


class Bench:
    """The data, the model of one size, and the recipe of a step."""

    def __init__(self, given: argparse.Namespace, width: int):
        draw = np.random.default_rng(0)
        tokens = {name: draw.choice(given.vocabulary, 50_000, p=draw.dirichlet(np.full(given.vocabulary, 0.1))) for name in DOMAINS}
        self.streams = Streams(tokens, given.context, vocabulary=given.vocabulary)
        self.held = Streams({name: rows[:2000] for name, rows in tokens.items()}, given.context, vocabulary=given.vocabulary)
        self.factory = partial(gpt, given.vocabulary, given.context, width, given.layers)
        self.recipe, self.device = Recipe(steps=20, batch=given.batch), given.device

    def steps(self, runs: int, seconds: float) -> int:
        """The steps that so many runs take in so many seconds one after another."""
        self.swept(Sequential(device=self.device), 1, 20)
        _, spent, _, _ = self.swept(Sequential(device=self.device), 1, 50)
        return max(4, round(seconds * 50 / spent / runs))

    def swept(self, executor: Executor, runs: int, steps: int) -> tuple[np.ndarray, float, float, float]:
        """The table of a sweep, its seconds, the tokens a second of the half that was read last, and the most MiB that it held."""
        mixtures = np.random.default_rng(1).dirichlet(np.ones(len(DOMAINS)), runs)
        recipe, seen = replace(self.recipe, steps=steps), [(0.0, 0.0)]

        def watch(now: Progress) -> None:
            seen.append((now.seconds, now.tokens_per_second * now.seconds))

        with Memory(self.device) as held:
            start = time.perf_counter()
            table = mx.sweep(
                self.streams, self.factory, mixtures, targets=self.held, windows=1, recipe=recipe, executor=executor, watch=watch
            )
            seconds = time.perf_counter() - start
        at, read = np.array(seen).T
        middle = int(np.argmax(read >= read[-1] / 2))
        late = (read[-1] - read[middle]) / (at[-1] - at[middle]) if read[middle] < read[-1] else np.nan
        return table.metrics, seconds, late, held.most


def measured(bench: Bench, runs: int, given: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each executor with so many runs, interleaved so that all meet the same machine."""
    light: dict[str, Executor] = {
        "one by one": Sequential(device=given.device),
        "ensemble": Ensemble(device=given.device),
        "processes": Processes(workers=given.workers, device=given.device),
    }
    heavy: dict[str, Executor] = {}
    if runs in given.heavy_runs:
        heavy |= {"ray": Ray(gpus=0.0 if given.device == "cpu" else 0.25)} if given.ray else {}
        heavy["ensemble, compiled"] = Ensemble(device=given.device, compiled=True)
        heavy["processes, compiled"] = Processes(workers=given.workers, device=given.device, compiled=True)
    steps = bench.steps(runs, given.seconds)
    size, read = parameter_count(bench.factory(seed=0)), runs * steps * given.batch * given.context
    found: dict[str, list[tuple[np.ndarray, float, float, float]]] = {name: [] for name in light | heavy}
    for turn in range(given.rounds):
        for name, executor in {**light, **(heavy if turn == 0 else {})}.items():
            torch.compiler.reset()
            found[name].append(bench.swept(executor, runs, steps))
    rows, alone = [], found["one by one"]
    for name, some in found.items():
        speed, late = (float(np.median(x)) for x in ([read / turn[1] for turn in some], [turn[2] for turn in some]))
        ratio = float(np.median([other[1] / turn[1] for other, turn in zip(alone, some, strict=False)]))
        apart, mib = float(np.abs(some[0][0] - alone[0][0]).max()), max(turn[3] for turn in some)
        print(f"{size:10,}  {runs:4d} {steps:5d}  {name:20s} {speed:9,.0f} {late:11,.0f} {mib:7.0f} {ratio:9.2f}   {apart:.1e}", flush=True)
        row = {"parameters": size, "runs": runs, "steps": steps, "executor": name, "tokens_per_second": speed, "mib": mib}
        last = {"tokens_per_second_of_the_last_half": late if np.isfinite(late) else None}
        rows.append({**row, **last, "times_one_by_one": ratio, "losses_apart": apart, "seconds": [turn[1] for turn in some]})
    return rows


def main() -> None:
    """Measure, print a table, and write the figures with what they were measured on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 16, 64, 256])
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--vocabulary", type=int, default=256)
    parser.add_argument("--context", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=4.0, help="of a sweep one by one")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=None, help="processes; else one for each core")
    parser.add_argument("--heavy-runs", type=int, nargs="*", default=[64], help="the numbers of runs that are compiled, too")
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS / "sweeps.json")
    given = parser.parse_args()
    settings = {name: value for name, value in vars(given).items() if name != "out"}
    rows: list[dict[str, Any]] = []
    print("parameters  runs steps  executor              tokens/s   last half     MiB  times 1by1   losses apart")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        for width in given.widths:
            for runs in given.runs:
                rows.extend(measured(Bench(given, width), runs, given))
                write(given.out, __doc__, settings, rows)
    share = journal_share(Bench(given, given.widths[0]), given)
    print(f"the journal takes {100 * share:.2f} % of a sweep of 64 runs of 100 steps of the smallest size")
    write(given.out, __doc__, settings, [*rows, {"journal_share": share}])


def journal_share(bench: Bench, given: argparse.Namespace) -> float:
    """The part of a sweep's seconds that goes to its journal."""
    spent = 0.0
    add, take = Journal.add, Journal.take

    def timed(method: Any) -> Any:
        def call(*args: Any) -> Any:
            nonlocal spent
            start = time.perf_counter()
            try:
                return method(*args)
            finally:
                spent += time.perf_counter() - start

        return call

    Journal.add, Journal.take = timed(add), timed(take)  # type: ignore[method-assign]
    try:
        _, seconds, _, _ = bench.swept(Ensemble(device=given.device), 64, 100)
        return spent / seconds
    finally:
        Journal.add, Journal.take = add, take  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
