"""What the runs of a folder reached: metrics from JSON lines, CSV or lm-eval's results, as ``Runs``."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, final

import numpy as np

from mixopt.errors import InputError, cause, listed, nearest
from mixopt.files import natural, write
from mixopt.runs import Runs
from mixopt.runs.targets import settled

from .emitting import DESIGN, RUN
from .plan import Design

CLOCKS = ("step", "steps", "iter", "iteration", "iter_num", "global_step", "epoch", "tokens", "total_tokens", "num_tokens", "samples")
BESIDE = (
    "time",
    "timestamp",
    "elapsed",
    "seconds",
    "lr",
    "learning_rate",
    "grad_norm",
    "seed",
    "params",
    "rank",
    "loss_scale",
    "mfu",
    "total_flos",
)
SPEEDS = ("_runtime", "_per_second")
"""Columns of a log that are no metrics, and the ends of such names; the clocks tell how far a run came."""
_SHORT = 0.99
"""A run that came less far than this share of the farthest is not finished."""


def collect(
    *folders: str | os.PathLike[str],
    only: Iterable[str] = (),
    direction: str | Mapping[str, str] | None = None,
    unit: str | Mapping[str, str] | None = None,
    unfinished: bool = False,
) -> Runs:
    """The runs of folders that ``emit`` wrote (or that have a design.csv and a folder a run), with the metrics that their trainers left.

    In a run's folder, at any depth: ``*.jsonl``, of which each number's last value counts, at whatever step it was logged; ``*.csv``,
    with a header, of which each column's last value counts, or rows of metric and value; ``trainer_state.json`` of Hugging Face's
    Trainer; and lm-eval's ``results*.json``, whose metrics are named task/metric, or task/metric/filter where there is a filter, and
    whose standard errors are left out. Of several files that tell the same metric the last by name counts, step1000 after step500.
    Columns such as step, tokens, time and lr are no metrics. ``only`` are names or patterns, such as "val/*", of those to keep.
    Directions and units that are not given come from lm-eval, or from the names where those are certain.

    Runs without metrics are left out with a note, and so are those that came less far than the others by their own clock (step,
    tokens, ...), as a share of the design's tokens where these differ, unless ``unfinished``.

    Raises:
        InputError: no design or no metric, a file that cannot be read, or a metric whose direction is not certain.
    """
    if not folders:
        raise InputError("there is no folder to collect from; give those that the runs were written to")
    tables = [_collected(Path(folder), tuple(only), direction, unit, unfinished) for folder in folders]
    return tables[0].joined(*tables[1:])


def save(runs: Runs, folder: str | os.PathLike[str]) -> tuple[Path, Path, Path]:
    """Write runs.csv, one table that keeps the directions, and the same as a pair: mixtures.csv and metrics.csv."""
    place = Path(folder)
    runs.to_csv(place / "runs.csv")
    known = {"seed": runs.seeds, "params": runs.params, "tokens": runs.tokens}
    extras = {name: column.tolist() for name, column in known.items() if column is not None}
    mixtures = {"run": runs.ids, **extras, **dict(zip(runs.domains, runs.mixtures.T.tolist(), strict=True))}
    metrics = {"run": runs.ids, **dict(zip(runs.targets.names, runs.metrics.T.tolist(), strict=True))}
    for name, columns in (("mixtures.csv", mixtures), ("metrics.csv", metrics)):
        text = io.StringIO(newline="")
        rows = (["" if v != v else v for v in row] for row in zip(*columns.values(), strict=True))
        csv.writer(text).writerows([list(columns), *rows])
        write(place / name, text.getvalue())
    return place / "runs.csv", place / "mixtures.csv", place / "metrics.csv"


@final
@dataclass(frozen=True)
class _Log:
    """What a run's files tell: metrics by name, which of them are better high, how far it came by each clock, and notes."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    higher: Mapping[str, bool] = field(default_factory=dict)
    clocks: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    twice: frozenset[str] = frozenset()

    def with_more(self, other: _Log) -> _Log:
        """With what a later file tells, which counts where both tell the same; metrics that differ are told ``twice``."""
        return _Log(
            {**self.metrics, **other.metrics},
            {**self.higher, **other.higher},
            {**self.clocks, **other.clocks},
            self.notes + other.notes,
            self.twice | {name for name, value in other.metrics.items() if self.metrics.get(name, value) != value},
        )


