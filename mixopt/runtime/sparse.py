"""Jacobians of large vector expressions as sparse matrices: those of every node multiplied up, arguments first."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import coo_array, csr_array, diags_array, vstack

from mixopt.language.expression import Expr

from .numpy_ops import NUMPY, unspread

ENTRYWISE = frozenset(
    [
        *("add", "subtract", "negate", "multiply", "divide", "exp", "log", "sqrt", "square", "power", "softplus", "huber"),
        *("rel_entropy", "abs", "pos", "clip", "maximum", "minimum", "surrogate"),
    ]
)


def product(node: Expr, inputs: list[Any], below: list[csr_array | None]) -> csr_array | None:
    """The Jacobian [n, k] of a node from those of its arguments (None: it does not depend on the unknowns)."""
    parts = [own @ arg for own, arg in zip(_own(node, inputs, below), below, strict=True) if own is not None and arg is not None]
    total = None
    for part in parts:
        total = part if total is None else total + part
    return None if total is None else csr_array(total)


def _own(node: Expr, inputs: list[Any], below: list[csr_array | None]) -> list[csr_array | None]:
    """The Jacobian of a node in each argument that matters."""
    size = int(np.prod(node.shape or ()))
    if node.op == "take":
        at = np.atleast_1d(node.data)
        return [csr_array(coo_array((np.ones(size), (np.arange(size), at)), shape=(size, np.size(inputs[0]))))]
    if node.op == "matmul" and inputs[0].ndim == 2 and below[0] is None:
        return [None, csr_array(inputs[0])]
    if node.op == "matmul" and inputs[1].ndim == 2 and below[1] is None:
        return [csr_array(inputs[1].T), None]
    if node.op in ENTRYWISE and node.shape:
        pulled = NUMPY[node.op].pull(node, np.ones(size), *inputs)
        return [_diagonal(np.broadcast_to(part, size), np.shape(x)) for part, x in zip(pulled, inputs, strict=True)]
    seeds = np.eye(size) if node.shape else [1.0]
    rows = [NUMPY[node.op].pull(node, seed, *inputs) for seed in seeds]
    return [csr_array(np.array([np.ravel(unspread(row[j], x)) for row in rows])) for j, x in enumerate(inputs)]


def _diagonal(entries: np.ndarray, shape: tuple[int, ...]) -> csr_array:
    """Entry by entry for a vector; one column for a scalar that is spread over them."""
    return csr_array(diags_array(entries)) if shape else csr_array(entries[:, None])


def unit(start: int, count: int, width: int) -> csr_array:
    """The rows start, ..., start + count - 1 of the unit matrix [width]."""
    return csr_array(coo_array((np.ones(count), (np.arange(count), start + np.arange(count))), shape=(count, width)))


def stacked(blocks: list[Any]) -> Any:
    """Matrices one below the other: dense where all are, else sparse."""
    return np.vstack(blocks) if all(isinstance(b, np.ndarray) for b in blocks) else csr_array(vstack(blocks))
