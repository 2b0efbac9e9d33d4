"""Training steps that can be differentiated: plain gradient steps, and those of torch's SGD, Adam and AdamW as functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, final

import torch
from torch import Tensor
from torch.autograd import forward_ad

from mixopt.errors import LearnerError

from .tree import Leaves, copied

Slopes = Callable[[Tensor, Leaves, int, bool], Leaves]
"""The lower level's gradient at weights and leaves on the batch of step t; with the graph of it where that is asked for."""
KNOWN = {torch.optim.SGD: "momentum", torch.optim.Adam: "betas", torch.optim.AdamW: "betas"}
LEFT_OUT = ("maximize", "amsgrad")


class Steps(Protocol):
    """A training step as a function: what it remembers, and (leaves, slots, gradients) -> (leaves, slots)."""

    @property
    def rate(self) -> float:
        """The length of a step."""

    def slots(self, leaves: Leaves) -> Leaves:
        """What is remembered before the first step."""

    def step(self, t: int, leaves: Leaves, slots: Leaves, slopes: Leaves) -> tuple[Leaves, Leaves]:
        """Leaves and slots after step t = 0, 1, ..."""


@final
@dataclass(frozen=True)
class Rule:
    """One training step (leaves, slots, gradients) -> (leaves, slots): ``settings`` has those of each leaf, ``slots`` what it remembers.

    Source: the documented updates of torch.optim.SGD (momentum, dampening, Nesterov, weight decay), Adam and AdamW.
    """

    settings: tuple[Mapping[str, Any], ...]
    adaptive: bool

    @classmethod
    def plain(cls, rate: float, count: int) -> Rule:
        """Gradient descent of ``count`` leaves at a rate."""
        still = {"lr": rate, "momentum": 0.0, "dampening": 0.0, "nesterov": False, "weight_decay": 0.0}
        return cls((still,) * count, False)

    @classmethod
    def of(cls, make: Callable[[Leaves], torch.optim.Optimizer], leaves: Leaves) -> Rule:
        """The rule of a learner's optimizer, its settings read from the optimizer itself.

        Raises:
            LearnerError: an optimizer that has no differentiable form here.
        """
        mine = copied(leaves, trainable=True)
        found = make(mine)
        if type(found) not in KNOWN:
            raise LearnerError(
                f"the learner's optimizer is {type(found).__name__}, whose steps Unrolled cannot differentiate; it knows "
                f"{', '.join(kind.__name__ for kind in KNOWN)}. Give one of them, or argmin(...) and rule='gradient'"
            )
        groups = {id(p): group for group in found.param_groups for p in group["params"]}
        settings = tuple(groups[id(leaf)] for leaf in mine)
        odd = next((name for name in LEFT_OUT for one in settings if one.get(name)), None)
        if odd:
            raise LearnerError(
                f"the learner's {type(found).__name__} has {odd}=True, whose steps Unrolled cannot differentiate; leave it out"
            )
        decoupled = isinstance(found, torch.optim.AdamW)
        return cls(tuple({"decoupled": decoupled, **one} for one in settings), KNOWN[type(found)] == "betas")

    @property
    def rate(self) -> float:
        """The first leaf's rate."""
        return float(self.settings[0]["lr"])

    def slots(self, leaves: Leaves) -> Leaves:
        """What is remembered before the first step: zeros."""
        each = 2 if self.adaptive else int(any(one["momentum"] for one in self.settings))
        return tuple(torch.zeros_like(leaf) for leaf in leaves for _ in range(each))

    def step(self, t: int, leaves: Leaves, slots: Leaves, slopes: Leaves) -> tuple[Leaves, Leaves]:
        """Leaves and slots after step t = 0, 1, ..."""
        each = len(slots) // len(leaves)
        parts = [slots[i : i + each] for i in range(0, len(slots), each)] if each else [()] * len(leaves)
        take = self._adam if self.adaptive else self._sgd
        moved = [take(t, *one) for one in zip(self.settings, leaves, slopes, parts, strict=True)]
        return tuple(leaf for leaf, _ in moved), tuple(slot for _, own in moved for slot in own)

    def _sgd(self, t: int, own: Mapping[str, Any], leaf: Tensor, slope: Tensor, slots: Leaves) -> tuple[Tensor, Leaves]:
        d = slope + own["weight_decay"] * leaf if own["weight_decay"] else slope
        if slots and own["momentum"]:
            buffer = own["momentum"] * slots[0] + (1 - own["dampening"]) * d if t else d
            d, slots = (d + own["momentum"] * buffer if own["nesterov"] else buffer), (buffer,)
        return leaf - float(own["lr"]) * d, slots

    def _adam(self, t: int, own: Mapping[str, Any], leaf: Tensor, slope: Tensor, slots: Leaves) -> tuple[Tensor, Leaves]:
        rate, decay, (first, second) = float(own["lr"]), own["weight_decay"], (float(beta) for beta in own["betas"])
        if decay and own.get("decoupled_weight_decay", own["decoupled"]):
            leaf = leaf * (1 - rate * decay)
        elif decay:
            slope = slope + decay * leaf
        mean, square = first * slots[0] + (1 - first) * slope, second * slots[1] + (1 - second) * slope * slope
        root = torch.where(square > 0, square, 1.0).sqrt() * (square > 0)  # its derivative at 0 is infinite, and counts for nothing
        size = root / math.sqrt(1 - second ** (t + 1)) + own["eps"]
        return leaf - rate / (1 - first ** (t + 1)) * mean / size, (mean, square)


