"""Inner products and lengths of the gradients of k domains, whole, one at a time, or from sketches of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from mixopt.errors import InputError, unknown
from mixopt.runtime.gramian import wide
from mixopt.runtime.tree import Leaves

from .alignment import inner, norm, pushed, slopes, whole
from .subject import Layers, Loss, Subject, items, subject

By = Literal["backward", "jvp", "sketch"]

PIECE = 2**22
"""Buckets and signs of a sketch are drawn for so many numbers of a gradient at a time."""


def products(
    model: Any,
    batches: Any,
    targets: Any = None,
    *,
    loss: Loss | None = None,
    by: By = "backward",
    layers: Layers = "all",
    size: int = 4096,
    seed: int = 0,
    at: Any = None,
) -> Tensor:
    """<grad l_i, grad l_target_j> [k, m] for every domain and target; the Gram matrix [k, k] of the domains without ``targets``.

    ``by`` "backward": k + m backward passes, whose gradients are all held. "jvp": m backward passes and m forward-mode ones, with one
    gradient held. "sketch": k + m backward passes, with one gradient and sketches [k + m, size] held: unbiased, with a standard
    deviation of at most sqrt(2 / size) |g_i| |g_j|. ``layers`` "last" makes each of these cost little more than a forward pass. The rest
    is as in ``alignment``, which has the products with one sum of targets for less. Under DDP they are of each rank's own gradients.

    Raises:
        InputError: settings out of range, or batches that do not fit.
        LearnerError: no forward mode, or a loss that is no number.
    """
    if by not in get_args(By):
        raise unknown("way to take products", by, get_args(By))
    what, own = subject(model, loss=loss, at=at, layers=layers), items(batches)[1]
    goals = own if targets is None else items(targets)[1]
    with what.still():
        if by == "jvp":
            return torch.stack([pushed(what, own, slope) for slope in slopes(what, goals)], dim=1)
        if by == "sketch":
            first = _sketched(what, own, size, seed)
            return first @ (first if targets is None else _sketched(what, goals, size, seed)).T
        rows = list(slopes(what, own))
        columns = rows if targets is None else list(slopes(what, goals))
        found = torch.stack([torch.stack([inner(row, column) for column in columns]) for row in rows])
    return found.to(wide(what.leaves[0].dtype))


def norms(model: Any, batches: Any, *, loss: Loss | None = None, layers: Layers = "all", at: Any = None) -> Tensor:
    """The lengths |grad l_i| of the gradients of all domains [k], by one backward pass each; see ``alignment`` for the arguments."""
    what, own = subject(model, loss=loss, at=at, layers=layers), items(batches)[1]
    with what.still():
        return torch.stack([norm(slope) for slope in slopes(what, own)]).to(wide(what.leaves[0].dtype))


def sketches(
    model: Any, batches: Any, *, size: int = 4096, seed: int = 0, loss: Loss | None = None, layers: Layers = "all", at: Any = None
) -> Tensor:
    """Sketches [k, size] of the gradients of all domains, whose inner products are those of the gradients on average.

    Each number of a gradient goes to a bucket of its own drawing, with a sign: the seed and the model's shapes fix the map, so that
    sketches of different steps and batches may be compared and added. The standard deviation of an inner product is
    at most sqrt(2 / size) |g_i| |g_j|. It takes one backward pass a domain, and 4 size bytes instead of 4 P hold a gradient.

    Raises:
        InputError: a size below 1, or batches that do not fit.

    Source: Johnson and Lindenstrauss 1984; the map is that of Weinberger et al. 2009, arXiv 0902.2206 (hash kernels).
    """
    what, own = subject(model, loss=loss, at=at, layers=layers), items(batches)[1]
    with what.still():
        return _sketched(what, own, size, seed)


def _sketched(what: Subject, own: Sequence[Any], size: int, seed: int) -> Tensor:
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise InputError(f"the size of a sketch is {size!r}; it is a whole number >= 1")
    return torch.stack([sketch(slope, size, seed) for slope in slopes(what, own)])


def sketch(gradient: Leaves, size: int, seed: int) -> Tensor:
    """The sketch [size] of one gradient; see ``sketches``."""
    draw = torch.Generator().manual_seed(seed)
    found = torch.zeros(size, dtype=torch.float64, device=gradient[0].device)
    for part in gradient:
        for piece in _pieces(whole(part).reshape(-1)):
            places = torch.randint(2 * size, (len(piece),), generator=draw).to(piece.device)
            signs = 1 - 2 * (places % 2)
            found.index_add_(0, places // 2, (signs * piece).double())
    return found.to(wide(gradient[0].dtype))


def _pieces(flat: Tensor) -> Iterator[Tensor]:
    return iter(flat.split(PIECE)) if len(flat) else iter(())