def _collected(folder: Path, only: tuple[str, ...], direction: Any, unit: Any, unfinished: bool) -> Runs:
    if not (folder / DESIGN).is_file():
        raise InputError(f"{folder} has no {DESIGN}; give a folder that mixopt design wrote, or put the table of mixtures there")
    design = Design.from_csv(folder / DESIGN)
    logs = {run: _of_run(folder / run) for run in design.ids}
    notes = [note for log in logs.values() for note in log.notes]
    notes += _odd_files(folder, logs, only)
    there = list(dict.fromkeys(name for log in logs.values() for name in log.metrics))
    if not there:
        raise InputError(f"no run of {folder} has a metric; they are read from *.jsonl, *.csv and results*.json in each run's folder")
    for wanted in only:
        if not any(_matches(name, wanted) for name in there):
            raise InputError(f"no run of {folder} has a metric {wanted!r} among {listed(there)}{nearest(wanted, there)}")
    bare = [run for run, log in logs.items() if not _kept(log, only)]
    lengths = np.ones(len(design)) if design.tokens is None else design.tokens
    short = [] if unfinished else [r for r in _short(logs, dict(zip(design.ids, lengths, strict=True))) if r not in bare]
    for which, why in ((bare, "have no metrics yet"), (short, "came less far than the others")):
        if which:
            notes.append(f"{len(which)} of {len(design)} runs {why} and are left out: {listed(which)}")
    places = [r for r, run in enumerate(design.ids) if run not in bare and run not in short]
    if not places:
        raise InputError(
            f"no run of {folder} that came as far as the others has a metric that is kept; give unfinished=True (--unfinished)"
        )
    kept = {design.ids[r]: _kept(logs[design.ids[r]], only) for r in places}
    names = list(dict.fromkeys(name for metrics in kept.values() for name in metrics))
    ways = {name: "max" if up else "min" for log in logs.values() for name, up in log.higher.items() if name in names}
    targets = settled({n: n for n in names}, direction, unit, ways)
    table = np.array([[metrics.get(name, np.nan) for name in names] for metrics in kept.values()])
    known: dict[str, Any] = {"labels": [design.origins[r] for r in places], "seeds": design.seeds[places], **_scales(folder, list(kept))}
    runs = Runs.from_arrays(design.domains, design.mixtures[places], targets, table, ids=list(kept), **known)
    still = [n for n, y in zip(names, table.T, strict=True) if len(y) > 1 and np.nanmin(y) == np.nanmax(y)]
    if still:
        notes.append(f"{listed(still)} came out the same in every run, so that no law can be fitted; leave them out")
    return replace(runs, notes=(*notes, *runs.notes))


def _kept(log: _Log, only: tuple[str, ...]) -> dict[str, float]:
    """The metrics of a run by these names or patterns, those that are missing left out."""
    return {n: v for n, v in log.metrics.items() if np.isfinite(v) and (not only or any(_matches(n, o) for o in only))}


def _matches(name: str, wanted: str) -> bool:
    return name == wanted or fnmatchcase(name, wanted)


def _odd_files(folder: Path, logs: Mapping[str, _Log], only: tuple[str, ...]) -> list[str]:
    """Notes on metrics that several files of a run tell, and on folders with metrics that are of no run."""
    notes = []
    twice = {run: found for run, log in logs.items() if (found := sorted(log.twice & _kept(log, only).keys()))}
    if twice:
        run = next(iter(twice))
        many = f"{len(twice)} runs have" if len(twice) > 1 else "1 run has"
        notes.append(f"{many} several files that differ in a metric, such as {run} in {listed(twice[run])}; the last by name counts")
    others = sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name not in logs and any(map(_reader, p.rglob("*"))))
    if others:
        notes.append(f"{listed(others)} in {folder} {'have' if len(others) > 1 else 'has'} metrics, but no run of the design has the name")
    return notes


def _short(logs: Mapping[str, _Log], lengths: Mapping[str, float]) -> list[str]:
    """The runs that did not come as far, for their lengths, as the farthest, by the first clock that they have in common."""
    logged = {run: log for run, log in logs.items() if _kept(log, ())}
    common = [c for c in CLOCKS if logged and all(c in log.clocks for log in logged.values())]
    if not common:
        return []
    come = {run: log.clocks[common[0]] / lengths[run] for run, log in logged.items()}
    return [run for run, way in come.items() if way < _SHORT * max(come.values())]


def _scales(folder: Path, runs: list[str]) -> dict[str, list[float]]:
    """Parameters and tokens of the runs, where every run.json tells them."""
    told = []
    for run in runs:
        path = folder / run / RUN
        told.append(_json(path) if path.is_file() else {})
    return {name: [float(one[name]) for one in told] for name in ("params", "tokens") if all(name in one for one in told)}


def _of_run(folder: Path) -> _Log:
    """All that the files of a run's folder tell, in the order of their names, in which step1000 comes after step500."""
    found = _Log()
    for path in sorted(folder.rglob("*"), key=natural):
        reader = _reader(path)
        if reader is not None:
            found = found.with_more(reader(path))
    return found


