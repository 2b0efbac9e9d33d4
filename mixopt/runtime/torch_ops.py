"""Every atom in torch; gradients are torch's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mixopt.errors import ProblemError
from mixopt.language.opaque import TAKERS
from mixopt.language.support import SUPPORT

TINY = 1e-300


def _log_of(x: Tensor) -> Tensor:
    return torch.log(torch.clamp(x, min=max(TINY, torch.finfo(x.dtype).tiny)))


def _constant(node: Any, x: Tensor) -> Tensor:
    return torch.tensor(node.data.value, dtype=x.dtype, device=x.device)


def _take(node: Any, x: Tensor) -> Tensor:
    if isinstance(node.data, int):
        return x[node.data]
    first, count = node.data[0], len(node.data)
    if node.data == tuple(range(first, first + count)):
        return x[first : first + count]
    return torch.stack([x[i] for i in node.data])


def _matmul(node: Any, x: Tensor, y: Tensor) -> Tensor:
    kind = torch.promote_types(x.dtype, y.dtype)
    return x.to(kind) @ y.to(kind)


def _power(node: Any, x: Tensor) -> Tensor:
    return torch.pow(torch.where(x < 0, math.nan, x) if node.data < 0 else x, node.data)


def _tail(node: Any, x: Tensor, *parts: Tensor) -> Tensor:
    largest, order = torch.sort(x, descending=True, stable=True)
    caps = (parts[0].detach().to(x.dtype) / node.data)[order] if parts else torch.full_like(x, 1 / (node.data * len(x)))
    shares = torch.clamp(1 - (caps.cumsum(0) - caps), torch.zeros_like(caps), caps)
    return (shares * largest).sum()


def _rel_entropy(node: Any, x: Tensor, y: Tensor) -> Tensor:
    value = torch.where((x == 0) & (y == 0), 0.0, x * (_log_of(x) - torch.log(y)))
    return torch.where((x < 0) | (y < 0) | ((y == 0) & (x > 0)), math.inf, value)


def _huber(node: Any, x: Tensor) -> Tensor:
    size = torch.abs(x)
    return torch.where(size <= node.data, x * x / 2, node.data * (size - node.data / 2))


def _opaque(node: Any, x: Tensor) -> Tensor:
    raise ProblemError(f"'{node}' is opaque: it has no derivative, and stands in programs alone; {TAKERS}")


TORCH: dict[str, Callable[..., Tensor]] = {
    "add": lambda n, x, y: x + y,
    "subtract": lambda n, x, y: x - y,
    "negate": lambda n, x: -x,
    "multiply": lambda n, x, y: x * y,
    "divide": lambda n, x, y: x / y,
    "matmul": _matmul,
    "take": _take,
    "stack": lambda n, *parts: torch.cat([torch.atleast_1d(p) for p in parts]),
    "sum": lambda n, x: x.sum(),
    "mean": lambda n, x: x.mean(),
    "exp": lambda n, x: torch.exp(x),
    "log": lambda n, x: torch.log(x),
    "sqrt": lambda n, x: torch.sqrt(x),
    "power": _power,
    "softplus": lambda n, x: torch.logaddexp(x, torch.zeros_like(x)),
    "logsumexp": lambda n, x: n.data * torch.logsumexp(x.reshape(-1) / n.data, 0),
    "huber": _huber,
    "tail": _tail,
    "rel_entropy": _rel_entropy,
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
    "cardinality": lambda n, x: (x > SUPPORT).to(x.dtype).sum() + 0 * x.sum(),
    "least_used": lambda n, x: torch.where(x > SUPPORT, x, math.inf).min(),
    "opaque": _opaque,
    "surrogate": lambda n, value, gradient: value,
}