@final
@dataclass(frozen=True)
class Course:
    """A training run of ``steps`` steps as a function of the weights: where it starts, its rule, and the gradients it follows."""

    start: Leaves
    rule: Steps
    slopes: Slopes
    steps: int

    def begun(self) -> tuple[Leaves, Leaves]:
        """Leaves and slots before the first step."""
        return copied(self.start), self.rule.slots(self.start)

    def run(self, w: Tensor, state: tuple[Leaves, Leaves], first: int, last: int, graph: bool) -> tuple[Leaves, Leaves]:
        """Steps ``first`` to ``last`` - 1 from a state; with their graph where asked."""
        leaves, slots = state
        for t in range(first, last):
            at = leaves if graph else tuple(leaf.detach().requires_grad_() for leaf in leaves)
            leaves, slots = self.rule.step(t, at, slots, self.slopes(w, at, t, graph))
            if not graph:
                leaves, slots = (tuple(x.detach() for x in part) for part in (leaves, slots))
        return leaves, slots

    def end(self, w: Tensor) -> Leaves:
        """The trained leaves."""
        return self.run(w, self.begun(), 0, self.steps, False)[0]

    def reverse(self, w: Tensor, upper: Callable[[Tensor, Leaves], Tensor], last: int, stride: int) -> tuple[Tensor, Tensor, Leaves]:
        """d upper / dw [k] through the ``last`` steps, upper's value, and the trained leaves.

        The states of every ``stride``-th step are kept, and the graph of ``stride`` steps at a time: with stride = last all graphs at
        once and no step twice, with its square root O(sqrt(last)) of both and each step twice (Griewank and Walther 2008, section 12.3).
        """
        marks = list(range(self.steps - last, self.steps, stride))
        states = [self.run(w, self.begun(), 0, marks[0], False)]
        for first, then in pairwise(marks):
            states.append(self.run(w, states[-1], first, then, False))
        total, adjoint, value, trained = torch.zeros_like(w), None, w.sum(), self.start
        for first, state in zip(reversed(marks), reversed(states), strict=True):
            free = w.detach().clone().requires_grad_()
            entry = tuple(tuple(x.detach().requires_grad_() for x in part) for part in state)
            leaves, slots = self.run(free, (entry[0], entry[1]), first, min(first + stride, self.steps), True)
            if adjoint is None:
                trained, value = leaves, upper(free, leaves)
                outputs, weights = [value], None
            else:
                pairs = [(x, a) for x, a in zip((*leaves, *slots), adjoint, strict=True) if x.requires_grad]
                outputs, weights = [x for x, _ in pairs], [a for _, a in pairs]
            slope, *adjoint = torch.autograd.grad(outputs, (free, *entry[0], *entry[1]), weights, materialize_grads=True)
            total = total + slope
        return total, value.detach(), tuple(leaf.detach() for leaf in trained)

    def forward(self, w: Tensor, upper: Callable[[Tensor, Leaves], Tensor], last: int) -> tuple[Tensor, Tensor, Leaves]:
        """The same in forward mode: k tangents of the state are carried along, in memory that does not grow with the steps."""
        first = self.steps - last
        state = self.run(w, self.begun(), 0, first, False)
        flat, many = (*state[0], *state[1]), len(state[0])
        directions = torch.eye(len(w), dtype=w.dtype, device=w.device)
        tangents: Sequence[Leaves] = [tuple(torch.zeros_like(x) for x in flat) for _ in directions]
        for t in range(first, self.steps):
            with_tangents = [self._pushed(w, d, flat, j, t, many) for d, j in zip(directions, tangents, strict=True)]
            flat, tangents = with_tangents[0][0], [j for _, j in with_tangents]
        free = w.detach().clone().requires_grad_()
        at = tuple(x.detach().requires_grad_() for x in flat[:many])
        value = upper(free, at)
        direct, *v = torch.autograd.grad(value, (free, *at), materialize_grads=True)
        through = [sum(((a * b).sum() for a, b in zip(v, j, strict=False)), torch.zeros_like(direct[0])) for j in tangents]
        return direct + torch.stack(through), value.detach(), tuple(x.detach() for x in at)

    def _pushed(self, w: Tensor, direction: Tensor, flat: Leaves, tangent: Leaves, t: int, many: int) -> tuple[Leaves, Leaves]:
        """One step of the state and of its tangent along a direction of the weights."""
        try:
            with forward_ad.dual_level():
                weights = forward_ad.make_dual(w.detach(), direction)
                at = tuple(x.detach().requires_grad_() for x in flat)
                duals = tuple(forward_ad.make_dual(x, j) for x, j in zip(at, tangent, strict=True))
                leaves, slots = self.rule.step(t, duals[:many], duals[many:], self.slopes(weights, duals[:many], t, False))
                parts = [forward_ad.unpack_dual(x) for x in (*leaves, *slots)]
                return tuple(p.primal.detach() for p in parts), tuple(
                    torch.zeros_like(p.primal) if p.tangent is None else p.tangent.detach() for p in parts
                )
        except (NotImplementedError, RuntimeError) as error:
            if "forward" not in str(error):
                raise
            raise LearnerError(
                f"the losses have no forward mode, so their tangents cannot be carried: {error}; give mode='reverse'"
            ) from error