def _reader(path: Path) -> Callable[[Path], _Log] | None:
    """What reads a file of metrics; None of another file."""
    if not path.is_file():
        return None
    if path.suffix == ".jsonl" and not path.name.startswith("samples_"):  # lm-eval's answers to single questions
        return _lines
    if path.suffix == ".csv":
        return _table
    if path.name == "trainer_state.json":
        return _trainer
    return _evaluated if path.suffix == ".json" and path.name.startswith("results") else None


def _lines(path: Path) -> _Log:
    """The last value of each number of a log of JSON lines; a line that was cut at the end is left out with a note."""
    values: dict[str, float] = {}
    notes: tuple[str, ...] = ()
    lines = [line for line in _text(path).splitlines() if line.strip()]
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
        except ValueError as error:
            if number < len(lines):
                raise InputError(f"{path}, line {number}: {error}; each line is a JSON object") from None
            notes = (f"the last line of {path} was cut and is left out",)
            continue
        if not isinstance(entry, Mapping):
            raise InputError(f"{path}, line {number}: each line is a JSON object, and this is a {type(entry).__name__}")
        values |= dict(_numbers(entry))
    return _split(values, path, notes)


def _trainer(path: Path) -> _Log:
    """The last value of each number in the history that Hugging Face's Trainer keeps beside its checkpoints."""
    history = _json(path).get("log_history")
    if not isinstance(history, list) or not all(isinstance(entry, Mapping) for entry in history):
        raise InputError(f"{path} has no log_history, as Hugging Face's Trainer writes it; remove the file, or give metrics as JSON lines")
    values: dict[str, float] = {}
    for entry in history:
        values |= dict(_numbers(entry))
    return _split(values, path, ())


def _table(path: Path) -> _Log:
    """The last value of each column of a CSV with a header, or its rows of metric and value."""
    rows = [row for row in csv.reader(_text(path).splitlines()) if any(cell.strip() for cell in row)]
    if len(rows) < 2 or any(len(row) != len(rows[0]) for row in rows):
        raise InputError(f"{path} is no table of metrics: a header and rows of its length are expected; remove the file, or mend it")
    head = [cell.strip() for cell in rows[0]]
    if len(head) == 2 and head[0] in ("metric", "target") and head[1] in ("value", "loss", "score"):
        cells = {row[0].strip(): row[1] for row in rows[1:]}
    else:
        cells = {name: cell for row in rows[1:] for name, cell in zip(head, row, strict=True) if cell.strip()}
    return _split({name: value for name, cell in cells.items() if (value := _number(cell)) is not None}, path, ())


def _evaluated(path: Path) -> _Log:
    """The results of lm-eval: task -> "metric,filter" -> value."""
    content = _json(path)
    results, ways = content.get("results"), content.get("higher_is_better", {})
    if not isinstance(results, Mapping):
        raise InputError(f"{path} has no results by task, as lm-eval writes them; remove the file, or give metrics as JSON lines")
    values, higher = {}, {}
    for task, found in results.items():
        for key, value in found.items() if isinstance(found, Mapping) else ():
            metric, _, selector = key.partition(",")
            if isinstance(value, bool) or not isinstance(value, (int, float)) or metric.endswith("_stderr") or metric == "sample_len":
                continue
            name = f"{task}/{metric}" + (f"/{selector}" if selector not in ("", "none") else "")
            values[name] = float(value)
            up = ways.get(task, {}).get(metric) if isinstance(ways.get(task), Mapping) else None
            if up is not None:
                higher[name] = bool(up)
    return replace(_split(values, path, ()), higher=higher)


def _split(values: Mapping[str, float], path: Path, notes: tuple[str, ...]) -> _Log:
    """Metrics apart from clocks and the rest; a metric that is no number is missing."""
    clocks = {n: v for n, v in values.items() if n.rpartition("/")[2] in CLOCKS}
    metrics = {n: v for n, v in values.items() if n not in clocks and n.rpartition("/")[2] not in BESIDE and not n.endswith(SPEEDS)}
    bad = [n for n, v in metrics.items() if not np.isfinite(v)]
    if bad:
        notes = (*notes, f"{listed(bad)} of {path} ended as NaN or infinite and {'is' if len(bad) == 1 else 'are'} missing")
    told = {n.rpartition("/")[2]: v for n, v in clocks.items() if np.isfinite(v)}
    return _Log({n: np.nan if n in bad else v for n, v in metrics.items()}, {}, told, notes)


def _numbers(entry: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of an object, those of objects in it by names joined by /."""
    for name, value in entry.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{before}{name}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield f"{before}{name}", float(value)


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_text(path))
    except ValueError as error:
        raise InputError(f"{path} is no JSON: {error}; it may be half written") from None
    if not isinstance(found, dict):
        raise InputError(f"{path} holds a {type(found).__name__} where an object was expected")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {cause(error)}") from None
