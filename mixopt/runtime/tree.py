"""Parameter trees: nested dicts, lists and tuples of tensors, flattened to a tuple of leaves and built again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from mixopt.errors import InputError

Leaves = tuple[Tensor, ...]


def flatten(tree: Any) -> Leaves:
    """The leaves of a tree, dict entries in their own order."""
    if isinstance(tree, Tensor):
        return (tree,)
    if isinstance(tree, dict):
        return tuple(leaf for part in tree.values() for leaf in flatten(part))
    if isinstance(tree, (list, tuple)):
        return tuple(leaf for part in tree for leaf in flatten(part))
    raise InputError(f"parameters are tensors in dicts, lists and tuples; found a {type(tree).__name__}")


def unflatten(like: Any, leaves: Leaves) -> Any:
    """A tree of the shape of ``like`` with other leaves."""
    return _build(like, iter(leaves))


def _build(like: Any, leaves: Iterator[Tensor]) -> Any:
    if isinstance(like, Tensor):
        return next(leaves)
    if isinstance(like, dict):
        return {name: _build(part, leaves) for name, part in like.items()}
    return type(like)(_build(part, leaves) for part in like)


def copied(leaves: Leaves, trainable: bool = False) -> Leaves:
    """Detached copies of the leaves, fit to be trained where asked."""
    return tuple(leaf.detach().clone().requires_grad_(trainable and leaf.is_floating_point()) for leaf in leaves)


def vector(leaves: Leaves) -> Tensor:
    """The leaves as one vector [P]; a single leaf is only reshaped."""
    return leaves[0].reshape(-1) if len(leaves) == 1 else torch.cat([leaf.reshape(-1) for leaf in leaves])


def split(flat: Tensor, like: Leaves) -> Leaves:
    """A vector [P] cut into the shapes of ``like``."""
    if len(like) == 1:
        return (flat.view_as(like[0]),)
    return tuple(part.view_as(leaf) for part, leaf in zip(flat.split([leaf.numel() for leaf in like]), like, strict=True))
