"""Inner products of the gradients of several losses, by stacking them where they fit, else without ever holding all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .tree import Leaves

STACKED = 2**30
"""Gradients are stacked up to so many bytes of them together: 1 GiB, which is 256 gradients of a million float32 parameters."""

AGREES = 1e-4
"""How far, of a squared length, a forward-mode product may be off a backward pass before it is not trusted."""

Losses = Callable[[Leaves], Tensor]


def gramian(
    rows: Tensor,
    leaves: Leaves,
    cols: Tensor | None = None,
    *,
    again: Losses | None = None,
    most: int = STACKED,
    spend: Callable[[int], None] = lambda gradients: None,
) -> Tensor:
    """Inner products [k, m] of the gradients of losses ``rows`` [k] and ``cols`` [m] by the leaves; of ``rows`` alone without ``cols``.

    Gradients are summed in float32 or better. Where all together take no more than ``most`` bytes they are stacked. Else one column
    at a time: the gradient g of a loss by one backward pass, then all of its products by one forward-mode product of the rows,
    which ``again(leaves)`` measures once more at other leaves. The first of these is held against the backward passes: where
    forward mode is missing, noise is drawn anew, or passes run in half precision, as many gradients are held at a time as
    fit in ``most`` (one at least), and the others are found again for each such block. Beside that block one gradient is held.

    The graph of the losses is kept; ``spend`` is told how many gradients are taken.

    Source: Quinton and Rey 2024, arXiv 2406.16232, section 6, for the use of the Gramian alone.
    """
    second = rows if cols is None else cols
    if fits(rows.numel() + (0 if cols is None else second.numel()), leaves, most) or rows.numel() * second.numel() == 1:
        return _stacked(rows, leaves, cols, spend)
    if again is not None:
        first, others = rows.reshape(-1), second.reshape(-1)
        slopes = (gradient(value, leaves, spend) for value in others)
        own = None if cols is None else (lambda i: gradient(first[i], leaves, spend))
        found = _columns(slopes, own, len(first), leaves, again)
        if found is not None:
            return found
    return _blocks(rows, leaves, cols, _held(leaves, most), spend)


def lean_gramian(losses: Losses, leaves: Leaves, *, most: int = STACKED, spend: Callable[[int], None] = lambda gradients: None) -> Tensor:
    """Inner products [k, k] of the gradients of ``losses(leaves)`` in about the memory of one gradient: ``gramian`` that stacks nothing.

    The losses are measured again for each column, so that no graph lies beside the forward-mode product: one more forward pass
    each. They must be the same each time; where they are not, or have no forward mode, it takes blocks as ``gramian`` does.
    """
    again = losses(leaves)
    count = len(again)
    del again

    def slopes() -> Iterator[Leaves]:
        for j in range(count):
            spend(1)
            yield _wide(torch.autograd.grad(losses(leaves)[j], leaves, materialize_grads=True))

    found = _columns(slopes(), None, count, leaves, losses)
    return _blocks(losses(leaves), leaves, None, _held(leaves, most), spend) if found is None else found


def fits(count: int, leaves: Leaves, most: int = STACKED) -> bool:
    """Whether so many gradients by the leaves take no more than ``most`` bytes together."""
    return count * _size(leaves) <= most


def _size(leaves: Leaves) -> int:
    """The bytes of one gradient."""
    return sum(leaf.numel() * wide(leaf.dtype).itemsize for leaf in leaves)


def _held(leaves: Leaves, most: int) -> int:
    """How many gradients a block holds."""
    return max(most // _size(leaves), 1)


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype that gradients of a dtype are summed in: float32 at least."""
    return torch.promote_types(dtype, torch.float32)


def gradient(value: Tensor, leaves: Leaves, spend: Callable[[int], None]) -> Leaves:
    """The gradient of a scalar by the leaves, in the dtype that sums are in; the graph is kept."""
    spend(1)
    return _wide(torch.autograd.grad(value, leaves, retain_graph=True, materialize_grads=True))


