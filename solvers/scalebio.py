"""ScaleBiO: the value-function penalty with all three players moved at once, the weights by softmax logits under AdamW."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mixopt.errors import InputError
from mixopt.forms import Abilities, Bilevel, Form
from mixopt.runtime.learner import Batch
from mixopt.runtime.simplex import through_softmax
from mixopt.runtime.tree import Leaves
from mixopt.solver import State, Task

from .single_loop import Loop, SingleLoop, Turn, descend, lower, norm, same_noise, upper
from .steps import check_counts
from .vpbgd import check_penalty, value_rewrites

BLOCK = re.compile(r"^(.*?\.)?\d+(?=\.)")


@dataclass(frozen=True)
class _Kept:
    """The logits [k] with their optimizer, which blocks' leaves are trained in either model, and the draws of these."""

    logits: Tensor
    optimizer: torch.optim.Optimizer
    blocks: tuple[str | None, ...]
    draw: torch.Generator


@dataclass(frozen=True, kw_only=True)
class ScaleBiO(SingleLoop):
    """min over w and theta, max over u, of upper(theta) + penalty (lower(theta, w) - lower(u, w)): one step of each at the old iterates.

    w = softmax(logits), and AdamW of rate ``rate`` and decay ``decay`` moves the logits along penalty w_i (d_i - <w, d>),
    d_i = l_i(theta) - l_i(u), on the batch that u and theta have; theta descends penalty lower + upper, u penalty lower. Both take the
    learner's optimizer, which is to be AdamW, as the source's; under it the penalty sets no more than how lower and upper count in theta.
    The parameters that come back are u, trained on the mixture alone.

    Of ``stages`` stages of equal length each multiplies the penalty by ``growth``, and divides all rates by it; the released scripts
    have one. ``cosine`` lets all rates fall to 0 along a cosine. ``layers`` is LISA: of the model's numbered blocks that many, drawn
    anew each ``period`` steps and for u and theta apart, are trained, and what is in no block always; the others have no gradient.

    Source: Pan et al. 2025, arXiv 2406.19976; code 2003pro/ScaleBiO and research4pan/scalebio. LISA: Pan et al. 2024, arXiv 2403.17919.
    """

    rate: float = 1e-2
    penalty: float = 10.0
    decay: float = 0.01
    stages: int = 1
    growth: float = 2.0
    cosine: bool = False
    layers: int | None = None
    period: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, stages=1, period=1, **({} if self.layers is None else {"layers": 1}))
        check_penalty(self.penalty)
        if not isinstance(self.rate, (int, float)) or self.geometry != "euclidean" or self.smoothing or self.momentum:
            raise InputError("ScaleBiO moves logits by AdamW: its rate is a number, and it has no geometry, momentum or smoothing")
        if not 0 <= self.decay < math.inf or not 0 < self.growth < math.inf:
            raise InputError(f"decay is {self.decay} and growth {self.growth}; both are finite, decay >= 0 and growth > 0")

    def refuses(self, form: Form, abilities: Abilities | None) -> tuple[str, ...]:
        reasons = super().refuses(form, abilities)
        if not reasons and form.constraints:
            label = form.constraints[0].label
            return (f"softmax logits reach the whole simplex, and constraint '{label}' is not theirs; use VPBGD() or ValueFunction()",)
        return reasons

    def rewrites(self, form: Form) -> tuple[str, ...]:
        assert isinstance(form, Bilevel)
        return value_rewrites(form, self.penalty)

    def begin(self, task: Task) -> State:
        state = super().begin(task)
        loop: Loop = state.memory
        logs = state.weights.clamp(min=1e-8).log()
        logits = (logs - logs.mean()).requires_grad_()
        blocks = () if self.layers is None else self._blocks(loop)
        kept = _Kept(
            logits, torch.optim.AdamW([logits], lr=self.rate, weight_decay=self.decay), blocks, torch.Generator().manual_seed(task.seed)
        )
        return replace(state, weights=logits.detach().softmax(0), memory=replace(loop, kept=kept))

    def turn(self, task: Task, loop: Loop, w: Tensor, batch: Batch) -> Turn:
        training = loop.model.draw(w, loop.draw, batch)
        penalty = self.penalty * self.growth ** self._stage(loop.taken)
        if loop.kept.blocks and loop.taken % self.period == 0:
            for leaves in (loop.follower, loop.leaves):
                self._chosen(leaves, loop.kept)
        with same_noise(loop.model):
            below = lower(loop, w, loop.follower, batch, training)
        at = lower(loop, w, loop.leaves, batch, training)
        top = upper(loop, w, loop.leaves, batch)
        self._paced(loop)
        pull = tuple(penalty * g for g in below.slopes)
        slopes = tuple(v + penalty * g for v, g in zip(top.slopes, at.slopes, strict=True))
        descend(loop.behind, loop.follower, pull)
        descend(loop.optimizer, loop.leaves, slopes)
        size = torch.maximum(norm(slopes), norm(pull))
        return Turn(top.over + penalty * (at.over - below.over), top.value, at.losses, size, excess=at.value - below.value)

    def moved(self, task: Task, loop: Loop, w: Tensor, gradient: Tensor) -> tuple[Tensor, Loop]:
        kept: _Kept = loop.kept
        kept.logits.grad = through_softmax(w, gradient)
        kept.optimizer.step()
        return kept.logits.detach().softmax(0), loop

    def _stage(self, taken: int) -> int:
        return min(taken * self.stages // self.steps, self.stages - 1)

    def _paced(self, loop: Loop) -> None:
        """The rates of this step: those of the start, by the stage and the cosine."""
        if self.stages == 1 and not self.cosine:
            return
        share = min(loop.taken / self.steps, 1.0)
        factor = (0.5 * (1 + math.cos(math.pi * share)) if self.cosine else 1.0) / self.growth ** self._stage(loop.taken)
        for optimizer in (loop.optimizer, loop.behind, loop.kept.optimizer):
            for group in optimizer.param_groups:
                group["lr"] = group.setdefault("first_lr", group["lr"]) * factor

    def _blocks(self, loop: Loop) -> tuple[str | None, ...]:
        """The numbered block of each leaf by its parameter's name, None for what is in none."""
        tree = loop.model.learner.tree(loop.leaves)
        names = list(tree) if isinstance(tree, Mapping) else []
        found = tuple(m.group() if (m := BLOCK.match(str(name))) else None for name in names)
        count = len({block for block in found if block})
        if len(found) != len(loop.leaves) or count < (self.layers or 0):
            raise InputError(
                f"layers={self.layers} trains that many of a module's numbered blocks (as in 'h.0.weight'), and this model has {count}"
            )
        return found

    def _chosen(self, leaves: Leaves, kept: _Kept) -> None:
        """Train the blocks that are drawn, and those leaves that are in none."""
        names = sorted({block for block in kept.blocks if block})
        drawn = {names[i] for i in torch.randperm(len(names), generator=kept.draw)[: self.layers].tolist()}
        for leaf, block in zip(leaves, kept.blocks, strict=True):
            leaf.grad = None
            leaf.requires_grad_(block is None or block in drawn)
