"""DoGE's rule online: weights follow the alignment of each domain's gradient with the targets', from the last weights on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from mixopt.errors import InputError
from mixopt.language.domains import Domains

from .gradients import aligned, gradient_needs, lengths
from .rule import Need, Rule, Scene, Seen, Standing


@final
@dataclass(frozen=True)
class DoGE(Rule):
    """w_i <- w_i exp(eta W_i / mu), normalised, with W_i = <grad l_i, sum_j grad l_target_j>, eta the model's learning rate.

    ``targets`` names the m targets, the domains where it is None; with ``pooled`` "mean" their gradients are averaged. eta is
    ``learning_rate`` where that is observed, else ``step_size``. "code": W is divided by the mean length of the domains'
    gradients + 1e-6 and clipped to ``floor`` and ``ceiling``, so that a harmful domain loses by renormalising alone and no logarithm of
    a weight moves by more than ceiling eta / mu; ``own=False`` takes a domain's product with itself out of W, which the code means to do
    and does not. A domain that was not measured keeps its last score.

    Source: Fan, Pagliardini and Jaggi 2024, arXiv 2310.15393, Algorithm 1; code Olivia-fsm/DoGE, src/trainer.py.

    Raises:
        InputError: another form, or a number out of range.
    """

    mu: float = 0.01
    step_size: float = 1e-3
    targets: tuple[str, ...] | None = None
    pooled: Literal["sum", "mean"] = "sum"
    form: Literal["paper", "code"] = "paper"
    floor: float = 0.0
    ceiling: float = 5.0
    own: bool = True
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        for name in ("mu", "step_size"):
            if not (isinstance(getattr(self, name), (int, float)) and 0 < getattr(self, name) < math.inf):
                raise InputError(f"{name} is {getattr(self, name)!r}; it is a finite number > 0")
        if self.form not in ("paper", "code") or self.pooled not in ("sum", "mean"):
            raise InputError(f"the form is {self.form!r}, 'paper' or 'code', and targets are pooled by {self.pooled!r}, 'sum' or 'mean'")
        if not self.floor < self.ceiling or not 0 <= self.smoothing < 1:
            raise InputError(f"scores are clipped to [{self.floor}, {self.ceiling}], a range, and smoothed by {self.smoothing}, in [0, 1)")

    def needs(self, domains: Domains) -> tuple[Need, ...]:
        summed = "sum_j grad l_target_j" if self.pooled == "sum" else "the mean of grad l_target_j"
        more = [Need("learning_rate", "the model's learning rate of the moment", optional=True, each=False)]
        if self.form == "code" or not self.own:
            more.insert(0, Need("norms", "|grad l_i| of every domain", domains.names, optional=True))
        return (*gradient_needs(domains, self.targets, summed), *more)

    def move(self, scene: Scene, at: Standing, seen: Seen) -> Standing:
        m = len(scene) if self.targets is None else len(self.targets)
        share = 1.0 if self.pooled == "sum" else 1 / m
        score = aligned(seen, np.full(m, share), self)
        if not self.own:
            score = score - share * lengths(seen, self.targets, self) ** 2
        if self.form == "code":
            score = np.clip(score / (lengths(seen, self.targets, self).mean() + 1e-6), self.floor, self.ceiling)
        eta = float(seen["learning_rate"]) if "learning_rate" in seen else self.step_size
        return Standing(scene.step(at.weights, score, eta / self.mu, smoothing=self.smoothing), info={"score": eta * score})