def _wide(parts: Leaves) -> Leaves:
    return tuple(part.to(wide(part.dtype)) for part in parts)


def product(first: Leaves, second: Leaves) -> Tensor:
    """The inner product of two gradients, leaf by leaf, in float64."""
    parts = [torch.dot(a.reshape(-1), b.reshape(-1)).double() for a, b in zip(first, second, strict=True)]
    return torch.stack(parts).sum()


def _stacked(rows: Tensor, leaves: Leaves, cols: Tensor | None, spend: Callable[[int], None]) -> Tensor:
    spend(rows.numel() + (0 if cols is None else cols.numel()))
    first = _rows(rows, leaves)
    second = first if cols is None else _rows(cols, leaves)
    return first @ second.T


def _rows(values: Tensor, leaves: Leaves) -> Tensor:
    """The gradients of losses [k] as rows [k, P], written where they stay."""
    width, dtype = sum(leaf.numel() for leaf in leaves), max((wide(leaf.dtype) for leaf in leaves), key=lambda d: d.itemsize)
    found = torch.empty(values.numel(), width, dtype=dtype, device=leaves[0].device)
    for row, value in zip(found, values.reshape(-1), strict=True):
        parts = torch.autograd.grad(value, leaves, retain_graph=True, materialize_grads=True)
        for place, part in zip(row.split([leaf.numel() for leaf in leaves]), parts, strict=True):
            place.copy_(part.reshape(-1))
    return found


def _columns(slopes: Iterator[Leaves], own: Callable[[int], Leaves] | None, count: int, leaves: Leaves, again: Losses) -> Tensor | None:
    """Column by column with forward mode; None where it is missing or does not agree with the backward passes.

    ``slopes`` yields the columns' gradients, ``own(i)`` is the gradient of row i; None where rows and columns are the same losses.
    """
    if any(leaf.dtype != wide(leaf.dtype) for leaf in leaves):
        return None
    base = tuple(leaf.detach() for leaf in leaves)
    columns: list[Tensor] = []
    for slope in slopes:
        push = _pushed(again, base, slope)
        if push is None or push.numel() != count:
            return None
        if not columns:
            at = 0 if own is None else int(push.abs().argmax())
            known = product(slope if own is None else own(at), slope)
            if not bool((push[at].double() - known).abs() <= AGREES * known.abs()):
                return None
        columns.append(push)
        del slope
    return torch.stack(columns, dim=1)


def _pushed(again: Losses, base: Leaves, along: Leaves) -> Tensor | None:
    """The derivative [k] of losses along a direction; None where some operation has no forward mode."""
    try:
        with forward_ad.dual_level():
            value = again(tuple(forward_ad.make_dual(leaf, step) for leaf, step in zip(base, along, strict=True)))
            push = forward_ad.unpack_dual(value).tangent
            return None if push is None else push.detach().reshape(-1).to(wide(push.dtype))
    except (RuntimeError, NotImplementedError):
        return None


def _blocks(rows: Tensor, leaves: Leaves, cols: Tensor | None, most: int, spend: Callable[[int], None]) -> Tensor:
    """Blocks of ``most`` rows at a time against one column after the other; half of them where the matrix is symmetric."""
    first = rows.reshape(-1)
    second = first if cols is None else cols.reshape(-1)
    found = torch.zeros(len(first), len(second), dtype=torch.float64, device=leaves[0].device)
    for start in range(0, len(first), most):
        block = [gradient(value, leaves, spend) for value in first[start : start + most]]
        end = start + len(block)
        for j in range(start if cols is None else 0, len(second)):
            slope = block[j - start] if cols is None and j < end else gradient(second[j], leaves, spend)
            found[start:end, j] = torch.stack([product(row, slope) for row in block])
            del slope
        if cols is None:
            found[end:, start:end] = found[start:end, end:].T
        del block
    return found.to(max((wide(leaf.dtype) for leaf in leaves), key=lambda d: d.itemsize))
