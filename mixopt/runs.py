"""Tables of proxy runs: which mixture each run was trained on, and the metrics it reached."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mixopt.errors import InputError, listed, nearest, unknown
from mixopt.files import write
from mixopt.language.domains import Domains

_Path = str | os.PathLike[str]
_KEYS = ("run", "run_id", "id", "index", "")
_EXTRAS = ("seed", "params", "tokens")
_WEIGHT_PREFIXES, _METRIC_PREFIXES, _METRIC_SUFFIXES = ("w/", "train_"), ("loss/", "metric/"), ("_val_loss",)
_SUM_TOLERANCE = 0.05


@dataclass(frozen=True, init=False)
class Targets:
    """The m named metrics of a table of runs, each with the direction that is better and its unit.

    >>> Targets(["code", "arc_bpb"]).units
    ('nats per token', 'bits per byte')

    Raises:
        InputError: no name, an empty or a repeated name, or a direction that is neither "min" nor "max".
    """

    names: tuple[str, ...]
    directions: tuple[str, ...]
    units: tuple[str, ...]

    def __init__(self, names: Iterable[str], direction: str | Mapping[str, str] = "min", unit: str | Mapping[str, str] | None = None):
        """Direction and unit are one text for all, or a mapping from name; a unit not given is nats per token (bits per byte for "bpb")."""
        names = (names,) if isinstance(names, str) else tuple(names)
        if not names or not all(isinstance(n, str) and n.strip() for n in names):
            raise InputError(f"targets need names that are not empty, found {listed(names)}")
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise InputError(f"target names must differ, but {listed(twice)} occurs more than once")
        for given in (direction, unit):
            for name in given if isinstance(given, Mapping) else ():
                if name not in names:
                    raise unknown("target", name, names)
        directions = tuple(direction if isinstance(direction, str) else direction.get(n, "min") for n in names)
        for name, way in zip(names, directions, strict=True):
            if way not in ("min", "max"):
                raise InputError(f"the direction of target {name!r} is {way!r}; it is 'min' or 'max'{nearest(way, ('min', 'max'))}")
        usual = {n: "bits per byte" if "bpb" in n.lower() else "nats per token" for n in names}
        units = tuple(unit if isinstance(unit, str) else (unit or {}).get(n, usual[n]) for n in names)
        for attribute, value in (("names", names), ("directions", directions), ("units", units)):
            object.__setattr__(self, attribute, value)

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Position of a name; raises with the nearest one suggested."""
        if name not in self.names:
            raise unknown("target", name, self.names)
        return self.names.index(name)

    def subset(self, index: Sequence[int]) -> Targets:
        """The targets at these positions."""
        names = [self.names[i] for i in index]
        return Targets(names, {self.names[i]: self.directions[i] for i in index}, {self.names[i]: self.units[i] for i in index})


