"""A torch sampler over concatenated datasets that draws by live weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Unpack, final

import numpy as np
from torch.utils.data import Sampler

from mixopt.errors import InputError

from .draws import Drawing, Draws
from .ranks import own_part
from .weights import Weights, current


@final
class MixtureSampler(Sampler[Any]):
    """Indices into ``ConcatDataset(datasets)`` drawn by live weights: lists of them as a ``batch_sampler``, or one by one.

    ``lengths`` are the samples of each domain in the order of the datasets. With ``batch_size``, the samples of a step over all
    ranks, lists of this rank's indices come out; without it single ones for ``sampler=``, each a draw of its own, which is slower.
    ``weights`` (numbers, a function, or an object with ``.weights``) are read when a batch is drawn. A DataLoader with workers draws
    num_workers x prefetch_factor batches ahead, so by that many batches the weights lag behind; without workers they do not. ``batches``
    ends the sampler after so many in all; each iteration goes on from where the last one was left. ``drawing``: see ``Drawing``.

    The state counts what was drawn. With workers that is more than was trained on: ``MixtureLoader`` counts what was seen.

    >>> from torch.utils.data import ConcatDataset, DataLoader
    >>> web, code = list(range(100)), list(range(100, 110))
    >>> sampler = MixtureSampler({"web": 100, "code": 10}, {"web": 0.75, "code": 0.25}, batch_size=4, batches=5)
    >>> loader = DataLoader(ConcatDataset([web, code]), batch_sampler=sampler)
    >>> [sum(batch >= 100).item() for batch in loader]
    [1, 1, 1, 1, 1]

    Raises:
        InputError: settings, lengths, ranks or weights that do not fit; while drawing, what ``Draws`` raises.
    """

    def __init__(
        self,
        lengths: Mapping[str, int],
        weights: Weights,
        batch_size: int | None = None,
        *,
        batches: int | None = None,
        rank: int | None = None,
        ranks: int | None = None,
        **drawing: Unpack[Drawing],
    ):
        self._single = batch_size is None
        size = 1 if batch_size is None else batch_size
        unknown = [name for name, n in lengths.items() if n is None]
        if unknown:
            raise InputError(f"the length of {unknown[0]!r} is not known; a sampler needs them all, MixtureLoader takes streams")
        self._draws = Draws(lengths, size, **drawing)
        self._part = own_part(self._draws.size, rank, ranks)
        self._starts = np.cumsum(self._draws.lengths) - self._draws.lengths
        self._place = self._draws.begin()
        self.weights, self.batches = weights, batches
        self.batch_size, self.drop_last = self._part.stop - self._part.start, True  # torch's BatchSampler has them
        current(weights, self.domains)

    @property
    def domains(self) -> Any:
        """The domains, in the order of the datasets."""
        return self._draws.domains

    def __len__(self) -> int:
        if self.batches is None:
            raise TypeError("this sampler has no length; give batches=...")
        return max(self.batches - self._place.batch, 0)

    def __iter__(self) -> Iterator[Any]:
        while self.batches is None or self._place.batch < self.batches:
            found = self._draws.draw(self._place, current(self.weights, self.domains))
            if found is None:
                return self._draws.ended(self._place, self.batches)
            drawn, self._place = found
            indices = (self._starts[drawn.domains] + drawn.items)[self._part].tolist()
            yield indices[0] if self._single else indices

    def domain_of(self, indices: Any) -> np.ndarray:
        """The domain number [...] of indices [...] into the concatenated datasets."""
        return np.searchsorted(self._starts, np.asarray(indices), side="right") - 1

    @property
    def epochs(self) -> dict[str, float]:
        """How often each domain was read by what was drawn so far."""
        return self._draws.epochs(self._place)

    def state_dict(self) -> dict[str, Any]:
        """Where the draws stand, as plain numbers."""
        return self._draws.saved(self._place)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of a sampler over the same data; the number of ranks may be another.

        Raises:
            InputError: the state is of another version, data, batch size, seed or method.
        """
        self._place = self._draws.restored(state)
