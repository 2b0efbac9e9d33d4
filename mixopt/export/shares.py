"""Exact arithmetic on shares: rounding that keeps the sum, floors, and weights whose float64 sum is 1 in any order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

from mixopt.errors import InputError

GRID = 2**53  # float64 has every multiple of 2**-53 up to 1 exactly, so sums of them that stay there are exact too


def apportion(weights: Sequence[float], total: int) -> list[int]:
    """``total`` whole units by weight [k], by the largest remainder: the sum is kept, and each is within one unit of its share.

    >>> apportion([0.5, 0.3, 0.2], 9)
    [4, 3, 2]
    """
    parts = [Fraction(w) for w in weights]
    whole = sum(parts)
    quotas = [part * total / whole for part in parts]
    counts = [math.floor(q) for q in quotas]
    order = sorted(range(len(parts)), key=lambda i: (counts[i] - quotas[i], i))
    for i in order[: total - sum(counts)]:
        counts[i] += 1
    return counts


def exact(weights: Mapping[str, float]) -> dict[str, float]:
    """Weights on a grid of 2**-53, whose sum in float64 is 1 exactly, in whatever order they are added."""
    counts = apportion(list(weights.values()), GRID)
    return {name: count / GRID for name, count in zip(weights, counts, strict=True)}


def rounded(weights: Mapping[str, float], digits: int) -> dict[str, float]:
    """Weights with that many decimals, whose decimals add up to 1 exactly.

    Raises:
        InputError: digits outside 1 .. 15.
    """
    if not 1 <= digits <= 15:
        raise InputError(f"digits is {digits}; weights are rounded to 1 to 15 decimals")
    counts = apportion(list(weights.values()), 10**digits)
    return {name: count / 10**digits for name, count in zip(weights, counts, strict=True)}


def lifted(weights: Mapping[str, float], floor: float) -> dict[str, float]:
    """Weights of at least ``floor`` each; those above it give in proportion, and the sum stays.

    Raises:
        InputError: floor is negative, or k of them exceed 1.
    """
    if not (math.isfinite(floor) and floor >= 0) or floor * len(weights) > 1:
        raise InputError(f"the floor is {floor}; with {len(weights)} domains it lies between 0 and {1 / len(weights):.6g}")
    low = {name for name, w in weights.items() if w < floor}
    while low:
        free = math.fsum(w for name, w in weights.items() if name not in low)
        left = 1 - floor * len(low)
        more = {name for name, w in weights.items() if name not in low and w * left < floor * free}
        if not more:
            return {name: floor if name in low else w * left / free for name, w in weights.items()}
        low |= more
    return dict(weights)
