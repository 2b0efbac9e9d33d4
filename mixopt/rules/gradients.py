"""What rules by gradients read: inner products of gradients whole, or summed over the targets, and lengths."""

from __future__ import annotations

import numpy as np

from mixopt.errors import InputError
from mixopt.language.domains import Domains

from .rule import Need, Seen


def gradient_needs(domains: Domains, targets: tuple[str, ...] | None, summed: str) -> tuple[Need, ...]:
    """Inner products with every target, or ``summed`` over them: one of the two is told at each move."""
    columns = domains.names if targets is None else targets
    return (
        Need("alignment", f"<grad l_i, {summed}> of every domain i", domains.names, optional=True),
        Need("gram", "<grad l_i, grad l_target_j> of every domain i and target j", domains.names, columns, optional=True),
    )


def aligned(seen: Seen, weights: np.ndarray, rule: object) -> np.ndarray:
    """The products [k] with the sum of the targets' gradients under these weights [m], as told or from the matrix.

    Raises:
        InputError: neither has been told.
    """
    if "alignment" in seen:
        return np.asarray(seen["alignment"], dtype=float)
    if "gram" in seen:
        return np.asarray(seen["gram"] @ weights, dtype=float)
    raise InputError(f"{type(rule).__name__} was due to move, and neither alignment nor gram has been observed since its last move")


def lengths(seen: Seen, targets: tuple[str, ...] | None, rule: object) -> np.ndarray:
    """The lengths of the domains' gradients [k]: as told, or from a matrix of the domains with each other.

    Raises:
        InputError: neither has been told, or a negative square.
    """
    if "norms" in seen:
        return np.asarray(seen["norms"], dtype=float)
    if "gram" in seen and targets is None:
        squares = np.diag(seen["gram"])
        if squares.min() < 0:
            raise InputError(f"the inner product of a gradient with itself is {squares.min():.6g}; a gram has none below 0 there")
        return np.sqrt(squares)
    raise InputError(f"{type(rule).__name__} needs the lengths of the domains' gradients; observe norms, or the gram [k, k] of the domains")
