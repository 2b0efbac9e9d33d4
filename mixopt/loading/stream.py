"""An endless torch dataset of samples drawn by live weights, for trainers that make their own DataLoader."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Unpack, final

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from mixopt.errors import InputError
from mixopt.language.domains import Domains

from .draws import Drawing, Drawn, Draws
from .sources import Key, opened, with_columns
from .weights import Weights, current

SLOTS = 8
"""Weights that are kept side by side, so that a worker never reads those that are being written."""


class Sample(NamedTuple):
    """A sample with its domain's number, its importance weight w/q, and the version of the weights that it was drawn by."""

    data: Any
    domain: int
    importance: float
    version: int


@final
class MixtureStream(IterableDataset[Any]):
    """Samples of ``sources``, a dataset or stream for each domain's name, drawn by weights that may change while it is iterated.

    For trainers that take an ``IterableDataset`` and make the DataLoader themselves; elsewhere ``MixtureLoader`` does more.
    Weights are read once for ``batch_size`` draws, a step's over all ranks. It yields a ``Sample``; with ``columns``, each example,
    a mapping, with the columns ``domain`` and ``importance`` added. Other arguments are those of ``MixtureLoader``.

    Without workers the draws are those of a ``MixtureLoader``: all ranks share them, weights do not lag, and the state is exact at
    any sample. In a DataLoader's workers, each worker of each rank draws for itself from a part of the samples of its own, by
    weights in shared memory that ``update`` brings there: call it when the weights have moved. Batches already drawn keep
    theirs, so that the weights lag by at most num_workers x prefetch_factor + 1 batches; ``version`` tells. There each iteration begins
    anew, and each worker has the state of what it handed out, which torchdata's ``StatefulDataLoader`` saves and gives back to as many
    workers on as many ranks: the same samples follow under weights that stay. Where weights move, which batch sees them first is a matter
    of time; a ``MixtureLoader`` fixes that too.

    >>> stream = MixtureStream({"web": range(100), "code": range(100, 110)}, {"web": 0.75, "code": 0.25}, batch_size=4)
    >>> samples = iter(stream)
    >>> sum(next(samples).domain for _ in range(8))
    2

    Raises:
        InputError: as ``MixtureLoader``; while iterating, an example that is no mapping or has such a column.
    """

    def __init__(
        self,
        sources: Mapping[str, Any],
        weights: Weights,
        batch_size: int,
        *,
        draw_by: Weights | None = None,
        lengths: Mapping[str, int] | None = None,
        columns: bool = False,
        rank: int | None = None,
        ranks: int | None = None,
        **drawing: Unpack[Drawing],
    ):
        self.weights, self.draw_by, self.columns = weights, draw_by, columns
        self._sources, self._draws, self._part = opened(sources, lengths, batch_size, (rank, ranks), drawing)
        self._lane = _Lane(self._draws, self._part)
        self._loaded: int | None = None  # the process that was given a state to go on from
        self._table = torch.zeros(SLOTS, 2, len(self.domains), dtype=torch.float64).share_memory_()
        self._told = torch.zeros(2, dtype=torch.int64).share_memory_()  # the version, and whether workers read
        self._write(*self._read())

    @property
    def domains(self) -> Domains:
        """The domains, by the order of the sources."""
        return self._draws.domains

    def update(self) -> int:
        """Read the weights and bring them to the workers where they have changed; their version, which counts the changes."""
        found = self._read()
        if not np.array_equal(self._table[int(self._told[0]) % SLOTS].numpy(), np.stack(found)):
            self._write(*found)
        return int(self._told[0])

    def _read(self) -> tuple[np.ndarray, np.ndarray]:
        """The weights and the shares to draw by [k], of the moment."""
        weights = current(self.weights, self.domains)
        return weights, weights if self.draw_by is None else current(self.draw_by, self.domains)

    def _write(self, weights: np.ndarray, by: np.ndarray) -> None:
        version = int(self._told[0]) + 1
        self._table[version % SLOTS] = torch.from_numpy(np.stack([weights, by]))
        self._told[0] = version  # only now is the slot looked at

    def _shared(self) -> tuple[np.ndarray, np.ndarray | None, int]:
        """Weights and shares to draw by [k] as they were last brought, and their version."""
        while True:
            version = int(self._told[0])
            weights, by = self._table[version % SLOTS].clone().numpy()
            if int(self._told[0]) < version + SLOTS - 1:
                return weights, None if self.draw_by is None else by, version

    def __iter__(self) -> Iterator[Any]:
        if get_worker_info() is not None:
            self._told[1] = 1
            if self._loaded not in (None, os.getpid()):
                raise InputError("the stream was given a state outside its workers, which cannot go on from it; read it without workers")
            self._lane = self._own_lane() if self._loaded is None else self._lane
            self._loaded = None
        return self._handed(self._lane)

    def _handed(self, lane: _Lane) -> Iterator[Any]:
        """The samples of a lane from where it was left."""
        while True:
            if lane.now is None:
                if get_worker_info() is None:
                    self.update()
                lane.now = self._shared()
            weights, by, version = lane.now
            found = lane.draws.draw(lane.place, weights, by)
            if found is None:
                return
            drawn, after = found
            for i, sample in enumerate(self._samples(drawn, lane, version)):
                if i >= lane.done:
                    lane.done = i + 1
                    yield sample
            lane.place, lane.done, lane.now = after, 0, None

    def _own_lane(self) -> _Lane:
        """The lane of this worker: every n-th sample of each domain is its own, for n workers over all ranks."""
        info = get_worker_info()
        assert info is not None
        each = self._part.stop - self._part.start
        step, first = info.num_workers * (self._draws.size // each), self._part.start // each * info.num_workers + info.id
        return _Lane(self._draws.thinned(first, step, each), slice(None), first, step)

    def _samples(self, drawn: Drawn, lane: _Lane, version: int) -> Iterator[Any]:
        """The samples of a lane's part of the draws."""
        domains, items = drawn.domains[lane.part].tolist(), (lane.first + lane.step * drawn.items[lane.part]).tolist()
        keys: list[Key] = list(zip(domains, items, strict=True))
        for data, domain, importance in zip(self._sources.__getitems__(keys), domains, drawn.importance[lane.part].tolist(), strict=True):
            tagged = with_columns(data, domain=domain, importance=importance) if self.columns else None
            yield tagged or Sample(data, domain, importance, version)

    def __getstate__(self) -> dict[str, Any]:
        """What a worker gets: all but the weights, which it reads from shared memory."""
        return {**self.__dict__, "weights": None, "draw_by": None if self.draw_by is None else ()}

    def state_dict(self) -> dict[str, Any]:
        """The samples handed out so far, here or by the worker that asks, and the weights of a batch that is half handed out.

        Raises:
            InputError: the samples are handed out by a DataLoader's workers, where this process does not see them.
        """
        if get_worker_info() is None and self._told[1]:
            raise InputError(
                "this stream was read by workers, which know its state; read it by torchdata's StatefulDataLoader, whose state has theirs, "
                "or without workers, or use MixtureLoader(num_workers=...)"
            )
        return self._lane.saved()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of a stream over the same data, on the same number of ranks and workers; iterate anew after it.

        Raises:
            InputError: the state is of another version, data, batch size, seed, method, number of ranks or workers, or of no stream.
        """
        if "done" not in state:
            raise InputError("the state is not of a MixtureStream: it has no 'done'; give what its state_dict returned")
        lane = _Lane(self._draws, self._part) if get_worker_info() is None else self._own_lane()
        lane.load(state)
        self._lane, self._loaded = lane, os.getpid()


@final
class _Lane:
    """What one reader draws, this process or a worker, and how far it has handed that out.

    Its items are every ``step``-th of the sources' from ``first`` on, and its own the ``part`` of each batch. ``now`` are the weights
    of a batch that is half handed out.
    """

    def __init__(self, draws: Draws, part: slice, first: int = 0, step: int = 1):
        self.draws, self.part, self.first, self.step = draws, part, first, step
        self.place, self.done = draws.begin(), 0
        self.now: tuple[np.ndarray, np.ndarray | None, int] | None = None

    @property
    def own(self) -> int:
        """The samples of a batch that are its own."""
        return len(range(*self.part.indices(self.draws.size)))

    def saved(self) -> dict[str, Any]:
        """Its state as plain numbers."""
        now = None
        if self.now is not None:
            weights, by, version = self.now
            now = {"weights": weights.tolist(), "draw_by": None if by is None else by.tolist(), "version": version}
        return {**self.draws.saved(self.place), "own": self.own, "done": self.done, "now": now}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.place, self.done = self.draws.restored(state), int(state["done"])
        if self.done and state["own"] != self.own:
            raise InputError(
                f"the state is of {state['own']} samples a rank in the middle of a batch, and a rank has {self.own} here; go on with as "
                "many ranks, or from a state between two batches"
            )
        if (now := state["now"]) is not None:
            by = None if now["draw_by"] is None else np.array(now["draw_by"])
            self.now = (np.array(now["weights"]), by, int(now["version"]))


def from_datasets(datasets: Mapping[str, Any], weights: Weights, batch_size: int = 1, **arguments: Any) -> MixtureStream:
    """Hugging Face ``datasets`` by name, map-style or iterable, interleaved by probabilities that may change: examples as they
    are, with the columns ``domain`` (its number) and ``importance``.

    Where ``datasets.interleave_datasets`` takes fixed probabilities; it never ends, unless ``at_most`` is given. ``batch_size`` samples
    are drawn by one reading of the weights; that of your DataLoader is quicker than 1. ``arguments`` are those of ``MixtureStream``.
    For exact resume with workers, give the same datasets to ``MixtureLoader``.

    Raises:
        InputError: as ``MixtureStream``.
    """
    return MixtureStream(datasets, weights, batch_size, columns=True, **arguments)
