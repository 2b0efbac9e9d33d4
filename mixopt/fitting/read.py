"""A fit's folder read back, and what reading a table did to its names."""

from __future__ import annotations

import os
from pathlib import Path

from mixopt.runs import Runs

from .fitted import Fitted
from .outputs import RUNS


def study(folder: str | os.PathLike[str]) -> tuple[Fitted, Runs | None]:
    """The fit in a folder, and its runs where they are still there."""
    fitted, table = Fitted.load(folder), Path(folder) / RUNS
    return fitted, Runs.from_csv(table) if table.exists() else None


def renamed(runs: Runs) -> tuple[str, ...]:
    """The name map in a line for each pattern: how many columns, what was taken off, and what is left."""
    patterns: dict[str, list[str]] = {}
    for column, name in runs.name_map.items():
        patterns.setdefault(column.replace(name, "NAME", 1), []).append(name)
    return tuple(f"{len(names)} columns {pattern} -> NAME" for pattern, names in patterns.items() if pattern != "NAME")
