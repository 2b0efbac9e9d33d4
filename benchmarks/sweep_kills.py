"""A sweep killed at random moments again and again: every finished run is kept, none twice, and the table is the undisturbed one's.

``--executor ray`` kills workers of a local Ray cluster too. The sweep runs in a process of its own, which is killed with SIGKILL after a
random time and started again until it ends by itself.
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
from pathlib import Path

import numpy as np
from common import RESULTS, write

SWEEP = """
import sys
sys.path.insert(0, {here!r})
import sweep_kills
sweep_kills.swept({store!r}, {executor!r}, {table!r})
"""


def swept(store: str, executor: str, table: str) -> None:
    """The sweep: 24 runs of a small GPT."""
    from functools import partial

    from sweeps import gpt

    import mixopt as mx
    from mixopt.runtime.recipe import Recipe

    draw = np.random.default_rng(0)
    tokens = {name: draw.choice(64, 20_000, p=draw.dirichlet(np.full(64, 0.1))) for name in "abc"}
    held = {name: rows[:2000] for name, rows in tokens.items()}
    mixtures = draw.dirichlet(np.ones(3), 24)
    recipe = Recipe(steps=120, batch=8)
    factory = partial(gpt, 64, 32, 16, 1)
    runs = mx.sweep(tokens, factory, mixtures, context=32, targets=held, windows=4, recipe=recipe, executor=executor, resume=store)
    runs.to_csv(table)


def start(store: Path, executor: str, table: Path) -> subprocess.Popen[bytes]:
    """The sweep in a process of its own, at the head of its own group."""
    code = SWEEP.format(here=str(Path(__file__).parent), store=str(store), executor=executor, table=str(table))
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}, start_new_session=True
    )


def workers() -> list[int]:
    """The processes of Ray's workers at work."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if b"ray::_task" in (place / "cmdline").read_bytes():
                found.append(int(place.name))
        except OSError:
            continue
    return found


def main() -> None:
    """Kill, go on, compare, and write what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--executor", default="ensemble")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "sweep_kills.json")
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        begun = time.perf_counter()
        if start(place / "whole.sqlite", given.executor, place / "whole.csv").wait() != 0:
            raise SystemExit("the undisturbed sweep failed")
        whole = time.perf_counter() - begun
        kills = killed_workers = rounds = 0
        apart = 0.0
        while kills + killed_workers < given.kills:
            rounds += 1
            store, table = place / f"{rounds}.sqlite", place / f"{rounds}.csv"
            while True:
                process = start(store, given.executor, table)
                try:
                    process.wait(timeout=float(rng.uniform(0.2, 1.1) * whole))
                    break
                except subprocess.TimeoutExpired:
                    mine = workers() if given.executor == "ray" and rng.random() < 0.5 else []
                    if mine:
                        os.kill(int(rng.choice(mine)), signal.SIGKILL)
                        killed_workers += 1
                        process.wait()
                        break
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                    kills += 1
            if process.returncode != 0:
                raise SystemExit(f"the sweep ended with {process.returncode} in round {rounds}")
            with sqlite3.connect(store) as db:
                (count,) = db.execute("select count(*) from runs").fetchone()
            if count != 24:
                raise SystemExit(f"{count} runs are in the journal of round {rounds}, not 24")
            one, two = (np.genfromtxt(place / name, delimiter=",", names=True) for name in ("whole.csv", f"{rounds}.csv"))
            losses = [name for name in one.dtype.names if name.startswith("loss")]
            apart = max([apart, *(float(np.abs(one[name] - two[name]).max()) for name in losses)])
        print(f"{kills} kills of the sweep, {killed_workers} of workers, in {rounds} sweeps: 24 of 24 runs each time")
        print(f"losses apart by {apart:.1e}")
        row = {"kills": kills, "killed_workers": killed_workers, "sweeps": rounds, "losses_apart": apart, "executor": given.executor}
        write(given.out, __doc__, {"kills": given.kills, "executor": given.executor, "seed": given.seed}, [row])


if __name__ == "__main__":
    main()
