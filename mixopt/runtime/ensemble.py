"""Ensembles: many models of one shape trained at once, each on its own mixture, as one vmapped program."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mixopt.errors import InputError

from .fleet import Call, Fleet
from .fleet import token_losses as token_losses
from .recipe import Recipe as Recipe
from .streams import Streams

TOGETHER_ON_CPU = 6  # fastest on two cores from 40k to 100k parameters, 16 windows of 64 tokens; see benchmarks/ensemble.py


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
    def losses(self, windows: Tensor, *, chunk: int | None = None, at_once: int = 32, call: Call | None = None) -> Tensor:
        """Mean losses [R, m] in nats per token, float64, on ``windows`` [m, n, context+1] of m domains.

        ``chunk`` models see ``at_once`` windows at a time, which bounds the memory and nothing else. ``call`` runs them, where the caller
        has that already.
        """
        domains, count, _ = windows.shape
        rows = windows.flatten(0, 1)
        chunk = chunk or _together(len(self), rows.device)
        _refuse_small(self.template, rows[:1, :-1], int(rows.max()))
        call = call or _call(self.template, rows[:1, :-1])
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
    call = called(template, streams)
    chunk = chunk or _together(runs, streams.device)
    parts = [range(i, min(i + chunk, runs)) for i in range(0, runs, chunk)]
    trained = []
    for number, part in enumerate(parts):
        models = [factory(seeds[run]).to(streams.device) for run in part]
        fleet = Fleet(models, call, bounds[part.start : part.stop], [data_seeds[run] for run in part], streams, recipe, names=part)
        fleet.advance(recipe.steps, _share_of(watch, number, len(parts), recipe.steps))
        trained.append(fleet.values())
    whole = {name: torch.cat([some[name] for some in trained]) for name in trained[0]}
    return Ensemble(template, whole)


def called(template: nn.Module, streams: Streams) -> Call:
    """The models of a fleet as one program, tried on a window of the streams.

    Raises:
        InputError: the data hold a token for which the model has no logit.
    """
    row = streams.fixed(1)[0, :, :-1]
    _refuse_small(template, row, streams.vocabulary - 1)
    return _call(template, row)


@torch.no_grad()
def _refuse_small(template: nn.Module, row: Tensor, largest: int) -> None:
    """Raise where a token has no logit: in stacked embeddings it would silently be looked up in the next model's."""
    vocabulary = template(torch.zeros_like(row)).shape[-1]
    if vocabulary <= largest:
        raise InputError(f"the data hold the token {largest}, but the model has logits for {vocabulary}; give it {largest + 1} or more")


def _call(template: nn.Module, row: Tensor) -> Call:
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
