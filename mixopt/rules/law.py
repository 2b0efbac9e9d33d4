"""The rule of an online mixing law: one step down the sum of next losses, about the last weights (the survey) or a prior (Skill-It)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from mixopt.errors import InputError
from mixopt.language.domains import Domains
from mixopt.laws.online import score_of

from .rule import Need, Rule, Scene, Seen, Standing

Table = tuple[tuple[float, ...], ...]


@final
@dataclass(frozen=True)
class LawStep(Rule):
    """w_i <- centre_i exp(rate sum_j b_j sigma'(-(A' w)_j) A_ij), normalised: the step of the law c_j + b_j sigma(-sum_i A_ij w_i).

    ``effects`` A [k, m]: how much training on domain i lowers target j; ``targets`` names the m losses, the domains if it is None. sigma'
    is 1 under the identity and exp(-(A' w)_j) under exp. b_j are the losses ``watch`` less ``floors``, summed (or averaged: ``pooled``)
    over the last ``window`` evaluations; or 1 where the effects are no shares of them (``relative`` is False). Every move is an evaluation,
    and the weights move at every ``evaluations``-th.

    ``centre`` "last" are the weights of the moment, the survey's form; "prior" is ``prior`` (uniform if None) each time, as in the code of
    Skill-It: then the weights begin at prior exp(rate A 1), and do not accumulate. That code's further settings: ``over_first``
    divides losses by the first ones, ``cooling`` the rate by the ratio of their sums, ``halving`` halves the effects on other
    targets after every move, and with ``lone`` a domain with effects on and by itself alone keeps 1 / k.

    Source: section 4.2 and Table 4 of the survey; Chen et al. 2023, arXiv 2307.14430; code HazyResearch/skill-it, trainer/mw_trainer.py.

    Raises:
        InputError: effects that are no finite table, or a setting out of range.
    """

    effects: Table
    targets: tuple[str, ...] | None = None
    rate: float = 0.2
    sigma: Literal["identity", "exp"] = "identity"
    relative: bool = True
    floors: tuple[float, ...] | None = None
    centre: Literal["last", "prior"] = "prior"
    prior: tuple[float, ...] | None = None
    window: int = 3
    pooled: Literal["sum", "mean"] = "sum"
    evaluations: int = 1
    watch: str = "val"
    over_first: bool = False
    cooling: bool = False
    halving: bool = False
    lone: bool = False

    def __post_init__(self) -> None:
        widths = {len(row) for row in self.effects}
        if len(widths) != 1 or not np.isfinite(self.effects).all():
            raise InputError("the effects are no finite table [k, m]: one row a domain that is trained on, one column a target")
        if not (isinstance(self.rate, (int, float)) and 0 < self.rate < math.inf):
            raise InputError(f"the rate is {self.rate!r}; it is a finite number > 0")
        for name, known in (("sigma", ("identity", "exp")), ("centre", ("last", "prior")), ("pooled", ("sum", "mean"))):
            if getattr(self, name) not in known:
                raise InputError(f"{name} is {getattr(self, name)!r}; it is {known[0]!r} or {known[1]!r}")
        for name in ("window", "evaluations"):
            if isinstance(getattr(self, name), bool) or not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)!r}; it is a whole number of evaluations >= 1")
        if self.targets is not None and len(self.targets) != len(self.effects[0]):
            raise InputError(f"there are {len(self.targets)} targets and effects on {len(self.effects[0])}")
        if self.floors is not None and len(self.floors) != len(self.effects[0]):
            raise InputError(f"there are {len(self.floors)} floors and effects on {len(self.effects[0])} targets")

    def needs(self, domains: Domains) -> tuple[Need, ...]:
        names = domains.names if self.targets is None else self.targets
        if (len(domains), len(names)) != (len(self.effects), len(self.effects[0])):
            raise InputError(
                f"the effects have the shape {[len(self.effects), len(self.effects[0])]}, and {[len(domains), len(names)]} is expected: "
                f"one row a domain, one column a target"
            )
        return (Need(self.watch, "losses on held-out text, in nats per token", names, each=False),)

    def begin(self, scene: Scene) -> Standing:
        m = len(self.effects[0])
        effects = np.array(self.effects)
        memory = {"window": np.empty((0, m)), "first": None, "seen": 0, "effects": effects}
        if self.centre == "last":
            return Standing(scene.start, memory)
        return Standing(self._stepped(scene, scene.start, effects, np.ones(m), self.rate), memory)

    def move(self, scene: Scene, at: Standing, seen: Seen) -> Standing:
        losses, memory = np.asarray(seen[self.watch], dtype=float), at.memory
        first = losses if memory["first"] is None else memory["first"]
        window = np.vstack([memory["window"], losses])[-self.window :]
        count, effects = memory["seen"] + 1, memory["effects"]
        kept = {"window": window, "first": first, "seen": count, "effects": effects}
        if count % self.evaluations:
            return Standing(at.weights, kept)
        if (self.over_first or self.cooling) and not first.min() > 0:
            raise InputError(f"a first loss is {first.min():.6g}; over_first and cooling divide by it")
        above = window if self.floors is None else np.maximum(window - self.floors, 0.0)
        pooled = above.sum(axis=0) if self.pooled == "sum" else above.mean(axis=0)
        rate = self.rate * float(first.sum() / losses.sum()) if self.cooling else self.rate
        weights = self._stepped(scene, at.weights, effects, pooled / first if self.over_first else pooled, rate)
        return Standing(weights, {**kept, "effects": self._halved(effects)} if self.halving else kept)

    def _stepped(self, scene: Scene, w: np.ndarray, effects: np.ndarray, above: np.ndarray, rate: float) -> np.ndarray:
        """The weights after one step by what the losses are above their floors [m]."""
        score = score_of(effects, above if self.relative else np.ones_like(above), w, self.sigma)
        centre = w if self.centre == "last" else prior_of(self.prior, len(w))
        alone = self._alone()
        if not self.lone or not alone.any():
            return scene.step(centre, score, rate)
        if alone.all():
            return scene.nearest(np.full(len(w), 1 / len(w)))
        joined = scene.step(np.where(alone, 0.0, centre), score, rate)
        return scene.nearest(np.where(alone, 1 / len(w), joined * (1 - alone.mean())))

    def _alone(self) -> np.ndarray:
        """The domains [k] whose only effect, and the only effect on whose target, is their own."""
        effects = np.array(self.effects)
        if effects.shape[0] != effects.shape[1]:
            return np.zeros(len(effects), dtype=bool)
        others = effects - np.diag(np.diag(effects))
        return np.asarray(~others.any(axis=0) & ~others.any(axis=1))

    def _halved(self, effects: np.ndarray) -> np.ndarray:
        """Half the effects > 0, but for those of domains on themselves in a square table."""
        own = np.eye(*effects.shape) * (effects.shape[0] == effects.shape[1])
        return np.where((effects > 0) & (own == 0), effects / 2, effects)


def prior_of(prior: Sequence[float] | None, k: int) -> np.ndarray:
    """A prior [k] that sums to 1, uniform where none is given."""
    if prior is None:
        return np.full(k, 1 / k)
    found = np.asarray(prior, dtype=float)
    if found.shape != (k,) or not (np.isfinite(found).all() and found.min() >= 0 and found.sum() > 0):
        raise InputError(f"the prior is {found.tolist()}; it is one share >= 0 for each of the {k} domains")
    return found / found.sum()
