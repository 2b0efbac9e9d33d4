"""PiKE's rule: domains gain whose gradients are long and free of noise, where gradients hardly conflict."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from mixopt.errors import InputError
from mixopt.language.domains import Domains

from .rule import Need, Rule, Scene, Seen, Standing


@final
@dataclass(frozen=True)
class PiKE(Rule):
    """ "practical": w_i <- w_i exp(gain |grad L_i|^2 - damping s_i^2 / 2b), normalised; s_i^2 is the variance of an example's gradient.

    "exact": w = argmin over the simplex of sum_i w_i a_i + w_i^2 c_i / 2, a_i = -gain |grad L_i|^2 + damping s_i^2 / 2b and
    c_i = curvature |grad L_i|^2, the bound on the next loss that the practical form stands for: gain is eta beta, damping L eta^2,
    curvature L eta^2 gamma in the source's letters. The weights of the moment do not enter there.

    ``batch`` is b, the examples of a batch. The two numbers are ``signal`` and ``noise``, as of ``mx.scores.signal_and_noise``; from a
    ``gram`` of the domains its diagonal is taken for the first, which noise lengthens, and without a noise that is 0. A signal below 0, as
    estimates without bias can be, counts as 0. It sees no conflict between gradients: that there is hardly any is the source's premise.

    Source: Li et al. 2025, arXiv 2502.06244. Its balanced variant is not here.

    Raises:
        InputError: another form, or a number out of range.
    """

    gain: float = 1.0
    damping: float = 1.0
    curvature: float = 1.0
    batch: int = 1
    form: Literal["practical", "exact"] = "practical"

    def __post_init__(self) -> None:
        if self.form not in ("practical", "exact"):
            raise InputError(f"the form is {self.form!r}; it is 'practical' or 'exact'")
        for name, least in (("gain", 0), ("damping", -1), ("curvature", 0)):
            value = getattr(self, name)
            if not (isinstance(value, (int, float)) and (value > least and value >= 0) and value < math.inf):
                raise InputError(f"{name} is {value!r}; it is a finite number {'>' if least == 0 else '>='} 0")
        if isinstance(self.batch, bool) or not isinstance(self.batch, int) or self.batch < 1:
            raise InputError(f"a batch has {self.batch!r} examples; it is a whole number >= 1")

    def needs(self, domains: Domains) -> tuple[Need, ...]:
        return (
            Need("signal", "|grad L_i|^2 of every domain", domains.names, optional=True),
            Need("noise", "the variance of one example's gradient, of every domain", domains.names, optional=True),
            Need("gram", "<grad l_i, grad l_j> of every two domains", domains.names, domains.names, optional=True),
        )

    def move(self, scene: Scene, at: Standing, seen: Seen) -> Standing:
        if "signal" in seen:
            signal = np.maximum(seen["signal"], 0.0)
        elif "gram" in seen:
            signal = np.maximum(np.diag(seen["gram"]), 0.0)
        else:
            raise InputError("PiKE was due to move, and neither signal nor gram has been observed since its last move")
        noise = seen["noise"] if "noise" in seen else np.zeros(len(scene))
        score = self.gain * signal - self.damping * noise / (2 * self.batch)
        if self.form == "practical":
            return Standing(scene.step(at.weights, score, 1.0), info={"score": score})
        if not signal.max() > 0:
            return at
        bends = self.curvature * np.maximum(signal, 1e-12 * signal.max())
        return Standing(scene.nearest(least(-score, bends)), info={"score": score})


def least(slopes: np.ndarray, bends: np.ndarray) -> np.ndarray:
    """argmin over the simplex of slopes . w + sum_i bends_i w_i^2 / 2, [k] with bends > 0: w_i = max(0, (level - slopes_i) / bends_i)."""
    order = np.argsort(slopes, kind="stable")
    a, c = slopes[order], bends[order]
    levels = (1 + np.cumsum(a / c)) / np.cumsum(1 / c)
    held = int(np.flatnonzero(levels > a)[-1])  # the last one in order of slopes whose weight is not 0
    w = np.maximum(0.0, (levels[held] - slopes) / bends)
    return np.asarray(w / w.sum())
