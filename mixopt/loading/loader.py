"""Batches drawn by live weights, whose state counts what the consumer has seen: exact resume with workers, on any number of ranks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Unpack, final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from mixopt.errors import InputError
from mixopt.language.domains import Domains

from .draws import Drawing, Drawn, Place
from .sources import Key, opened, with_columns
from .weights import Weights, current

RESERVED = frozenset({"dataset", "batch_size", "sampler", "batch_sampler", "shuffle", "drop_last", "in_order", "generator"})


@final
@dataclass(frozen=True, eq=False)
class Batch:
    """This rank's samples of one step: ``data`` as collated, and the domain number [b] and importance weight w/q [b] of each.

    ``shares`` [k] are those that the batch was drawn by, and ``behind`` is how many batches were consumed since they were read.
    """

    data: Any
    domains: Tensor
    importance: Tensor
    shares: np.ndarray
    behind: int

    @property
    def effective(self) -> float:
        """How many equally weighted samples the batch is worth: (sum r)^2 / sum r^2 of its importance weights r (Kish 1965)."""
        return float(self.importance.sum() ** 2 / self.importance.square().sum().clamp(min=1e-30))


@final
@dataclass(frozen=True, eq=False)
class _Read:
    """Weights, and shares to draw by, as they were read when ``at`` batches had been seen."""

    weights: np.ndarray
    by: np.ndarray | None
    at: int


@final
class MixtureLoader:
    """Batches from ``sources``, a dataset or stream for each domain's name, drawn by weights that may change at any batch.

    A dataset has a length and random access, and is shuffled anew each epoch without an order being stored; a stream is iterated, and
    each worker of each rank reads past what is not its own. ``batch_size`` is a batch's samples over all ranks; each rank gets
    its slice, and all must see the same weights. ``draw_by`` are other shares q, live too, to draw by: then ``importance`` is w/q, at
    most ``bound``. ``lengths`` are the samples of streams where known. ``batches`` ends the loader after so many in all.
    ``options`` go to the DataLoader; ``drawing``: see ``Drawing``.

    Weights are read in this process, ``lag`` batches before the batch that is drawn by them is seen: num_workers x prefetch_factor, which
    workers draw ahead, unless more is given. The draws depend on the lag and not on the workers. The state counts what was handed out,
    and holds the weights that were read for batches to come, so that a resumed run sees the same batches as the uninterrupted one:
    exactly, with the same lag, by any number of workers and ranks.

    It yields a ``Batch``; with ``columns`` the collated mapping itself, with ``domain`` and ``importance`` added.

    >>> loader = MixtureLoader({"web": list(range(100)), "code": list(range(100, 110))}, {"web": 0.75, "code": 0.25}, 4, batches=3)
    >>> [(batch.domains.tolist().count(1), batch.behind) for batch in loader]
    [(1, 0), (1, 0), (1, 0)]

    Raises:
        InputError: sources, settings, ranks or weights that do not fit; while drawing, what ``Draws`` raises.
    """

    def __init__(
        self,
        sources: Mapping[str, Any],
        weights: Weights,
        batch_size: int,
        *,
        draw_by: Weights | None = None,
        lengths: Mapping[str, int] | None = None,
        batches: int | None = None,
        rank: int | None = None,
        ranks: int | None = None,
        columns: bool = False,
        lag: int | None = None,
        num_workers: int = 0,
        prefetch_factor: int = 2,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        options: Mapping[str, Any] | None = None,
        **drawing: Unpack[Drawing],
    ):
        dataset, self._draws, self._part = opened(sources, lengths, batch_size, (rank, ranks), drawing)
        self.weights, self.draw_by, self.batches = weights, draw_by, batches
        self.lag, self.columns = _lag(lag, num_workers * prefetch_factor), columns
        current(weights, self.domains)
        self._place = self._draws.begin()
        self._reads: deque[_Read] = deque()  # the weights of the batches that come next, in order
        self._drawn: deque[tuple[Drawn, Place]] = deque()  # the first of these that are drawn and not yet seen
        self._turn = object()
        if wrong := RESERVED & set(options or {}):
            raise InputError(f"the options {sorted(wrong)} of a DataLoader are this loader's own; leave them out")
        self._loader: DataLoader[Any] = DataLoader(
            dataset,
            batch_sampler=_Feed(self._feed),
            num_workers=num_workers,
            prefetch_factor=prefetch_factor if num_workers else None,
            collate_fn=collate_fn,
            generator=torch.Generator().manual_seed(self._draws.settings["seed"]),  # else each start would draw from the global one
            **(options or {}),
        )

    @property
    def domains(self) -> Domains:
        """The domains, by the order of the sources."""
        return self._draws.domains

    @property
    def seen(self) -> int:
        """Batches handed out so far, over all runs."""
        return self._place.batch

    @property
    def epochs(self) -> dict[str, float]:
        """How often each domain was read by what was handed out so far; NaN for streams of unknown length."""
        return self._draws.epochs(self._place)

    def __len__(self) -> int:
        if self.batches is None:
            raise TypeError("this loader has no length; give batches=...")
        return max(self.batches - self._place.batch, 0)

    def __iter__(self) -> Iterator[Any]:
        turn = self._turn = object()
        self._drawn.clear()
        while self._reads and self._reads[-1].at == self._place.batch:  # read when the last iteration had ended
            self._reads.pop()
        self._read()
        for data in self._loader:
            read, (drawn, after) = self._reads.popleft(), self._drawn.popleft()
            behind, self._place = self._place.batch - read.at, after
            importance = torch.from_numpy(drawn.importance[self._part]).float()
            batch = Batch(data, torch.from_numpy(drawn.domains[self._part]), importance, drawn.shares, behind)
            yield with_columns(data, domain=batch.domains, importance=importance) if self.columns else batch
            if self._turn is not turn:
                raise InputError("a state was loaded, or another iteration begun, while this one ran; iterate over the loader anew")
            self._read()

    def _read(self) -> None:
        """Read the weights for as many batches ahead as the lag says; those of the next batch are the last where it is 0."""
        while len(self._reads) <= self.lag:
            by = None if self.draw_by is None else current(self.draw_by, self.domains)
            self._reads.append(_Read(current(self.weights, self.domains), by, self._place.batch))

    def _feed(self) -> Iterator[list[Key]]:
        """The keys of this rank's samples, batch by batch as the DataLoader requests them."""
        place = self._place
        while self.batches is None or place.batch < self.batches:
            read = self._reads[len(self._drawn)]
            found = self._draws.draw(place, read.weights, read.by)
            if found is None:
                return self._draws.ended(place, self.batches)
            drawn, place = found
            self._drawn.append((drawn, place))
            yield list(zip(drawn.domains[self._part].tolist(), drawn.items[self._part].tolist(), strict=True))

    def state_dict(self) -> dict[str, Any]:
        """What was handed out so far, and the weights that were read for batches to come, as plain numbers."""
        ahead = [{"weights": r.weights.tolist(), "draw_by": None if r.by is None else r.by.tolist(), "at": r.at} for r in self._reads]
        return {**self._draws.saved(self._place), "ahead": ahead}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from the state of a loader over the same data; the number of ranks may be another. Iterate anew after it.

        Raises:
            InputError: the state is of another version, data, batch size, seed or method, or of no loader.
        """
        if "ahead" not in state:
            raise InputError("the state is not of a MixtureLoader: it has no 'ahead'; give what its state_dict returned")
        self._place = self._draws.restored(state)
        self._drawn = deque()
        self._reads = deque(
            _Read(np.array(r["weights"]), None if r["draw_by"] is None else np.array(r["draw_by"]), int(r["at"])) for r in state["ahead"]
        )
        self._turn = object()


def _lag(given: int | None, needed: int) -> int:
    """How many batches ahead weights are read; raises where workers draw further ahead."""
    if given is not None and given < needed:
        raise InputError(
            f"lag is {given} batches, and the workers draw num_workers x prefetch_factor = {needed} ahead; give {needed} or more"
        )
    return needed if given is None else given


@final
class _Feed:
    """An iterable whose iterator is made by a function."""

    def __init__(self, make: Callable[[], Iterator[list[Key]]]):
        self._make = make

    def __iter__(self) -> Iterator[list[Key]]:
        return self._make()