@dataclass(frozen=True, eq=False)
class Runs:
    """R proxy runs: mixtures [R, k] whose rows sum to 1, metrics [R, m] in the targets' units (NaN where one is missing).

    ``params`` [R] are model parameters, ``tokens`` [R] training tokens, ``seeds`` [R] training seeds, each None where
    unknown. ``name_map`` maps a file's column to the name it became; ``notes`` are sentences on what was changed or left
    out. Make one by ``from_csv`` or ``from_arrays``, which check; the arrays cannot be written to.
    """

    domains: Domains
    targets: Targets
    mixtures: np.ndarray
    metrics: np.ndarray
    ids: tuple[str, ...]
    params: np.ndarray | None = None
    tokens: np.ndarray | None = None
    seeds: np.ndarray | None = None
    name_map: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def from_arrays(
        cls,
        domains: Domains | Iterable[str],
        mixtures: ArrayLike,
        targets: Targets | Iterable[str],
        metrics: ArrayLike,
        *,
        ids: Iterable[object] | None = None,
        params: ArrayLike | None = None,
        tokens: ArrayLike | None = None,
        seeds: ArrayLike | None = None,
    ) -> Runs:
        """Runs from mixtures [R, k] and metrics [R, m]; each row of mixtures is divided by its sum.

        Raises:
            InputError: shapes that do not fit, repeated ids, a weight that is negative, NaN or infinite, an infinite
                metric, or a row whose sum is off 1 by more than 5 %.
        """
        domains = domains if isinstance(domains, Domains) else Domains(domains)
        targets = targets if isinstance(targets, Targets) else Targets(targets)
        weights, values = np.array(mixtures, dtype=float), np.array(metrics, dtype=float)
        names = tuple(str(i) for i in (range(len(weights)) if ids is None else ids))
        _check_shape("mixtures", weights, (len(names), len(domains)), domains.names)
        _check_shape("metrics", values, (len(names), len(targets)), targets.names)
        _check_ids(names, "the table of runs")
        _check_cells(weights, ~np.isfinite(weights) | (weights < 0), names, domains.names, "weight", "finite and >= 0")
        _check_cells(values, np.isinf(values), names, targets.names, "metric", "finite, or NaN where it is missing")
        weights, notes = _renormalised(weights, names)
        missing = int(np.isnan(values).sum())
        if missing:
            holes = [t for t, bad in zip(targets.names, np.isnan(values).any(0), strict=True) if bad]
            notes += (f"{missing} metric value{'s are' if missing > 1 else ' is'} missing, of {listed(holes)}",)
        extras: dict[str, Any] = {
            name: None if given is None else _frozen(np.broadcast_to(np.asarray(given), (len(names),)).astype(kind))
            for name, given, kind in (("params", params, float), ("tokens", tokens, float), ("seeds", seeds, np.int64))
        }
        return cls(domains, targets, _frozen(weights), _frozen(values), names, **extras, notes=notes)

    @classmethod
    def from_csv(
        cls,
        mixtures: _Path,
        metrics: _Path | None = None,
        *,
        on: str | None = None,
        direction: str | Mapping[str, str] = "min",
        unit: str | Mapping[str, str] | None = None,
    ) -> Runs:
        """Runs from a pair of CSV files as RegMix and Olmix publish them, or from one file that ``to_csv`` wrote.

        A pair is joined on the column ``on``, else on the first of run, run_id, id, index and an unnamed first column that
        both have, in the order of the mixtures. The affixes ``train_``, ``metric/`` and ``_val_loss`` are taken off where
        all columns have them; ``describe()`` prints the map. An empty metric is read as missing.

        Raises:
            InputError: a file that cannot be read or joined, a cell that is no number, repeated runs, or what ``from_arrays`` refuses.
        """
        left = _read(mixtures)
        right = left if metrics is None else _read(metrics)
        key = _key(left, right, on)
        weight_map = _stripped(_value_columns(left, "w/" if metrics is None else None), _WEIGHT_PREFIXES, ())
        metric_map = _stripped(_value_columns(right, "loss/" if metrics is None else None), _METRIC_PREFIXES, _METRIC_SUFFIXES)
        left_rows, right_rows = left.by(key), right.by(key)
        ids = [i for i in left_rows if i in right_rows]
        if not ids:
            raise InputError(
                f"no run of {left.path} is in {right.path} by column {key!r}: {listed(left_rows)} against {listed(right_rows)}; give on="
            )
        extras: dict[str, np.ndarray] = {}
        for table, rows in ((right, right_rows), (left, left_rows)):
            extras |= {e: table.numbers([e], [rows[i] for i in ids])[:, 0] for e in _EXTRAS if e in table.header}
        runs = cls.from_arrays(
            Domains(weight_map.values()),
            left.numbers(list(weight_map), [left_rows[i] for i in ids]),
            Targets(metric_map.values(), direction, unit),
            right.numbers(list(metric_map), [right_rows[i] for i in ids], missing=True),
            ids=ids,
            params=extras.get("params"),
            tokens=extras.get("tokens"),
            seeds=extras.get("seed"),
        )
        notes = _left_out(left, left_rows, right_rows, "metrics") + _left_out(right, right_rows, left_rows, "mixture")
        return replace(runs, name_map=MappingProxyType(weight_map | metric_map), notes=notes + runs.notes)

    def to_csv(self, path: _Path) -> None:
        """Write one CSV, columns run, seed, params, tokens (where known), ``w/<domain>``, ``loss/<target>``; whole or not at all."""
        extras = [(n, a) for n, a in (("seed", self.seeds), ("params", self.params), ("tokens", self.tokens)) if a is not None]
        header = ["run", *(n for n, _ in extras), *(f"w/{d}" for d in self.domains), *(f"loss/{t}" for t in self.targets.names)]
        columns = [*(a.tolist() for _, a in extras), *self.mixtures.T.tolist(), *self.metrics.T.tolist()]
        text = io.StringIO(newline="")
        csv.writer(text).writerows([header, *zip(self.ids, *columns, strict=True)])
        write(path, text.getvalue())

    def subset(self, index: ArrayLike) -> Runs:
        """The runs at these positions, or where a mask [R] is true."""
        rows = np.arange(len(self))[np.asarray(index)]
        kept: dict[str, Any] = {n: _frozen(a[rows]) for n in ("params", "tokens", "seeds") if (a := getattr(self, n)) is not None}
        ids = tuple(self.ids[r] for r in rows)
        return replace(self, mixtures=_frozen(self.mixtures[rows]), metrics=_frozen(self.metrics[rows]), ids=ids, **kept)

    def describe(self) -> str:
        """Counts, the ranges seen, the map from columns to names, and the notes, as text."""
        zeros = np.mean(self.mixtures == 0)
        lines = [f"{len(self)} runs, {len(self.domains)} domains, {len(self.targets)} targets; {zeros:.0%} of the weights are exactly 0"]
        lines += [f"  note: {note}" for note in self.notes]
        width = max(map(len, (*self.domains.names, *self.targets.names)))
        for name, w in zip(self.domains, self.mixtures.T, strict=True):
            lines.append(f"  domain {name:<{width}}  {w.min():.3f} to {w.max():.3f}")
        for name, way, unit, y in zip(self.targets.names, self.targets.directions, self.targets.units, self.metrics.T, strict=True):
            seen = y[np.isfinite(y)]
            span = f"{seen.min():.4g} to {seen.max():.4g} {unit}, {way}" if len(seen) else "no value"
            lines.append(f"  target {name:<{width}}  {span}")
        lines += [f"  column {column} -> {name}" for column, name in self.name_map.items() if column != name]
        return "\n".join(lines)


