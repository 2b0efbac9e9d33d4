"""History at run time: one step's values from what the last step kept; old memory in, new memory out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mixopt.errors import InputError
from mixopt.language.expression import Expr

Past = Mapping[Expr, Tensor]
"""What each history keeps from one step to the next; empty before the first."""


def moved(node: Expr, kept: Any, x: Any) -> tuple[Any, Any]:
    """The value of a history at a step where its argument is x, and what it keeps for the next; ``kept`` is None at the first step."""
    if kept is None:
        return x, x
    if node.op == "previous":
        return kept, x
    if node.op == "initial":
        return kept, kept
    mean = (1 - node.data) * kept + node.data * x
    return mean, mean


def saved(nodes: Sequence[Expr], past: Past) -> list[dict[str, Any]]:
    """What the histories keep, as plain texts and numbers in the order of ``nodes``; ``restored`` reads them back bit for bit."""
    kept = [(str(node), past[node].detach().cpu()) for node in nodes if node in past]
    return [
        {"history": text, "dtype": str(x.dtype).removeprefix("torch."), "shape": list(x.shape), "values": x.double().reshape(-1).tolist()}
        for text, x in kept
    ]


def restored(nodes: Sequence[Expr], records: Sequence[Mapping[str, Any]], device: torch.device | None = None) -> dict[Expr, Tensor]:
    """What the histories kept when ``saved`` wrote it, as tensors on a device.

    Raises:
        InputError: records of other histories, or that are not what ``saved`` writes.
    """
    try:
        told = [str(record["history"]) for record in records]
        found = [
            torch.tensor(r["values"], dtype=torch.float64, device=device).reshape(r["shape"]).to(getattr(torch, r["dtype"]))
            for r in records
        ]
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"this is no saved history: {type(error).__name__}: {error}") from None
    wanted = [str(node) for node in nodes]
    if told and (told != wanted or any(x.shape != node.shape for x, node in zip(found, nodes, strict=True))):
        raise InputError(f"the saved history is of {told}, and the problem's is of {wanted}; it was saved by another problem")
    return dict(zip(nodes, found, strict=True)) if told else {}
