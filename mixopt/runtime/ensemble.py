"""Ensembles: many models of one shape trained at once, each on its own mixture, as one vmapped program."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state
from torch.nn import functional as F  # noqa: N812  (the usual name)

from mixopt.errors import InputError, LearnerError, listed
from mixopt.runtime.streams import Streams

LOOK_EVERY = 50
TELL_EVERY = 10
TOGETHER_ON_CPU = 6  # fastest on two cores from 40k to 100k parameters, 16 windows of 64 tokens; see benchmarks/ensemble.py


@final
@dataclass(frozen=True)
class Recipe:
    """How one model is trained: AdamW on ``steps`` batches of ``batch`` windows, by warm-up and then a cosine.

    ``rate`` is the peak learning rate, ``warmup`` the share of the steps that rise to it, ``final`` the share of it that is
    left at the end; ``clip`` bounds the norm of a model's whole gradient (infinite: no clipping).

    Raises:
        InputError: a setting outside its range.
    """

    steps: int
    batch: int
    rate: float = 1e-2
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0
    final: float = 0.1
    betas: tuple[float, float] = (0.9, 0.99)

    def __post_init__(self) -> None:
        fits = {
            "steps": self.steps >= 1,
            "batch": self.batch >= 1,
            "rate": 0 < self.rate < math.inf,
            "warmup": 0 <= self.warmup <= 1,
            "weight_decay": 0 <= self.weight_decay < math.inf,
            "clip": self.clip > 0,
            "final": 0 <= self.final <= 1,
            "betas": all(0 <= beta < 1 for beta in self.betas),
        }
        for name, fit in fits.items():
            if not fit:
                raise InputError(f"{name} is {getattr(self, name)} in a Recipe; steps, batch, rate and clip are > 0, shares within [0, 1]")

    def rate_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        rising = math.ceil(self.warmup * self.steps)
        if step < rising:
            return self.rate * (step + 1) / rising
        done = (step - rising) / max(self.steps - 1 - rising, 1)
        return self.rate * (self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * done)))

    def tokens(self, context: int) -> int:
        """Tokens that one model is trained on."""
        return self.steps * self.batch * context


@final
@dataclass(frozen=True)
class Ensemble:
    """R trained models of one shape: ``parameters`` maps each parameter's name to all of its values [R, ...]."""

    template: nn.Module
    parameters: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.parameters.values())))

    def member(self, index: int) -> dict[str, Tensor]:
        """The parameters of one model by name, as views into the ensemble's."""
        return {name: value[index] for name, value in self.parameters.items()}

    @torch.no_grad()
    def losses(self, windows: Tensor, *, chunk: int | None = None, at_once: int = 32) -> Tensor:
        """Mean losses [R, m] in nats per token, float64, on ``windows`` [m, n, context+1] of m domains.

        ``chunk`` models see ``at_once`` windows at a time, which bounds the memory and nothing else.
        """
        domains, count, _ = windows.shape
        rows = windows.flatten(0, 1)
        chunk = chunk or _together(len(self), rows.device)
        _refuse_small(self.template, rows[:1, :-1], int(rows.max()))
        call = _call(self.template, rows[:1, :-1])
        table = []
        for some in _split(self.parameters, chunk):
            each = [token_losses(call(some, part[None, :, :-1]), part[None, :, 1:]).double().sum(-1) for part in rows.split(at_once)]
            table.append(torch.cat(each, dim=1).view(-1, domains, count).mean(-1) / (windows.shape[-1] - 1))
        return torch.cat(table)


