"""The metrics of a table of runs: their names, which direction is better, and their units."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mixopt.errors import InputError, listed, nearest, unknown

_LOWER = frozenset({"loss", "losses", "bpb", "ppl", "perplexity", "nll", "error"})
_HIGHER = frozenset({"acc", "accuracy", "f1", "score"})
_UNITS = {
    "bpb": "bits per byte",
    "ppl": "perplexity",
    "perplexity": "perplexity",
    "error": "error rate",
    "acc": "accuracy",
    "accuracy": "accuracy",
    "f1": "F1",
}
OTHERS = "*"
"""The key of a mapping from target that holds for all targets it does not name."""


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
        """Direction and unit are one text for all, or a mapping from name; a unit not given is guessed from the name."""
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
        usual = {n: usual_unit(n, way) for n, way in zip(names, directions, strict=True)}
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


def usual_direction(column: str) -> str | None:
    """The direction, "min" or "max", where a column's name is certain of it, else None.

    A word of the name decides: loss, bpb, bits per byte, ppl, perplexity, nll and error are better low; acc, accuracy, exact_match, f1,
    score and pass@k high. A name with words of both kinds is not certain.

    >>> [usual_direction(c) for c in ("valid/ce loss", "arc_acc_norm", "pass@1", "gsm8k", "acc_loss")]
    ['min', 'max', 'max', None, None]
    """
    words = _words(column)
    lower = not _LOWER.isdisjoint(words) or _together(words, "bits", "per", "byte")
    higher = not _HIGHER.isdisjoint(words) or _together(words, "exact", "match") or any(w.startswith("pass@") for w in words)
    return None if lower == higher else "min" if lower else "max"


def usual_unit(column: str, direction: str) -> str:
    """The unit that a column's name speaks of; without a word of it nats per token, or "score" for a metric to be maximised."""
    words = _words(column)
    if _together(words, "exact", "match"):
        return "exact match"
    if _together(words, "bits", "per", "byte"):
        return "bits per byte"
    known = next((_UNITS[w] for w in words if w in _UNITS), None) or next((w for w in words if w.startswith("pass@")), None)
    return known or ("nats per token" if direction == "min" else "score")


def settled(
    columns: Mapping[str, str],
    direction: str | Mapping[str, str] | None,
    unit: str | Mapping[str, str] | None,
    known: Mapping[str, str],
) -> Targets:
    """The targets of a table's columns (column -> name): directions as given, else known, else from columns that are certain.

    A mapping goes by name or column; its entry ``"*"`` holds for all that it does not name.

    Raises:
        InputError: a target whose direction neither the caller nor its column tells, or a name that is not in the table.
    """
    ways = {**known, **_by_name(columns, direction)}
    unsure = [n for c, n in columns.items() if n not in ways and usual_direction(c) is None]
    if unsure:
        raise InputError(
            f"whether lower or higher is better is not certain from the names of the metrics {listed(unsure)}; "
            f"say it for each, {unsure[0]}=min or {unsure[0]}=max, or for all at once, min or max "
            "(on the command line --direction, in Python direction=)"
        )
    found = {n: ways.get(n) or usual_direction(c) or "" for c, n in columns.items()}
    units = _by_name(columns, unit)
    return Targets(columns.values(), found, {n: units.get(n) or usual_unit(c, found[n]) for c, n in columns.items()})


def _by_name(columns: Mapping[str, str], given: str | Mapping[str, str] | None) -> dict[str, str]:
    """What is given for each name; one text, or the entry for all others, spreads over all."""
    if given is None:
        return {}
    table = {OTHERS: given} if isinstance(given, str) else dict(given)
    others = table.pop(OTHERS, None)
    for key in table:
        if key not in columns and key not in columns.values():
            raise unknown("target", key, columns.values())
    named = {columns.get(key, key): value for key, value in table.items()}
    return named if others is None else {n: named.get(n, others) for n in columns.values()}


def _words(column: str) -> list[str]:
    return re.findall(r"[a-z0-9@]+", column.lower())


def _together(words: Sequence[str], *wanted: str) -> bool:
    """Whether words stand one after the other."""
    return wanted in zip(*(words[i:] for i in range(len(wanted))), strict=False)
