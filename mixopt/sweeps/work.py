"""What every executor does with a few runs: make their models, train them, and measure them on the way and at the end."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor, nn

from mixopt.errors import InputError, listed
from mixopt.runtime import room
from mixopt.runtime.ensemble import Ensemble, Program, alone, in_turn, refuse_small, tried
from mixopt.runtime.fleet import DivergedError, Fleet
from mixopt.runtime.gpt import parameter_count
from mixopt.runtime.lanes import Lanes
from mixopt.runtime.recipe import Recipe

from .corpus import Corpus
from .job import Finished, Job

Factory = Callable[[int], nn.Module]
Tell = Callable[[int], None]

AT_ONCE, LOGITS = 32, 2**26
"""Windows that are measured at once at most, and the logits that they may have where they are more than a batch."""
BATCH_NORMS = (nn.modules.batchnorm._BatchNorm,)
DROPOUTS = (nn.modules.dropout._DropoutNd,)


@final
@dataclass(frozen=True)
class Work:
    """What the runs of a sweep share: the corpus, the models by name, and after which shares of the steps losses are measured.

    ``runs`` are all runs of the sweep, ``before`` the steps of those that had finished before it began. ``compiled`` says that models
    train by ``torch.compile``.
    """

    corpus: Corpus
    factories: Mapping[str, Factory]
    curve: tuple[float, ...] = ()
    runs: int = 0
    before: tuple[int, ...] = ()
    compiled: bool = False

    def on(self, device: str | torch.device) -> Work:
        """The same work on a device."""
        return replace(self, corpus=self.corpus.on(device))

    def points(self, recipe: Recipe) -> list[int]:
        """The steps after which losses are measured, the last one among them."""
        return sorted({max(1, round(share * recipe.steps)) for share in self.curve} | {recipe.steps})

    def made(self, model: str, seed: int) -> nn.Module:
        """A model on the corpus's device, the same again even where its factory leaves the seed to torch."""
        with _seeded(seed):
            made = self.factories[model](seed)
        if not isinstance(made, nn.Module):
            raise InputError(f"the factory of {model!r} made a {type(made).__name__}; it is to make a torch.nn.Module from a seed")
        return made.to(self.corpus.train.device).train()

    def digest(self, model: str) -> str:
        """A digest of the names, shapes and sizes of a model's first parameters, which differ from checkpoint to checkpoint."""
        with torch.no_grad():
            values = sorted(
                (n, tuple(v.shape), str(v.dtype), f"{v.double().norm():.4g}") for n, v in self.made(model, 0).named_parameters()
            )
        return hashlib.sha256(repr(values).encode()).hexdigest()[:16]


def alike(jobs: Sequence[Job]) -> bool:
    """Whether runs may train as one program: one model, and recipes that differ in the rate alone."""
    return len({job.kind for job in jobs}) <= 1


@final
@dataclass(frozen=True)
class Pattern:
    """The model of the first run of a kind, whose shape and buffers the others are to have, and the program that they train by together."""

    run: str
    model: nn.Module
    program: Program


