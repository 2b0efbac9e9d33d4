"""Expressions of models in torch: lowered once to a list of calls, then evaluated on weights, parameters and a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from mixopt.language.expression import Expr

from .learner import Batch, Learner
from .torch_ops import TORCH
from .tree import Leaves

MEASURED = ("losses", "loss", "tokens")


@dataclass
class Meter:
    """What a run has cost so far, in units that compare across methods."""

    gradients: int = 0
    hessian_products: int = 0
    forward_passes: int = 0
    tokens: int = 0


@dataclass(frozen=True)
class Bound:
    """A learner bound to a problem: which loss is which, and the order that turns its vectors into the problem's."""

    learner: Learner
    orders: Mapping[Expr, Tensor | None]
    given: Mapping[str, Tensor]
    models: Mapping[Expr, Leaves]
    meter: Meter = field(default_factory=Meter)

    def ordered_back(self, node: Expr, values: Tensor) -> Tensor:
        """A vector in the problem's order put into the learner's, 0 where the problem has no such domain."""
        order, size = self.orders.get(node), self.learner.abilities.provides[node.data].size
        return values if order is None else values.new_zeros(size or 0).index_copy(0, order, values)

    def count(self, name: str, batch: Batch) -> None:
        """Note one forward pass over a batch under a name."""
        self.meter.forward_passes += 1
        self.meter.tokens += self.learner.tokens_of(batch, name)

    def env(self, w: Tensor, models: Mapping[Expr, Leaves], batch: Batch) -> Env:
        """Symbols met with tensors: one evaluation's surroundings."""
        return Env(self, w, {**self.models, **models}, batch)


@dataclass(frozen=True)
class Env:
    """Weights, parameters of the models and a batch; each loss is measured once and kept for this evaluation."""

    bound: Bound
    w: Tensor
    models: Mapping[Expr, Leaves]
    batch: Batch
    measured: dict[Any, Tensor] = field(default_factory=dict)

    def at(self, w: Tensor) -> Env:
        """The same surroundings at other weights; what was measured is kept."""
        return Env(self.bound, w, self.models, self.batch, self.measured)

    def measure(self, node: Expr) -> Tensor:
        """The value of a losses, loss or tokens node; token losses and their means share one forward pass."""
        known = self.measured.get(node)
        if known is not None:
            return known
        model = node.args[0]
        with torch.no_grad() if model in self.bound.models else nullcontext():
            value = self._taken(node, self.models[model])
        order = self.bound.orders.get(node)
        value = value if order is None else value[order]
        self.measured[node] = value
        return value

    def _taken(self, node: Expr, leaves: Leaves) -> Tensor:
        learner = self.bound.learner
        if not learner.abilities.provides[node.data].tokens:
            self.bound.count(node.data, self.batch)
            return learner.losses(leaves, node.data, self.batch)
        key = (node.args[0], node.data)
        if key not in self.measured:
            self.bound.count(node.data, self.batch)
            self.measured[key] = learner.tokens(leaves, node.data, self.batch)
        return self.measured[key] if node.op == "tokens" else self.measured[key].mean(dim=-1)


class Lowered:
    """Several expressions lowered together, so that what they share is evaluated once.

    Losses of models other than the ``trained`` ones are measured first, before the graph of the trained takes its memory.
    """

    def __init__(self, outputs: Sequence[Expr], device: torch.device, trained: Sequence[Expr] = ()):
        seen: dict[Expr, int] = {}
        for expr in outputs:
            for node in expr.walk():
                seen.setdefault(node, len(seen))
        nodes = [n for n in seen if n.op != "model" and n.op != "argmin"]
        self._nodes = sorted(nodes, key=lambda n: n.op not in MEASURED or n.args[0] in trained)
        slots = {node: i for i, node in enumerate(self._nodes)}
        self._calls = [(node, TORCH.get(node.op), tuple(slots[a] for a in node.args if a in slots)) for node in self._nodes]
        self._outputs = [slots[e] for e in outputs]
        self._constants = {n: torch.tensor(n.data.value, device=device) for n in self._nodes if n.op == "constant"}
        self.measures = tuple(n for n in self._nodes if n.op in MEASURED)

    def __call__(self, env: Env) -> list[Tensor]:
        """The values of the outputs."""
        values: list[Tensor] = []
        for node, call, args in self._calls:
            if call is not None:
                values.append(call(node, *[values[a] for a in args]))
            else:
                values.append(self._constants[node] if node.op == "constant" else _leaf(node, env))
        return [values[i] for i in self._outputs]


def _leaf(node: Expr, env: Env) -> Tensor:
    if node.op == "mixture":
        return env.w
    if node.op == "parameter":
        return env.bound.given[node.data[0]]
    if node.op == "model_sum_squares":
        return reduce(torch.add, [(leaf * leaf).sum() for leaf in env.models[node.args[0]]])
    return env.measure(node)
