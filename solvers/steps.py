"""How a solver moves the weights by a gradient that may be noisy: geometry, rate, and the user's bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from mixopt.errors import InputError
from mixopt.runtime.simplex import mirror, project, smoothed
from mixopt.runtime.tilt import tilted
from mixopt.solver import Average, Suffix, Task, Window


@dataclass(frozen=True)
class Normalised:
    """A step whose length does not depend on the gradient's scale: rate = move / (largest - mean entry of the gradient).

    Entropic: no log weight changes by more than about ``move`` against the mean; Euclidean: no weight by more than it.
    """

    move: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.move < math.inf:
            raise InputError(f"a normalised step moves by {self.move}; the move is a finite number > 0")


def check_settings(rate: Any, smoothing: float, temperature: float, geometry: str, average: Average) -> None:
    """Refuse settings outside their range, when a solver is made."""
    if not isinstance(rate, Normalised) and not (isinstance(rate, (int, float)) and 0 < rate < math.inf):
        raise InputError(f"the rate is {rate!r}; it is a finite number > 0, or Normalised(move)")
    if not isinstance(average, (Window, Suffix)) and average not in ("last", "mean", "mean with start"):
        raise InputError(f"the average is {average!r}; it is 'last', 'mean', 'mean with start', Window(steps) or Suffix(share)")
    if not 0 <= smoothing < 1:
        raise InputError(f"smoothing is {smoothing}; it is a share in [0, 1)")
    if not 0 <= temperature < math.inf:
        raise InputError(f"the temperature is {temperature}; it is a finite number >= 0")
    if geometry not in ("entropic", "euclidean"):
        raise InputError(f"the geometry is {geometry!r}; it is 'entropic' (mirror steps) or 'euclidean' (projections)")


def check_counts(solver: object, **least: int) -> None:
    """Refuse counts of steps that are no whole numbers, or below the least that each may be."""
    for name, lowest in least.items():
        count = getattr(solver, name)
        if isinstance(count, bool) or not isinstance(count, Integral) or count < lowest:
            raise InputError(f"{name} of {type(solver).__name__} is {count!r}; it is a whole number >= {lowest}")


def move(
    task: Task,
    w: Tensor,
    g: Tensor,
    rate: float | Normalised,
    geometry: str,
    *,
    temperature: float = 0.0,
    smoothing: float = 0.0,
    factor: Any = 1.0,
) -> Tensor:
    """The weights [k] after a descent step along g [k] at ``factor`` times the rate, inside the region.

    It stays on the device, unless constraints tie weights.
    """
    g, bounds, tied = g.detach().to(w.dtype), task.bounds, task.region.kind in ("linear", "nonlinear")
    if isinstance(rate, Normalised):
        spread = (g - g.mean()).abs().max()
        scale: Any = factor * rate.move / torch.where(spread > 0, spread, torch.ones_like(spread))
    else:
        scale = factor * rate

    def nearest(x: Tensor) -> Tensor:
        return torch.as_tensor(task.region.project(x.cpu().numpy()), device=x.device) if tied else project(x, **bounds)

    def entropic() -> Tensor:
        if not tied:
            return mirror(w, g, scale, temperature=temperature, **bounds)
        shrink = 1 / (1 + scale * temperature)
        u = tilted(task.region, (w**shrink).double().cpu().numpy(), (scale * shrink * g).double().cpu().numpy())
        return torch.as_tensor(u, device=w.device).to(w.dtype)

    u = nearest(w - scale * g) if geometry == "euclidean" else entropic()
    if not smoothing:
        return u
    u = smoothed(u, smoothing)
    return nearest(u) if tied or bounds else u
