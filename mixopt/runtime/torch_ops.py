"""Every atom in torch; gradients are torch's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

TINY = 1e-300


def _log_of(x: Tensor) -> Tensor:
    return torch.log(torch.clamp(x, min=max(TINY, torch.finfo(x.dtype).tiny)))


def _constant(node: Any, x: Tensor) -> Tensor:
    return torch.tensor(node.data.value, dtype=x.dtype, device=x.device)


def _take(node: Any, x: Tensor) -> Tensor:
    return x[node.data] if isinstance(node.data, int) else torch.stack([x[i] for i in node.data])


def _matmul(node: Any, x: Tensor, y: Tensor) -> Tensor:
    kind = torch.promote_types(x.dtype, y.dtype)
    return x.to(kind) @ y.to(kind)


TORCH: dict[str, Callable[..., Tensor]] = {
    "add": lambda n, x, y: x + y,
    "subtract": lambda n, x, y: x - y,
    "negate": lambda n, x: -x,
    "multiply": lambda n, x, y: x * y,
    "divide": lambda n, x, y: x / y,
    "matmul": _matmul,
    "take": _take,
    "sum": lambda n, x: x.sum(),
    "mean": lambda n, x: x.mean(),
    "exp": lambda n, x: torch.exp(x),
    "log": lambda n, x: torch.log(x),
    "square": lambda n, x: x * x,
    "sum_squares": lambda n, x: (x * x).sum(),
    "norm": lambda n, x: torch.linalg.vector_norm(x, math.inf if math.isinf(n.data) else n.data),
    "abs": lambda n, x: torch.abs(x),
    "pos": lambda n, x: torch.relu(x),
    "clip": lambda n, x: torch.clamp(x, *n.data),
    "max": lambda n, x: x.max(),
    "min": lambda n, x: x.min(),
    "maximum": lambda n, x, y: torch.maximum(*torch.broadcast_tensors(x, y)),
    "minimum": lambda n, x, y: torch.minimum(*torch.broadcast_tensors(x, y)),
    "entropy": lambda n, x: -(x * _log_of(x)).sum(),
    "kl": lambda n, p, q: (p * (_log_of(p) - torch.log(q))).sum(),
    "quad_form": lambda n, x: x @ (_constant(n, x) @ x),
    "domain_mean": lambda n, x: x.mean(dim=-1),
    "surrogate": lambda n, value, gradient: value,
}
