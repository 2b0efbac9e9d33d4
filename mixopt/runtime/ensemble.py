"""Ensembles: many models of one shape trained at once, each on its own mixture, as one vmapped program."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mixopt.errors import InputError

from .fleet import Call, Fleet
from .fleet import token_losses as token_losses
from .lanes import Lanes, Later, Task
from .recipe import Recipe as Recipe
from .room import planned, split
from .streams import Streams

EVALUATED = 8  # models that are measured together on a CPU

Program = Callable[[nn.Module], Call]
"""A model of a fleet, whose shape and buffers all have -> what runs them."""


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
        chunk = chunk or (EVALUATED if rows.device.type == "cpu" else len(self))
        _refuse_small(self.template, rows[:1, :-1], int(rows.max()))
        call = call or _tried(self.template, rows[:1, :-1])(self.template)
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
    paired across mixtures. A run's result does not depend on the others, but for rounding. ``chunk`` models share one program: on a
    GPU all do, on a CPU a few (``room.planned``), and then several programs train at once, each by a thread. ``watch(step, steps)`` is
    told of progress over all of them, in the caller's thread.

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
    program = tried(template, streams)
    parts, lanes = _parts((template, factory(seeds[-1])), program, streams, recipe, runs, chunk)
    done = [0] * len(parts)
    trained: dict[int, dict[str, Tensor]] = {}

    def told(number: int, step: int) -> None:
        done[number] = step
        if watch:
            watch(sum(done), len(parts) * recipe.steps)

    def task(number: int, part: range) -> Task:
        models = [factory(seeds[run]).to(streams.device) for run in part]
        call = alone(models[0]) if len(part) == 1 else program(models[0])
        fleet = Fleet(models, call, bounds[part.start : part.stop], [data_seeds[run] for run in part], streams, recipe, names=part)

        def carried_out(say: Callable[[Later], None]) -> Later:
            fleet.advance(recipe.steps, lambda step: say(partial(told, number, step)))
            return partial(trained.__setitem__, number, fleet.values())

        return carried_out

    lanes.carry_out(task(number, part) for number, part in enumerate(parts))
    whole = {name: torch.cat([trained[number][name] for number in range(len(parts))]) for name in trained[0]}
    return Ensemble(template, whole)


def _parts(
    models: tuple[nn.Module, nn.Module], program: Program, streams: Streams, recipe: Recipe, runs: int, chunk: int | None
) -> tuple[list[range], Lanes]:
    """The runs that train together, and how many such parts at once: on a GPU all are one, and models that vmap refuses train alone."""
    most, lanes = runs, Lanes()
    if program is in_turn:
        most = 1
    elif streams.device.type == "cpu":
        most, lanes = planned(*models, streams, recipe)
    parts = [range(i, min(i + chunk, runs)) for i in range(0, runs, chunk)] if chunk else split(runs, most, lanes.count)
    return parts, lanes.at_most(len(parts))


def tried(template: nn.Module, streams: Streams) -> Program:
    """The program that models of this shape train by, tried on a window of the streams: ``together``, or where vmap refuses, ``in_turn``.

    Raises:
        InputError: the data hold a token for which the model has no logit.
    """
    refuse_small(template, streams)
    return _tried(template, streams.fixed(1)[0, :, :-1])


def refuse_small(template: nn.Module, streams: Streams) -> None:
    """Raise where a token of the streams has no logit: in stacked embeddings it would silently be looked up in the next model's."""
    _refuse_small(template, streams.fixed(1)[0, :, :-1], streams.vocabulary - 1)


@torch.no_grad()
def _refuse_small(template: nn.Module, row: Tensor, largest: int) -> None:
    vocabulary = template(torch.zeros_like(row)).shape[-1]
    if vocabulary <= largest:
        raise InputError(f"the data hold the token {largest}, but the model has logits for {vocabulary}; give it {largest + 1} or more")


def _tried(template: nn.Module, row: Tensor) -> Program:
    own = {name: value.detach().expand(2, *value.shape).clone().requires_grad_() for name, value in template.named_parameters()}
    try:
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("error")  # a batching rule that is lacking is only warned of, and slower than taking turns
            together(template)(own, row[None]).sum().backward()
    except (RuntimeError, ValueError, TypeError, UserWarning):
        return in_turn
    return together


def together(template: nn.Module) -> Call:
    """All models as one vmapped program."""
    vmapped = torch.func.vmap(lambda parameters, tokens: functional_call(template, parameters, (tokens,)))

    def call(parameters: Mapping[str, Tensor], tokens: Tensor) -> Tensor:
        return vmapped(parameters, tokens.expand(len(next(iter(parameters.values()))), -1, -1))

    return call


def in_turn(template: nn.Module) -> Call:
    """One model after another, as exact as together and slower, for those that vmap refuses."""

    def call(parameters: Mapping[str, Tensor], tokens: Tensor) -> Tensor:
        runs = len(next(iter(parameters.values())))
        each = tokens.expand(runs, -1, -1)
        return torch.stack([functional_call(template, {n: p[r] for n, p in parameters.items()}, (each[r],)) for r in range(runs)])

    return call


def alone(model: nn.Module) -> Call:
    """One model by itself, whose buffers may change as it goes."""

    def call(parameters: Mapping[str, Tensor], tokens: Tensor) -> Tensor:
        return functional_call(model, {name: value[0] for name, value in parameters.items()}, (tokens[0],))[None]

    return call


def _split(parameters: Mapping[str, Tensor], chunk: int) -> list[dict[str, Tensor]]:
    """Stacked parameters cut into pieces of at most ``chunk`` models."""
    pieces = zip(*(value.split(chunk) for value in parameters.values()), strict=True)
    return [dict(zip(parameters, piece, strict=True)) for piece in pieces]