def train(
    factory: Callable[[int], nn.Module],
    mixtures: Any,
    streams: Streams,
    recipe: Recipe,
    *,
    seeds: Sequence[int],
    data_seed: int | Sequence[int],
    watch: Callable[[int, int], None] | None = None,
    chunk: int | None = None,
) -> Ensemble:
    """Train R models at once, model r from ``factory(seeds[r])`` on windows sampled by ``mixtures[r]`` [R, k].

    ``data_seed`` is one for all or one for each run: runs with equal ones draw by the same uniform numbers, so that they are
    paired across mixtures. A run's result does not depend on the others, but for rounding. ``chunk`` models share one program
    (on a CPU more would leave the cache; on a GPU all do). ``watch(step, steps)`` is told of progress over all chunks.

    Raises:
        InputError: mixtures that are none, or seeds that are not one for each run.
        LearnerError: a loss is NaN or infinite; the run and the step are named.
    """
    bounds = streams.bounds(mixtures)
    runs = len(bounds)
    data_seeds = list(data_seed) if isinstance(data_seed, Sequence) else [data_seed] * runs
    for name, given in (("seeds", seeds), ("data seeds", data_seeds)):
        if len(given) != runs:
            raise InputError(f"there are {runs} mixtures but {len(given)} {name}; give each run one")
    template = factory(seeds[0]).to(streams.device)
    row = streams.fixed(1)[0, :, :-1]
    _refuse_small(template, row, streams.vocabulary - 1)
    call = _call(template, row)
    chunk = chunk or _together(runs, streams.device)
    parts = [range(i, min(i + chunk, runs)) for i in range(0, runs, chunk)]
    trained = []
    for number, part in enumerate(parts):
        models = [factory(seeds[run]).to(streams.device) for run in part]
        uniform = _uniform([data_seeds[run] for run in part], recipe).to(streams.home)
        tell = _share_of(watch, number, len(parts), recipe.steps)
        trained.append(_train_chunk(models, call, bounds[part.start : part.stop], uniform, streams, recipe, part, tell))
    whole = {name: torch.cat([some[name] for some in trained]) for name in trained[0]}
    return Ensemble(template, whole)


def token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each token [...] in nats, from logits [..., vocabulary] and the tokens that came [...]."""
    return F.cross_entropy(logits.flatten(0, -2), targets.expand(logits.shape[:-1]).flatten(), reduction="none").view(logits.shape[:-1])


def _train_chunk(
    models: list[nn.Module],
    call: _Call,
    bounds: Tensor,
    uniform: Tensor,
    streams: Streams,
    recipe: Recipe,
    runs: range,
    tell: Callable[[int], None],
) -> dict[str, Tensor]:
    """Trained parameters [r, ...] of the models of one chunk; ``uniform`` is [steps, r, batch+1]."""
    parameters = {name: value.detach().requires_grad_() for name, value in stack_module_state(models)[0].items()}
    optimiser = torch.optim.AdamW(
        list(parameters.values()), lr=recipe.rate, betas=recipe.betas, weight_decay=recipe.weight_decay, fused=True
    )
    sick = torch.full((len(models),), recipe.steps, device=streams.device)  # first step whose loss was not finite
    for step in range(recipe.steps):
        windows = streams.mixed(bounds, uniform[step])
        losses = token_losses(call(parameters, windows[..., :-1]), windows[..., 1:]).flatten(1).mean(1)
        optimiser.zero_grad()
        losses.sum().backward()
        _clip(parameters, recipe.clip)
        optimiser.param_groups[0]["lr"] = recipe.rate_at(step)
        optimiser.step()
        sick = torch.where(losses.detach().isfinite(), sick, sick.clamp(max=step))
        if (step + 1) % LOOK_EVERY == 0 or step + 1 == recipe.steps:
            _refuse_sick(sick.tolist(), runs, recipe)
        if (step + 1) % TELL_EVERY == 0 or step + 1 == recipe.steps:
            tell(step + 1)
    broken = torch.stack([~value.detach().flatten(1).isfinite().all(1) for value in parameters.values()]).any(0)
    _refuse_sick(torch.where(broken, recipe.steps - 1, recipe.steps).tolist(), runs, recipe)
    return {name: value.detach() for name, value in parameters.items()}


def _clip(parameters: Mapping[str, Tensor], most: float) -> None:
    """Scale each model's gradient so that its norm over all parameters is at most ``most``."""
    gradients = [p.grad for p in parameters.values() if p.grad is not None]
    norms = torch.stack([torch.linalg.vector_norm(g.flatten(1), dim=1) for g in gradients]).norm(dim=0)
    scale = (most / (norms + 1e-6)).clamp(max=1)
    for g in gradients:
        g.mul_(scale.view(-1, *[1] * (g.ndim - 1)))


