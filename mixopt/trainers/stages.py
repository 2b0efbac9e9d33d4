"""Schedules out of process: a trainer that cannot be changed logs its losses, and is started again with new weights, stage by stage."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np

from mixopt.errors import InputError, cause, listed, nearest
from mixopt.files import write
from mixopt.rules import Need
from mixopt.schedules.plain import as_arrays, as_lists
from mixopt.schedules.schedule import Schedule

FORMAT = 1
LOSSES = "losses"


@final
@dataclass(frozen=True)
class Advance:
    """What one call of ``advance`` did: the weights before and after, of which stage, and what the log had to say.

    ``records`` new records were used; ``unreadable`` are the numbers of new lines that are no JSON, ``dropped`` how many values of each
    domain were NaN or infinite and kept out, and ``waits`` says that the last line is still being written and is left for later.
    """

    number: int
    before: Mapping[str, float]
    after: Mapping[str, float]
    records: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    unreadable: tuple[int, ...] = ()
    waits: bool = False

    def __str__(self) -> str:
        width = max(map(len, self.after))
        head = f"stage {self.number}: {self.records} new records" if self.records else f"stage {self.number}: nothing new, the weights stay"
        rows = [f"  {n:<{width}}  {w:.6f}" + (f"  (before {self.before[n]:.6f})" if self.records else "") for n, w in self.after.items()]
        notes = [f"{n} values of {name!r} were NaN or infinite and are left out" for name, n in self.dropped.items()]
        notes += [f"line {', '.join(map(str, self.unreadable))} is no JSON and is left out"] if self.unreadable else []
        notes += ["the last line is not finished and waits for the next call"] if self.waits else []
        return "\n".join([head, *rows, *(f"  note: {note}" for note in notes)])


def advance(
    schedule: Schedule,
    state: str | os.PathLike[str],
    losses: str | os.PathLike[str] | None = None,
    *,
    recipe: Mapping[str, Any] | None = None,
) -> Advance:
    """Load a schedule's ``state`` where the file exists, let it observe what is new in the log ``losses``, and write the state.

    All new records count as one observation, so the weights move once a call. A record is a line of JSON with, for each
    measurement that the schedule needs, its name and a number for each domain, or ``NAME/DOMAIN`` and a number::

        {"train": {"web": 2.31, "code": 1.17}, "counts": {"web": 50331, "code": 15205}, "tokens": 65536}
        {"step": 20, "train/web": 2.30, "train/code": 1.16, "tokens": 65536}

    ``losses`` may stand for the name where the schedule needs one measurement. ``counts`` are the tokens behind the numbers, without which
    records count alike; ``tokens`` those read since the last record; ``step`` is the trainer's, which the schedule counts
    by as long as it goes on. A domain that is left out or null was not measured. Lines without a measurement are passed over; a schedule
    that needs none, such as stages, reads the step and the tokens alone.

    The state remembers how far the log was read; another log is read from its start. It is written whole or not at all, once:
    a call that is interrupted changed nothing, and one that is repeated finds nothing new. ``recipe`` is plain data kept in it, by which a
    later process can make the schedule again.

    Raises:
        InputError: a state of another schedule, a log that is not there or shorter than what was read of it, numbers that do not fit, or
            new records that lack a measurement altogether.
    """
    saved: dict[str, Any] = read_state(state) if Path(state).exists() else {"recipe": recipe, "log": None, "lines": 0}
    if "schedule" in saved:
        schedule.load_state_dict(saved["schedule"])
    before = schedule.weights
    log = {"log": saved["log"], "lines": saved["lines"]}
    sums, waits = _Sums(schedule), False
    texts: list[str] = []
    if losses is not None:
        texts, log, waits = _new_lines(Path(losses), Path(state), saved)
    first = log["lines"] - len(texts) + 1
    for number, text in enumerate(texts, start=first):
        sums.add(text, f"line {number} of {losses}", number)
    if sums.records:
        sums.observed()
    content = {"mixopt next": FORMAT, "recipe": saved["recipe"], **log, "schedule": as_lists(as_arrays(schedule.state_dict()))}
    write(state, json.dumps(content, indent=1) + "\n")
    return Advance(schedule.moves, before, schedule.weights, sums.records, sums.dropped, tuple(sums.unreadable), waits)


def read_state(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What ``advance`` wrote, the recipe among it.

    Raises:
        InputError: no such file, or one that ``advance`` did not write.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as the state of a schedule: {cause(error)}") from None
    if not isinstance(content, dict) or content.get("mixopt next") != FORMAT:
        raise InputError(f"{path} is no state of format {FORMAT} that mixopt next wrote; begin one with mixopt next --init")
    return content


def _new_lines(log: Path, state: Path, saved: Mapping[str, Any]) -> tuple[list[str], dict[str, Any], bool]:
    """The whole lines that were not read before, the place of what was read now, and whether an unfinished line follows.

    A log is known by its place beside the state, from wherever it is called, and where both are moved together.
    """
    known, name = saved["log"] or {"name": None, "position": 0}, _beside(log, state)
    position, lines = (known["position"], saved["lines"]) if known["name"] == name else (0, 0)
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            if size < position:
                raise InputError(
                    f"{log} has {size} bytes, and {position} of it were read before: it was written anew; give a new log another name"
                )
            file.seek(position)
            content = file.read()
    except OSError as error:
        raise InputError(f"the log {log} cannot be read: {error.strerror or error}") from None
    end = content.rfind(b"\n") + 1
    texts = content[:end].decode("utf-8", "replace").split("\n")[:-1]
    place = {"log": {"name": name, "position": position + end}, "lines": lines + len(texts)}
    return texts, place, end < len(content)


def _beside(log: Path, state: Path) -> str:
    """The way from the state's folder to the log; the log's own where there is none, as between drives."""
    try:
        return Path(os.path.relpath(log.resolve(), state.resolve().parent)).as_posix()
    except ValueError:
        return log.resolve().as_posix()


@final
class _Sums:
    """What the new records have for each need: the sum of values times counts, and of counts."""

    def __init__(self, schedule: Schedule):
        self.schedule, self.needs = schedule, schedule.needs
        self.total = {n: np.zeros(need.shape) for n, need in self.needs.items()}
        self.count = {n: np.zeros(need.shape) for n, need in self.needs.items()}
        self.records, self.tokens, self.step = 0, 0.0, 0
        self.dropped: dict[str, int] = {}
        self.unreadable: list[int] = []

    def add(self, text: str, where: str, number: int) -> None:
        """One line."""
        if not text.strip():
            return
        try:
            record = json.loads(text)
        except ValueError:
            self.unreadable.append(number)
            return
        if not isinstance(record, dict):
            self.unreadable.append(number)
            return
        found = {n: values for n, need in self.needs.items() if (values := self._values(record, need, where)) is not None}
        for name, values in found.items():
            self._sum(self.needs[name], values, self._counts(record, self.needs[name], where))
        if found or (not self.needs and {"step", "tokens"} & set(record)):
            self.records += 1
            self.tokens += self._read(record, where)
            step = record.get("step")
            if isinstance(step, (int, float)) and math.isfinite(step):
                self.step = max(self.step, int(step))

    def observed(self) -> None:
        """Let the schedule observe the means."""
        there = {name: count > 0 for name, count in self.count.items()}
        means = {n: np.where(there[n], self.total[n] / np.where(there[n], self.count[n], 1.0), 0.0) for n in self.needs}
        lacking = [n for n, need in self.needs.items() if not there[n].any() and not need.optional]
        if lacking:
            raise InputError(
                f"the new records have nothing of {lacking[0]!r}; the schedule needs {'; '.join(map(str, self.needs.values()))}"
            )
        seen: dict[str, Any] = {name: means[name] for name in self.needs if there[name].any()}
        step = self.step if self.step > self.schedule.steps else None
        self.schedule.observe(counts={name: self.count[name] for name in seen}, tokens=self.tokens, step=step, **seen)

    def _values(self, record: Mapping[str, Any], need: Need, where: str) -> np.ndarray | None:
        """A record's values of a need, NaN where it has none; None where it has nothing of it."""
        own = [need.name, LOSSES] if sum(not n.optional for n in self.needs.values()) == 1 and not need.optional else [need.name]
        for name in own:
            if name in record:
                return _entries(need, record[name], f"{name} in {where}")
            flat = {key.removeprefix(f"{name}/"): v for key, v in record.items() if key.startswith(f"{name}/")}
            if flat:
                return _entries(need, flat, f"{name} in {where}")
        return None

    def _counts(self, record: Mapping[str, Any], need: Need, where: str) -> np.ndarray:
        if "counts" not in record or need.names is None or need.columns is not None:
            return np.ones(need.shape)
        return np.nan_to_num(_entries(need, record["counts"], f"counts in {where}"), nan=0.0)

    def _read(self, record: Mapping[str, Any], where: str) -> float:
        """The tokens read since the record before, where it says them."""
        if "tokens" in record:
            return _number(record["tokens"], f"tokens in {where}", 0.0)
        counts = record.get("counts")
        each: list[float] = [_number(n, f"counts in {where}", 0.0) for n in counts.values()] if isinstance(counts, Mapping) else []
        return sum(each)

    def _sum(self, need: Need, values: np.ndarray, counts: np.ndarray) -> None:
        for at in np.argwhere(np.isinf(values)):
            name = need.names[at[0]] if need.names is not None else need.name
            self.dropped[name] = self.dropped.get(name, 0) + 1
        fine = np.isfinite(values) & (counts > 0)
        if need.each:
            self.total[need.name] += np.where(fine, values * counts, 0.0)
            self.count[need.name] += np.where(fine, counts, 0.0)
        else:
            self.total[need.name] = np.where(fine, values, self.total[need.name])
            self.count[need.name] = np.where(fine, 1.0, self.count[need.name])


def _entries(need: Need, given: Any, what: str) -> np.ndarray:
    """Numbers of a need's shape: NaN where not measured, infinity where measured and not finite."""
    if isinstance(given, Mapping):
        if need.names is None or need.columns is not None:
            raise InputError(f"{what} is an object, and numbers of the shape {list(need.shape)} are expected")
        for name in given:
            if name not in need.names:
                raise InputError(f"{what} names {name!r}, which is not in {listed(need.names)}{nearest(name, need.names)}")
        given = [given.get(name) for name in need.names]
    found = np.vectorize(lambda x: _number(x, what, math.nan), otypes=[float])(np.array(given, dtype=object))
    if found.shape != need.shape:
        raise InputError(f"{what} has the shape {list(found.shape)}, and {list(need.shape)} is expected: {need.what}")
    return found


def _number(value: Any, what: str, absent: float) -> float:
    """A number of a record; ``absent`` for null, infinity for what is not finite."""
    if value is None:
        return absent
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"{what} has {value!r}; it is a number, or null where nothing was measured")
    return float(value) if math.isfinite(value) else math.inf
