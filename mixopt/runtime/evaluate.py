"""Expressions of models in torch: lowered once to a list of calls, then evaluated on weights, parameters and a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from mixopt.language.expression import Expr
from mixopt.language.history import live
from mixopt.language.ops import HISTORY
from mixopt.language.symbols import MODELS

from .gramian import gramian
from .history import Past, moved
from .learner import Batch, Learner
from .torch_ops import TORCH
from .tree import Leaves, copied

MEASURED = ("losses", "loss", "tokens")


@dataclass
class Meter:
    """What a run has cost so far, in units that compare across methods."""

    gradients: int = 0
    hessian_products: int = 0
    forward_passes: int = 0
    tokens: int = 0

    def spend(self, gradients: int) -> None:
        """Note gradients that are taken."""
        self.gradients += gradients


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

    def env(self, w: Tensor, models: Mapping[Expr, Leaves], batch: Batch, past: Past | None = None) -> Env:
        """Symbols met with tensors: one evaluation's surroundings."""
        return Env(self, w, {**self.models, **models}, batch, past=past or {})


@dataclass(frozen=True)
class Env:
    """Weights, parameters of the models and a batch; each loss is measured once and kept for this evaluation.

    Histories have one value a step, found where they are first evaluated from what the last step left, ``past``.
    """

    bound: Bound
    w: Tensor
    models: Mapping[Expr, Leaves]
    batch: Batch
    measured: dict[Any, Tensor] = field(default_factory=dict)
    past: Past = field(default_factory=dict)
    recalled: dict[Expr, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def at(self, w: Tensor, batch: Batch = None) -> Env:
        """The same step at other weights: what was measured is kept, unless the batch is another; histories keep their values."""
        return replace(self, w=w) if batch is None else replace(self, w=w, batch=batch, measured={})

    @property
    def kept(self) -> Past:
        """What the histories keep for the next step, once they have been evaluated."""
        return {node: kept for node, (_, kept) in self.recalled.items()}

    def recall(self, node: Expr, args: Sequence[Tensor]) -> Tensor:
        """The value of a history at this step, a number to gradients."""
        if node not in self.recalled:
            (x,) = args
            self.recalled[node] = moved(node, self.past.get(node), x.detach().clone())
        return self.recalled[node][0]

    def measure(self, node: Expr) -> Tensor:
        """The value of a losses, loss or tokens node; token losses and their means share one forward pass."""
        known = self.measured.get(node)
        if known is not None:
            return known
        model = node.args[0]
        with torch.no_grad() if model in self.bound.models else nullcontext():
            value = self.ordered(node, self.taken(node, self.models[model]))
        self.measured[node] = value
        return value

    def ordered(self, node: Expr, value: Tensor) -> Tensor:
        """A learner's vector in the problem's order."""
        order = self.bound.orders.get(node)
        return value if order is None else value[order]

    def taken(self, node: Expr, leaves: Leaves) -> Tensor:
        """What the learner measures for a losses, loss or tokens node at the given parameters of its model."""
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
    With ``recalled``, histories are those that the step has found already, and what they are of is not evaluated again.
    """

    def __init__(self, outputs: Sequence[Expr], device: torch.device, trained: Sequence[Expr] = (), recalled: bool = False):
        seen: dict[Expr, int] = {}
        for expr in outputs:
            for node in live(expr) if recalled else expr.walk():
                seen.setdefault(node, len(seen))
        nodes = [n for n in seen if n.op not in MODELS]
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
                values.append(self._constants[node] if node.op == "constant" else _leaf(node, env, [values[a] for a in args]))
        return [values[i] for i in self._outputs]


def _leaf(node: Expr, env: Env, args: Sequence[Tensor]) -> Tensor:
    if node.op == "mixture":
        return env.w
    if node.op == "parameter":
        return env.bound.given[node.data[0]]
    if node.op == "model_sum_squares":
        return reduce(torch.add, [(leaf * leaf).sum() for leaf in env.models[node.args[0]]])
    if node.op in HISTORY:
        return env.recall(node, args)
    if node.op == "gram":
        return _gram(node, env, *args)
    return env.measure(node)


def _gram(node: Expr, env: Env, rows: Tensor, cols: Tensor) -> Tensor:
    """The inner products of a gram as plain numbers; losses that carry no gradient are measured again with one."""
    leaves = env.models[node.args[0].args[0]]
    with torch.enable_grad():
        if not (rows.requires_grad and cols.requires_grad):
            leaves = copied(leaves, trainable=True)
            rows, cols = (_measured(side, env, leaves) for side in node.args)
        same = node.args[0] == node.args[1]
        again, spend = (lambda at: _measured(node.args[0], env, at)), env.bound.meter.spend
        found = gramian(rows, leaves, None if same else cols, again=again, spend=spend)
    return found.reshape(node.shape or ())


def _measured(node: Expr, env: Env, leaves: Leaves) -> Tensor:
    """Losses measured once more on the batch, at other parameters of their model, so that forward mode passes through."""
    again = Env(env.bound, env.w, env.models, env.batch)
    with env.bound.learner.second_order() if not leaves[0].requires_grad else nullcontext():
        return again.ordered(node, again.taken(node, leaves))