@final
class Group:
    """A few runs that train side by side, together as one vmapped program, whose pattern may be known already, or one alone.

    Runs whose losses become NaN or infinite leave the group, and ``diverged`` tells of the first of them.

    Raises:
        InputError: models that differ in shape, or that cannot be trained together.
    """

    def __init__(
        self,
        work: Work,
        jobs: Sequence[Job],
        keys: Sequence[str],
        *,
        together: bool,
        pattern: Pattern | None = None,
    ):
        self.work, self.jobs, self.keys = work, list(jobs), list(keys)
        self.seconds = 0.0
        corpus, recipe = work.corpus, jobs[0].recipe
        models = [work.made(job.model, job.seed) for job in jobs]
        self.template = models[0]
        if together:
            pattern = pattern or side_by_side(work, jobs[0])
            refuse_mixed([pattern.model, *models], [pattern.run, *(job.id for job in jobs)])
        else:
            refuse_small(self.template, corpus.train)
        self.call = pattern.program(self.template) if pattern and len(jobs) > 1 else alone(self.template)
        self.diverged: DivergedError | None = None
        bounds = corpus.train.bounds([list(job.mixture) for job in jobs])
        self.curves: list[list[tuple[int, tuple[float, ...]]]] = [[] for _ in jobs]
        self.fleet = Fleet(
            models,
            torch.compile(self.call) if work.compiled else self.call,
            bounds,
            [job.data_seed for job in jobs],
            corpus.train,
            recipe,
            names=[job.id for job in jobs],
            rates=[job.recipe.rate for job in jobs],
        )

    def advance(self, until: int, tell: Tell = lambda step: None) -> None:
        """Train up to a step, and measure at every point on the way."""
        clock = time.perf_counter()
        for point in [p for p in self.work.points(self.fleet.recipe) if self.fleet.step < p <= until]:
            self._on(point, tell)
            for curve, losses in zip(self.curves, self._losses().tolist() if self.keys else (), strict=True):
                curve.append((point, tuple(losses)))
        self._on(until, tell)
        self.seconds += time.perf_counter() - clock

    def _on(self, until: int, tell: Tell) -> None:
        """Train up to a step; runs whose losses are no numbers any more stay behind."""
        while self.keys:
            try:
                self.fleet.advance(until, tell)
                return
            except DivergedError as error:
                self.diverged = self.diverged or error.with_traceback(None)  # whose frames would keep the tensors of the step
                self.keep([place for place in range(len(self.keys)) if place not in error.places])

    def keep(self, places: Sequence[int]) -> None:
        """Let only the runs at these places go on."""
        self.fleet.keep(places)
        self.jobs, self.keys = [self.jobs[i] for i in places], [self.keys[i] for i in places]
        self.curves = [self.curves[i] for i in places]

    def finished(self, *, stopped: bool = False) -> list[Finished]:
        """The runs as they stand; each is given an even share of the seconds."""
        context, steps, params = self.work.corpus.train.context, self.fleet.step, parameter_count(self.template)
        tokens, seconds = steps * self.fleet.recipe.batch * context, self.seconds / max(len(self.jobs), 1)
        return [
            Finished(key, curve[-1][1], tuple(curve), steps, tokens, params, seconds, stopped)
            for key, curve in zip(self.keys, self.curves, strict=True)
        ]

    @torch.no_grad()
    def _losses(self) -> Tensor:
        """Held-out losses [r, m], with the models in their evaluation mode.

        They are measured on a batch of windows at once, or on more where their logits are few, so that it takes less memory than training.
        """
        corpus, windows = self.work.corpus, self.work.corpus.measured()
        at_once = max(self.fleet.recipe.batch, LOGITS // (len(self.keys) * corpus.train.context * corpus.vocabulary))
        self.template.eval()
        try:
            return Ensemble(self.template, self.fleet.values()).losses(windows, at_once=min(AT_ONCE, at_once), call=self.call)
        finally:
            self.template.train()


def trained(work: Work, jobs: Sequence[Job], keys: Sequence[str], *, together: bool, tell: Tell) -> list[Finished]:
    """The runs, trained to their ends.

    Raises:
        DivergedError: the losses of some of them are NaN or infinite; it has the others, ``finished``.
    """
    with nullcontext() if together else _seeded(jobs[0].seed):
        group = Group(work, jobs, keys, together=together)
        group.advance(jobs[0].recipe.steps, tell)
    if group.diverged is not None:
        raise DivergedError(str(group.diverged), finished=group.finished())
    return group.finished()


def planned(work: Work, job: Job, pattern: Pattern, together: int | None) -> tuple[int, Lanes]:
    """How many runs like one train together at most, where it is not given, and how many such groups at once.

    On a CPU both are by ``room.planned``. On a GPU, which trains one group at a time, one run and two runs take two steps and are measured,
    and the bytes that the second adds are those of every other. Models that vmap refuses train alone.
    """
    device = work.corpus.train.device
    if pattern.program is in_turn:
        return 1, Lanes()
    if device.type != "cuda":
        most, lanes = room.planned(pattern.model, work.made(job.model, job.seed), work.corpus.train, job.recipe)
        return together or most, Lanes() if work.compiled else lanes
    if together:
        return together, Lanes()
    try:
        peaks = [_peak(work, [replace(job, id=f"{job.id}-{i}") for i in range(count)]) for count in (1, 2)]
    except torch.OutOfMemoryError:
        return 1, Lanes()
    torch.cuda.empty_cache()  # what torch has kept of the trials is free as well
    free, _ = torch.cuda.mem_get_info(device)
    each = max(peaks[1] - peaks[0], 1)
    return max(1, int((0.8 * free - peaks[0]) / each) + 1), Lanes()


def _peak(work: Work, jobs: Sequence[Job]) -> int:
    """Bytes that a GPU holds at most while some runs take two steps, the first of which finds no moments of AdamW yet, and are measured."""
    device = work.corpus.train.device
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    group = Group(work, jobs, [job.id for job in jobs], together=True)
    group.fleet.advance(min(2, jobs[0].recipe.steps))
    group._losses()
    return int(torch.cuda.max_memory_allocated(device) - before)


def refuse_mixed(models: Sequence[nn.Module], ids: Sequence[str]) -> None:
    """Raise where models to be stacked differ in shape, or in their buffers."""
    first = {name: tuple(value.shape) for name, value in models[0].named_parameters()}
    for model, run in zip(models[1:], ids[1:], strict=True):
        other = {name: tuple(value.shape) for name, value in model.named_parameters()}
        if other != first:
            odd = next(name for name in (*first, *other) if first.get(name) != other.get(name))
            raise InputError(
                f"the factory's models differ: {odd!r} has the shape {first.get(odd)} in run {ids[0]} and {other.get(odd)} in run {run}; "
                "give models of one shape, or executor='sequential'"
            )
        for (name, value), own in zip(models[0].named_buffers(), model.buffers(), strict=True):
            if not torch.equal(value, own):
                raise InputError(
                    f"the buffer {name!r} differs between run {ids[0]} and run {run}, and an ensemble's models would share it; "
                    "make it alike, or a parameter, or take executor='sequential'"
                )


def side_by_side(work: Work, job: Job) -> Pattern:
    """What runs like this one train by together.

    Raises:
        InputError: they cannot, or the data hold a token for which they have no logit.
    """
    model, streams = work.made(job.model, job.seed), work.corpus.train
    program = tried(model, streams)
    refuse_apart(model, streams.fixed(1)[0, :, :-1])
    return Pattern(job.id, model, program)


def refuse_apart(template: nn.Module, row: Tensor) -> None:
    """Raise for modules that models trained as one program would share, or draw random numbers for together."""
    moving = [n for n, m in template.named_modules() if isinstance(m, BATCH_NORMS) and m.track_running_stats]
    random = [n for n, m in template.named_modules() if isinstance(m, DROPOUTS) and m.p > 0]
    mend = "executor='sequential' or 'processes' trains each run by itself"
    if moving:
        raise InputError(f"{listed(moving)} keep running statistics, which an ensemble's models would share; {mend}")
    if random:
        raise InputError(f"{listed(random)} drop units at random, alike for all runs of an ensemble; set their p to 0, or {mend}")
    before = {name: value.clone() for name, value in template.named_buffers()}
    with torch.no_grad():
        template(row)
    changed = [name for name, value in template.named_buffers() if not torch.equal(value, before[name])]
    if changed:
        raise InputError(f"{listed(changed)} change during a forward pass, and an ensemble's models would share them; {mend}")


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """torch's global generator, which dropout draws from, set for a while."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield
