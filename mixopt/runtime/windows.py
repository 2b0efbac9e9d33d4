"""Where the tokens of streams lie: in one buffer on the device, or mapped from files and cut into windows on the host."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from mixopt.data.pieces import mapped_again, place_of


class Windows(ABC):
    """The windows [context+1] of k domains; ``starts`` [k] is how many begin in each, and lies on ``home``, as do their numbers."""

    home: torch.device
    device: torch.device
    starts: Tensor

    @abstractmethod
    def on(self, device: torch.device) -> Windows:
        """The same windows, given on another device."""

    @abstractmethod
    def cut(self, domains: Tensor, places: Tensor) -> Tensor:
        """Windows [..., context+1] of the domains [...], by their places [...] from 0 to below ``starts``; int64, on the device."""

    @abstractmethod
    def part(self, domain: int) -> Tensor:
        """All tokens of a domain [n], int64, on the device."""


@final
class Resident(Windows):
    """All tokens in one flat buffer on the device: a draw is a few tensor operations and never waits for a GPU."""

    def __init__(self, rows: Sequence[np.ndarray], context: int, device: torch.device, vocabulary: int):
        kind = np.uint8 if vocabulary <= 256 else np.int32 if vocabulary <= 2**31 else np.int64
        self._context = context
        sizes = torch.tensor([len(row) for row in rows])
        self._lie(torch.from_numpy(np.concatenate([row.astype(kind) for row in rows])), sizes.cumsum(0) - sizes, sizes - context, device)

    def _lie(self, flat: Tensor, offsets: Tensor, starts: Tensor, device: torch.device) -> None:
        self.home = self.device = device
        self._flat = flat.to(device)
        self._windows = self._flat.unfold(0, self._context + 1, 1)
        self._offsets, self.starts = offsets.to(device), starts.to(device)

    def on(self, device: torch.device) -> Windows:
        moved = object.__new__(Resident)
        moved._context = self._context
        moved._lie(self._flat, self._offsets, self.starts, device)
        return moved

    def cut(self, domains: Tensor, places: Tensor) -> Tensor:
        return self._windows[self._offsets[domains] + places].long()

    def part(self, domain: int) -> Tensor:
        start = int(self._offsets[domain])
        return self._flat[start : start + int(self.starts[domain]) + self._context].long()


@final
class Mapped(Windows):
    """Tokens in one or more rows for each domain, left where they are; windows are read on the host and sent to the device.

    No window crosses a row's end, and a row shorter than a window gives none.
    """

    def __init__(self, rows: Sequence[Sequence[np.ndarray]], context: int, device: torch.device):
        self.home, self.device = torch.device("cpu"), device
        self._rows, self._context = rows, context
        self._ends = [list(accumulate(max(len(row) - context, 0) for row in some)) for some in rows]
        self.starts = torch.tensor([ends[-1] for ends in self._ends])

    def on(self, device: torch.device) -> Windows:
        return Mapped(self._rows, self._context, device)

    def __getstate__(self) -> dict[str, Any]:
        """Mapped rows go to another process as their place in the file, not as their tokens."""
        return {**vars(self), "_rows": [[place_of(row) for row in some] for some in self._rows]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _rows=[[mapped_again(row) for row in some] for some in state["_rows"]])

    def cut(self, domains: Tensor, places: Tensor) -> Tensor:
        found = torch.empty((*places.shape, self._context + 1), dtype=torch.int64, pin_memory=self.device.type == "cuda")
        rows = found.view(-1, self._context + 1).numpy()
        for row, domain, place in zip(rows, domains.expand(places.shape).flatten().tolist(), places.flatten().tolist(), strict=True):
            ends = self._ends[domain]
            piece = bisect_right(ends, place)
            start = place - (ends[piece - 1] if piece else 0)
            row[:] = self._rows[domain][piece][start : start + self._context + 1]
        return found.to(self.device, non_blocking=True)

    def part(self, domain: int) -> Tensor:
        return torch.from_numpy(np.concatenate([row.astype(np.int64) for row in self._rows[domain]])).to(self.device)
