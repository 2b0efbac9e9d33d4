"""The model that a saddle's solver trains: where it begins, and what holds it from step to step."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mixopt.runtime.modelled import Modelled
from mixopt.runtime.tree import Leaves, copied
from mixopt.solver import Task


@dataclass(frozen=True)
class Trainee:
    """A model with its leaves, which are moved in place, their optimizer, and the generator from which its batches are drawn."""

    model: Modelled
    leaves: Leaves
    optimizer: torch.optim.Optimizer
    draw: torch.Generator


def begun(task: Task) -> tuple[Modelled, Leaves, torch.optim.Optimizer, torch.Generator]:
    """The fields of a ``Trainee`` at the start of a run: leaves of its own, as the learner begins."""
    model = task.model
    assert model is not None
    leaves = copied(model.learner.start(), trainable=True)
    return model, leaves, model.learner.optimizer(leaves), model.generator(task.seed)
