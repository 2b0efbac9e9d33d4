"""ADO's rule: each domain by how fast its fitted training curve still falls, times its prior and its recent share of the data."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, final

import numpy as np

from mixopt.errors import InputError
from mixopt.language.domains import Domains
from mixopt.laws import ado as curves
from mixopt.laws.scaling import BILLION
from mixopt.runs import Runs

from .later import Later
from .law import prior_of
from .rule import Memory, Need, Rule, Scene, Seen, Standing

SPACING = 10
"""Of the smoothed losses the code fits every tenth."""
FEWEST = 10
"""With fewer points a first fit of three parameters tells nothing."""
LOWEST = float(np.exp(0.5))
"""The floor below which the code penalises curves, in nats."""


@final
@dataclass(frozen=True)
class ADO(Rule):
    """rho_i ~ -mu_i sqrt(h_i) dL_i/dn of the fitted L_i(n) = exp(e) + exp(a) / n^alpha; w = (1 - blend) mean + blend rho.

    n counts the samples of all domains, so that 1/n does not matter; h is a mean of the shares of the data of ``memory`` 0.9 a step, from
    the need "share" where it is observed and else the weights; mu is ``prior``, the start if None. alpha counts as ``steepest`` at
    least, rho as ``floor`` at least before it is normalised anew. ``mean`` is the running mean of mu and the rho so far: the floor holds
    for rho, so that weights may end below it.

    Until ``start`` steps the weights are the prior. Then, and every ``refit`` steps, the curves are fitted to the losses after the first
    ``skip`` steps, smoothed by cubics over ``smooth`` steps (Savitzky and Golay), every tenth of them, or more sparsely where that gives
    more than ``points``. A domain that a batch lacks keeps its last loss. A fit is used ``lag`` steps after its data: with a lag
    it is found in a thread meanwhile, and the weights are the same as without the thread, bit for bit. A sample is ``context`` tokens;
    where no tokens are told a step is ``batch`` samples.

    ``curve`` "code" minimises what the released code does, a Huber loss of logarithms with penalties that keep e above 0.5: no floor much
    below 1.65 nats, so that losses per byte may lie under it, of which a warning tells. It takes a tenth of a second a domain. "squares"
    are the least squares of the losses (``laws.ADO``), a floor >= 0, all domains in some hundredths of a second.

    The released experiments have start=500 and skip=1000, by which the first fit sees one point for three parameters; that is refused.

    Source: Jiang et al. 2024, arXiv 2410.11820, section 3; Eq. 7 of the survey; code yidingjiang/ado, data_selectors/ado.py.

    Raises:
        InputError: a setting out of range, or a first fit of fewer than 10 points.
    """

    start: int = 2000
    skip: int = 1000
    refit: int = 1000
    lag: int = 0
    prior: tuple[float, ...] | None = None
    blend: float = 0.1
    floor: float = 0.01
    steepest: float = 0.05
    memory: float = 0.9
    smooth: int = 101
    points: int = 1000
    curve: Literal["code", "squares"] = "code"
    context: int = 1024
    batch: int = 256
    watch: str = "train"
    _later: Later = field(default_factory=Later, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, least in (("start", 1), ("skip", 0), ("refit", 1), ("lag", 0), ("points", 2 * FEWEST), ("context", 1), ("batch", 1)):
            if isinstance(getattr(self, name), bool) or not isinstance(getattr(self, name), int) or getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)!r}; it is a whole number >= {least}")
        for name in ("blend", "floor", "steepest", "memory"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)!r}; it is a number in [0, 1]")
        if self.curve not in ("code", "squares"):
            raise InputError(f"the curve is {self.curve!r}; it is 'code' or 'squares'")
        if self.smooth < 5 or self.smooth % 2 == 0 or self.skip < self.smooth // 2:
            raise InputError(
                f"losses are smoothed over {self.smooth} steps and the first {self.skip} skipped; the former is odd and >= 5, and at least "
                f"half of it is skipped"
            )
        if self.lag >= self.refit:
            raise InputError(f"a fit used {self.lag} steps after its data comes after the next one, {self.refit} steps on; lower the lag")
        first = -(-self.start // self.refit) * self.refit
        if (found := max(0, -(-(first - self.skip) // SPACING))) < FEWEST:
            raise InputError(
                f"the first fit, at step {first}, would see {found} points for three parameters, every {SPACING}th step after the first "
                f"{self.skip}; start later or skip fewer"
            )

    def needs(self, domains: Domains) -> tuple[Need, ...]:
        return (
            Need(self.watch, "training losses by domain, in nats per token", domains.names),
            Need("share", "the share of the batch that each domain has", domains.names, optional=True),
        )

    def begin(self, scene: Scene) -> Standing:
        k = len(scene)
        prior = scene.start if self.prior is None else prior_of(self.prior, k)
        none = np.empty((0, k + 1))
        memory = {
            "prior": prior,
            "share": prior,
            "mean": prior,
            "recent": none,
            "curve": none,
            "spacing": SPACING,
            "law": None,
            "due": None,
        }
        return Standing(scene.nearest(prior), {**memory, "seen": 0})

    def move(self, scene: Scene, at: Standing, seen: Seen) -> Standing:
        share = seen["share"] / seen["share"].sum() if "share" in seen and seen["share"].sum() > 0 else at.weights
        memory = {**at.memory, "share": self.memory * at.memory["share"] + (1 - self.memory) * share}
        n = seen.tokens / self.context if seen.tokens else float(seen.step * self.batch)
        memory = self._told(memory, np.append(n, seen[self.watch]))
        memory = self._fitted(memory, seen.step)
        if memory["law"] is None:
            return Standing(scene.nearest(memory["prior"]), memory)
        rho = self.preference(memory["law"], n, memory["prior"], memory["share"])
        weights = (1 - self.blend) * memory["mean"] + self.blend * rho
        mean = memory["mean"] + (rho - memory["mean"]) / (seen.step + 1)
        return Standing(scene.nearest(weights), {**memory, "mean": mean}, {"preference": rho})

    def preference(self, law: np.ndarray, n: float, prior: np.ndarray, share: np.ndarray) -> np.ndarray:
        """rho [k] from the curves' a, e and alpha [k, 3] after n samples."""
        a, _, alpha = law.T
        slope = np.maximum(alpha, self.steepest) * np.exp(a - alpha * np.log(n)) / n
        rho = slope * prior * np.sqrt(share)
        if not rho.sum() > 0:  # no curve falls
            return prior
        kept = np.maximum(rho / rho.sum(), self.floor)
        return np.asarray(kept / kept.sum())

    def _told(self, memory: Memory, row: np.ndarray) -> dict[str, Any]:
        """The memory with one more row of samples and losses [1 + k]; the middle of what is recent is smoothed for good."""
        recent = np.vstack([memory["recent"], row])[-self.smooth :]
        count, curve, spacing = memory["seen"] + 1, memory["curve"], memory["spacing"]
        middle = count - 1 - self.smooth // 2
        if len(recent) == self.smooth and middle >= self.skip and (middle - self.skip) % spacing == 0:
            half = self.smooth // 2
            curve = np.vstack([curve, np.append(recent[half, 0], hat(self.smooth)[half] @ recent[:, 1:])])
            if len(curve) > self.points:
                curve, spacing = curve[::2], 2 * spacing
        return {**memory, "recent": recent, "seen": count, "curve": curve, "spacing": spacing}

    def _fitted(self, memory: dict[str, Any], step: int) -> dict[str, Any]:
        """The memory with a fit begun, or with one taken whose time has come."""
        due = memory["due"]
        if step >= self.start and step % self.refit == 0 and memory["seen"] >= self.smooth:
            rows = self._rows(memory)
            if len(rows) >= FEWEST:
                due = {"step": step + self.lag, "rows": rows, "weight": memory["spacing"] / SPACING}
                self._remark(rows, memory["law"])
                if self.lag:
                    self._later.start(due["step"], fitted, rows, due["weight"], self.curve)
        if due is None or step < due["step"]:
            return {**memory, "due": due}
        found = self._later.result(due["step"], fitted, due["rows"], due["weight"], self.curve)
        law = found if np.isfinite(found).all() else memory["law"]
        return {**memory, "law": law, "due": None}

    def _remark(self, rows: np.ndarray, law: np.ndarray | None) -> None:
        """Warn at the first fit where losses lie below the floor that the code's penalties allow."""
        least = rows[:, 1:].min()
        if self.curve == "code" and law is None and 0 < least < LOWEST:
            warnings.warn(
                f"a loss is {least:.3g} nats, and the curves of ADO's code have no floor much below {LOWEST:.3g}, so that they cannot "
                f"follow it; take curve='squares'",
                stacklevel=5,
            )

    def _rows(self, memory: Memory) -> np.ndarray:
        """The smoothed samples and losses [p, 1 + k] so far: those in memory, and the ends, where the last cubic is read off."""
        recent, first = memory["recent"], memory["seen"] - self.smooth
        ends = [i for i in range(self.smooth // 2 + 1, self.smooth) if self._counts(first + i, memory["spacing"])]
        smoothed = hat(self.smooth)[ends] @ recent[:, 1:]
        return np.vstack([memory["curve"], np.column_stack([recent[ends, 0], smoothed])])

    def _counts(self, index: int, spacing: int) -> bool:
        return index >= self.skip and (index - self.skip) % spacing == 0


def fitted(rows: np.ndarray, weight: float, curve: Literal["code", "squares"]) -> np.ndarray:
    """a, e and alpha [k, 3] of the curves through samples and losses [p, 1 + k]; NaN where there is none, such as for losses <= 0."""
    if curve == "squares":
        return _by_squares(rows)
    none = np.full(3, np.nan)
    return np.array([curves.as_in_code(rows[:, 0], losses, weight) if losses.min() > 0 else none for losses in rows[:, 1:].T])


def _by_squares(rows: np.ndarray) -> np.ndarray:
    k = rows.shape[1] - 1
    names = [str(i) for i in range(k)]
    runs = Runs.from_arrays(names, np.full((len(rows), k), 1 / k), names, rows[:, 1:], tokens=rows[:, 0])
    try:
        floor, log_a, alpha = curves.ADO.fit(runs).theta.T
    except InputError:  # a loss that does not change at all
        return np.full((k, 3), np.nan)
    return np.column_stack([log_a + alpha * np.log(BILLION), np.log(np.maximum(floor, np.finfo(float).tiny)), alpha])


@cache
def hat(window: int) -> np.ndarray:
    """The matrix [n, n] that turns n values in a row into the least-squares cubic's values at their places."""
    powers = np.vander(np.linspace(-1, 1, window), 4)
    found = np.asarray(powers @ np.linalg.pinv(powers))
    found.flags.writeable = False
    return found
