"""A form's functions of model and weights in torch: what saddle and bilevel solvers call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixopt.forms import Bilevel, Saddle
from mixopt.language.expression import Expr
from mixopt.language.history import histories

from .evaluate import Bound, Env, Lowered, Meter
from .history import Past
from .learner import Batch, Learner
from .tree import Leaves, copied, vector


class Modelled:
    """A saddle or bilevel form bound to a learner, lowered once.

    For a saddle, ``first`` is the payoff that the weights ascend and ``second`` what the model descends; for a bilevel
    form they are the upper and the lower objective. ``first`` also finds the values of all ``histories`` at a step, for ``second``,
    which has some itself where it ``recalls``.
    """

    def __init__(
        self,
        form: Saddle | Bilevel,
        learner: Learner,
        orders: Mapping[Expr, Sequence[int] | None],
        given: Mapping[str, np.ndarray],
        models: Mapping[Expr, Any],
        drawn: Sequence[Expr] = (),
    ):
        device = learner.device
        places = {n: None if o is None else torch.tensor(o, device=device) for n, o in orders.items()}
        numbers = {n: torch.tensor(v, dtype=torch.float64, device=device) for n, v in given.items()}
        self.form, self.learner, self.device = form, learner, device
        self.bound = Bound(learner, places, numbers, {m: learner.leaves(v) for m, v in models.items()})
        pair = (form.payoff, form.descent) if isinstance(form, Saddle) else (form.upper, form.lower)
        self.inner = form.theta
        self.outer = form.theta if isinstance(form, Saddle) else form.trained
        self.histories, models_own = histories(pair), (self.inner, self.outer)
        self.recalls = bool(histories(pair[1:]))
        self.first = Lowered((pair[0], *self.histories), device, models_own)
        self.second = Lowered((pair[1],), device, models_own, recalled=True)
        self.exact = learner.abilities.exact
        self.drawn = tuple(drawn)

    @property
    def meter(self) -> Meter:
        """What has been spent."""
        return self.bound.meter

    def weights(self, w: np.ndarray) -> Tensor:
        """Weights as a float64 tensor [k] on the learner's device."""
        return torch.tensor(w, dtype=torch.float64, device=self.device)

    def generator(self, seed: int) -> torch.Generator:
        """The generator from which a run draws its batches."""
        return torch.Generator().manual_seed(seed)

    def draw(self, w: Tensor, generator: torch.Generator, batch: Batch = None) -> Batch:
        """The batch of a training step at the weights [k]: the one given, or a new one, unless the learner samples by weights or shares.

        What moves the weights is measured on ``learner.draw`` instead, which is stratified: else a domain of weight zero has no gradient.
        """
        if not self.drawn:
            return self.learner.draw(generator) if batch is None else batch
        return self.learner.draw_by({n.data: self.bound.ordered_back(n, w.detach()) for n in self.drawn}, generator)

    def env(self, w: Tensor, leaves: Leaves, batch: Batch, past: Past | None = None) -> Env:
        """One evaluation with the trained model at the given leaves, after steps that left this past."""
        return self.bound.env(w, {self.inner: leaves, self.outer: leaves}, batch, past)

    def upper(self, w: Tensor, leaves: Leaves, batch: Batch) -> Tensor:
        """The first objective, a scalar."""
        return self.first(self.env(w, leaves, batch))[0]

    def lower(self, w: Tensor, leaves: Leaves, batch: Batch) -> Tensor:
        """The second objective, a scalar."""
        return self.second(self.env(w, leaves, batch))[0]

    def domain_losses(self, env: Env) -> Tensor:
        """The trained model's losses by training domain [k] at an evaluation, for the record; NaN shows here first."""
        for node in self.second.measures:
            if node.op != "loss" and node.args[0] == self.inner:
                with torch.no_grad():
                    value = env.measure(node).detach()
                return value if node.op == "losses" else value.mean(dim=-1)
        return torch.zeros(0)

    def least(self, w: Tensor, leaves: Leaves, steps: int = 200) -> tuple[float, float]:
        """The least first objective over the model of an exact learner at weights [k], by L-BFGS from given leaves; and |its gradient|."""
        at = copied(leaves, trainable=True)
        search = torch.optim.LBFGS(
            list(at), max_iter=steps, history_size=20, tolerance_grad=1e-11, tolerance_change=0.0, line_search_fn="strong_wolfe"
        )

        def closure() -> float:
            search.zero_grad()
            value = self.upper(w, at, None)
            value.backward()
            return float(value.detach())

        search.step(closure)
        value = closure()
        sizes = [leaf.grad.norm() for leaf in at if leaf.grad is not None]
        return value, float(torch.stack(sizes).norm())

    def present(self, env: Env) -> Tensor | None:
        """Which domains [k] the batch of an evaluation holds under every name that the first objective reads; None where all."""
        found: Tensor | None = None
        for node in self.first.measures:
            there = None if node.op == "loss" else self.learner.present(env.batch, node.data)
            if there is not None and there.shape == env.w.shape:
                there = env.ordered(node, there)
                found = there if found is None else found & there
        return found

    def gradient(self, value: Tensor, leaves: Leaves, **options: Any) -> Leaves:
        """d value / d leaves, zeros where a leaf is not used."""
        self.meter.gradients += 1
        return torch.autograd.grad(value, leaves, materialize_grads=True, **options)

    def slope_size(self, w: Tensor, leaves: Leaves, batch: Batch) -> float:
        """|d second / d leaves|: how far the lower level is from stationary."""
        at = tuple(leaf.detach().requires_grad_() for leaf in leaves)
        return float(vector(self.gradient(self.lower(w, at, batch), at)).norm())
