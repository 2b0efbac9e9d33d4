"""Several processes: sums that add up over all of them, and a check that they still agree."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mixopt.errors import InputError, listed


def reduce_sums(
    sums: Tensor, counts: Tensor, *, group: Any = None, reduce: Callable[[Tensor], Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Loss sums and token counts [k] added up over all processes, in float64; with one process, as they are.

    Every process has to call it, and each gets the same numbers. ``group`` is a torch.distributed process group, without one all
    processes. ``reduce`` adds a tensor up in a way of its own instead, such as Accelerate's ``accelerator.reduce``.

    Raises:
        InputError: sums and counts of two shapes.
    """
    if sums.shape != counts.shape:
        raise InputError(f"there are sums of shape {list(sums.shape)} and counts of shape {list(counts.shape)}; give both as [k]")
    exact = torch.float32 if sums.device.type == "mps" else torch.float64
    both = torch.stack([sums, counts]).to(exact)
    if reduce is not None:
        both = reduce(both)
    elif _together():
        torch.distributed.all_reduce(both, group=group)
    return both[0], both[1]


def check_ranks(state: bytes, *, group: Any = None, device: str | torch.device = "cpu") -> None:
    """Raise InputError unless all processes hold the same bytes, such as those of the weights; ``device`` is one the group speaks from.

    Every process has to call it; what is sent is a hash of eight bytes.

    Raises:
        InputError: processes disagree; all of them raise, and the text names those that differ from the first.
    """
    if not _together():
        return
    own = int.from_bytes(hashlib.blake2b(state, digest_size=8).digest(), "big", signed=True)
    mine = torch.tensor([own], dtype=torch.int64, device=device)
    found = [torch.empty_like(mine) for _ in range(torch.distributed.get_world_size(group))]
    torch.distributed.all_gather(found, mine, group=group)
    hashes = [int(one) for one in found]
    others = [rank for rank, one in enumerate(hashes) if one != hashes[0]]
    if others:
        raise InputError(
            f"the weights of rank(s) {listed(others)} differ from those of rank 0; every rank must begin with the same schedule, observe "
            "the same losses, reduced over all ranks (reduce_sums), at the same steps, and resume from the same state"
        )


def _together() -> bool:
    """Whether this is one of several processes that torch.distributed has joined."""
    there = torch.distributed.is_available() and torch.distributed.is_initialized()
    return there and torch.distributed.get_world_size() > 1
