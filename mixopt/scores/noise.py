"""How much of a domain's gradient is signal and how much is the noise of its batch: PiKE's two numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mixopt.errors import InputError
from mixopt.runtime.gramian import wide

from .alignment import inner, slopes
from .subject import Layers, Loss, items, subject


def signal_and_noise(
    model: Any, batches: Any, *, loss: Loss | None = None, layers: Layers = "all", at: Any = None
) -> tuple[Tensor, Tensor]:
    """|grad L_i|^2 [k] and the variance sigma_i^2 [k] of one example's gradient about it, both without bias.

    Each domain's batch of b examples is cut in two halves along its first axis: of their gradients g and h, <g, h> estimates
    the first (it may be negative) and b |g - h|^2 / 4 the second. Two backward passes a domain, over as many tokens as one; two
    gradients are held at a time. See ``alignment`` for the arguments.

    Raises:
        InputError: a batch whose tensors do not share an even first axis.

    Source: McCandlish et al. 2018, arXiv 1812.06162, appendix A.1, with b / 2 and b as the two batch sizes; for PiKE.
    """
    what, own = subject(model, loss=loss, at=at, layers=layers), items(batches)[1]
    signals, noises = [], []
    with what.still():
        for item in own:
            size, halves = halved(item)
            first, second = slopes(what, halves)
            apart = tuple(a - b for a, b in zip(first, second, strict=True))
            signals.append(inner(first, second))
            noises.append(inner(apart, apart) * size / 4)
    dtype = wide(what.leaves[0].dtype)
    return torch.stack(signals).to(dtype), torch.stack(noises).to(dtype)


def halved(batch: Any) -> tuple[int, list[Any]]:
    """The count of examples of a batch, and its two halves: of a tensor, or a mapping or tuple of tensors, by the first axis."""
    parts = list(batch.values()) if isinstance(batch, Mapping) else list(batch) if isinstance(batch, tuple) else [batch]
    sizes = {len(part) if isinstance(part, Tensor) and part.dim() else 0 for part in parts}
    size = sizes.pop() if len(sizes) == 1 else 0
    if size < 2 or size % 2:
        raise InputError(
            f"a batch to be cut in halves has tensors of one even length; found {[list(getattr(p, 'shape', ())) for p in parts]}"
        )

    def cut(part: slice) -> Any:
        if isinstance(batch, Mapping):
            return {name: value[part] for name, value in batch.items()}
        return tuple(value[part] for value in batch) if isinstance(batch, tuple) else batch[part]

    return size, [cut(slice(size // 2)), cut(slice(size // 2, size))]
