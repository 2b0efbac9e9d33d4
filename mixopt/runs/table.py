"""Tables of proxy runs: which mixture each run was trained on, and the metrics it reached."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from mixopt import notebook
from mixopt.errors import InputError, MissingExtraError, listed, unknown
from mixopt.files import write
from mixopt.language.domains import Domains

from . import files, sources
from .joining import joined
from .oddities import oddities, replicates, signal_to_noise, spread
from .regrouping import Became, over
from .targets import Targets, settled

if TYPE_CHECKING:
    from pandas import DataFrame

SCALES = {"params": "model parameters N", "tokens": "training tokens D", "steps": "optimiser steps s"}
"""What a run has beside its mixture that a law may depend on, by the name that ``Runs`` and the laws use."""

_SUM_TOLERANCE = 0.05


@dataclass(frozen=True, eq=False)
class Runs:
    """R proxy runs: mixtures [R, k] whose rows sum to 1, metrics [R, m] in the targets' units (NaN where one is missing).

    ``params`` [R] are model parameters N, ``tokens`` [R] training tokens D, ``steps`` [R] optimiser steps s, ``seeds`` [R] training
    seeds, ``weights`` [R] how much each run counts in a fit (2 is the run twice), ``labels`` [R] names for people, each None
    where unknown. ``name_map`` maps a file's column to the name it became; ``notes`` are sentences on what was changed or left
    out. Make one by ``from_csv`` or ``from_arrays``, which check; the arrays cannot be written to.
    """

    domains: Domains
    targets: Targets
    mixtures: np.ndarray
    metrics: np.ndarray
    ids: tuple[str, ...]
    params: np.ndarray | None = None
    tokens: np.ndarray | None = None
    steps: np.ndarray | None = None
    seeds: np.ndarray | None = None
    weights: np.ndarray | None = None
    labels: tuple[str, ...] | None = None
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
        labels: Iterable[str] | None = None,
        params: ArrayLike | None = None,
        tokens: ArrayLike | None = None,
        steps: ArrayLike | None = None,
        seeds: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        rescale: bool = True,
    ) -> Runs:
        """Runs from mixtures [R, k] and metrics [R, m]; each row of mixtures is divided by its sum, unless ``rescale=False``.

        Raises:
            InputError: shapes that do not fit, repeated ids, a weight that is negative, NaN or infinite, an infinite
                metric, a row whose sum is off 1 by more than 5 %, or N, D or s that are not > 0.
        """
        domains = domains if isinstance(domains, Domains) else Domains(domains)
        targets = targets if isinstance(targets, Targets) else Targets(targets)
        rows, values = np.array(mixtures, dtype=float), np.array(metrics, dtype=float)
        names = tuple(str(i) for i in (range(len(rows)) if ids is None else ids))
        _check_shape("mixtures", rows, (len(names), len(domains)), domains.names)
        _check_shape("metrics", values, (len(names), len(targets)), targets.names)
        files.check_ids(names, "the table of runs")
        _check_cells(rows, ~np.isfinite(rows) | (rows < 0), names, domains.names, "weight", "finite and >= 0")
        _check_cells(values, np.isinf(values), names, targets.names, "metric", "finite, or NaN where it is missing")
        scaled, notes = _renormalised(rows, names)
        rows, notes = (scaled, notes) if rescale else (rows, ())
        missing = int(np.isnan(values).sum())
        if missing:
            holes = [t for t, bad in zip(targets.names, np.isnan(values).any(0), strict=True) if bad]
            notes += (f"{missing} metric value{'s are' if missing > 1 else ' is'} missing, of {listed(holes)}",)
        columns = {"params": params, "tokens": tokens, "steps": steps, "weights": weights}
        extras: dict[str, Any] = {n: _column(n, given, names) for n, given in columns.items() if given is not None}
        if seeds is not None:
            extras["seeds"] = _frozen(np.broadcast_to(np.asarray(seeds), (len(names),)).astype(np.int64))
        named = None if labels is None else tuple(map(str, labels))
        if named is not None and len(named) != len(names):
            raise InputError(f"there are {len(named)} labels for {len(names)} runs")
        return cls(domains, targets, _frozen(rows), _frozen(values), names, **extras, labels=named, notes=notes)

    @classmethod
    def from_csv(
        cls,
        mixtures: files.Path | DataFrame,
        metrics: files.Path | DataFrame | None = None,
        *,
        on: str | None = None,
        direction: str | Mapping[str, str] | None = None,
        unit: str | Mapping[str, str] | None = None,
        only: Iterable[str] | None = None,
        drop: Iterable[str] = (),
        rescale: bool = True,
    ) -> Runs:
        """Runs from a pair of CSV files as RegMix and Olmix publish them, or from one file: as ``to_csv`` writes it, or with the weights
        first, in columns that sum to 1 in every row, and the metrics after them.

        Parquet files (by their ending) and pandas frames are taken too, and long tables: a row for each run and domain (columns run,
        domain, weight) or each run and target (run, target, value).

        A pair is joined on the column ``on``, else on the first of run, run_id, id, index and an unnamed first column that
        both have, in the order of the mixtures; a column ``name`` labels the runs. The affixes ``train_``, ``metric/`` and
        ``_val_loss`` are taken off where all columns have them; ``describe()`` prints the map. An empty metric is read as
        missing. ``rescale=False`` keeps rows of mixtures as they are where their sum is off 1 by a rounding, as RegMix's code
        does. ``only`` and ``drop`` choose metrics, by name or column. Directions and units that are not given come from
        the columns' words (loss, bpb, accuracy, ...) where those are certain.

        Raises:
            InputError: a file that cannot be read or joined, a cell that is no number, repeated runs, a metric whose
                direction is not certain, or what ``from_arrays`` refuses.
        """
        left = sources.read(mixtures)
        right = left if metrics is None else sources.read(metrics)
        key = files.join_key(left, right, on)
        weight_map = files.weight_columns(left, paired=metrics is not None)
        metric_map = files.metric_columns(right, paired=metrics is not None)
        metric_map = files.chosen(metric_map, only, drop)
        targets = settled(metric_map, direction, unit, known={} if metrics is not None else files.directions(metric_map))
        left_rows, right_rows = left.by(key), right.by(key)
        ids = [i for i in left_rows if i in right_rows]
        if not ids:
            raise InputError(
                f"no run of {left.path} is in {right.path} by column {key!r}: {listed(left_rows)} against {listed(right_rows)}; give on="
            )
        extras: dict[str, np.ndarray] = {}
        labels = None
        for table, rows in ((right, right_rows), (left, left_rows)):
            extras |= {e: table.numbers([e], [rows[i] for i in ids])[:, 0] for e in files.EXTRAS if e in table.header}
            labels = table.texts(files.LABEL, [rows[i] for i in ids]) if files.LABEL in table.header else labels
        runs = cls.from_arrays(
            Domains(weight_map.values()),
            left.numbers(list(weight_map), [left_rows[i] for i in ids]),
            targets,
            right.numbers(list(metric_map), [right_rows[i] for i in ids], missing=True),
            ids=ids,
            labels=labels,
            params=extras.get("params"),
            tokens=extras.get("tokens"),
            steps=extras.get("steps"),
            seeds=extras.get("seed"),
            weights=extras.get("weight"),
            rescale=rescale,
        )
        alone = metrics is None and not any(c.startswith("w/") for c in weight_map)
        notes: tuple[str, ...] = (
            (f"the columns {listed(weight_map)} sum to 1 and are the weights, those after them the metrics",) if alone else ()
        )
        notes += files.left_out(left, left_rows, right_rows, "metrics") + files.left_out(right, right_rows, left_rows, "mixture")
        return replace(runs, name_map=MappingProxyType(weight_map | metric_map), notes=notes + runs.notes)

    def to_csv(self, path: files.Path) -> None:
        """Write one CSV, whole or not at all, which ``from_csv`` reads.

        Columns: run, then name, seed, params, tokens, steps and weight where known, ``w/<domain>``, and ``loss/<target>`` for metrics to be
        minimised, ``score/<target>`` for those to be maximised. Units are not written.
        """
        _write(path, *self._columns())

    def to_pair(self, mixtures: files.Path, metrics: files.Path, layout: str) -> None:
        """Write two CSVs, each whole or not at all, as RegMix ("regmix") or Olmix ("olmix") lay theirs out; ``from_csv`` reads the pair.

        "regmix": index and ``train_<domain>``, index and ``metric/<target>_val_loss`` (without the ending where it is to be maximised);
        "olmix": run, name, index and the domains' or targets' own names. Scales, seeds and weights are not written.

        Raises:
            InputError: another layout.
        """
        if layout not in ("regmix", "olmix"):
            raise unknown("layout", layout, ("regmix", "olmix"))
        whose: list[tuple[str, Sequence[Any]]] = [("index", self.ids)]
        domains, targets = list(self.domains), list(self.targets.names)
        if layout == "regmix":
            ends = ["_val_loss" if way == "min" else "" for way in self.targets.directions]
            domains, targets = [f"train_{d}" for d in domains], [f"metric/{t}{end}" for t, end in zip(targets, ends, strict=True)]
        else:
            whose = [("run", self.ids), ("name", self.labels or self.ids), ("index", range(len(self)))]
        for path, names, table in ((mixtures, domains, self.mixtures), (metrics, targets, self.metrics)):
            cells = [["" if v != v else v for v in column] for column in table.T.tolist()]
            _write(path, [*(n for n, _ in whose), *names], [*(column for _, column in whose), *cells])

    def _columns(self) -> tuple[list[str], list[list[Any]]]:
        """The names and the cells of the columns that a file of ours has."""
        known = (("name", self.labels), ("seed", self.seeds), *((n, getattr(self, n)) for n in SCALES), ("weight", self.weights))
        extras = [(n, list(a) if isinstance(a, tuple) else a.tolist()) for n, a in known if a is not None]
        ways = [files.LOWER if way == "min" else files.HIGHER for way in self.targets.directions]
        metrics = [f"{way}{t}" for way, t in zip(ways, self.targets.names, strict=True)]
        header = ["run", *(n for n, _ in extras), *(f"w/{d}" for d in self.domains), *metrics]
        return header, [list(self.ids), *(a for _, a in extras), *self.mixtures.T.tolist(), *self.metrics.T.tolist()]

    @classmethod
    def from_frame(cls, mixtures: DataFrame, metrics: DataFrame | None = None, **settings: Any) -> Runs:
        """Runs from one pandas frame or a pair of them, read as ``from_csv`` reads files; an index counts where it has a name."""
        return cls.from_csv(mixtures, metrics, **settings)

    def to_frame(self) -> DataFrame:
        """The table of ``to_csv`` as a pandas frame.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise MissingExtraError("pandas", "data", "A frame of runs") from None
        header, columns = self._columns()
        return pandas.DataFrame(dict(zip(header, columns, strict=True)))

    def to_parquet(self, path: files.Path) -> None:
        """Write the table of ``to_csv`` as Parquet, whole or not at all; ``from_csv`` reads it.

        Raises:
            MissingExtraError: pyarrow is not installed.
        """
        header, columns = self._columns()
        sources.write_parquet(path, dict(zip(header, columns, strict=True)))

    def subset(self, index: ArrayLike) -> Runs:
        """The runs at these positions, or where a mask [R] is true."""
        rows = np.arange(len(self))[np.asarray(index)]
        kept: dict[str, Any] = {n: _frozen(a[rows]) for n in (*SCALES, "seeds", "weights") if (a := getattr(self, n)) is not None}
        labels = None if self.labels is None else tuple(self.labels[r] for r in rows)
        ids = tuple(self.ids[r] for r in rows)
        return replace(self, mixtures=_frozen(self.mixtures[rows]), metrics=_frozen(self.metrics[rows]), ids=ids, labels=labels, **kept)

    def replicates(self) -> tuple[tuple[int, ...], ...]:
        """The positions of runs with the same mixture, and the same N, D and steps: groups of two or more."""
        return replicates(self)

    def noise(self) -> np.ndarray:
        """The pooled standard deviation of each target [m] between runs of one mixture, in its unit; NaN without replicates."""
        return spread(self)

    def signal_to_noise(self) -> np.ndarray:
        """The standard deviation of each target [m] between mixtures, noise taken off, over its noise; NaN without replicates.

        Below 1 the target tells runs apart by chance more than by mixture.
        """
        return signal_to_noise(self)

    def joined(self, *others: Runs) -> Runs:
        """These runs and those of other tables over the same domains, such as the rounds of a search: one table, in order.

        Targets are those that any table has, missing where one lacks them; scales and seeds are kept where all tables have them.

        Raises:
            InputError: other domains (``over`` brings older runs to the new ones), a run in two tables, or a target with another
                direction or unit.
        """
        return joined(self, *others)

    def over(self, domains: Domains | Iterable[str], became: Became | None = None) -> Runs:
        """These runs over another set of domains, of which they are still true: to be joined with new runs after the data changed.

        ``became`` maps an old domain to its new name, or to the shares (or token counts) of the new domains that it was split into, in
        which the old runs read it. A new domain that no old one became has weight 0 in every run. Runs with weight in a domain that is
        gone are left out. The notes say all of this. A domain whose text was changed is a new one: give it another name.

        >>> runs = Runs.from_arrays(["web", "pdf"], [[1.0, 0.0], [0.5, 0.5]], ["loss"], [[2.0], [1.9]])
        >>> found = runs.over(["news", "forum", "maths"], {"web": {"news": 0.75, "forum": 0.25}})
        >>> found.mixtures
        array([[0.75, 0.25, 0.  ]])
        >>> found.notes[0]
        '1 of 2 runs have weight in (pdf), which is gone, and are left out'

        Raises:
            InputError: names that are not there, two old domains in one new, or no run left.
        """
        return over(self, domains, became or {})

    def describe(self) -> str:
        """Counts, the ranges seen, repeated mixtures, metrics far from the rest, the map from columns to names, and the notes, as text."""
        zeros = np.mean(self.mixtures == 0)
        lines = [f"{len(self)} runs, {len(self.domains)} domains, {len(self.targets)} targets; {zeros:.0%} of the weights are exactly 0"]
        lines += [f"  note: {note}" for note in (*self.notes, *oddities(self))]
        width = max(map(len, (*self.domains.names, *self.targets.names)))
        for name, w in zip(self.domains, self.mixtures.T, strict=True):
            lines.append(f"  domain {name:<{width}}  {w.min():.3f} to {w.max():.3f}")
        clear = self.signal_to_noise()
        for j, (name, way, unit) in enumerate(zip(self.targets.names, self.targets.directions, self.targets.units, strict=True)):
            seen = self.metrics[np.isfinite(self.metrics[:, j]), j]
            span = f"{seen.min():.4g} to {seen.max():.4g} {unit}, {way}" if len(seen) else "no value"
            lines.append(f"  target {name:<{width}}  {span}{f', signal to noise {clear[j]:.1f}' if np.isfinite(clear[j]) else ''}")
        lines += [f"  column {column} -> {name}" for column, name in self.name_map.items() if column != name]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        seen = [(n, f"{w.min():.3f}", f"{w.mean():.3f}", f"{w.max():.3f}") for n, w in zip(self.domains, self.mixtures.T, strict=True)]
        targets = zip(self.targets.names, self.targets.directions, self.targets.units, self.metrics.T, strict=True)
        found = [(name, way, unit, y[np.isfinite(y)]) for name, way, unit, y in targets]
        metrics = [(n, *(f"{f(y):.4g}" if len(y) else "-" for f in (np.min, np.max)), u, way) for n, way, u, y in found]
        counts = f"{len(self)} runs, {len(self.domains)} domains, {len(self.targets)} targets"
        weights = notebook.table(["domain", "least weight", "mean", "most"], seen, caption=counts)
        return weights + notebook.table(["target", "least", "most", "unit", "better"], metrics, notes=self.notes)


