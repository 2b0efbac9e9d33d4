"""Token streams: named domains of tokens, and the random or fixed windows that are cut from them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from mixopt.data.pieces import Pieces
from mixopt.errors import InputError
from mixopt.language.domains import Domains

from .windows import Mapped, Resident, Windows

BELOW_ONE = 1 - 2.0**-53
LOOK = 2**22  # tokens that are looked through at once


@final
class Streams:
    """Named domains of tokens, from which windows [context+1] are cut; none crosses a domain's end.

    ``tokens`` maps each name to its tokens [n], an array of integers >= 0. They are stored as bytes where they fit and come
    out as int64. Drawing is a few tensor operations whatever the number of domains, and never waits for a GPU.

    Arrays mapped from files, and domains in several ``Pieces``, stay where they are: their windows are read on the host, ``home``,
    and sent to the device. Mapped arrays of at most ``in_memory`` bytes in all are read at once. ``vocabulary`` is how many tokens
    there are; without it the tokens are looked through for the largest.

    >>> streams = Streams({"web": range(100), "code": range(50)}, context=8)
    >>> streams.sizes
    {'web': 100, 'code': 50}
    >>> streams.draw(4, torch.Generator().manual_seed(0)).shape
    torch.Size([2, 4, 9])

    Raises:
        InputError: no domain, a context below 1, tokens that are not integers >= 0 in one row, or a domain that is empty
            or shorter than one window, or tokens beyond the vocabulary.
    """

    def __init__(
        self,
        tokens: Mapping[str, Any],
        context: int,
        device: str | torch.device = "cpu",
        *,
        vocabulary: int | None = None,
        in_memory: int = 2**28,
    ):
        self.domains = Domains(tokens)
        if not isinstance(context, (int, np.integer)) or context < 1:
            raise InputError(f"a context of {context} tokens was given; it is a whole number, at least 1")
        rows = [_rows(name, tokens[name], context) for name in self.domains]
        self.context = context
        self.names = self.domains.names
        self.sizes = {name: sum(map(len, some)) for name, some in zip(self.names, rows, strict=True)}
        mapped = _stay(rows, in_memory)
        self.vocabulary = _vocabulary(self.names, rows, vocabulary, trusted=mapped)
        self._windows: Windows
        if mapped:
            self._windows = Mapped(rows, context, torch.device(device))
        else:
            self._windows = Resident([some[0] for some in rows], context, torch.device(device), self.vocabulary)

    @property
    def device(self) -> torch.device:
        """Where windows come out."""
        return self._windows.device

    @property
    def home(self) -> torch.device:
        """Where windows are chosen: the device, or the host for mapped tokens, which have to be read there."""
        return self._windows.home

    def on(self, device: str | torch.device) -> Streams:
        """The same streams on another device; nothing is copied where they lie there already."""
        moved = copy.copy(self)
        moved._windows = self._windows.on(torch.device(device))
        return moved

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Position of a domain; raises InputError with the nearest name suggested."""
        return self.domains.index(name)

    def part(self, name: str) -> Tensor:
        """The tokens of one domain [n], int64."""
        return self._windows.part(self.index(name))

    def draw(self, per_domain: int, generator: torch.Generator) -> Tensor:
        """Random windows of every domain [k, per_domain, context+1]: stratified, for per-domain losses from one pass."""
        places = torch.rand(len(self), per_domain, generator=generator, device=generator.device, dtype=torch.float64)
        domains = torch.arange(len(self), device=self.home)[:, None]
        return self._cut(domains.expand(-1, per_domain), places.to(self.home, non_blocking=True))  # else the host waits for a GPU

    def draw_mixed(self, weights: Any, batch: int, generator: torch.Generator, *, paired: bool = True) -> Tensor:
        """Windows [R, batch, context+1] whose domains are drawn from each run's mixture, for ``weights`` [R, k] or [k].

        Systematic sampling: each run's count of a domain is within one of ``batch * w``, with that mean; a weight of
        exactly 0 is never drawn. ``paired`` gives all runs the same uniform numbers, so that they differ by mixture only.
        A tensor on a GPU is trusted, since checking it would wait for the GPU; anything else is checked.

        Raises:
            InputError: a mixture of another length, with a negative or NaN entry, or that does not sum to 1.
        """
        bounds = self.bounds(weights)
        runs = 1 if paired else len(bounds)
        uniform = torch.rand(runs, batch + 1, generator=generator, device=generator.device, dtype=torch.float64)
        return self.mixed(bounds, uniform.to(self.home, non_blocking=True))

    def bounds(self, weights: Any) -> Tensor:
        """Mixtures [R, k] or [k] as their running sums [R, k], float64, the last one exactly 1; checked as in ``draw_mixed``."""
        if not (isinstance(weights, Tensor) and weights.is_cuda):
            given = weights.detach().numpy() if isinstance(weights, Tensor) else weights
            rows = np.atleast_2d(np.asarray(given, dtype=float))
            weights = torch.as_tensor(np.stack([self.domains.weights(row, tolerance=1e-5) for row in rows]), device=self.home)
        sums = torch.atleast_2d(weights).to(self.home, torch.float64).cumsum(-1)
        return sums / sums[:, -1:]

    def mixed(self, bounds: Tensor, uniform: Tensor) -> Tensor:
        """Windows [R, batch, context+1] from ``bounds`` [R, k] and uniform numbers [R or 1, batch+1] in [0, 1).

        The first uniform number shifts the grid (j + u) / batch that picks the domains, each other one is a window's place.
        """
        return self._cut(self._picked(bounds, uniform), uniform[:, 1:].expand(len(bounds), -1))

    def draw_by(self, shares: Tensor, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Windows [batch, context+1] drawn as in ``draw_mixed`` by shares [k] of the domains, and the domain of each [batch].

        The shares are trusted to be a mixture, so that nothing waits for a GPU.
        """
        sums = shares[None].to(self.home, torch.float64).cumsum(-1)
        bounds = sums / sums[:, -1:]
        uniform = torch.rand(1, batch + 1, generator=generator, device=generator.device, dtype=torch.float64)
        uniform = uniform.to(self.home, non_blocking=True)
        domains = self._picked(bounds, uniform)
        return self._cut(domains, uniform[:, 1:])[0], domains[0].to(self.device, non_blocking=True)

    def _picked(self, bounds: Tensor, uniform: Tensor) -> Tensor:
        """The domains [R, batch] of the windows, by systematic sampling."""
        runs, batch = len(bounds), uniform.shape[-1] - 1
        steps = torch.arange(batch, device=self.home, dtype=torch.float64)
        grid = ((steps + uniform[:, :1]) / batch).clamp_(max=BELOW_ONE)
        return torch.searchsorted(bounds, grid.expand(runs, -1).contiguous(), right=True)

    def fixed(self, per_domain: int) -> Tensor:
        """The same evenly spaced windows at every call [k, per_domain, context+1]; one alone is the first.

        They overlap only where the domain is too small for ``per_domain`` windows side by side.
        """
        if per_domain < 1:
            raise InputError(f"{per_domain} windows of each domain were asked for; take at least 1")
        steps = torch.arange(per_domain, device=self.home)
        places = (self._windows.starts[:, None] - 1) * steps // max(per_domain - 1, 1)
        return self._windows.cut(torch.arange(len(self), device=self.home)[:, None], places)

    def _cut(self, domains: Tensor, places: Tensor) -> Tensor:
        """Windows [..., context+1] of the given domains [...] at the given places in [0, 1) [...]."""
        room = self._windows.starts[domains]
        return self._windows.cut(domains, (places * room).long().clamp_(max=room - 1))


def _rows(name: str, given: Any, context: int) -> tuple[np.ndarray, ...]:
    """A domain's tokens as checked rows [n]: one, or where it has several ``Pieces`` each of them."""
    if not isinstance(given, Pieces):
        return (_row(name, given, context),)
    longest = max(map(len, given.rows))
    if longest <= context:
        raise InputError(f"domain {name!r} has {longest} tokens in one piece, and a window takes {context + 1}; give a shorter context")
    return given.rows


def _row(name: str, given: Any, context: int) -> np.ndarray:
    """A domain's tokens as a checked row [n]."""
    row = given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asanyarray(given)
    if row.ndim != 1:
        raise InputError(f"the tokens of {name!r} have shape {row.shape}; give one row [n]")
    if len(row) == 0:
        raise InputError(f"domain {name!r} is empty; leave it out or give it at least {context + 1} tokens")
    if not np.issubdtype(row.dtype, np.integer):
        raise InputError(f"the tokens of {name!r} are {row.dtype}; give integers")
    if len(row) <= context:
        raise InputError(f"domain {name!r} has {len(row)} tokens, and a window takes {context + 1}; give more or a shorter context")
    return row


def _stay(rows: Sequence[tuple[np.ndarray, ...]], in_memory: int) -> bool:
    """Whether the tokens are left where they are: several rows for a domain, or maps of files that are large together."""
    maps = [row for some in rows for row in some if isinstance(row, np.memmap)]
    return any(len(some) > 1 for some in rows) or sum(row.nbytes for row in maps) > in_memory


def _vocabulary(names: Sequence[str], rows: Sequence[tuple[np.ndarray, ...]], told: int | None, trusted: bool) -> int:
    """How many tokens there are; what is told is checked, but for ``trusted`` tokens, whose reading may take long."""
    if trusted and told is not None:
        return told
    largest = 0
    for name, some in zip(names, rows, strict=True):
        for part in (row[i : i + LOOK] for row in some for i in range(0, len(row), LOOK)):
            low, high = int(part.min()), int(part.max())
            if low < 0:
                raise InputError(f"domain {name!r} holds the token {low}; tokens are >= 0")
            if told is not None and high >= told:
                raise InputError(f"domain {name!r} holds the token {high}, and the vocabulary has {told}; is it of another tokenizer?")
            largest = max(largest, high)
    return told or largest + 1
