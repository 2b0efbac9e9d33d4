"""How a solver moves the weights by a gradient that may be noisy: geometry, rate, and the user's bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import torch

from mixopt.errors import InputError
from mixopt.runtime.simplex import Vector, mirror, namespace, project, smoothed
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
    w: Vector,
    g: Vector,
    rate: float | Normalised,
    geometry: str,
    *,
    temperature: float = 0.0,
    smoothing: float = 0.0,
    factor: Any = 1.0,
) -> Vector:
    """The weights [k] after a descent step along g [k] at ``factor`` times the rate, inside the region.

    Arrays give an array. Tensors stay on their device, unless constraints tie weights.
    """
    xp, bounds, tied = namespace(w), task.bounds, task.region.kind in ("linear", "nonlinear")
    if xp is not np:
        w, g = w.detach(), g.detach().to(w.dtype)
    if isinstance(rate, Normalised):
        spread = abs(g - g.mean()).max()
        scale: Any = factor * rate.move / xp.where(spread > 0, spread, xp.ones_like(spread))
    else:
        scale = factor * rate

    def nearest(x: Vector) -> Vector:
        return like(task.region.project(hosted(x)), x) if tied else project(x, **bounds)

    def entropic() -> Vector:
        if not tied:
            return mirror(w, g, scale, temperature=temperature, **bounds)
        shrink = 1 / (1 + scale * temperature)
        return like(tilted(task.region, hosted(w**shrink), hosted(scale * shrink * g)), w)

    u = nearest(w - scale * g) if geometry == "euclidean" else entropic()
    if not smoothing:
        return u
    u = smoothed(u, smoothing)
    return nearest(u) if tied or bounds else u


def hosted(x: Vector) -> np.ndarray:
    """An array as it is, a tensor as a float64 array."""
    return x if isinstance(x, np.ndarray) else x.double().cpu().numpy()


def like(array: np.ndarray, x: Vector) -> Vector:
    """A float64 array as it is beside an array, and on the device of a tensor beside one."""
    return array if isinstance(x, np.ndarray) else torch.tensor(array, dtype=torch.float64, device=x.device)
