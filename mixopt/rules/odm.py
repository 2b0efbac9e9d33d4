"""ODM's rule: a bandit over domains whose reward is the training loss, by Exp3 (the paper) or by a mean of exp(loss) (the code)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from mixopt.errors import InputError
from mixopt.language.domains import Domains
from mixopt.runtime.simplex import smoothed

from .rule import Need, Rule, Scene, Seen, Standing


@final
@dataclass(frozen=True)
class ODM(Rule):
    """w = (1 - k e_t) q + e_t with e_t = min(1/k, sqrt(log k / (k t))): every domain keeps e_t, t the count of steps.

    "paper": Exp3. R_i <- alpha R_i + (1 - alpha) l_i / w_i for the domains in the batch, w_i their weights as it was drawn, and
    q = softmax(e_{t-1} R). "code", the path that its runs took: R_i <- alpha R_i + (1 - alpha) exp(l_i), and q = R / sum R. There
    is no importance weight in it and e_{t-1} cancels; R begins at 0, so that the first move forgets the start, and a domain
    that no batch has held since the warm-up has e_t alone.

    For the first ``warmup`` steps the weights stay where they start, in the source the natural mixture, and R at 0. The reward is a loss,
    not what is left to learn: domains of high entropy gain, and exp makes it more so.

    Source: Albalak et al. 2023, arXiv 2312.02406, Algorithm 1; code alon-albalak/online-data-mixing, data_sampling_utils.py.

    Raises:
        InputError: another ``form``, an alpha outside [0, 1), or a warm-up < 0.
    """

    form: Literal["paper", "code"] = "paper"
    alpha: float = 0.9
    warmup: int = 0
    watch: str = "train"

    def __post_init__(self) -> None:
        if self.form not in ("paper", "code"):
            raise InputError(f"the form is {self.form!r}; it is 'paper' (Exp3) or 'code'")
        if not 0 <= self.alpha < 1:
            raise InputError(f"alpha is {self.alpha!r}; the mean of rewards takes a number in [0, 1)")
        if isinstance(self.warmup, bool) or not isinstance(self.warmup, int) or self.warmup < 0:
            raise InputError(f"the warm-up is {self.warmup!r}; it is a whole number of steps >= 0")

    def needs(self, domains: Domains) -> tuple[Need, ...]:
        return (Need(self.watch, "training losses by domain, in nats per token", domains.names),)

    def begin(self, scene: Scene) -> Standing:
        k = len(scene)
        return Standing(scene.start, {"rewards": np.zeros(k), "share": 1 / k})

    def move(self, scene: Scene, at: Standing, seen: Seen) -> Standing:
        if seen.step <= self.warmup:
            return at
        k, there, losses = len(scene), seen.present[self.watch], seen[self.watch]
        code = self.form == "code"
        reward = np.exp(np.minimum(losses, 500.0)) if code else losses / np.where(at.weights > 0, at.weights, 1.0)
        rewards = np.where(there, self.alpha * at.memory["rewards"] + (1 - self.alpha) * reward, at.memory["rewards"])
        share = min(1 / k, math.sqrt(math.log(k) / (k * seen.step)))
        memory, info = {"rewards": rewards, "share": share}, {"rewards": rewards, "share": share}
        if not code:
            return Standing(scene.step(np.full(k, 1 / k), rewards, at.memory["share"], smoothing=k * share), memory, info)
        if not rewards.sum() > 0:
            return Standing(at.weights, memory, info)
        return Standing(scene.nearest(smoothed(rewards / rewards.sum(), k * share)), memory, info)
