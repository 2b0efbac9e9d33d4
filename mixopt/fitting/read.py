"""A fit's folder read back, and what reading a table did to its names."""

from __future__ import annotations

import os
from pathlib import Path

from mixopt.runs import Runs, files

from .fitted import Fitted
from .outputs import RUNS

_BEFORE = (*files.WEIGHT_PREFIXES, *files.METRIC_PREFIXES, files.HIGHER)


def study(folder: str | os.PathLike[str]) -> tuple[Fitted, Runs | None]:
    """The fit in a folder, and its runs where they are still there."""
    fitted, table = Fitted.load(folder), Path(folder) / RUNS
    return fitted, Runs.from_csv(table) if table.exists() else None


def renamed(runs: Runs) -> tuple[str, ...]:
    """The name map in a line for each pattern: how many columns, and what was taken off them."""
    patterns: dict[str, int] = {}
    for column, name in runs.name_map.items():
        before = next((p for p in _BEFORE if column.startswith(p + name)), "")
        pattern = f"{before}NAME{column[len(before) + len(name) :]}"
        patterns[pattern] = patterns.get(pattern, 0) + 1
    return tuple(f"{count} column{'s' * (count > 1)} {pattern} -> NAME" for pattern, count in patterns.items() if pattern != "NAME")
