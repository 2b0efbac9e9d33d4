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
