"""What was measured since the last move: checked, kept where it is until then, and averaged by the tokens behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mixopt.errors import InputError, listed, nearest
from mixopt.rules import Need

FOLD = 256


@dataclass
class Tally:
    """One need's sum of values times counts and sum of counts, [n] each; ``latest`` counts the steps at which it was told.

    Values wait on their device and come to the host together; they are added one by one, in their order, so that a sum does not depend
    on when it was looked at.
    """

    need: Need
    total: np.ndarray = field(init=False)
    count: np.ndarray = field(init=False)
    waiting: list[tuple[Any, Any]] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    told: int = 0

    def __post_init__(self) -> None:
        self.total, self.count = np.zeros(self.need.shape), np.zeros(self.need.shape)

    def read(self, value: Any, counts: Any, summed: bool) -> tuple[Any, Any]:
        """One step's value and the tokens behind its entries, None where they are not known; raises InputError where they do not fit."""
        need = self.need
        counts = None if counts is None else numbers(need, counts, "counts")
        value = numbers(need, value, "value", absent=counts)
        if summed:
            if counts is None:
                raise InputError(f"{need.name} is given as sums, and sums take counts={{{need.name!r}: ...}}, the tokens behind each")
            value = _quotient(value, counts)
        return value, counts

    def add(self, value: Any, counts: Any) -> None:
        """One step's value as it was read."""
        self.waiting.append((value, counts))
        self.told += 1
        if len(self.waiting) >= FOLD:
            self.fold()

    def fold(self) -> None:
        """Bring what waits to the host, and add it; values that are NaN or infinite are kept out, and counted by name."""
        if not self.waiting:
            return
        values, counts = zip(*self.waiting, strict=True)
        for value, count in zip(_hosted(values), _hosted(counts), strict=True):
            fine = np.isfinite(value)
            if count is not None:
                fine = fine & (count > 0)
            elif fine.all() and self.need.each:  # the usual case, at the cost of a few array operations
                self.total, self.count = self.total + value, self.count + 1.0
                continue
            self._drop(~np.isfinite(value) & (True if count is None else count > 0))
            if self.need.each:
                by = np.where(fine, 1.0 if count is None else count, 0.0)
                self.total, self.count = self.total + np.where(fine, value, 0.0) * by, self.count + by
            else:
                self.total, self.count = np.where(fine, value, self.total), np.where(fine, 1.0, self.count)
        self.waiting = []

    def mean(self) -> np.ndarray:
        """The mean since the last move, NaN where nothing was measured."""
        self.fold()
        there = self.count > 0
        return self.total / self.count if there.all() else np.where(there, self.total / np.where(there, self.count, 1.0), np.nan)

    def clear(self) -> None:
        """Begin anew after a move; what was dropped stays on the record."""
        self.fold()
        self.total, self.count, self.told = np.zeros(self.need.shape), np.zeros(self.need.shape), 0

    def state(self) -> dict[str, Any]:
        """What a saved schedule holds of it."""
        self.fold()
        return {"total": self.total, "count": self.count, "told": self.told, "dropped": dict(self.dropped)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self.total, self.count = np.asarray(state["total"], dtype=float), np.asarray(state["count"], dtype=float)
        self.told, self.dropped, self.waiting = int(state["told"]), {str(n): int(c) for n, c in state["dropped"].items()}, []
        if self.total.shape != self.need.shape or self.count.shape != self.need.shape:
            raise InputError(f"the saved sums of {self.need.name} have the shape {list(self.total.shape)}, not {list(self.need.shape)}")

    def _drop(self, bad: np.ndarray) -> None:
        names = self.need.names
        for at in np.argwhere(bad) if bad.any() else ():
            name = self.need.name if names is None else names[at[0]]
            self.dropped[name] = self.dropped.get(name, 0) + 1


def numbers(need: Need, given: Any, what: str, absent: Any = None) -> Any:
    """A user's numbers for a need, as an array or a detached copy of a tensor, in the order of its names.

    A dict may leave out names whose count is 0.

    Raises:
        InputError: names that are unknown or missing, or another shape.
    """
    if isinstance(given, Mapping):
        given = _by_name(need, given, what, absent)
    if hasattr(given, "detach"):
        plain = given.detach()
        found = plain.double()
        found = plain.clone() if found is plain else found
        shape = tuple(found.shape)
    else:
        try:
            found = np.array(given, dtype=float)
        except (TypeError, ValueError):
            raise InputError(f"the {what} of {need.name} is {given!r}; numbers of the shape {list(need.shape)} are expected") from None
        shape = found.shape
        if what == "counts" and not (found >= 0).all():
            raise InputError(f"the counts of {need.name} are {given!r}; they are numbers of tokens, >= 0")
    if shape != need.shape:
        raise InputError(
            f"the {what} of {need.name} has the shape {list(shape)}, and {list(need.shape)} is expected: {need.what}"
            + ("" if need.names is None else f", in the order {listed(need.names)}")
        )
    return found


def _by_name(need: Need, given: Mapping[str, Any], what: str, absent: Any) -> list[Any]:
    if need.names is None or need.columns is not None:
        raise InputError(f"the {what} of {need.name} is a dict, and numbers of the shape {list(need.shape)} are expected")
    extra = [n for n in given if n not in need.names]
    if extra:
        raise InputError(
            f"the {what} of {need.name} names {extra[0]!r}, which is not in {listed(need.names)}{nearest(extra[0], need.names)}"
        )
    missing = [i for i, n in enumerate(need.names) if n not in given]
    if what == "value" and any(absent is None or float(absent[i]) > 0 for i in missing):
        name = need.names[missing[0]]
        raise InputError(
            f"{need.name} has no entry for {name!r}; give all of {listed(need.names)}, or counts={{{need.name!r}: ...}} "
            f"with 0 for a domain that the batch lacks"
        )
    hole = np.nan if what == "value" else 0.0
    return [float(given[n]) if n in given else hole for n in need.names]


def _quotient(sums: Any, counts: Any) -> Any:
    """Sums over counts, 0 where a count is 0."""
    if hasattr(sums, "detach"):
        import torch

        counts = torch.as_tensor(counts, dtype=sums.dtype, device=sums.device)
        return sums / torch.where(counts > 0, counts, torch.ones_like(counts))
    counts = counts.cpu().numpy() if hasattr(counts, "detach") else counts
    return sums / np.where(counts > 0, counts, 1.0)


def _hosted(values: Sequence[Any]) -> list[Any]:
    """Values as arrays on the host, those of one device in one transfer; None stays None."""
    tensors = [v for v in values if hasattr(v, "detach")]
    if not tensors:
        return list(values)
    if len(tensors) == 1:
        return [v.cpu().numpy() if v is tensors[0] else v for v in values]
    import torch

    by_device: dict[Any, list[Any]] = {}
    for tensor in tensors:
        by_device.setdefault(tensor.device, []).append(tensor)
    found = {d: iter(torch.stack(several).cpu().numpy()) for d, several in by_device.items()}
    return [next(found[v.device]) if hasattr(v, "detach") else v for v in values]
