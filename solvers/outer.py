"""The outer step of bilevel solvers on batches: geometry, momentum, and a search for its length that noise cannot mislead."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, Literal, final

import torch
from torch import Tensor

from mixopt.errors import InputError
from mixopt.forms import Form
from mixopt.runtime.learner import Batch
from mixopt.runtime.modelled import Modelled
from mixopt.runtime.simplex import through_softmax
from mixopt.runtime.tree import Leaves, copied
from mixopt.solver import Average, Task

from .steps import Normalised, check_settings, move

BilevelGeometry = Literal["entropic", "euclidean", "softmax"]
GEOMETRIES = ("entropic", "euclidean", "softmax")


@dataclass(frozen=True)
class LineSearch:
    """A step length found by trial on batches: ``first`` times a factor that halves after a step which did harm.

    A copy of the model as it stands takes the ``train`` steps to come under the old weights and another under the new, on the same
    batches with the same dropout, and either outcome is measured on ``parts`` batches that are drawn once and held fixed. With d the mean
    of their differences (new less old) and s its standard error, the new weights are taken unless d > ``allowance`` s; then the old ones
    stay and the factor is multiplied by ``shrink``. Where d < -``allowance`` s it is multiplied by ``grow``. So noise alone neither stops
    the weights nor lengthens their steps. A step costs two more trainings of ``train`` steps, and 2 ``parts`` forward passes. Of a problem
    on ``trained(..., steps=K)`` the model is trained anew under the new weights, on the batches that it was trained on under the old
    ones: one more training of K steps.

    Source: the Armijo rule relaxed by the noise of its values (Berahas, Byrd and Nocedal 2018, arXiv 1803.10173), without its slope term,
    which is of the argmin where outcomes are of a few steps; factors as in Paquette and Scheinberg 2018, arXiv 1807.07994.
    """

    first: float | Normalised = field(default_factory=Normalised)
    shrink: float = 0.5
    grow: float = 1.25
    allowance: float = 2.0
    parts: int = 8

    def __post_init__(self) -> None:
        if not isinstance(self.first, Normalised) and not (isinstance(self.first, (int, float)) and 0 < self.first < math.inf):
            raise InputError(f"the first rate of a line search is {self.first!r}; it is a finite number > 0, or Normalised(move)")
        if not 0 < self.shrink < 1 or not 1 <= self.grow < math.inf or not 0 <= self.allowance < math.inf:
            raise InputError(f"{self}: shrink is in (0, 1), grow is >= 1, allowance is >= 0")
        if isinstance(self.parts, bool) or not isinstance(self.parts, Integral) or self.parts < 2:
            raise InputError(f"parts is {self.parts!r}; the noise of a difference is estimated from at least 2")

    def factor(self, factor: float, differences: Sequence[float]) -> tuple[bool, float]:
        """Whether a step is taken, and the factor of the next, by the differences (new less old) on each part."""
        d = sum(differences) / len(differences)
        spread = math.sqrt(sum((x - d) ** 2 for x in differences) / (len(differences) - 1) / len(differences))
        if not d <= self.allowance * spread:  # a NaN is no step either
            return False, factor * self.shrink
        return True, factor * self.grow if d < -self.allowance * spread else factor


def check_outer(rate: Any, smoothing: float, geometry: str, average: Average, momentum: float) -> None:
    """Refuse settings of the outer step outside their range, when a solver is made."""
    if geometry not in GEOMETRIES:
        raise InputError(f"the geometry is {geometry!r}; it is 'entropic' (mirror steps), 'euclidean' (projections) or 'softmax' (logits)")
    check_settings(rate, smoothing, 0.0, "entropic", average)
    if not 0 <= momentum < 1:
        raise InputError(f"the momentum is {momentum!r}; it is a share in [0, 1)")


def refuses_logits(form: Form, geometry: str) -> tuple[str, ...]:
    """Why the logits of a softmax cannot respect the constraints of a form."""
    if geometry != "softmax" or not form.constraints:
        return ()
    label = form.constraints[0].label
    return (f"softmax logits reach the whole simplex, and constraint '{label}' is not theirs; take geometry='entropic' or 'euclidean'",)


def outer_step(
    task: Task,
    w: Tensor,
    gradient: Tensor,
    velocity: Tensor | None,
    *,
    rate: float | Normalised,
    geometry: str,
    momentum: float,
    smoothing: float,
    factor: float = 1.0,
) -> tuple[Tensor, Tensor | None]:
    """The weights [k] after a step along a hypergradient [k], and the velocity [k].

    The velocity is the running mean m <- momentum m + (1 - momentum) g of the gradients, in logits for ``softmax``, and the step goes
    along it: where no bound is met these are heavy-ball steps of rate (1 - momentum) rate. It begins at the first gradient, so that
    the first step is as long as without momentum.

    Source: Polyak 1964; with projections Ghadimi, Ruszczynski and Wang 2020, arXiv 1812.01094.
    """
    along = gradient.detach().to(w.dtype)
    along = through_softmax(w, along) if geometry == "softmax" else along
    if momentum:
        velocity = along if velocity is None else momentum * velocity + (1 - momentum) * along
        along = velocity
    step = "entropic" if geometry == "softmax" else geometry
    return move(task, w, along, rate, step, smoothing=smoothing, factor=factor), velocity


@final
@dataclass(frozen=True)
class Ahead:
    """A run on batches as it stands, to see where its next ``steps`` training steps lead under weights that are only tried."""

    model: Modelled
    leaves: Leaves
    optimizer: torch.optim.Optimizer
    draw: torch.Generator
    batch: Batch
    steps: int

    def end(self, w: Tensor) -> Leaves:
        """The parameters after a copy has taken the steps at weights [k], on the batches and with the dropout to come."""
        model, at, draw = self.model, copied(self.leaves, trainable=True), torch.Generator()
        draw.set_state(self.draw.get_state())
        mine = model.learner.optimizer(at)
        mine.load_state_dict(copy.deepcopy(self.optimizer.state_dict()))
        with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []):
            for t in range(self.steps):
                mine.zero_grad()
                model.lower(w, at, model.draw(w, draw, None if t else self.batch)).backward()
                model.meter.gradients += 1
                mine.step()
        return at
