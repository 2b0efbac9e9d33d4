"""How many models train as one program, and how many programs at once, by the bytes that a step of one of them keeps."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from .fleet import spent_losses
from .gpt import parameter_count
from .lanes import Lanes
from .recipe import Recipe
from .streams import Streams

KEPT = 36 * 2**20  # bytes for the backward pass beyond which a thread of a CPU gains nothing by more models; see benchmarks/ensemble.py
MEMORY = 2**32  # bytes that all lanes may take
MOST = 16  # lanes; each takes the interpreter for a few milliseconds a step
ADAMW = 16  # bytes a parameter: itself, its gradient and two moments


def kept(template: nn.Module, context: int, recipe: Recipe) -> int:
    """Bytes of the tensors that a training step of one model keeps for its backward pass."""
    found: dict[int, torch.UntypedStorage] = {}

    def pack(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        found[storage.data_ptr()] = storage
        return value

    device = next(template.parameters()).device
    tokens = torch.zeros(recipe.batch, context, dtype=torch.long, device=device)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            logits = template(tokens)
        losses = spent_losses(logits, tokens)
    del losses
    return sum(storage.nbytes() for storage in found.values())


def planned(template: nn.Module, other: nn.Module, streams: Streams, recipe: Recipe) -> tuple[int, Lanes]:
    """How many models of the template's shape train as one program on a CPU, and the lanes: as many as torch has threads.

    Together are the largest power of two that keep at most 36 MiB for the backward pass, so that programs are mostly of one shape. Lanes
    are fewer than torch's threads where more would take above 4 GiB, and then have several of these threads each. There is one lane where
    the ``other`` model of the same factory has a module of the template's, since two threads must not run one module.
    """
    each = kept(template, streams.context, recipe)
    together = 1 << (max(1, KEPT // each).bit_length() - 1)
    lane = together * (each + ADAMW * parameter_count(template))
    threads = torch.get_num_threads()
    apart = set(template.modules()).isdisjoint(other.modules())
    count = max(1, min(threads, MOST, MEMORY // lane)) if apart else 1
    return together, Lanes(count, threads // count)


def split(runs: int, together: int, lanes: int) -> list[range]:
    """So many runs as even pieces of at most ``together``, a multiple of ``lanes`` of them where there are runs enough."""
    pieces = min(runs, lanes * math.ceil(runs / (together * lanes)))
    ends = [runs * i // pieces for i in range(pieces + 1)]
    return [range(start, end) for start, end in pairwise(ends)]
