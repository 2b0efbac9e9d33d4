"""Token streams: named domains of tokens, and the random or fixed windows that are cut from them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from mixopt.errors import InputError
from mixopt.language.domains import Domains

BELOW_ONE = 1 - 2.0**-53


@final
class Streams:
    """Named domains of tokens in one flat buffer, from which windows [context+1] are cut; none crosses a domain's end.

    ``tokens`` maps each name to its tokens [n], an array of integers >= 0. They are stored as bytes where they fit and come
    out as int64. Drawing is a few tensor operations whatever the number of domains, and never waits for a GPU.

    >>> streams = Streams({"web": range(100), "code": range(50)}, context=8)
    >>> streams.sizes
    {'web': 100, 'code': 50}
    >>> streams.draw(4, torch.Generator().manual_seed(0)).shape
    torch.Size([2, 4, 9])

    Raises:
        InputError: no domain, a context below 1, tokens that are not integers >= 0 in one row, or a domain that is empty
            or shorter than one window.
    """

    def __init__(self, tokens: Mapping[str, Any], context: int, device: str | torch.device = "cpu"):
        self.domains = Domains(tokens)
        if not isinstance(context, (int, np.integer)) or context < 1:
            raise InputError(f"a context of {context} tokens was given; it is a whole number, at least 1")
        parts = {name: _row(name, tokens[name], context) for name in self.domains}
        self.context = context
        self.device = torch.device(device)
        self.names = self.domains.names
        self.sizes = {name: len(part) for name, part in parts.items()}
        self.vocabulary = 1 + max(int(part.max()) for part in parts.values())
        kind = np.uint8 if self.vocabulary <= 256 else np.int32 if self.vocabulary <= 2**31 else np.int64
        self._flat = torch.from_numpy(np.concatenate([part.astype(kind) for part in parts.values()])).to(self.device)
        self._windows = self._flat.unfold(0, context + 1, 1)
        sizes = torch.tensor(list(self.sizes.values()))
        self._offsets = (sizes.cumsum(0) - sizes).to(self.device)
        self._starts = (sizes - context).to(self.device)

    def on(self, device: str | torch.device) -> Streams:
        """The same streams on another device; nothing is copied where they lie there already."""
        moved = copy.copy(self)
        moved.device = torch.device(device)
        moved._flat = self._flat.to(device)
        moved._windows = moved._flat.unfold(0, self.context + 1, 1)
        moved._offsets, moved._starts = self._offsets.to(device), self._starts.to(device)
        return moved

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Position of a domain; raises InputError with the nearest name suggested."""
        return self.domains.index(name)

    def part(self, name: str) -> Tensor:
        """The tokens of one domain [n], int64."""
        start = int(self._offsets[self.index(name)])
        return self._flat[start : start + self.sizes[name]].long()

    def draw(self, per_domain: int, generator: torch.Generator) -> Tensor:
        """Random windows of every domain [k, per_domain, context+1]: stratified, for per-domain losses from one pass."""
        places = torch.rand(len(self), per_domain, generator=generator, device=generator.device, dtype=torch.float64)
        domains = torch.arange(len(self), device=self.device)[:, None]
        return self._cut(domains.expand(-1, per_domain), places.to(self.device, non_blocking=True))  # else the host waits for a GPU

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
        return self.mixed(bounds, uniform.to(self.device, non_blocking=True))

    def bounds(self, weights: Any) -> Tensor:
        """Mixtures [R, k] or [k] as their running sums [R, k], float64, the last one exactly 1; checked as in ``draw_mixed``."""
        if not (isinstance(weights, Tensor) and weights.is_cuda):
            given = weights.detach().numpy() if isinstance(weights, Tensor) else weights
            rows = np.atleast_2d(np.asarray(given, dtype=float))
            weights = torch.as_tensor(np.stack([self.domains.weights(row, tolerance=1e-5) for row in rows]), device=self.device)
        sums = torch.atleast_2d(weights).to(self.device, torch.float64).cumsum(-1)
        return sums / sums[:, -1:]

    def mixed(self, bounds: Tensor, uniform: Tensor) -> Tensor:
        """Windows [R, batch, context+1] from ``bounds`` [R, k] and uniform numbers [R or 1, batch+1] in [0, 1).

        The first uniform number shifts the grid (j + u) / batch that picks the domains, each other one is a window's place.
        """
        runs, batch = len(bounds), uniform.shape[-1] - 1
        steps = torch.arange(batch, device=self.device, dtype=torch.float64)
        grid = ((steps + uniform[:, :1]) / batch).clamp_(max=BELOW_ONE)
        domains = torch.searchsorted(bounds, grid.expand(runs, -1).contiguous(), right=True)
        return self._cut(domains, uniform[:, 1:].expand(runs, -1))

    def fixed(self, per_domain: int) -> Tensor:
        """The same evenly spaced windows at every call [k, per_domain, context+1]; one alone is the first.

        They overlap only where the domain is too small for ``per_domain`` windows side by side.
        """
        if per_domain < 1:
            raise InputError(f"{per_domain} windows of each domain were asked for; take at least 1")
        steps = torch.arange(per_domain, device=self.device)
        places = (self._starts[:, None] - 1) * steps // max(per_domain - 1, 1)
        return self._windows[self._offsets[:, None] + places].long()

    def _cut(self, domains: Tensor, places: Tensor) -> Tensor:
        """Windows [..., context+1] of the given domains [...] at the given places in [0, 1) [...]."""
        room = self._starts[domains]
        inside = (places * room).long().clamp_(max=room - 1)
        return self._windows[self._offsets[domains] + inside].long()


def _row(name: str, given: Any, context: int) -> np.ndarray:
    """A domain's tokens as a checked row [n]."""
    row = given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)
    if row.ndim != 1:
        raise InputError(f"the tokens of {name!r} have shape {row.shape}; give one row [n]")
    if len(row) == 0:
        raise InputError(f"domain {name!r} is empty; leave it out or give it at least {context + 1} tokens")
    if not np.issubdtype(row.dtype, np.integer):
        raise InputError(f"the tokens of {name!r} are {row.dtype}; give integers")
    if len(row) <= context:
        raise InputError(f"domain {name!r} has {len(row)} tokens, and a window takes {context + 1}; give more or a shorter context")
    if row.min() < 0:
        raise InputError(f"domain {name!r} holds the token {row.min()}; tokens are >= 0")
    return row
