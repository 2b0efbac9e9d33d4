"""What a layer in the middle of a model makes of each domain's text, as one vector: for Chameleon, and for clusters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mixopt.errors import InputError, LearnerError, unknown

from .subject import bare, items, still


def embeddings(module: nn.Module, batches: Any, *, layer: str | None = None) -> Tensor:
    """The mean over a domain's tokens of what ``layer`` puts out [k, d]; one forward pass, and the module is left as it was.

    Batches are tokens [b, t], or mappings that the module takes. ``layer`` is a module's name; None is the middle one of the
    longest list of modules, in which models hold their blocks: of L the block number (L + 1) // 2.

    Raises:
        InputError: no such layer, or none to choose.
        LearnerError: the layer was not run, or puts out no vectors.

    Source: Xie, Tonin and Cevher 2025, arXiv 2505.24844; code LIONS-EPFL/Chameleon, utils.py.
    """
    inner = bare(module)
    part, found = _layer(inner, layer), []
    caught: list[Any] = []
    handle = part.register_forward_hook(lambda _, __, out: caught.append(out[0] if isinstance(out, (tuple, list)) else out))
    try:
        with still(inner, tuple(inner.parameters())), torch.no_grad():
            for item in items(batches)[1]:
                caught.clear()
                inner(**item) if isinstance(item, Mapping) else inner(item)
                if not caught or not isinstance(caught[-1], Tensor) or caught[-1].dim() < 2:
                    raise LearnerError(f"the layer {layer or 'in the middle'} put out no vectors [..., d] for a batch; name another")
                found.append(caught[-1].reshape(-1, caught[-1].shape[-1]).float().mean(0))
    finally:
        handle.remove()
    return torch.stack(found)


def _layer(module: nn.Module, name: str | None) -> nn.Module:
    if name is not None:
        named = dict(module.named_modules())
        if name not in named:
            raise unknown("layer", name, [n for n in named if n])
        return named[name]
    lists = [part for part in module.modules() if isinstance(part, (nn.ModuleList, nn.Sequential)) and len(part)]
    if not lists:
        raise InputError("the module holds no list of blocks to take the middle one of; give layer= a module's name")
    blocks = max(lists, key=len)
    return blocks[(len(blocks) + 1) // 2 - 1]
