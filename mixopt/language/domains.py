"""Domains: the ordered, named index that every vector of the language is over."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mixopt.errors import InputError, listed, unknown
from mixopt.notebook import table


@dataclass(frozen=True, init=False)
class Domains:
    """An ordered, named index of k domains, with their sizes in tokens where they are known.

    >>> domains = Domains(["web", "code", "books"], tokens=[8e11, 1.5e11, 5e10])
    >>> domains.natural
    array([0.8 , 0.15, 0.05])
    >>> domains.index("code")
    1

    Raises:
        InputError: no name, an empty or a repeated name, a size that is negative, not finite or of another length.
    """

    names: tuple[str, ...]
    tokens: tuple[float, ...] | None = field(default=None, compare=False)

    def __init__(self, names: Iterable[str], tokens: Sequence[float] | Mapping[str, float] | None = None):
        if isinstance(names, str):
            raise InputError(f"domains are a list of names, not the single text {names!r}; write [{names!r}]")
        if not isinstance(names, Iterable):
            raise InputError(f"domains are a list of names, not {names!r}")
        checked = tuple(names)
        if not checked:
            raise InputError("there are no domains; give at least one name")
        for name in checked:
            if not isinstance(name, str) or not name.strip():
                raise InputError(f"a domain has the name {name!r}; every name is a text that is not empty")
        twice = sorted(name for name, times in Counter(checked).items() if times > 1)
        if twice:
            raise InputError(f"domain names must differ, but {listed(twice)} occurs more than once")
        object.__setattr__(self, "names", checked)
        object.__setattr__(self, "tokens", None if tokens is None else self._sizes(checked, tokens))

    @staticmethod
    def _sizes(names: tuple[str, ...], tokens: Sequence[float] | Mapping[str, float]) -> tuple[float, ...]:
        if isinstance(tokens, Mapping):
            for name in tokens:
                if name not in names:
                    raise unknown("domain", name, names)
            missing = [n for n in names if n not in tokens]
            if missing:
                raise InputError(f"tokens are missing for {listed(missing)}")
            tokens = [tokens[n] for n in names]
        try:
            sizes = tuple(float(t) for t in tokens)
        except (TypeError, ValueError):
            raise InputError(f"tokens are numbers, one for each of {listed(names)}, not {tokens!r}") from None
        if len(sizes) != len(names):
            raise InputError(f"there are {len(names)} domains {listed(names)} but {len(sizes)} token counts")
        for name, size in zip(names, sizes, strict=True):
            if not math.isfinite(size) or size < 0:
                raise InputError(f"domain {name!r} has {size} tokens; a size is a finite number >= 0")
        if sum(sizes) <= 0:
            raise InputError("every domain has 0 tokens; at least one needs some")
        return sizes

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def index(self, name: str) -> int:
        """Position of a name; raises with the nearest one suggested."""
        try:
            return self.names.index(name)
        except ValueError:
            raise unknown("domain", name, self.names) from None

    @property
    def sizes(self) -> np.ndarray:
        """Tokens of each domain [k]; raises where they were not given."""
        if self.tokens is None:
            raise InputError(f"the sizes of {listed(self.names)} are not known; give Domains(names, tokens=[...])")
        return np.array(self.tokens)

    @property
    def natural(self) -> np.ndarray:
        """Token shares [k], the proportions in which the data occur."""
        sizes = self.sizes
        return sizes / sizes.sum()

    def under(self, prefix: str) -> tuple[str, ...]:
        """The names in one branch, where names with "/" make a tree: the prefix itself and all that lie below it.

        >>> Domains(["web/news", "web/forum", "code"]).under("web")
        ('web/news', 'web/forum')

        Raises:
            InputError: there is no such branch; the nearest is suggested.
        """
        branch = prefix.strip("/")
        found = tuple(name for name in self.names if name == branch or name.startswith(branch + "/"))
        if not found:
            levels = [name.split("/") for name in self.names]
            raise unknown("branch", branch, dict.fromkeys("/".join(level[:n]) for level in levels for n in range(1, len(level) + 1)))
        return found

    @property
    def tree(self) -> dict[str, Any]:
        """The names as a tree: level -> its own tree, or the name where it ends; a name that has others below it stands under "".

        >>> Domains(["web/news", "web/forum", "code"]).tree
        {'web': {'news': 'web/news', 'forum': 'web/forum'}, 'code': 'code'}
        """
        return _tree([([level or "/" for level in name.split("/")], name) for name in self.names])

    def weights(self, given: Mapping[str, float] | Sequence[float] | np.ndarray, tolerance: float = 1e-6) -> np.ndarray:
        """Given weights as a float64 vector [k] on the simplex; they are checked, then renormalised exactly.

        Raises:
            InputError: an unknown or missing domain, a negative or NaN entry, or a sum off 1 by more than ``tolerance``.
        """
        if isinstance(given, Mapping):
            for name in given:
                self.index(name)
            missing = [n for n in self.names if n not in given]
            if missing:
                raise InputError(f"weights are missing for {listed(missing)}; give every domain one, 0 included")
            given = [given[n] for n in self.names]
        try:
            values = np.asarray(given, dtype=float)
        except (TypeError, ValueError):
            raise InputError(f"weights are numbers, one for each of {listed(self.names)}, not {given!r}") from None
        if values.shape != (len(self),):
            raise InputError(f"weights have shape {values.shape}, but there are {len(self)} domains {listed(self.names)}")
        for name, value in zip(self.names, values, strict=True):
            if not math.isfinite(value) or value < 0:
                raise InputError(f"the weight of {name!r} is {value}; weights are finite and >= 0")
        if abs(values.sum() - 1) > tolerance:
            raise InputError(f"the weights sum to {values.sum():.6g}, not 1; divide them by their sum if that is meant")
        return values / values.sum()

    def __str__(self) -> str:
        return listed(self.names)

    def _repr_html_(self) -> str:
        if self.tokens is None:
            return table(["domain"], ([name] for name in self.names))
        rows = ([n, f"{t:.4g}", f"{100 * s:.1f} %"] for n, t, s in zip(self.names, self.tokens, self.natural, strict=True))
        return table(["domain", "tokens", "share"], rows)


def _tree(paths: list[tuple[list[str], str]]) -> dict[str, Any]:
    """The tree of names by the levels that are left of each."""
    branches: dict[str, list[tuple[list[str], str]]] = {}
    for levels, name in paths:
        branches.setdefault(levels[0] if levels else "", []).append((levels[1:], name))
    return {level: some[0][1] if len(some) == 1 and not some[0][0] else _tree(some) for level, some in branches.items()}
