"""How many of a batch's draws each domain gets: stratified with what is owed carried on, or multinomial, and never more than is left."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def stratified(size: int, shares: np.ndarray, owed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts [k] of ``size`` draws by shares [k], and what each domain is owed after them [k], sum 0.

    What earlier batches left owed is added, then the domain that is owed most gets the next draw until all are given. Under this
    greedy emptying of cups no domain is ever more than 1 + 1/2 + ... + 1/k - 1 <= ln k draws behind its shares, nor one ahead,
    however shares above 0 move: with A_j the largest mean of what j domains are owed, A_j <= A_(j+1) + 1/(j+1), and A_k = 0
    (the argument of Adler et al. 2003, "A proportionate fair scheduling rule with good worst-case performance"). A share of 0
    gets nothing, and what it was owed goes to the others.
    """
    drawn = shares > 0
    owed = np.where(drawn, owed, 0.0)
    due = size * shares + owed - owed.sum() * shares
    counts = np.where(drawn, np.floor(np.maximum(due, 0.0)), 0.0).astype(np.int64)
    while missing := size - int(counts.sum()):
        left = due - counts
        step = 1 if missing > 0 else -1
        open_to = drawn if step > 0 else counts > 0
        order = np.argsort(np.where(open_to, -step * left, np.inf), kind="stable")
        counts[order[: min(abs(missing), int(open_to.sum()))]] += step
    return counts, np.where(drawn, due - counts, 0.0)


def multinomial(size: int, shares: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Counts [k] of independent draws by shares [k], one for each of the uniform numbers [size] in [0, 1)."""
    sums = np.cumsum(shares)
    picked = np.searchsorted(sums / sums[-1], uniform, side="right")
    return np.bincount(picked, minlength=len(shares))


def within(size: int, shares: np.ndarray, room: np.ndarray, count: Callable[[int, np.ndarray], np.ndarray]) -> np.ndarray | None:
    """Counts [k] by ``count(size, shares)`` of which none is above ``room`` [k]: a domain that is used up leaves its draws to the others.

    None where the domains with a share have less than ``size`` left in all.
    """
    counts = np.zeros(len(shares), dtype=np.int64)
    shares = np.where(room > 0, shares, 0.0)
    while (total := shares.sum()) > 0:
        given = count(size - int(counts.sum()), shares / total)
        over = counts + given > room
        if not over.any():
            return counts + given
        counts[over] = room[over]
        shares = np.where(over, 0.0, shares)
    return None
