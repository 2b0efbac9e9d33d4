"""A sweep killed at random moments again and again: every finished run is kept, none twice, and the table is the undisturbed one's.

The sweep runs in a process of its own, which is killed with SIGKILL after a random time and started again until it ends by itself. With
``--executor ray`` a local cluster stands throughout, and every other kill is one of its workers, as the sweep goes on.
"""

from __future__ import annotations

import argparse
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, write

RUNS = 24
SWEEP = """
import sys
sys.path.insert(0, {here!r})
import sweep_kills
sweep_kills.swept({store!r}, {address!r}, {table!r})
"""


def swept(store: str, address: str | None, table: str) -> None:
    """The sweep: runs of a small GPT, by Ray where there is the address of a cluster."""
    from functools import partial

    from sweeps import gpt

    import mixopt as mx
    from mixopt.runtime.recipe import Recipe

    draw = np.random.default_rng(0)
    tokens = {name: draw.choice(64, 20_000, p=draw.dirichlet(np.full(64, 0.1))) for name in "abc"}
    held = {name: rows[:2000] for name, rows in tokens.items()}
    mixtures = draw.dirichlet(np.ones(3), RUNS)
    recipe = Recipe(steps=120, batch=8)
    factory = partial(gpt, 64, 32, 16, 1)
    executor = mx.sweeps.Ray(address=address) if address else "ensemble"
    runs = mx.sweep(tokens, factory, mixtures, context=32, targets=held, windows=4, recipe=recipe, executor=executor, resume=store)
    runs.to_csv(table)


def start(store: Path, address: str | None, table: Path) -> subprocess.Popen[bytes]:
    """The sweep in a process of its own, at the head of its own group."""
    code = SWEEP.format(here=str(Path(__file__).parent), store=str(store), address=address, table=str(table))
    return subprocess.Popen([sys.executable, "-c", code], start_new_session=True)


def workers() -> list[int]:
    """Those of this process's own cluster's workers that have a run in hand."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if b"ray::_task" in (place / "cmdline").read_bytes() and os.getpid() in above(int(place.name)):
                found.append(int(place.name))
        except OSError:
            continue
    return found


def above(pid: int) -> Iterator[int]:
    """A process's parent, the parent of that, and so on."""
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        yield pid


def disturbed(store: Path, address: str | None, table: Path, rng: np.random.Generator, mean: float) -> tuple[int, int]:
    """A sweep that ends by itself at last, and how often it and a worker were killed before.

    ``mean`` is of the seconds before the first kill; each further one waits half of that longer, so that a busy machine ends it too.
    """
    kills = killed_workers = 0
    process = start(store, address, table)
    while True:
        try:
            if process.wait(timeout=float(rng.uniform(0.2, 1.8) * mean * (1 + (kills + killed_workers) / 2))) != 0:
                raise SystemExit(f"the sweep ended with {process.returncode}")
            return kills, killed_workers
        except subprocess.TimeoutExpired:
            mine = workers() if address and kills > killed_workers else []
            if mine:
                os.kill(int(rng.choice(mine)), signal.SIGKILL)
                killed_workers += 1
                continue
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            process = start(store, address, table)


def main() -> None:
    """Kill, go on, compare, and write what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--executor", choices=("ensemble", "ray"), default="ensemble")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "sweep_kills.json")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, cluster(given.executor) as address:
        row = seen(Path(folder), address, given.kills, np.random.default_rng(given.seed))
    print(
        f"{row['kills']} kills of the sweep, {row['killed_workers']} of workers, in {row['sweeps']} sweeps: {RUNS} of {RUNS} runs each time"
    )
    print(f"losses apart by {row['losses_apart']:.1e}")
    settings = {"kills": given.kills, "executor": given.executor, "seed": given.seed}
    write(given.out, __doc__, settings, [{**row, "executor": given.executor}])


@contextmanager
def cluster(executor: str) -> Iterator[str | None]:
    """The address of a local cluster of Ray, where that is the executor."""
    if executor != "ray":
        yield None
        return
    import ray

    here = str(Path(__file__).parent)  # where the workers find the factory
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


def seen(place: Path, address: str | None, most: int, rng: np.random.Generator) -> dict[str, Any]:
    """Sweeps disturbed until there were so many kills, each held against the undisturbed one."""
    begun = time.perf_counter()
    if start(place / "whole.sqlite", address, place / "whole.csv").wait() != 0:
        raise SystemExit("the undisturbed sweep failed")
    mean = 0.4 * (time.perf_counter() - begun)
    kills = killed_workers = rounds = 0
    apart = 0.0
    while kills + killed_workers < most:
        rounds += 1
        store, table = place / f"{rounds}.sqlite", place / f"{rounds}.csv"
        some, others = disturbed(store, address, table, rng, mean)
        kills, killed_workers = kills + some, killed_workers + others
        with sqlite3.connect(store) as db:
            (count,) = db.execute("select count(*) from runs").fetchone()
        if count != RUNS:
            raise SystemExit(f"{count} runs are in the journal of round {rounds}, not {RUNS}")
        one, two = (np.genfromtxt(path, delimiter=",", names=True) for path in (place / "whole.csv", table))
        losses = [name for name in one.dtype.names if name.startswith("loss")]
        apart = max([apart, *(float(np.abs(one[name] - two[name]).max()) for name in losses)])
        print(f"sweep {rounds}: killed {some} times, workers {others} times", flush=True)
    return {"kills": kills, "killed_workers": killed_workers, "sweeps": rounds, "losses_apart": apart}


if __name__ == "__main__":
    main()