def _write(path: files.Path, header: Sequence[str], columns: Sequence[Sequence[Any]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([header, *zip(*columns, strict=True)])
    write(path, text.getvalue())


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


def _column(name: str, given: ArrayLike, ids: Sequence[str]) -> np.ndarray:
    """One number a run [R], or one for all: N, D and s are > 0, weights >= 0 and not all 0."""
    found = np.asarray(given, dtype=float)
    if found.shape not in ((), (len(ids),)):
        raise InputError(f"{name} have shape {found.shape}; give one number for all, or one for each of the {len(ids)} runs")
    column = np.broadcast_to(found, (len(ids),)).copy()
    least, words = (0.0, ">= 0") if name == "weights" else (np.finfo(float).tiny, "> 0")
    for r in np.flatnonzero(~(np.isfinite(column) & (column >= least)))[:1]:
        raise InputError(f"run {ids[r]!r}: {SCALES.get(name, 'the weight in a fit')} is {column[r]:g}; it must be finite and {words}")
    if not column.any():
        raise InputError("the weights of all runs are 0, so nothing would be fitted; give each run how much it counts, such as 1")
    return _frozen(column)


def _check_shape(what: str, array: np.ndarray, wanted: tuple[int, int], names: Sequence[str]) -> None:
    if array.shape != wanted or not wanted[0]:
        raise InputError(f"{what} have shape {array.shape}, but {max(wanted[0], 1)} runs x {wanted[1]} names {listed(names)} need {wanted}")


def _check_cells(values: np.ndarray, bad: np.ndarray, ids: Sequence[str], names: Sequence[str], what: str, expected: str) -> None:
    if bad.any():
        r, c = np.argwhere(bad)[0]
        raise InputError(f"run {ids[r]!r}, column {names[c]!r}: the {what} is {values[r, c]}; it must be {expected}")


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array
