"""Which way to take alignment scores by a model, tried on it once before a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from torch import Tensor

from mixopt.errors import LearnerError

from .alignment import Way, differences, inner, norm, pushed, slopes, target_gradient
from .subject import Layers, Loss, items, subject

AGREES = 1e-3
"""How far a score may be off the backward pass's, as a share of |g_i| |g|, for its way to be taken."""

STEPS = (1.0, 0.1, 10.0)
"""Steps of differences that are tried, as multiples of the step without one given."""


@final
@dataclass(frozen=True)
class Chosen:
    """A way to take scores: ``by`` and ``step`` are for ``alignment``; ``error`` is as a share of |g_i| |g|, on the first domain."""

    by: Way
    step: float | None
    error: float
    why: str

    def __str__(self) -> str:
        step = "" if self.step is None else f", step {self.step:.2g}"
        return f"by={self.by!r}{step}: {self.why}; off the backward pass by {self.error:.1e} of |g_i| |g|"


def choose(
    model: Any, batches: Any, target: Any = None, *, weights: Any = None, loss: Loss | None = None, layers: Layers = "all", at: Any = None
) -> Chosen:
    """The cheapest way to take scores that agrees with a backward pass on the first domain: "jvp", then "difference", then "backward".

    Call it once, print it, and hand ``by`` and ``step`` on to ``alignment``, whose arguments it takes. It costs two backward passes,
    one forward-mode pass and, where that fails, up to six forward passes over one batch.

    Raises:
        InputError, LearnerError: as ``alignment``.
    """
    what, own = subject(model, loss=loss, at=at, layers=layers), items(batches)[1]
    with what.still():
        along = target_gradient(what, own if target is None else items(target)[1], weights)
        slope = next(iter(slopes(what, own)))
        true, size = inner(slope, along), norm(slope) * norm(along)

        def error(found: Tensor) -> float:
            return float((found[0].double() - true).abs() / size) if size else 0.0

        try:
            off = error(pushed(what, own[:1], along))
            if off <= AGREES:
                return Chosen("jvp", None, off, "one forward-mode pass gives all scores, with no gradient of a domain made")
            refused = f"forward mode is off by {off:.1e}"
        except LearnerError as failure:
            refused = str(failure).partition("; give")[0]
        tried = _differences(what, own[:1], along, error)
        if tried is not None and tried[0] <= AGREES * 10:
            return Chosen("difference", tried[1], tried[0], f"{refused}, so two forward passes give all scores")
    missed = "differences are lost in half precision" if tried is None else f"differences are off by {tried[0]:.1e}"
    return Chosen("backward", None, 0.0, f"{refused}, and {missed}, so each domain takes a backward pass")


def _differences(what: Any, own: Any, along: Any, error: Any) -> tuple[float, float] | None:
    """The least error of the steps that are tried, and that step."""
    try:
        found, step = differences(what, own, along)
    except LearnerError:
        return None
    tries = [(error(found), step)]
    tries += [(error(differences(what, own, along, step * times)[0]), step * times) for times in STEPS[1:] if step]
    return min(tries)