@dataclass(frozen=True)
class _Table:
    """A CSV file as text cells, with the line that each row stands on."""

    path: str
    header: list[str]
    rows: list[list[str]]

    def by(self, key: str | None) -> dict[str, int]:
        """Row position by run, in order; without a key column the runs are numbered."""
        if key is None:
            return {str(i): i for i in range(len(self.rows))}
        ids = [row[self.header.index(key)].strip() for row in self.rows]
        _check_ids(ids, f"column {key!r} of {self.path}")
        return {run: i for i, run in enumerate(ids)}

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


def _read(path: _Path) -> _Table:
    path = os.fspath(path)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if any(cell.strip() for cell in row)]
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no CSV text in UTF-8: {error}") from error
    if len(rows) < 2:
        raise InputError(f"{path} has {len(rows)} lines; a header and at least one run are needed")
    header = [name.strip() for name in rows[0]]
    if header[0].startswith("Unnamed:"):
        header[0] = ""
    twice = sorted({n for n in header if header.count(n) > 1})
    if twice:
        raise InputError(f"{path} has more than one column {listed(map(repr, twice))}; column names must differ")
    for number, row in enumerate(rows[1:], 1):
        if len(row) != len(header):
            raise InputError(f"{path}, row {number}: {len(row)} cells, but the header has {len(header)}")
    return _Table(path, header, rows[1:])


