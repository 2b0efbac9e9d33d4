"""What domains are read from: datasets with random access, and streams that are read past what is not wanted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, final

from torch.utils.data import Dataset
from torch.utils.data._utils import worker

from mixopt.errors import InputError

from .draws import Drawing, Draws
from .ranks import own_part

Key = tuple[int, int]
"""A domain's number and the item in it."""


def random_access(source: Any) -> bool:
    """Whether items can be had in any order: there is a length, and a __getitem__ that is not torch's placeholder."""
    get = getattr(type(source), "__getitem__", None)
    return get is not None and get is not Dataset.__getitem__ and hasattr(source, "__len__")


def known_lengths(sources: Mapping[str, Any], given: Mapping[str, int] | None) -> dict[str, int | None]:
    """The samples of each domain: of datasets as they say, of streams as given, else None.

    Raises:
        InputError: no domain, one that can be read in no way, or a length given for an unknown domain or against a dataset's own.
    """
    if not sources:
        raise InputError("there are no domains; give a mapping of names to datasets or streams")
    given = dict(given or {})
    found: dict[str, int | None] = {}
    for name, source in sources.items():
        told = given.pop(name, None)
        if isinstance(source, Mapping):
            raise InputError(f"{name!r} is a {type(source).__name__} of {list(source)[:4]}; give the one of its entries that is meant")
        if random_access(source):
            found[name] = len(source)
            if told not in (None, found[name]):
                raise InputError(f"{name!r} has {found[name]} samples, and lengths says {told}; leave it out there")
        elif hasattr(source, "__iter__") and not isinstance(source, Iterator):
            found[name] = told
        else:
            raise InputError(
                f"{name!r} is a {type(source).__name__}; give a dataset (__len__ and __getitem__), or a stream that can be read "
                "again from its start (an __iter__ that makes a new iterator)"
            )
    if given:
        raise InputError(f"lengths are given for {sorted(given)}, which are not among the domains {list(sources)}")
    return found


def opened(
    sources: Mapping[str, Any], lengths: Mapping[str, int] | None, size: int, ranks: tuple[int | None, int | None], drawing: Drawing
) -> tuple[Sources, Draws, slice]:
    """Sources as one dataset, the draws of ``size`` a batch from them, and the part of a batch that is this rank's (rank, ranks).

    Raises:
        InputError: sources, lengths, settings or ranks that do not fit.
    """
    known = known_lengths(sources, lengths)
    streams = frozenset(name for name, source in sources.items() if not random_access(source))
    draws = Draws(known, size, in_order=streams, **drawing)
    return Sources(sources, known), draws, own_part(draws.size, *ranks)


def with_columns(example: Any, **columns: Any) -> dict[str, Any]:
    """An example, or a collated batch, with columns that tell what was drawn.

    Raises:
        InputError: it is no mapping, or has such a column.
    """
    if not isinstance(example, Mapping):
        raise InputError(f"the samples are {type(example).__name__}, and columns are added to mappings only; leave columns out")
    taken = [name for name in columns if name in example]
    if taken:
        raise InputError(f"the samples have a column {taken[0]!r} already; rename it, or leave columns out")
    return {**example, **columns}


@contextmanager
def alone() -> Iterator[None]:
    """Hide that a DataLoader's worker is at work: a stream that deals its items out to the workers would number them otherwise in each."""
    told = worker._worker_info
    worker._worker_info = None
    try:
        yield
    finally:
        worker._worker_info = told


@final
class Stream:
    """A stream of one domain whose items are numbered on from epoch to epoch.

    To reach an item those before it are read and left out; one before the last means reading from the start again.
    """

    def __init__(self, name: str, source: Any, length: int | None = None):
        self._name, self._source, self._length = name, source, length
        self._items: Iterator[Any] | None = None  # made when first read, by the worker that reads
        self._next = self._epoch = self._begun = 0

    def __getitem__(self, number: int) -> Any:
        """The item of a number, which counts on through epochs.

        Raises:
            InputError: an epoch of the stream is empty, or not as long as its length says.
        """
        with alone():
            if self._items is None or number < self._next:
                self._next = 0
                self._open(0)
            while True:
                item = self._read()
                if self._next > number:
                    return item

    def __getstate__(self) -> dict[str, Any]:
        """What a worker gets: it begins to read by itself."""
        return {**self.__dict__, "_items": None}

    def _open(self, epoch: int) -> None:
        self._epoch, self._begun = epoch, self._next
        if hasattr(self._source, "set_epoch"):
            self._source.set_epoch(epoch)
        self._items = iter(self._source)

    def _read(self) -> Any:
        """The next item, of the next epoch where this one ends."""
        while True:
            for item in self._items or ():
                self._next += 1
                return item
            read = self._next - self._begun
            if read == 0 or (self._length is not None and read != self._length):
                told = "" if self._length is None else f", and lengths says {self._length}"
                raise InputError(f"epoch {self._epoch} of the stream {self._name!r} ended after {read} samples{told}")
            self._open(self._epoch + 1)


@final
class Sources(Dataset[Any]):
    """Datasets and streams by domain as one dataset of keys (domain, item); what a DataLoader's workers hold."""

    def __init__(self, sources: Mapping[str, Any], lengths: Mapping[str, int | None]):
        self._sources = [source if random_access(source) else Stream(n, source, lengths[n]) for n, source in sources.items()]

    def __getitem__(self, key: Key) -> Any:
        domain, item = key
        return self._sources[domain][item]

    def __getitems__(self, keys: Sequence[Key]) -> list[Any]:
        """The samples of keys, those of one domain read together where its dataset can."""
        found: list[Any] = [None] * len(keys)
        places: dict[int, list[int]] = {}
        for i, (domain, _) in enumerate(keys):
            places.setdefault(domain, []).append(i)
        for domain, where in places.items():
            source, items = self._sources[domain], [keys[i][1] for i in where]
            together = getattr(source, "__getitems__", None)
            for i, sample in zip(where, together(items) if together else [source[item] for item in items], strict=True):
                found[i] = sample
        return found
