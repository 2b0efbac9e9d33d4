"""Which part of a global batch is this process's own."""

from __future__ import annotations

from mixopt.errors import InputError


def own_part(size: int, rank: int | None, ranks: int | None) -> slice:
    """The slice of a global batch of ``size`` draws that a rank reads; where not given, torch.distributed is asked.

    Raises:
        InputError: ranks that do not divide the batch, or a rank that is not among them.
    """
    if (rank is None) != (ranks is None):
        raise InputError(f"rank is {rank} and ranks is {ranks}; give both or neither")
    if rank is None or ranks is None:
        import torch.distributed as dist

        together = dist.is_available() and dist.is_initialized()
        rank, ranks = (dist.get_rank(), dist.get_world_size()) if together else (0, 1)
    if ranks < 1 or not 0 <= rank < ranks:
        raise InputError(f"rank {rank} is not among {ranks} ranks; they are 0, ..., ranks - 1")
    if size % ranks:
        raise InputError(f"batch_size is {size} over all ranks, which {ranks} ranks do not divide; give a multiple of {ranks}")
    each = size // ranks
    return slice(rank * each, (rank + 1) * each)
