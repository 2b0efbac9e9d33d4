"""Aioli's rule: short sweeps of training tell how much each domain lowers each loss, and the weights follow their sums."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from mixopt.errors import InputError
from mixopt.language.domains import Domains

from .rule import Need, Rule, Scene, Seen, Standing


@final
@dataclass(frozen=True)
class Aioli(Rule):
    """Rounds of LearnParams and a step: l_j falls by sum_i A_ji w_i, and w_i <- centre_i exp(rate sum_j A_ji), normalised.

    A round probes: ``sweeps`` times, in a random order, each domain has the share ``factor`` of the mixture and the others the rest alike,
    from one evaluation to the next. The falls of the losses under those mixtures are averaged over the sweeps, and A [m, k] solves
    for them. Then the weights move, and are kept for ``hold`` evaluations, the last of which begins the next round. So a move is an
    evaluation: give the schedule ``every=`` the steps of a probe (all needs are told by then), or ``Every(seen="val")``. The first
    evaluation is where the first round begins. The probes are to be what is trained on: leave the schedule's own smoothing and inertia 0.

    ``normalise``: the least entry of A is subtracted where it is negative, and A divided by the sum of all. ``decay`` None: the weights
    step from those of the last round, the start at first. A number b: A is replaced by the mean (1 - b) A + b (the last mean), and the
    weights step from uniform each time, so that they never differ by more than a factor of exp(rate) where A is normalised. ``diagonal``
    takes a domain's effect on itself alone. ``targets`` names the m losses, the domains where it is None.

    Source: Chen et al. 2024, arXiv 2411.05735, Algorithm 1; code HazyResearch/aioli, trainer/aioli_trainer.py.

    Raises:
        InputError: a number out of range, or a factor by which the mixtures of the probes are all the same.
    """

    rate: float = 0.2
    factor: float = 0.75
    sweeps: int = 1
    hold: int = 10
    normalise: bool = True
    decay: float | None = None
    diagonal: bool = False
    targets: tuple[str, ...] | None = None
    watch: str = "val"

    def __post_init__(self) -> None:
        if not (isinstance(self.rate, (int, float)) and 0 < self.rate < math.inf):
            raise InputError(f"the rate is {self.rate!r}; it is a finite number > 0")
        if not 0 < self.factor <= 1:
            raise InputError(f"the factor is {self.factor!r}; it is the share of the domain that is probed, in (0, 1]")
        if self.decay is not None and not 0 <= self.decay < 1:
            raise InputError(f"the decay is {self.decay!r}; it is a share in [0, 1), or None")
        for name in ("sweeps", "hold"):
            if isinstance(getattr(self, name), bool) or not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)!r}; it is a whole number >= 1")

    def needs(self, domains: Domains) -> tuple[Need, ...]:
        names = domains.names if self.targets is None else self.targets
        return (Need(self.watch, "losses on held-out text, in nats per token, at the end of each probe", names, each=False),)

    def begin(self, scene: Scene) -> Standing:
        k = len(scene)
        if k < 2 or abs(self.factor - 1 / k) < 1e-9:
            raise InputError(f"with a factor of {self.factor} the probes of {k} domains are one mixture; take another, such as 0.75")
        if self.diagonal and self.targets is not None and len(self.targets) != k:
            raise InputError("diagonal is for the domains' own losses; leave targets out")
        share = k * self.sweeps / (k * self.sweeps + self.hold)
        if share > 0.5:
            warnings.warn(f"probing takes {share:.0%} of the training steps; raise hold, or lower sweeps", stacklevel=5)
        m = k if self.targets is None else len(self.targets)
        empty = {"order": np.empty(0, dtype=int), "probed": 0, "held": self.hold - 1, "falls": np.zeros((m, k)), "last": np.zeros(m)}
        return Standing(scene.start, {**empty, "round": 0, "effects": np.zeros((m, k)), "weights": scene.start})

    def move(self, scene: Scene, at: Standing, seen: Seen) -> Standing:
        memory, losses = at.memory, np.asarray(seen[self.watch], dtype=float)
        order, probed, k = memory["order"], int(memory["probed"]), len(scene)
        if probed == len(order):  # no probe is on
            if int(memory["held"]) + 1 < self.hold:
                return Standing(at.weights, {**memory, "held": int(memory["held"]) + 1})
            draw = np.random.default_rng([scene.seed, int(memory["round"])])
            order = np.concatenate([draw.permutation(k) for _ in range(self.sweeps)])
            begun = {**memory, "order": order, "probed": 0, "falls": np.zeros_like(memory["falls"]), "last": losses}
            return Standing(self.probe(scene, int(order[0])), begun)
        if not seen.present[self.watch].all():
            raise InputError(f"a probe of Aioli ends with an evaluation, and {self.watch} has not been observed since the last move")
        falls = memory["falls"].copy()
        falls[:, order[probed]] += memory["last"] - losses
        kept = {**memory, "order": order, "probed": probed + 1, "falls": falls, "last": losses}
        if probed + 1 < len(order):
            return Standing(self.probe(scene, int(order[probed + 1])), kept)
        return self._stepped(scene, kept)

    def probe(self, scene: Scene, domain: int) -> np.ndarray:
        """The mixture [k] that probes a domain, or the nearest one allowed."""
        w = np.full(len(scene), (1 - self.factor) / (len(scene) - 1))
        w[domain] = self.factor
        return scene.nearest(w)

    def learnt(self, scene: Scene, falls: np.ndarray) -> np.ndarray:
        """A [m, k] from the mean falls [m, k] of the losses under the probes of the k domains.

        Raises:
            InputError: constraints under which the probes do not tell the domains apart.
        """
        probes = np.array([self.probe(scene, i) for i in range(len(scene))])
        if self.diagonal:
            return np.diag(np.diag(falls) / np.diag(probes))
        if np.linalg.cond(probes) > 1e8:
            raise InputError("under the constraints the probes do not tell the domains apart; loosen them, or take another factor")
        return np.asarray(np.linalg.solve(probes, falls.T).T)

    def _stepped(self, scene: Scene, memory: Mapping[str, Any]) -> Standing:
        """The standing after the last probe of a round."""
        effects = self.learnt(scene, memory["falls"] / self.sweeps)
        if self.normalise:
            effects = effects - min(0.0, effects.min())
            total = effects.sum()
            effects = effects / total if total > 0 else effects
        if self.decay is not None and int(memory["round"]):
            effects = (1 - self.decay) * effects + self.decay * memory["effects"]
        centre = memory["weights"] if self.decay is None else np.full(len(scene), 1 / len(scene))
        weights = scene.step(centre, effects.sum(axis=0), self.rate)
        done = {**memory, "effects": effects, "weights": weights, "round": int(memory["round"]) + 1, "held": 0}
        return Standing(weights, done, {"effects": effects})
