"""An independent oracle for hypergradients: finite differences of the upper loss after K real training steps."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from mixopt.errors import InputError

from .learner import Batch
from .modelled import Modelled
from .tree import Leaves, copied


def outcome_slopes(
    model: Modelled, w: np.ndarray, leaves: Leaves, *, steps: int, epsilon: float = 0.1, seeds: Sequence[int] = (0,)
) -> np.ndarray:
    """Slopes [n, k] of the upper loss after ``steps`` optimizer steps, towards each domain: dF along e_i - w, less their mean.

    Central differences at w +- epsilon (e_i - w), every run from the same parameters, with a new optimizer and the same
    batches, so that the weights are all that differs. Each seed draws other batches: how well the n slopes agree says how
    much of one is noise. The upper loss is measured on the learner's evaluation sample.
    """
    if steps < 1 or not 0 < epsilon < 1:
        raise InputError(f"an audit of {steps} steps with epsilon {epsilon}: steps are at least 1, and epsilon is in (0, 1)")
    slopes = np.empty((len(seeds), len(w)))
    for row, seed in zip(slopes, seeds, strict=True):
        draw = model.generator(seed)
        batches = [model.learner.draw(draw) for _ in range(steps)]
        for i, corner in enumerate(np.eye(len(w))):
            ends = [_outcome(model, w + sign * epsilon * (corner - w), leaves, batches) for sign in (1, -1)]
            row[i] = (ends[0] - ends[1]) / (2 * epsilon)
    return slopes - slopes.mean(axis=1, keepdims=True)


def agreement(slopes: np.ndarray) -> float:
    """Mean cosine between the slopes [n, k] of different batches; 1 is no noise, NaN for a single one."""
    pairs = list(itertools.combinations(slopes, 2))
    return float(np.mean([cosine(a, b) for a, b in pairs])) if pairs else float("nan")


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
