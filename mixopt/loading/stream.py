"""An endless torch dataset of samples drawn by live weights, for trainers that make their own DataLoader."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Unpack, final

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from mixopt.errors import InputError, listed
from mixopt.language.domains import Domains

from .draws import Drawing, Drawn, Draws
from .ranks import own_part
from .sources import Key, Sources, known_lengths, random_access, with_columns
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
    anew and has no state: that needs a ``MixtureLoader``.

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
        self._known = known_lengths(sources, lengths)
        self._streams = frozenset(name for name, source in sources.items() if not random_access(source))
        self._sources = Sources(sources, self._known)
        self._draws = Draws(self._known, batch_size, in_order=self._streams, **drawing)
        self._part = own_part(self._draws.size, rank, ranks)
        self._place, self._done = self._draws.begin(), 0
        self._now: tuple[np.ndarray, np.ndarray | None, int] | None = None  # the weights of a batch that is half handed out
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
        worker = get_worker_info()
        return self._here() if worker is None else self._in_worker(worker.id, worker.num_workers)

    def _here(self) -> Iterator[Any]:
        """The samples of this rank from where the last iteration was left."""
        while True:
            if self._now is None:
                self.update()
                self._now = self._shared()
            weights, by, version = self._now
            found = self._draws.draw(self._place, weights, by)
            if found is None:
                return
            drawn, after = found
            for i, sample in enumerate(self._samples(drawn, self._part, version, 0, 1)):
                if i >= self._done:
                    self._done = i + 1
                    yield sample
            self._place, self._done, self._now = after, 0, None

    def _in_worker(self, worker: int, workers: int) -> Iterator[Any]:
        """The samples of one worker: every n-th of each domain is its own, for n workers over all ranks."""
        self._told[1] = 1
        each = self._part.stop - self._part.start
        step, first = workers * (self._draws.size // each), self._part.start // each * workers + worker
        lengths = {name: None if n is None else len(range(first, n, step)) for name, n in self._known.items()}
        bare = [name for name, n in lengths.items() if n == 0]
        if bare:
            raise InputError(f"{listed(bare)} have fewer samples than there are workers on all ranks, {step}; give fewer workers")
        seed = np.random.SeedSequence((self._draws.settings["seed"], step, first)).generate_state(1, np.uint64)
        settings: Drawing = {**self._draws.settings, "seed": int(seed[0])}
        draws = Draws(lengths, each, in_order=self._streams, **settings)
        place = draws.begin()
        while True:
            weights, by, version = self._shared()
            found = draws.draw(place, weights, by)
            if found is None:
                return
            drawn, place = found
            yield from self._samples(drawn, slice(None), version, first, step)

    def _samples(self, drawn: Drawn, part: slice, version: int, first: int, step: int) -> Iterator[Any]:
        """The samples of a part of the draws, whose items are every ``step``-th from ``first`` on."""
        domains, items = drawn.domains[part].tolist(), (first + step * drawn.items[part]).tolist()
        keys: list[Key] = list(zip(domains, items, strict=True))
        for data, domain, importance in zip(self._sources.__getitems__(keys), domains, drawn.importance[part].tolist(), strict=True):
            tagged = with_columns(data, domain=domain, importance=importance) if self.columns else None
            yield tagged or Sample(data, domain, importance, version)

    def __getstate__(self) -> dict[str, Any]:
        """What a worker gets: all but the weights, which it reads from shared memory."""
        return {**self.__dict__, "weights": None, "draw_by": None if self.draw_by is None else ()}

    def state_dict(self) -> dict[str, Any]:
        """The samples handed out so far, and the weights of a batch that is half handed out, as plain numbers.

        Raises:
            InputError: the samples are handed out by a DataLoader's workers, where this process does not see them.
        """
        if self._told[1]:
            raise InputError(
                "this stream was read by workers, which know its state; read it without, or use MixtureLoader(num_workers=...)"
            )
        now = None
        if self._now is not None:
            weights, by, version = self._now
            now = {"weights": weights.tolist(), "draw_by": None if by is None else by.tolist(), "version": version}
        return {**self._draws.saved(self._place), "done": self._done, "now": now}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of a stream over the same data, on the same number of ranks; iterate anew after it.

        Raises:
            InputError: the state is of another version, data, batch size, seed or method, or of no stream.
        """
        if "done" not in state:
            raise InputError("the state is not of a MixtureStream: it has no 'done'; give what its state_dict returned")
        self._place, self._done, self._now = self._draws.restored(state), int(state["done"]), None
        if (now := state["now"]) is not None:
            by = None if now["draw_by"] is None else np.array(now["draw_by"])
            self._now = (np.array(now["weights"]), by, int(now["version"]))


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
