"""An independent oracle for hypergradients: finite differences of the upper loss after K real training steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from .learner import Batch
from .modelled import Modelled
from .tree import Leaves, copied


def outcome_slope(
    model: Modelled,
    w: np.ndarray,
    leaves: Leaves,
    *,
    steps: int,
    epsilon: float = 0.02,
    seed: int = 0,
    watch: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Slope [k] of the upper loss after ``steps`` optimizer steps, towards each domain: dF along e_i - w, less its mean.

    Central differences at w +- epsilon (e_i - w), every run from the same parameters, with a new optimizer and the same
    batches, so that the weights are all that differs. The upper loss is measured on the learner's evaluation sample.
    """
    draw = model.generator(seed)
    batches = [model.learner.draw(draw) for _ in range(steps)]
    slopes = []
    for i, corner in enumerate(np.eye(len(w))):
        ends = [_outcome(model, w + sign * epsilon * (corner - w), leaves, batches) for sign in (1, -1)]
        slopes.append((ends[0] - ends[1]) / (2 * epsilon))
        if watch is not None:
            watch(i + 1, len(w))
    return np.array(slopes) - np.mean(slopes)


def cosine(g: np.ndarray, h: np.ndarray) -> float:
    """Cosine of two gradients on the simplex: of their parts orthogonal to (1, ..., 1); NaN where one of them vanishes."""
    a, b = g - g.mean(), h - h.mean()
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size > 0 else float("nan")


def _outcome(model: Modelled, w: np.ndarray, leaves: Leaves, batches: list[Batch]) -> float:
    weights: Any = model.weights(w)
    at = copied(leaves, trainable=True)
    optimizer = model.learner.optimizer(at)
    for batch in batches:
        optimizer.zero_grad()
        model.lower(weights, at, batch).backward()
        optimizer.step()
    with torch.no_grad():
        return float(model.upper(weights, at, model.learner.evaluation()))
