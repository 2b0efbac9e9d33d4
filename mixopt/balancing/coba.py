"""CoBa: weights from the slopes of the validation losses, relative and absolute, and from how far the worst task diverges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, final

import numpy as np

from mixopt.errors import InputError

from .rule import Direction, LossRule


@final
@dataclass(frozen=True)
class Slopes:
    """What CoBa remembers: validation losses [n, k] over their first ones, and the slopes of each task [m, k] and of the worst [m]."""

    start: np.ndarray | None
    losses: np.ndarray
    tasks: np.ndarray
    worst: np.ndarray
    scores: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CoBa(LossRule):
    r"""softmax(k (DF RCS + (1 - DF) ACS)), no weight below 1 / (10 k) without a floor of that being mixed in; uniform in the warm-up.

    s are the least-squares slopes of the validation losses, each divided by its first value, over the last ``history`` steps.
    RCS = softmax over i of k s_i / sum_j |s_j|, against tasks that converge fast; ACS = softmax over i of -n s_i / sum_t |s_i(t)| over the
    last n slopes, against tasks that diverge; DF = n softmax(-tau n s(t) / sum_t |s(t)|) at the last t, with the slopes s(t) of the
    largest normalised loss. ``slopes`` says how many slopes ACS looks at: "code": history - warmup + 1, as the released slicing has
    it; "paper": history. It costs one forward pass on validation data a step.

    Source: Gong et al. 2024, arXiv 2410.06741, section 3; code codefuse-ai/MFTCoder, loss_utils.py.

    Raises:
        InputError: a warm-up below 2 steps, a history shorter than the warm-up (where the released code fails), or tau that is not > 0.
    """

    warmup: int = 100
    history: int = 200
    tau: float = 5.0
    slopes: Literal["code", "paper"] = "code"
    watch: str | None = "val"

    def __post_init__(self) -> None:
        if self.warmup < 2:
            raise InputError(f"the warm-up is {self.warmup} steps; a slope needs 2 at least")
        if self.history < self.warmup:
            raise InputError(f"the history of {self.history} steps is shorter than the warm-up of {self.warmup}; make it as long at least")
        if not (isinstance(self.tau, (int, float)) and 0 < self.tau < math.inf):
            raise InputError(f"tau is {self.tau!r}; it is a finite number > 0")
        if self.slopes not in ("code", "paper"):
            raise InputError(f"slopes is {self.slopes!r}; it is 'code' or 'paper'")

    def begin(self, k: int) -> Slopes:
        return Slopes(None, np.empty((0, k)), np.empty((0, k)), np.empty(0))

    def direction(self, memory: Slopes, losses: np.ndarray, watched: np.ndarray) -> tuple[Direction, Slopes]:
        start = watched if memory.start is None else memory.start
        if not start.min() > 0:
            raise InputError(f"a validation loss is {start.min():.6g} at the start; CoBa divides by it")
        course = np.vstack([memory.losses, watched / start])[-self.history :]
        seen = Slopes(start, course, memory.tasks, memory.worst)
        if len(course) < self.warmup:
            even = np.full(len(losses), 1 / len(losses))
            return Direction(even, even), seen
        return self.weighed(seen)

    def weighed(self, memory: Slopes) -> tuple[Direction, Slopes]:
        """The weights from a course of normalised losses that is long enough, and the slopes kept with them."""
        course, k = memory.losses, memory.losses.shape[1]
        tasks = np.vstack([memory.tasks, _slope(course)])
        worst = np.append(memory.worst, _slope(course.max(axis=1)))
        kept = tasks[-(self.history - self.warmup + 1 if self.slopes == "code" else self.history) :]
        relative = _softmax(k * _shares(tasks[-1]))
        absolute = _softmax(-len(kept) * _shares(kept, axis=0)[-1])
        diverging = len(worst) * _softmax(-self.tau * len(worst) * _shares(worst))[-1]
        w = _softmax(k * (diverging * relative + (1 - diverging) * absolute))
        least = 1 / (10 * k)
        if w.min() < least:
            w = (1 - k * least) * w + least
        scores = {"relative": relative, "absolute": absolute, "divergence": float(diverging)}
        return Direction(w, w), Slopes(memory.start, course, kept, worst, scores)


def _slope(values: np.ndarray) -> np.ndarray:
    """The slope of the least-squares line through values [n] or [n, k] at steps 0 ... n - 1."""
    steps = np.arange(len(values)) - (len(values) - 1) / 2
    return np.asarray(steps @ values / (steps @ steps))


def _shares(slopes: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Slopes over the sum of their sizes; 0 where all are 0."""
    total = np.abs(slopes).sum(axis=axis, keepdims=True)
    return np.asarray(slopes / np.where(total > 0, total, 1.0))


def _softmax(x: np.ndarray) -> np.ndarray:
    grown = np.exp(x - x.max())
    return np.asarray(grown / grown.sum())
