"""Shuffled orders that need no memory: any place of a seeded permutation is computed when it is asked for."""

from __future__ import annotations

import math
from typing import final

import numpy as np

ROUNDS = 6
SMALL = 1024
"""Up to so many items an order is sorted out at once; a network over fewer would shuffle them badly."""


@final
class Permutation:
    """The seeded permutation of 0, ..., n-1 for one epoch of one domain; ``at`` gives the items at any places of it.

    A generalised Feistel network of six rounds on a rectangle a x b of just over n numbers, walked on where it leaves them (Black
    and Rogaway 2002, "Ciphers with arbitrary finite domains"), so that no order is stored; small n are shuffled outright.

    >>> order = Permutation(10, (0, 3, 1))
    >>> sorted(order.at(np.arange(10)).tolist()) == list(range(10))
    True
    """

    def __init__(self, n: int, key: tuple[int, ...]):
        self.n = n
        seeds = np.random.SeedSequence(key)
        self._table: np.ndarray | None = None
        if n <= SMALL:
            raw = np.random.Philox(key=seeds.generate_state(2, np.uint64)).random_raw(n)
            self._table = np.argsort(raw, kind="stable")
        self._keys = seeds.generate_state(ROUNDS, np.uint64)
        wide = math.isqrt(n - 1) + 1
        self._wide, self._high = np.uint64(wide), np.uint64(-(-n // wide))

    def at(self, places: np.ndarray) -> np.ndarray:
        """The items at places [m] in [0, n); int64 [m]."""
        if self._table is not None:
            return self._table[places]
        items = self._once(places.astype(np.uint64))
        while (outside := items >= self.n).any():
            items[outside] = self._once(items[outside])
        return items.astype(np.int64)

    def _once(self, x: np.ndarray) -> np.ndarray:
        row: np.ndarray = x // self._wide
        column: np.ndarray = x % self._wide
        for even, odd in zip(self._keys[::2], self._keys[1::2], strict=True):
            row = (row + _mixed(column + even) % self._high) % self._high
            column = (column + _mixed(row + odd) % self._wide) % self._wide
        return row * self._wide + column


def _mixed(z: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): every bit of [m] depends on every other; ``z`` is used up."""
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z
