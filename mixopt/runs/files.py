"""Tables of runs as text cells: joined by a key column, their columns named."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from mixopt.errors import InputError, listed, unknown

Path = str | os.PathLike[str]
KEYS = ("run", "run_id", "id", "index", "")
EXTRAS = ("seed", "params", "tokens", "steps", "weight")
LABEL = "name"
WEIGHT_PREFIXES, METRIC_PREFIXES, METRIC_SUFFIXES = ("w/", "train_"), ("loss/", "metric/"), ("_val_loss",)
LOWER, HIGHER = "loss/", "score/"
"""Prefixes of the metrics to be minimised and to be maximised in a file of ours."""
_ROUNDED = 0.005
"""How far weights that were rounded may sum off 1."""


@final
@dataclass(frozen=True)
class Table:
    """A table as text cells, and where it is from."""

    path: str
    header: list[str]
    rows: list[list[str]]

    def by(self, key: str | None) -> dict[str, int]:
        """Row position by run, in order; without a key column the runs are numbered."""
        if key is None:
            return {str(i): i for i in range(len(self.rows))}
        ids = [row[self.header.index(key)].strip() for row in self.rows]
        check_ids(ids, f"column {key!r} of {self.path}")
        return {run: i for i, run in enumerate(ids)}

    def texts(self, column: str, rows: list[int]) -> list[str]:
        """The cells of a column as they stand."""
        place = self.header.index(column)
        return [self.rows[r][place].strip() for r in rows]

    def numbers(self, columns: list[str], rows: list[int], missing: bool = False) -> np.ndarray:
        """The cells of these columns and rows as float64; an empty one is NaN where ``missing`` is allowed."""
        out = np.empty((len(rows), len(columns)))
        places = [self.header.index(c) for c in columns]
        for r, row in enumerate(rows):
            for c, place in enumerate(places):
                cell = self.rows[row][place].strip()
                try:
                    out[r, c] = np.nan if missing and not cell else float(cell)
                except ValueError:
                    raise InputError(f"{self.path}, row {row + 1}, column {columns[c]!r}: {cell!r} is not a number") from None
        return out


def join_key(left: Table, right: Table, on: str | None) -> str | None:
    """The column that names the runs in both tables; None for a single table without one."""
    for table in (left, right):
        if on is not None and on not in table.header:
            raise unknown(f"column for on= in {table.path}:", on, table.header)
    shared = [k for k in ((on,) if on is not None else KEYS) if k in left.header and k in right.header]
    if shared:
        return shared[0]
    if left is right:
        return None
    raise InputError(
        f"{left.path} and {right.path} have no column in common that names the runs; expected run, run_id, id, index or an unnamed "
        f"first column in both, found {listed(left.header)} and {listed(right.header)}; name one with on="
    )


def weight_columns(table: Table, paired: bool) -> dict[str, str]:
    """Column -> domain: all but the metadata in a file of a pair; in one file ``w/<domain>``, or the first columns that sum to 1."""
    if not paired and not (first := summing(table)):
        return _prefixed(table, ("w/",))
    return stripped(_numbers(table) if paired else first, WEIGHT_PREFIXES, ())


def metric_columns(table: Table, paired: bool) -> dict[str, str]:
    """Column -> target: all but the metadata in a file of a pair; in one file ``loss/<target>`` and ``score/<target>``, or what
    comes after the weights."""
    first = [] if paired else summing(table)
    if not paired and not first:
        return _prefixed(table, (LOWER, HIGHER))
    return stripped([c for c in _numbers(table) if c not in first], METRIC_PREFIXES, METRIC_SUFFIXES)


def summing(table: Table) -> list[str]:
    """The first columns, shares that sum to 1 in every row: the weights of a file that names nothing by a prefix.

    None where a column has a prefix of ours, where no number of first columns sums to 1 or several do, or where nothing follows.
    """
    columns = _numbers(table)
    if any(c.startswith(("w/", LOWER, HIGHER)) for c in columns):
        return []
    sums, ends = np.zeros(len(table.rows)), []
    for place, column in enumerate(columns[:-1], start=1):
        try:
            shares = table.numbers([column], list(range(len(table.rows))))[:, 0]
        except InputError:
            break
        if not ((shares >= 0) & (shares <= 1)).all():
            break
        sums += shares
        ends += [place] * bool((np.abs(sums - 1) <= _ROUNDED).all())
    return columns[: ends[0]] if len(ends) == 1 else []


def directions(columns: Mapping[str, str]) -> dict[str, str]:
    """Target -> direction by the prefix of its column in a file of ours, where it has one."""
    return {name: "min" if c.startswith(LOWER) else "max" for c, name in columns.items() if c.startswith((LOWER, HIGHER))}


def chosen(columns: Mapping[str, str], only: Iterable[str] | None, drop: Iterable[str]) -> dict[str, str]:
    """The columns (column -> name) that are kept, each told by its column or its name.

    Raises:
        InputError: a name that is not in the table, or nothing left.
    """
    wanted = list(columns.values()) if only is None else [_name_of(columns, n) for n in only]
    gone = {_name_of(columns, n) for n in drop}
    kept = {c: n for c, n in columns.items() if n in wanted and n not in gone}
    if not kept:
        raise InputError(f"every metric of {listed(columns.values())} is dropped; keep at least one")
    return kept


def _name_of(columns: Mapping[str, str], name: str) -> str:
    if name in columns.values():
        return name
    if name not in columns:
        raise unknown("target", name, columns.values())
    return columns[name]


def _numbers(table: Table) -> list[str]:
    found = [c for c in table.header if c not in (*KEYS, *EXTRAS, LABEL)]
    if not found:
        raise InputError(f"{table.path} has only the columns {listed(table.header)}; one column for each domain or metric is needed")
    return found


def _prefixed(table: Table, prefixes: tuple[str, ...]) -> dict[str, str]:
    found = {c: c.removeprefix(p) for c in table.header for p in prefixes if c.startswith(p)}
    if not found:
        raise InputError(
            f"{table.path} has no column {prefixes[0]}<name>; in a single file weights are named w/<domain> and metrics loss/<target> "
            "or score/<target>, as to_csv writes them, or the weights come first and sum to 1 in every row; else give a second file with "
            "the metrics"
        )
    return found


def stripped(columns: list[str], prefixes: tuple[str, ...], suffixes: tuple[str, ...]) -> dict[str, str]:
    """Column -> name, without the known affixes that all columns share."""
    names = columns
    for affix in prefixes:
        if all(n.startswith(affix) and n != affix for n in names):
            names = [n.removeprefix(affix) for n in names]
    for affix in suffixes:
        if all(n.endswith(affix) and n != affix for n in names):
            names = [n.removesuffix(affix) for n in names]
    return dict(zip(columns, names, strict=True))


def left_out(table: Table, rows: Mapping[str, int], others: Mapping[str, int], lack: str) -> tuple[str, ...]:
    """The note on the runs that only one of two tables has."""
    gone = [i for i in rows if i not in others]
    return (f"{len(gone)} of {len(rows)} runs of {table.path} have no {lack} and are left out: {listed(gone)}",) if gone else ()


def check_ids(ids: Sequence[str], where: str) -> None:
    """Refuse a run that is named twice."""
    seen: set[str] = set()
    twice = [i for i in ids if i in seen or seen.add(i)]  # type: ignore[func-returns-value]
    if twice:
        raise InputError(f"{where} names a run more than once: {listed(sorted(set(twice)))}; every run needs its own name")
