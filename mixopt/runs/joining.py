"""Tables of runs put one below the other."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mixopt.errors import InputError, listed

from .targets import Targets

if TYPE_CHECKING:
    from .table import Runs


def joined(first: Runs, *others: Runs) -> Runs:
    """One table of all runs, in order; see ``Runs.joined``."""
    tables = (first, *others)
    for table in others:
        if set(table.domains) != set(first.domains):
            raise InputError(
                f"one table of runs is over {first.domains} and another over {table.domains}; they must have the same domains: "
                "runs.over(domains, became) brings the older runs to those of the newer"
            )
    ids = [i for table in tables for i in table.ids]
    twice = sorted({i for i in ids if ids.count(i) > 1}) if len(set(ids)) < len(ids) else []
    if twice:
        raise InputError(f"the tables have some runs in common, {listed(twice)}; leave them out of one, or rename them")
    targets = _targets(tables)
    mixtures = np.vstack([t.mixtures[:, [t.domains.index(n) for n in first.domains]] for t in tables])
    metrics = np.full((len(ids), len(targets)), np.nan)
    start = 0
    for table in tables:
        metrics[start : start + len(table), [targets.index(n) for n in table.targets.names]] = table.metrics
        start += len(table)
    kept: dict[str, Any] = {}
    for name in ("params", "tokens", "steps", "seeds", "weights", "labels"):
        columns = [getattr(table, name) for table in tables]
        if all(column is not None for column in columns):
            kept[name] = [value for column in columns for value in column]
    found = type(first).from_arrays(first.domains, mixtures, targets, metrics, ids=ids, rescale=False, **kept)
    return replace(found, notes=tuple(dict.fromkeys(note for table in tables for note in table.notes)))


def _targets(tables: tuple[Runs, ...]) -> Targets:
    """The targets of all tables, each with its one direction and unit."""
    found: dict[str, tuple[str, str]] = {}
    for table in tables:
        for name, way, unit in zip(table.targets.names, table.targets.directions, table.targets.units, strict=True):
            if found.setdefault(name, (way, unit)) != (way, unit):
                before = ", ".join(found[name])
                raise InputError(
                    f"target {name!r} is {before} in one table and {way}, {unit} in another; read both with one direction= and unit="
                )
    return Targets(found, {n: way for n, (way, _) in found.items()}, {n: unit for n, (_, unit) in found.items()})
