"""``sweep``: the runs of a design trained as proxies, journalled as they finish, as a table of runs."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mixopt.designs import Design
from mixopt.errors import InputError, MixoptError, listed, unknown
from mixopt.runs import Runs
from mixopt.runtime.recipe import Recipe
from mixopt.runtime.torch_learner import checked_device

from .by_ray import Ray
from .collecting import tabled
from .corpus import WINDOWS, Corpus, corpus
from .executors import Ensemble, Executor, Sequential, count
from .job import Finished, Job
from .journal import Journal
from .processes import Processes
from .progress import Log, Watch, Watched
from .work import Factory, Work

EXECUTORS: dict[str, Callable[[], Executor]] = {"ensemble": Ensemble, "sequential": Sequential, "processes": Processes, "ray": Ray}
BATCH = 16
WAIT = 2.0
"""Seconds between two looks at runs that another sweep trains."""


def sweep(
    domains: Any,
    factory: Factory | Mapping[str, Factory],
    design: Design | Iterable[Sequence[float]],
    *,
    tokens: float | Sequence[float] | None = None,
    targets: Any = None,
    target_tokens: float | None = None,
    context: int | None = None,
    recipe: Recipe | None = None,
    batch: int | None = None,
    rates: Sequence[float] | None = None,
    windows: int = WINDOWS,
    curve: int | Sequence[float] = 0,
    executor: str | Executor = "ensemble",
    resume: str | os.PathLike[str] | None = None,
    seed: int | None = None,
    watch: Watch | None = None,
    log: Log | None = None,
) -> Runs:
    """Train a proxy for every mixture of a design, and return their losses as ``Runs``.

    ``domains`` are streams of tokens by domain: mixopt.data's ``Prepared``, ``Streams``, or a dict of tokens [n] with ``context``, the
    tokens of a window; ``targets`` are held-out streams of the same kinds (a preparation's own validation part if left out), of which
    ``windows`` windows each are measured, in nats per token. ``factory`` makes a module from a seed, tokens [b, t] -> logits
    [b, t, vocabulary], that of a trained one to go on from a checkpoint; several by name sweep all of them, and ``tokens``, those that
    a run is trained on, may be several too: then the table has a row for each mixture, size and length, with N and D.

    With ``target_tokens``, those of the run that the mixture is for, domains are cut so that proxies repeat them as often as that run
    will (``designs.simulated``). ``recipe`` says how a run is trained, AdamW with a warm-up and a cosine; its steps are by ``tokens``
    where these are given, or by the design's. ``rates`` [R] are peak rates of the runs where they differ. ``curve`` measures losses at so
    many even points on the way, or after the shares given. Run r has the design's seed for its model and its data, so results do not
    depend on how runs are carried out: ``executor`` is "ensemble" (one vmapped program), "sequential", "processes", "ray", or one with
    settings, such as ``Ensemble(together=64, device="cuda")`` or ``Halving()``.

    Each finished run is in the journal ``resume`` at once; the same sweep with that file does what is missing, and two sweeps may share it.
    ``watch`` hears of progress, a ``Progress``; ``log`` of each finished run, a mapping of run, mixture and losses by name, steps, tokens,
    seconds and stopped, which is what loggers take. Interrupted by Ctrl-C it returns what is finished, with a warning.

    Raises:
        InputError: a design over other domains, no tokens, models or data that do not fit, a journal of another corpus.
        LearnerError: a loss that is NaN or infinite; the run is named, and what finished before is kept.
        MissingExtraError: ray is not installed.
    """
    made = corpus(domains, targets, context, windows, _part(tokens, design, target_tokens))
    plan = _plan(made, design, seed)
    factories = _factories(factory)
    jobs = _jobs(plan, made, list(factories), _recipes(plan, made, recipe, tokens, batch), rates)
    runner = _executor(executor)
    work = Work(made, factories, _shares(curve, runner))
    with _store(resume) as path:
        journal = Journal(path, _identity(made))
        keys = _keys(jobs, work, runner, journal.finished())
        with journal.alive():
            return _table(plan, made, jobs, keys, _carried_out(runner, work, jobs, keys, journal, watch, log))


@contextmanager
def _store(resume: str | os.PathLike[str] | None) -> Iterator[Path]:
    """The file of the journal; without one a file for the while, which stays where a sweep that fails has finished runs in it."""
    if resume is not None:
        yield Path(resume)
        return
    folder = Path(tempfile.mkdtemp(prefix="mixopt-sweep-"))
    path, kept = folder / "runs.sqlite", 0
    try:
        yield path
    except Exception as error:
        with suppress(MixoptError):
            kept = len(Journal(path).finished())
        if kept:
            error.add_note(f"{kept} finished runs are in {path}; the same sweep with resume={str(path)!r} goes on from there")
        raise
    finally:
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)


def _factories(given: Any) -> dict[str, Factory]:
    """The factories by name."""
    found = dict(given) if isinstance(given, Mapping) else {"model": given}
    for name, one in found.items():
        if not callable(one) or isinstance(one, nn.Module):
            raise InputError(f"the factory of {name!r} is a {type(one).__name__}; give a function that makes a module from a seed")
    if not found:
        raise InputError("there is no factory; give a function that makes a module from a seed, or several by name")
    return found


def _keys(jobs: Sequence[Job], work: Work, runner: Executor, found: Mapping[str, Finished]) -> dict[str, str]:
    """The key of each run by its id; where runs are not stopped early, a whole run with losses at all points asked for will do."""
    models = {name: work.digest(name) for name in work.factories}
    stops = runner.stops()
    whole: dict[str, list[Finished]] = {}
    for one in found.values():
        whole.setdefault(one.key.split(":")[0], []).append(one)
    keys = {}
    for job in jobs:
        points = work.points(job.recipe)
        own = job.key(models[job.model], points[:-1], stops)
        others = [one.key for one in whole.get(own.split(":")[0], ()) if one.has(own, points)]
        keys[job.id] = own if stops or own in found or not others else others[0]
    return keys


def _carried_out(
    runner: Executor, work: Work, jobs: list[Job], keys: Mapping[str, str], journal: Journal, watch: Watch | None, log: Log | None
) -> dict[str, Finished]:
    """Train what is missing; where another sweep holds runs of this one, wait until they are finished or it is gone."""
    by_key = {keys[job.id]: job for job in sorted(jobs, key=_in_turn(jobs))}

    def mine() -> dict[str, Finished]:
        return {key: one for key, one in journal.finished().items() if key in by_key}

    before = mine()
    watched = Watched(by_key, work.corpus.train, before, watch, log)
    work = replace(work, runs=len(by_key), before=tuple(one.steps for one in before.values()))

    def done(some: Sequence[Finished]) -> None:
        added: list[tuple[Finished, bool]] = []
        try:
            added += ((one, journal.add(by_key[one.key], one)) for one in some)
        finally:  # all are kept before any is told, and what is kept is told where the disk takes no more
            watched.done(added, work.corpus.targets.names)

    def take(most: int) -> list[tuple[Job, str]]:
        return [(by_key[key], key) for key in journal.take(list(by_key), most)]

    try:
        watched.elsewhere(before)
        while True:
            if journal.free(list(by_key)):
                runner.carry_out(work, take, done, watched.tell)
            found = mine()
            watched.elsewhere(found)
            if len(found) == len(by_key):
                return found
            time.sleep(WAIT)
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"the GPU's memory does not hold the runs that train at once; take a smaller model, batch or context, or fewer of them by "
            f"together= or workers= (halving holds all runs); what finished is kept ({error})"
        ) from None
    except KeyboardInterrupt:
        found = mine()
        kept = ", and the table has them" if found else ""
        warnings.warn(f"the sweep was interrupted: {len(found)} of {len(by_key)} runs are finished{kept}", stacklevel=3)
        if all(one.stopped for one in found.values()):
            raise
        return found


def _in_turn(jobs: Sequence[Job]) -> Callable[[Job], int]:
    """An order in which runs that may train as one program come one after another."""
    kinds = {kind: place for place, kind in enumerate(dict.fromkeys(job.kind for job in jobs))}
    return lambda job: kinds[job.kind]


def _part(tokens: Any, design: Any, target_tokens: float | None) -> tuple[float, float] | None:
    """The tokens of a proxy and of the run that it stands for, where domains are to be cut."""
    if target_tokens is None:
        return None
    told = getattr(design, "tokens", None) if tokens is None else tokens
    if told is None or len(lengths := {*_lengths(told)}) > 1:
        raise InputError("target_tokens= takes one number of tokens= for all runs: the domains are cut by their ratio")
    return float(lengths.pop()), float(target_tokens)


def _plan(made: Corpus, design: Any, seed: int | None) -> Design:
    """The design, over the domains that there are data of."""
    count("seed", seed, least=0, none=True)
    if isinstance(design, Design) and seed is not None:
        raise InputError("the runs of a design have seeds of their own; give seed= to mx.design, or to sweep with mixtures alone")
    plan = design if isinstance(design, Design) else _given(made, design, seed or 0)
    if plan.domains.names != made.train.names:
        own, data = listed(plan.domains.names), listed(made.train.names)
        raise InputError(f"the design is over {own}, and the data over {data}; they are to be the same, in one order")
    return plan


def _given(made: Corpus, mixtures: Any, seed: int) -> Design:
    """A design of mixtures that are given as they are."""
    from mixopt.designs.plan import made as design_of

    try:
        rows = np.atleast_2d(np.asarray(list(mixtures), dtype=float))
    except (TypeError, ValueError) as error:
        raise InputError(f"the mixtures are no table of numbers [R, k] ({error}); give one row of weights a run, or a Design") from None
    ids = [str(i) for i in range(len(rows))]
    return design_of(made.domains, rows, ids, ["given"] * len(rows), "given", seed)


def _recipes(plan: Design, made: Corpus, recipe: Recipe | None, tokens: Any, batch: int | None) -> list[list[Recipe]]:
    """The recipes of each run of the design, one for each length."""
    if recipe is not None and batch is not None:
        raise InputError(f"the recipe's batch is {recipe.batch}, and batch= is {batch}; say it in the recipe alone")
    base = recipe or Recipe(steps=1, batch=BATCH if batch is None else batch)
    if tokens is None and plan.tokens is None:
        if recipe is None:
            raise InputError("say how long a run is: tokens=, a recipe with its steps, or a design with tokens")
        return [[recipe]] * len(plan)
    if tokens is not None and plan.tokens is not None and {*_lengths(tokens)} != {*plan.tokens.tolist()}:
        raise InputError(
            f"the design's runs have {plan.tokens.min():g} to {plan.tokens.max():g} tokens, and tokens= is {tokens}; "
            "leave tokens= out, or make the design without tokens"
        )
    each = [_lengths(tokens)] * len(plan) if plan.tokens is None else [[t] for t in plan.tokens]
    return [[replace(base, steps=_steps(t, base.batch * made.train.context)) for t in some] for some in each]


def _lengths(tokens: Any) -> list[float]:
    """The tokens of a run, one number or several, as a list."""
    try:
        found: list[float] = np.asarray(tokens, dtype=float).ravel().tolist()
    except (TypeError, ValueError):
        found = []
    if not found:
        raise InputError(f"tokens= is {tokens!r}; it is the tokens that a run is trained on, or several such numbers")
    return found


def _steps(tokens: float, per_step: int) -> int:
    if not (math.isfinite(tokens) and tokens >= per_step):
        raise InputError(f"a run of {tokens:g} tokens is shorter than one step of {per_step:,} tokens; give more, or a smaller batch")
    return math.ceil(tokens / per_step)


def _jobs(plan: Design, made: Corpus, models: list[str], recipes: list[list[Recipe]], rates: Sequence[float] | None) -> list[Job]:
    if rates is not None and (isinstance(rates, str) or len(rates) != len(plan)):
        raise InputError(f"there are {len(rates)} rates for {len(plan)} runs; give the peak rate of each run")
    several = len(models) > 1 or max(map(len, recipes)) > 1
    jobs: list[Job] = []
    for r, (name, row) in enumerate(zip(plan.ids, plan.mixtures, strict=True)):
        for model in models:
            for recipe in recipes[r]:
                own = recipe if rates is None else replace(recipe, rate=float(rates[r]))
                told = f"{name}/{model}/{recipe.tokens(made.train.context)}" if several else name
                if any(told == job.id for job in jobs[-len(recipes[r]) :]):
                    raise InputError(f"two of the lengths in tokens= are the same number of steps, {recipe.steps}; leave one of them out")
                run_seed = int(plan.seeds[r])
                jobs.append(Job(told, tuple(row.tolist()), model, run_seed, run_seed, own, plan.origins[r]))
    return jobs


def _executor(given: str | Executor) -> Executor:
    """An executor, by name or with settings; its device is to be one of this machine, that of Ray one of the cluster's."""
    if isinstance(given, Executor):
        if not isinstance(given, Ray):
            checked_device(given.device)
        return given
    if given not in EXECUTORS:
        raise unknown("executor", given, EXECUTORS)
    return EXECUTORS[given]()


def _shares(curve: int | Sequence[float], runner: Executor) -> tuple[float, ...]:
    """The points of the curve, and those at which runs are stopped."""
    if isinstance(curve, (int, float)) and (curve < 0 or curve != int(curve)):
        raise InputError(f"curve is {curve!r}; it is a number of points >= 0, or the shares of the steps after which losses are measured")
    shares = tuple(np.arange(1, curve + 1) / (curve + 1)) if isinstance(curve, (int, float)) else tuple(curve)
    if not all(isinstance(share, (int, float, np.floating)) and 0 < share <= 1 for share in shares):
        raise InputError(f"the curve is measured after the shares {listed(shares)} of the steps; each is in (0, 1]")
    return tuple(sorted({float(share) for share in (*shares, *getattr(runner, "at", ()))}))


def _identity(made: Corpus) -> dict[str, Any]:
    """What all runs of a journal have in common."""
    return {
        "domains": list(made.train.names),
        "targets": list(made.targets.names),
        "context": made.train.context,
        "windows": made.windows,
        "corpus": made.fingerprint(),
    }


def _table(plan: Design, made: Corpus, jobs: list[Job], keys: Mapping[str, str], found: Mapping[str, Finished]) -> Runs:
    """The finished runs, in the order of the design; those that were stopped early are left out, with a note."""
    rows = [(job, found[keys[job.id]]) for job in jobs if keys[job.id] in found]
    whole = [(job, one) for job, one in rows if not one.stopped]
    if not whole:
        raise InputError("no run came to its end")
    told = [{**vars(job), "losses": one.losses, "params": one.params, "tokens": one.tokens, "steps": one.steps} for job, one in whole]
    runs = tabled(plan.domains, made.targets.names, told)
    early = len(rows) - len(whole)
    return replace(runs, notes=(f"{early} of {len(jobs)} runs were stopped early, and are left out", *runs.notes)) if early else runs
