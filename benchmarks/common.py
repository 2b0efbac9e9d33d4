"""What the benchmarks share: clocks, interleaved pairs, intervals, and records of what was measured where."""

from __future__ import annotations

import datetime
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

RESULTS = Path(__file__).parent / "results"


def seconds(work: Callable[[], Any]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def interleaved(first: Callable[[], Any], second: Callable[[], Any], pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of both [pairs], taken in turns with the order swapped every time, after one turn that does not count."""
    times = in_turns((first, second), pairs)
    return times[:, 0], times[:, 1]


def in_turns(works: Sequence[Callable[[], Any]], rounds: int) -> np.ndarray:
    """Seconds [rounds, n] of several works, each once a round, the first of them another every time, after a round that does not count."""
    for work in works:
        work()
    times = np.empty((rounds, len(works)))
    for i in range(rounds):
        for j in range(len(works)):
            which = (i + j) % len(works)
            times[i, which] = seconds(works[which])
    return times


def interval(ratios: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """Median of the ratios and its 95 % bootstrap interval."""
    draws = np.random.default_rng(seed).choice(ratios, (4000, len(ratios)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    return float(np.median(ratios)), float(low), float(high)


def step_by_hand(ours: Callable[[], Any], hand: Callable[[], Any], pairs: int, steps: int, parameters: int) -> dict[str, Any]:
    """A row of one training of a saddle against the loop written by hand, printed: their ratio, and how far their answers are apart.

    ``ours`` returns an outcome, ``hand`` the weights [k] and the last losses [k]; answers that differ end the program.
    """
    result, (weights, losses) = ours(), hand()
    apart = float(np.abs(np.asarray(result.weights) - weights.numpy()).max())
    apart_losses = float(np.abs(result.trace["losses"][-1] - losses.numpy()).max())
    if not (apart < 1e-5 and apart_losses < 1e-4):
        raise SystemExit(f"not the same computation: weights apart by {apart:.1e}, losses by {apart_losses:.1e}")
    mine, theirs = interleaved(ours, hand, pairs)
    ratio, low, high = interval(mine / theirs)
    mine_ms, theirs_ms = (1e3 * float(np.median(each)) / steps for each in (mine, theirs))
    print("parameters  mixopt / by hand, median [95 % interval]    ms a step of both    weights apart")
    print(f"{parameters:10d}  {ratio:.3f} [{low:.3f}, {high:.3f}]{'':21s} {mine_ms:.1f} {theirs_ms:.1f}{'':10s} {apart:.1e}")
    return {
        "parameters": parameters,
        "ratio": ratio,
        "low": low,
        "high": high,
        "mixopt_ms_a_step": mine_ms,
        "by_hand_ms_a_step": theirs_ms,
        "weights_apart": apart,
        "losses_apart": apart_losses,
    }


def write(path: Path, what: str | None, settings: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Write the figures whole or not at all, with the date, the command, the versions and the machine they came from."""
    record = {
        "what": what,
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "machine": {
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "processor": platform.machine(),
            "load": [round(load, 2) for load in os.getloadavg()],
        },
        "settings": settings,
        "rows": rows,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(record, indent=2) + "\n")
    part.replace(path)