@torch.no_grad()
def _refuse_small(template: nn.Module, row: Tensor, largest: int) -> None:
    """Raise where a token has no logit: in stacked embeddings it would silently be looked up in the next model's."""
    vocabulary = template(torch.zeros_like(row)).shape[-1]
    if vocabulary <= largest:
        raise InputError(f"the data hold the token {largest}, but the model has logits for {vocabulary}; give it {largest + 1} or more")


def _refuse_sick(first: list[int], runs: range, recipe: Recipe) -> None:
    """Raise for the runs whose loss was not finite at some step so far."""
    sick = {run: step for run, step in zip(runs, first, strict=True) if step < recipe.steps}
    if sick:
        run = min(sick, key=lambda r: sick[r])
        raise LearnerError(
            f"the loss of run {run} is NaN or infinite at step {sick[run]} of {recipe.steps} (runs with such losses: {listed(sick)}); "
            f"a rate below {recipe.rate:g}, a longer warm-up or a smaller clip may mend it"
        )


def _uniform(seeds: Sequence[int], recipe: Recipe) -> Tensor:
    """The uniform numbers of a whole training [steps, r, batch+1], float64; equal seeds give equal ones."""
    rows = {
        seed: torch.rand(recipe.steps, recipe.batch + 1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        for seed in set(seeds)
    }
    return torch.stack([rows[seed] for seed in seeds], dim=1)


_Call = Callable[[Mapping[str, Tensor], Tensor], Tensor]
"""Stacked parameters [r, ...] and tokens [r or 1, b, t] -> logits [r, b, t, vocabulary]."""


def _call(template: nn.Module, row: Tensor) -> _Call:
    """All models as one vmapped program where the module allows it, tried on a row [1, t]; else one after another, as exact and slower."""
    vmapped = torch.func.vmap(lambda parameters, tokens: functional_call(template, parameters, (tokens,)))

    def together(parameters: Mapping[str, Tensor], tokens: Tensor) -> Tensor:
        return vmapped(parameters, tokens.expand(len(next(iter(parameters.values()))), -1, -1))

    def in_turn(parameters: Mapping[str, Tensor], tokens: Tensor) -> Tensor:
        runs = len(next(iter(parameters.values())))
        each = tokens.expand(runs, -1, -1)
        return torch.stack([functional_call(template, {n: p[r] for n, p in parameters.items()}, (each[r],)) for r in range(runs)])

    own = {name: value.detach().expand(2, *value.shape).clone().requires_grad_() for name, value in template.named_parameters()}
    try:
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("error")  # a batching rule that is lacking is only warned of, and slower than taking turns
            together(own, row[None]).sum().backward()
    except (RuntimeError, ValueError, TypeError, UserWarning):
        return in_turn
    return together


def _split(parameters: Mapping[str, Tensor], chunk: int) -> list[dict[str, Tensor]]:
    """Stacked parameters cut into pieces of at most ``chunk`` models."""
    pieces = zip(*(value.split(chunk) for value in parameters.values()), strict=True)
    return [dict(zip(parameters, piece, strict=True)) for piece in pieces]


def _together(runs: int, device: torch.device) -> int:
    """How many of the runs share one program where the caller does not say: even pieces of a few on a CPU, else all."""
    return math.ceil(runs / math.ceil(runs / TOGETHER_ON_CPU)) if device.type == "cpu" else runs


def _share_of(watch: Callable[[int, int], None] | None, number: int, pieces: int, steps: int) -> Callable[[int], None]:
    """Progress within one chunk as progress of the whole: steps done of all chunks' steps."""
    return lambda step: watch(number * steps + step, pieces * steps) if watch else None
