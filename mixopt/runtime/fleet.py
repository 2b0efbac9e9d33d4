"""Fleets: the models of one shape that train together as one program, a step at a time, each by its own mixture and numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.func import stack_module_state
from torch.nn import functional as F  # noqa: N812  (the usual name)

from mixopt.errors import LearnerError, listed

from .recipe import Recipe
from .streams import Streams

LOOK_EVERY = 50
TELL_EVERY = 10
AHEAD = 64  # steps whose random numbers are drawn at once

Call = Callable[[Mapping[str, Tensor], Tensor], Tensor]
"""Stacked parameters [r, ...] and tokens [r or 1, b, t] -> logits [r, b, t, vocabulary]."""


class DivergedError(LearnerError):
    """The losses of some models of a fleet are NaN or infinite; ``places`` are theirs in it, the others are as well as ever.

    ``finished`` are records of those that went on to their end without them, where somebody saw to that.
    """

    def __init__(self, text: str, places: Sequence[int] = (), finished: Sequence[Any] = ()):
        super().__init__(text)
        self.places, self.finished = list(places), list(finished)


@final
class Fleet:
    """R models of one shape in training, with their optimiser's state: ``advance`` takes steps, ``keep`` lets some of them go on.

    Model r reads windows drawn by ``bounds[r]`` with numbers of its own ``data_seeds[r]``; its peak rate is ``rates[r]``.
    What becomes of a model does not depend on the others, but for rounding. ``names`` are what a model is called in messages.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        call: Call,
        bounds: Tensor,
        data_seeds: Sequence[int],
        streams: Streams,
        recipe: Recipe,
        *,
        names: Sequence[object],
        rates: Sequence[float] | None = None,
    ):
        self.call, self.bounds, self.streams, self.recipe, self.names = call, bounds, streams, recipe, list(names)
        stacked = stack_module_state(list(models))[0]
        self.parameters: dict[str, Tensor] = {n: value.detach().requires_grad_(value.requires_grad) for n, value in stacked.items()}
        self.step = 0
        self._draws = _Draws(data_seeds, recipe)
        same = rates is None or all(rate == rates[0] for rate in rates)
        self._peak = recipe.rate if rates is None else float(rates[0]) if same else 1.0
        self._rates = None if same or rates is None else torch.tensor(list(rates), dtype=torch.float32, device=streams.device)
        self._optimiser = self._adamw()
        self._sick = torch.full((len(models),), recipe.steps, device=streams.device)  # first step whose loss was not finite

    def __len__(self) -> int:
        return len(self.names)

    def values(self) -> dict[str, Tensor]:
        """The parameters as they stand [R, ...], by name."""
        return {name: value.detach() for name, value in self.parameters.items()}

    def advance(self, until: int, tell: Callable[[int], None] = lambda step: None) -> None:
        """Train up to step ``until`` of the recipe's; ``tell`` hears of the steps done now and then.

        Raises:
            DivergedError: a loss or a parameter is NaN or infinite; the model and the step are named, and ``keep`` can leave it behind.
        """
        recipe = self.recipe
        while self.step < until:
            windows = self.streams.mixed(self.bounds, self._draws.at(self.step, self.streams.home))
            with torch.autocast(self.streams.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
                logits = self.call(self.parameters, windows[..., :-1])
            losses = spent_losses(logits, windows[..., 1:]).flatten(1).mean(1)
            self._optimiser.zero_grad()
            losses.sum().backward()
            _clip(self.parameters, recipe.clip)
            self._moved(recipe.rate_at(self.step) / recipe.rate * self._peak)
            self._sick = torch.where(losses.detach().isfinite(), self._sick, self._sick.clamp(max=self.step))
            self.step += 1
            if self.step % LOOK_EVERY == 0 or self.step == until:
                self._refuse(self._sick.tolist())
            if self.step % TELL_EVERY == 0 or self.step == until:
                tell(self.step)
        broken = torch.stack([~value.detach().flatten(1).isfinite().all(1) for value in self.parameters.values()]).any(0)
        self._refuse(torch.where(broken, self.step - 1, recipe.steps).tolist())

    def keep(self, places: Sequence[int]) -> None:
        """Let only the models at these places go on, which may be none."""
        at = torch.tensor(list(places), dtype=torch.long, device=self.streams.device)
        states = [self._optimiser.state[value] for value in self.parameters.values()]
        self.parameters = {n: value.detach()[at].requires_grad_(value.requires_grad) for n, value in self.parameters.items()}
        self._optimiser = self._adamw()
        for value, state in zip(self.parameters.values(), states, strict=True):
            self._optimiser.state[value] = {n: s[at] if s.ndim else s for n, s in state.items()}
        self.bounds, self._sick = self.bounds[at.to(self.bounds.device)], self._sick[at]
        self._rates = None if self._rates is None else self._rates[at]
        self.names = [self.names[place] for place in places]
        self._draws.keep(places)

    def _adamw(self) -> torch.optim.AdamW:
        values, recipe = list(self.parameters.values()), self.recipe
        return torch.optim.AdamW(values, lr=recipe.rate, betas=recipe.betas, weight_decay=recipe.weight_decay, fused=True)

    @torch.no_grad()
    def _moved(self, rate: float) -> None:
        """One step of AdamW; it is linear in the rate, so models of different rates share one step, of which each keeps its part."""
        self._optimiser.param_groups[0]["lr"] = rate
        if self._rates is None:
            self._optimiser.step()
            return
        before = [value.detach().clone() for value in self.parameters.values()]
        self._optimiser.step()
        for value, old in zip(self.parameters.values(), before, strict=True):
            value.copy_(old + self._rates.view(-1, *[1] * (value.ndim - 1)) * (value - old))

    def _refuse(self, first: list[int]) -> None:
        """Raise for the models whose loss was not finite at some step so far."""
        steps = self.recipe.steps
        sick = {name: step for name, step in zip(self.names, first, strict=True) if step < steps}
        if sick:
            name = min(sick, key=lambda n: sick[n])
            raise DivergedError(
                f"the loss of run {name} is NaN or infinite at step {sick[name]} of {steps} (runs with such losses: {listed(sick)}); "
                f"a rate below {self.recipe.rate:g}, a longer warm-up or a smaller clip may mend it",
                [place for place, step in enumerate(first) if step < steps],
            )


class _Draws:
    """The uniform numbers of each step [r, batch+1], float64, from one generator for each seed; equal seeds give equal ones.

    They are drawn some steps ahead; where the steps end does not change them.
    """

    def __init__(self, seeds: Sequence[int], recipe: Recipe):
        self._seeds, self._recipe, self._first = list(seeds), recipe, 0
        self._generators = {seed: torch.Generator().manual_seed(seed) for seed in sorted(set(seeds))}
        self._rows: dict[int, Tensor] = {}

    def at(self, step: int, device: torch.device) -> Tensor:
        """The numbers of one step, which is none before the last one asked for."""
        while not self._rows or step >= self._first + len(next(iter(self._rows.values()))):
            self._first += len(next(iter(self._rows.values()))) if self._rows else 0
            count = min(AHEAD, self._recipe.steps - self._first)
            shape = (count, self._recipe.batch + 1)
            self._rows = {s: torch.rand(*shape, dtype=torch.float64, generator=g) for s, g in self._generators.items()}
        return torch.stack([self._rows[seed][step - self._first] for seed in self._seeds]).to(device)

    def keep(self, places: Sequence[int]) -> None:
        """Draw on for some of the models only."""
        self._seeds = [self._seeds[place] for place in places]


def token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each token [...] in nats, from logits [..., vocabulary] and the tokens that came [...]."""
    full = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
    flat = F.cross_entropy(full.flatten(0, -2), targets.expand(logits.shape[:-1]).flatten(), reduction="none")
    return flat.view(logits.shape[:-1])


def spent_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """``token_losses`` for one backward pass: the logits' gradient is made in the place of their softmax, the one thing that is kept.

    A second backward pass, double backward, forward mode and vmap are refused by torch.
    """
    losses: Tensor = _Spent.apply(logits, targets.expand(logits.shape[:-1]).unsqueeze(-1))
    return losses


class _Spent(torch.autograd.Function):
    """Cross-entropy by the softmax p: (largest logit - target's logit) - log(largest p), exact even where the target's p underflows."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        full = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
        shares = full.softmax(-1)
        ctx.save_for_backward(shares, targets)
        ctx.kind = logits.dtype
        return full.amax(-1) - full.gather(-1, targets).squeeze(-1) - shares.amax(-1).log()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slopes: Tensor) -> tuple[Tensor, None]:
        shares, targets = ctx.saved_tensors
        shares.scatter_add_(-1, targets, shares.new_full((1,), -1.0).expand(targets.shape))
        return shares.mul_(slopes.unsqueeze(-1)).to(ctx.kind), None


def _clip(parameters: Mapping[str, Tensor], most: float) -> None:
    """Scale each model's gradient so that its norm over all parameters is at most ``most``."""
    gradients = [p.grad for p in parameters.values() if p.grad is not None]
    norms = torch.stack([torch.linalg.vector_norm(g.flatten(1), dim=1) for g in gradients]).norm(dim=0)
    scale = (most / (norms + 1e-6)).clamp(max=1)
    for g in gradients:
        g.mul_(scale.view(-1, *[1] * (g.ndim - 1)))
