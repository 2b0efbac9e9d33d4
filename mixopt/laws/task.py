"""From losses to what a task measures: the accuracy that a predicted loss stands for, as an expression."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from numpy.typing import ArrayLike

from mixopt.errors import InputError, listed, nearest
from mixopt.language.atoms import exp, stack
from mixopt.language.expression import Expr

_FORMS = ("sigmoid", "power")
_SLOPES = np.geomspace(0.2, 30, 24)
_MIDDLES = 15


@final
@dataclass(frozen=True, eq=False)
class TaskLaw:
    """A task's score from a loss L in nats: "sigmoid" is low + rise / (1 + exp(slope (L - middle))), "power" is low + rise exp(-slope L).

    The second is a power of the perplexity exp(L), and as a law of the error is Gadre's. ``rise`` and ``slope`` are >= 0, so the score
    falls as the loss rises; below the middle the sigmoid is concave in L, above it convex, so a problem with it is
    rarely convex, but one task alone is best where its loss is least. ``rmse`` is the error on the pairs it was fitted to.

    Source: Gadre et al. 2024, arXiv 2403.08540, Eq. 5 (power); Bhagia et al. 2024, arXiv 2412.04403 (sigmoid); section 5.3 of the
    survey.
    """

    form: str
    low: float
    rise: float
    slope: float
    middle: float
    rmse: float

    @classmethod
    def fit(
        cls, losses: ArrayLike, scores: ArrayLike, *, form: Literal["sigmoid", "power"] = "sigmoid", chance: float | None = None
    ) -> TaskLaw:
        """Fit pairs of losses and scores [R] by least squares; ``chance`` is the score of guessing, the low that is then held.

        Raises:
            InputError: another form, arrays of different lengths or with NaN, a loss that is the same in all, or no more pairs than
                parameters (3 for the power, 4 for the sigmoid, one less with ``chance``).
        """
        if form not in _FORMS:
            raise InputError(f"form is {form!r}; it is {listed(_FORMS)}{nearest(form, _FORMS)}")
        x, y = _pairs(losses, scores)
        free = (3 if form == "power" else 4) - (chance is not None)
        if len(x) <= free:
            raise InputError(f"{len(x)} pairs of loss and score are too few for the {free} parameters of the {form} form; give more")
        low, rise, slope, middle = _fitted(x, y, form, chance)
        found = cls(form, low, rise, slope, middle, 0.0)
        return cls(form, low, rise, slope, middle, float(np.sqrt(np.mean((found.predict(x) - y) ** 2))))

    def predict(self, losses: ArrayLike) -> np.ndarray:
        """Scores of losses [...]."""
        x = np.asarray(losses, dtype=float)
        found: np.ndarray = self.low + self.rise * _curve(x, self.form, self.slope, self.middle)
        return found

    def __call__(self, loss: Expr) -> Expr:
        """The score of a loss expression, entry by entry."""
        risen = exp(self.slope * (loss - self.middle) if self.form == "sigmoid" else -self.slope * loss)
        return self.low + self.rise * (risen if self.form == "power" else 1 / (1 + risen))

    def __str__(self) -> str:
        tail = f"/ (1 + exp({self.slope:.4g} (L - {self.middle:.4g})))" if self.form == "sigmoid" else f"exp(-{self.slope:.4g} L)"
        return f"score = {self.low:.4g} + {self.rise:.4g} {tail}, rmse {self.rmse:.2g}"


def task_scores(tasks: Sequence[TaskLaw], losses: Expr) -> Expr:
    """The scores [m] of losses [m], one task an entry, with the losses' names.

    Raises:
        InputError: other than one task for each entry.
    """
    if losses.shape != (len(tasks),):
        raise InputError(f"there are {len(tasks)} tasks for losses of shape {losses.shape}; give one task for each entry")
    return stack([task(losses[i]) for i, task in enumerate(tasks)], index=losses.index)


def _pairs(losses: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(losses, dtype=float), np.asarray(scores, dtype=float)
    if x.ndim != 1 or x.shape != y.shape:
        raise InputError(f"losses and scores have shapes {x.shape} and {y.shape}; one number each of every run [R] is expected")
    if not (np.isfinite(x) & np.isfinite(y)).all():
        raise InputError("losses or scores hold NaN or infinity; leave those runs out")
    if np.ptp(x) <= 1e-12 * np.abs(x).max():
        raise InputError(f"the loss is {x[0]:.6g} in every run, so nothing is learnt of how the score depends on it")
    return x, y


def _curve(x: np.ndarray, form: str, slope: float, middle: float) -> np.ndarray:
    """The part of the score that goes from 1 to 0 as the loss rises; powers count from the middle, so that they stay near 1."""
    found: np.ndarray = np.exp(-slope * x) if form == "power" else 1 / (1 + np.exp(np.clip(slope * (x - middle), -700, 700)))
    return found


def _fitted(x: np.ndarray, y: np.ndarray, form: str, chance: float | None) -> tuple[float, float, float, float]:
    """low, rise, slope and middle: slope and middle on a grid with the rest linear, then least squares over the two."""
    from scipy.optimize import minimize

    shift = float(x.mean()) if form == "power" else 0.0  # exp(-slope x) would be tiny far from 0
    span = float(np.ptp(x))
    middles = np.linspace(x.min() - span / 2, x.max() + span / 2, _MIDDLES) if form == "sigmoid" else [0.0]

    def cost(theta: np.ndarray) -> float:
        return float(((_linear(x - shift, y, form, chance, *theta)[2]) ** 2).sum())

    grid = np.array([[np.log(s / span), m] for s in _SLOPES for m in middles])
    ends = [_polished(minimize, cost, start, form) for start in grid[np.argsort([cost(t) for t in grid])[:3]]]
    best = min(ends, key=cost)
    low, rise, _ = _linear(x - shift, y, form, chance, *best)
    slope = float(np.exp(best[0]))
    return low, rise * float(np.exp(slope * shift)) if form == "power" else rise, slope, float(best[1])


def _polished(minimize: Callable, cost: Callable[[np.ndarray], float], start: np.ndarray, form: str) -> np.ndarray:
    """The end of a simplex search over log slope, and the middle where the form has one."""
    tight = {"xatol": 1e-10, "fatol": 1e-16, "maxiter": 2000}
    if form == "sigmoid":
        return np.asarray(minimize(cost, start, method="Nelder-Mead", options=tight).x)
    return np.append(minimize(lambda t: cost(np.append(t, 0.0)), start[:1], method="Nelder-Mead", options=tight).x, 0.0)


def _linear(
    x: np.ndarray, y: np.ndarray, form: str, chance: float | None, log_slope: float, middle: float
) -> tuple[float, float, np.ndarray]:
    """The best low and rise >= 0 for this slope and middle, and what they leave."""
    part = _curve(x, form, float(np.exp(min(log_slope, 50))), middle)
    if chance is None:
        centred = part - part.mean()
        rise = max(float(centred @ y) / max(float(centred @ centred), 1e-300), 0.0)
        low = float(y.mean() - rise * part.mean())
    else:
        low = chance
        rise = max(float(part @ (y - low)) / max(float(part @ part), 1e-300), 0.0)
    return low, rise, low + rise * part - y
