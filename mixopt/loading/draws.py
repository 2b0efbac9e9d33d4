"""Which samples a batch holds: a function of the seed, the number of the batch, and the weights so far; nothing else is remembered."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, Unpack, final

import numpy as np

from mixopt.errors import InputError, listed, unknown
from mixopt.language.domains import Domains

from .permutation import SMALL, Permutation
from .shares import multinomial, stratified, within

ENDLESS = 2**62
"""The length of a stream that is not known."""
STRETCH = 512
"""Places of a long order that are computed at once."""
VERSION = 1


class Drawing(TypedDict, total=False):
    """How samples are drawn: settings that every loader and sampler takes by name.

    ``seed`` (0) is that of everything drawn. ``method``: "stratified" counts follow the weights over time to within a few draws,
    "multinomial" draws are independent. ``at_most``: the epochs that a domain is read at most, one number or by name; without it there
    is no limit. ``when_used_up``: the "others" get the weight of a domain that is read so often, in proportion to theirs and with
    one warning, or an "error" is raised. ``shuffle`` (True): each epoch of a domain with random access has an order of its own.
    ``bound`` (10): the largest importance weight w/q that a sample gets where draws go by other shares q.
    """

    seed: int
    method: Literal["stratified", "multinomial"]
    at_most: float | Mapping[str, float] | None
    when_used_up: Literal["others", "error"]
    shuffle: bool
    bound: float


@final
@dataclass(frozen=True, eq=False)
class Place:
    """Where the draws stand: batches so far, draws of each domain [k], and what each is owed by the stratified method [k]."""

    batch: int
    counts: np.ndarray
    owed: np.ndarray


@final
@dataclass(frozen=True, eq=False)
class Drawn:
    """The draws of one batch over all ranks: ``domains`` [B] and ``items`` [B] within them, and the ``importance`` [B] of each, w/q.

    ``shares`` [k] are those drawn by, after used-up domains gave theirs away.
    """

    domains: np.ndarray
    items: np.ndarray
    importance: np.ndarray
    shares: np.ndarray


@final
class Draws:
    """Draws of ``size`` samples a batch from k domains of known ``lengths`` in samples (None: a stream of unknown length).

    Each domain is read epoch by epoch without replacement, each epoch in an order of its own; the domains named in ``in_order``
    are streams that cannot be shuffled, whose items are numbered on from epoch to epoch.

    >>> draws = Draws({"web": 1000, "code": 10}, size=8)
    >>> drawn, place = draws.draw(draws.begin(), np.array([0.75, 0.25]))
    >>> np.bincount(drawn.domains).tolist(), place.counts.tolist()
    ([6, 2], [6, 2])

    Raises:
        InputError: an empty domain, a size or a limit below what can be drawn, a limit on a domain of unknown length.
    """

    def __init__(self, lengths: Mapping[str, int | None], size: int, *, in_order: frozenset[str] = frozenset(), **drawing: Unpack[Drawing]):
        self.domains = Domains(lengths)
        self.size = _whole("batch_size", size)
        self.settings: Drawing = {**_DEFAULT, **drawing}
        _check(self.settings, drawing)
        self.lengths = np.array([_length(name, lengths[name]) for name in self.domains], dtype=np.int64)
        self.caps = _caps(self.domains, self.lengths, self.settings["at_most"])
        self._in_order = [name in in_order or self.lengths[i] >= ENDLESS for i, name in enumerate(self.domains)]
        self._key = np.random.SeedSequence(self.settings["seed"]).generate_state(2, np.uint64)
        self._ready: dict[int, tuple[tuple[int, int], np.ndarray]] = {}  # the stretch of each domain's order that is in use

    def thinned(self, first: int, step: int, size: int) -> Draws:
        """Draws of ``size`` from every ``step``-th item of each domain, from ``first`` on, by random numbers of their own.

        Raises:
            InputError: a domain that has none of these items.
        """
        lengths = {name: None if n >= ENDLESS else len(range(first, n, step)) for name, n in zip(self.domains, self.lengths, strict=True)}
        if bare := [name for name, n in lengths.items() if n == 0]:
            raise InputError(f"{listed(bare)} have fewer samples than there are workers on all ranks, {step}; give fewer workers")
        seed = np.random.SeedSequence((self.settings["seed"], step, first)).generate_state(1, np.uint64)
        settings: Drawing = {**self.settings, "seed": int(seed[0])}
        in_order = frozenset(name for name, streamed in zip(self.domains, self._in_order, strict=True) if streamed)
        return Draws(lengths, size, in_order=in_order, **settings)

    def begin(self) -> Place:
        """The place before the first draw."""
        return Place(0, np.zeros(len(self.domains), dtype=np.int64), np.zeros(len(self.domains)))

    def draw(self, place: Place, weights: np.ndarray, by: np.ndarray | None = None) -> tuple[Drawn, Place] | None:
        """The next batch by weights [k] on the simplex, or ``by`` other shares [k] with importance weights; None where all is read.

        Raises:
            InputError: a domain is used up and that is to be an error; the weights lie on used-up domains only; a domain that
                has weight is never drawn.
        """
        shares = weights if by is None else by
        room = self.caps - place.counts
        if np.minimum(room, self.size).sum() < self.size:
            return None
        source = np.random.Philox(key=self._key, counter=[0, 0, place.batch, 0])
        order = np.argsort(source.random_raw(self.size), kind="stable")
        counts, owed = self._counts(shares, room, place.owed, source)
        domains = np.repeat(np.arange(len(counts)), counts)[order]
        items = np.empty(self.size, dtype=np.int64)
        items[np.argsort(domains, kind="stable")] = np.concatenate(
            [self._items(int(i), int(place.counts[i]), int(counts[i])) for i in np.flatnonzero(counts)]
        )
        self._tell(shares, room, counts)
        left = np.where(room > 0, shares, 0.0)
        left = left / left.sum()
        ratio = np.ones(len(counts)) if by is None else self._ratio(np.where(room > 0, weights, 0.0), left)
        return Drawn(domains, items, ratio[domains], left), Place(place.batch + 1, place.counts + counts, owed)

    def _counts(self, shares: np.ndarray, room: np.ndarray, owed: np.ndarray, source: np.random.Philox) -> tuple[np.ndarray, np.ndarray]:
        """Draws of each domain [k], and what each is owed after them [k]."""

        def count(size: int, by: np.ndarray) -> np.ndarray:
            nonlocal owed
            if self.settings["method"] == "multinomial":
                return multinomial(size, by, (source.random_raw(size) >> np.uint64(11)) * 2.0**-53)
            counts, after = stratified(size, by, before)
            owed = after
            return counts

        before = owed
        strict = self.settings["when_used_up"] == "error"
        counts = within(self.size, shares, np.full_like(room, ENDLESS) if strict else room, count)
        if counts is None:
            raise self._nothing_left(shares)
        if (over := np.flatnonzero(counts > room)).size:
            raise InputError(f'{self._used_up(over)}; raise at_most, lower the weight, or give when_used_up="others"')
        return counts, owed

    def _items(self, domain: int, start: int, count: int) -> np.ndarray:
        """The items [count] of a domain from its draw number ``start`` on."""
        if self._in_order[domain]:
            return np.arange(start, start + count)
        n = int(self.lengths[domain])
        if not self.settings["shuffle"]:
            return np.arange(start, start + count) % n
        found = []
        while count:
            epoch, at = divmod(start, n)
            stretch, at = divmod(at, n if n <= SMALL else STRETCH)
            piece = self._stretch(domain, epoch, stretch)[at : at + count]
            found.append(piece)
            start, count = start + len(piece), count - len(piece)
        return np.concatenate(found)

    def _stretch(self, domain: int, epoch: int, stretch: int) -> np.ndarray:
        """A stretch of a domain's order in one epoch, all of it where it is short, kept until another is asked for."""
        where, ready = self._ready.get(domain, (None, np.empty(0)))
        if where != (epoch, stretch):
            n = int(self.lengths[domain])
            places = np.arange(n) if n <= SMALL else np.arange(stretch * STRETCH, min((stretch + 1) * STRETCH, n))
            ready = Permutation(n, (self.settings["seed"], domain, epoch)).at(places)
            self._ready[domain] = ((epoch, stretch), ready)
        return ready

    def _ratio(self, weights: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """Importance weights w/q [k], bounded."""
        never = [name for name, w, q in zip(self.domains, weights, shares, strict=True) if w > 0 and q == 0]
        if never:
            raise InputError(
                f"{listed(never)} has weight but is never drawn, so that its loss would be left out; give it a share in draw_by"
            )
        if not weights.any():
            raise InputError(
                "the weights lie wholly on domains that are used up, so that every sample would weigh 0; "
                "raise at_most, or give others weight"
            )
        weights = weights / weights.sum()
        ratio = np.divide(weights, shares, out=np.zeros_like(weights), where=shares > 0)
        return np.minimum(ratio, self.settings["bound"])

    def _tell(self, shares: np.ndarray, room: np.ndarray, counts: np.ndarray) -> None:
        """Warn where a domain was used up by this batch, and its weight goes to others."""
        gone = np.flatnonzero((counts > 0) & (counts == room))
        if gone.size and self.settings["when_used_up"] == "others" and (counts < room).any():
            warnings.warn(f"{self._used_up(gone)}; its weight goes to the other domains, in proportion to theirs", stacklevel=2)

    def _used_up(self, which: np.ndarray) -> str:
        names = [f"{self.domains.names[i]!r} ({self.caps[i] / self.lengths[i]:.4g} epochs of {self.lengths[i]} samples)" for i in which]
        return f"used up: {', '.join(names)}"

    def _nothing_left(self, shares: np.ndarray) -> InputError:
        gone = np.flatnonzero(shares > 0)
        return InputError(
            f"the weights lie wholly on domains with too little left for a batch of {self.size}; {self._used_up(gone)}; "
            "raise at_most, or give other domains weight"
        )

    def ended(self, place: Place, batches: int | None) -> None:
        """Raise where ``batches`` were asked for and all domains are read ``at_most`` times before."""
        if batches is not None and place.batch < batches:
            raise InputError(
                f"every domain is used up after {place.batch} batches of {self.size}, and {batches} were asked for; "
                "raise at_most, or ask for fewer"
            )

    def epochs(self, place: Place) -> dict[str, float]:
        """How often each domain was read so far; NaN where its length is not known."""
        known = self.lengths < ENDLESS
        found = np.where(known, place.counts / self.lengths, np.nan)
        return dict(zip(self.domains, found.tolist(), strict=True))

    def saved(self, place: Place) -> dict[str, Any]:
        """A place as plain numbers, with what it belongs to."""
        told = [[name, None if n >= ENDLESS else int(n)] for name, n in zip(self.domains, self.lengths, strict=True)]
        return {
            "version": VERSION,
            "lengths": told,
            "size": self.size,
            "seed": int(self.settings["seed"]),
            "method": self.settings["method"],
            "shuffle": self.settings["shuffle"],
            "batch": place.batch,
            "counts": place.counts.tolist(),
            "owed": place.owed.tolist(),
        }

    def restored(self, state: Mapping[str, Any]) -> Place:
        """The place that ``saved`` wrote.

        Raises:
            InputError: the state is of another version, data, batch size, seed or method.
        """
        here = self.saved(self.begin())
        for key in ("version", "lengths", "size", "seed", "method", "shuffle"):
            if state.get(key) != here[key]:
                raise InputError(
                    f"the state is of other draws: its {key} is {state.get(key)!r}, and here it is {here[key]!r}; build it as it was"
                )
        return Place(int(state["batch"]), np.array(state["counts"], dtype=np.int64), np.array(state["owed"], dtype=float))


_DEFAULT: Drawing = {
    "seed": 0,
    "method": "stratified",
    "at_most": None,
    "when_used_up": "others",
    "shuffle": True,
    "bound": 10.0,
}


def _check(settings: Drawing, given: Mapping[str, Any]) -> None:
    for name in given:
        if name not in _DEFAULT:
            raise unknown("setting", name, _DEFAULT)
    if not isinstance(settings["seed"], (int, np.integer)) or settings["seed"] < 0:
        raise InputError(f"the seed is {settings['seed']!r}; it is a whole number >= 0")
    for key, choices in (("method", ("stratified", "multinomial")), ("when_used_up", ("others", "error"))):
        if settings[key] not in choices:  # type: ignore[literal-required]
            raise unknown(key, settings[key], choices)  # type: ignore[literal-required]
    if not settings["bound"] >= 1:
        raise InputError(f"the bound of importance weights is {settings['bound']}; it is at least 1")


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise InputError(f"{name} is {value!r}; it is a whole number, at least 1")
    return int(value)


def _length(name: str, length: int | None) -> int:
    if length == 0:
        raise InputError(f"domain {name!r} is empty; leave it out or give it at least one sample")
    return ENDLESS if length is None else _whole(f"the length of {name!r}", length)


def _caps(domains: Domains, lengths: np.ndarray, at_most: float | Mapping[str, float] | None) -> np.ndarray:
    """The most draws of each domain [k]."""
    limits = at_most if isinstance(at_most, Mapping) else {} if at_most is None else dict.fromkeys(domains, at_most)
    caps = np.full(len(domains), ENDLESS, dtype=np.int64)
    for name, limit in limits.items():
        i = domains.index(name)
        if not limit > 0:
            raise InputError(f"at_most is {limit} epochs for {name!r}; it is above 0")
        if lengths[i] >= ENDLESS and limit < float("inf"):
            raise InputError(
                f"at_most is {limit} epochs for {name!r}, a stream of unknown length; give its samples in lengths, or no limit"
            )
        caps[i] = int(min(max(limit * float(lengths[i]), 1), ENDLESS))
    return caps


__all__ = ["Drawing", "Drawn", "Draws", "Place"]