def _key(left: _Table, right: _Table, on: str | None) -> str | None:
    for table in (left, right):
        if on is not None and on not in table.header:
            raise unknown(f"column for on= in {table.path}:", on, table.header)
    shared = [k for k in ((on,) if on is not None else _KEYS) if k in left.header and k in right.header]
    if shared:
        return shared[0]
    if left is right:
        return None
    raise InputError(
        f"{left.path} and {right.path} have no column in common that names the runs; expected run, run_id, id, index or an unnamed "
        f"first column in both, found {listed(left.header)} and {listed(right.header)}; name one with on="
    )


def _value_columns(table: _Table, prefix: str | None) -> list[str]:
    """The columns that hold numbers of interest: by prefix in a file of ours, else all but the metadata."""
    if prefix is not None:
        found = [c for c in table.header if c.startswith(prefix)]
        mend = (
            f"{table.path} has no column {prefix}<name>; in a single file weights are named w/<domain> and metrics loss/<target>, "
            "as to_csv writes them; else give a second file with the metrics"
        )
    else:
        found = [c for c in table.header if c not in (*_KEYS, *_EXTRAS, "name")]
        mend = f"{table.path} has only the columns {listed(table.header)}; one column for each domain or metric is needed"
    if not found:
        raise InputError(mend)
    return found


def _stripped(columns: list[str], prefixes: tuple[str, ...], suffixes: tuple[str, ...]) -> dict[str, str]:
    """Column -> name, without the known affixes that all columns share."""
    names = columns
    for affix in prefixes:
        if all(n.startswith(affix) and n != affix for n in names):
            names = [n.removeprefix(affix) for n in names]
    for affix in suffixes:
        if all(n.endswith(affix) and n != affix for n in names):
            names = [n.removesuffix(affix) for n in names]
    return dict(zip(columns, names, strict=True))


def _renormalised(weights: np.ndarray, ids: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Rows divided by their sums (left bit for bit where that is 1 already), and the note that says so."""
    sums = weights.sum(1)
    off = np.abs(sums - 1)
    worst = int(off.argmax())
    if off[worst] > _SUM_TOLERANCE:
        raise InputError(
            f"the weights of run {ids[worst]!r} sum to {sums[worst]:.6g}, off 1 by more than {_SUM_TOLERANCE:.0%}; "
            "correct the row, or divide it by its sum if that is meant"
        )
    scaled = np.where((off > 1e-13)[:, None], weights / sums[:, None], weights)
    if off[worst] <= 1e-9:
        return scaled, ()
    return scaled, (f"rows summed to {sums.min():.4g} to {sums.max():.4g} (worst: run {ids[worst]!r}) and were divided by their sums",)


def _left_out(table: _Table, rows: Mapping[str, int], others: Mapping[str, int], lack: str) -> tuple[str, ...]:
    gone = [i for i in rows if i not in others]
    return (f"{len(gone)} of {len(rows)} runs of {table.path} have no {lack} and are left out: {listed(gone)}",) if gone else ()


def _check_shape(what: str, array: np.ndarray, wanted: tuple[int, int], names: Sequence[str]) -> None:
    if array.shape != wanted or not wanted[0]:
        raise InputError(f"{what} have shape {array.shape}, but {max(wanted[0], 1)} runs x {wanted[1]} names {listed(names)} need {wanted}")


def _check_ids(ids: Sequence[str], where: str) -> None:
    seen: set[str] = set()
    twice = [i for i in ids if i in seen or seen.add(i)]  # type: ignore[func-returns-value]
    if twice:
        raise InputError(f"{where} names a run more than once: {listed(sorted(set(twice)))}; every run needs its own name")


def _check_cells(values: np.ndarray, bad: np.ndarray, ids: Sequence[str], names: Sequence[str], what: str, expected: str) -> None:
    if bad.any():
        r, c = np.argwhere(bad)[0]
        raise InputError(f"run {ids[r]!r}, column {names[c]!r}: the {what} is {values[r, c]}; it must be {expected}")


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array
