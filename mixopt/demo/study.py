"""The demo from start to end: text, proxies, three families of methods, and an honest verdict, within a time limit."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

import mixopt as mx
from mixopt.errors import MissingExtraError
from mixopt.problems import proportional, uniform, unimax
from mixopt.problems.laws import CrossValidation, Exponential
from mixopt.report import plots
from mixopt.runs import Runs
from mixopt.runtime.torch_learner import checked_device

from . import corpus, search, verdict
from .console import Screen
from .data import Data, prepare
from .search import EPOCHS, MEAN, Found
from .sizes import FULL, QUICK, Sizes, fitted, parameters, search_work, verdict_work, work
from .store import Store

DISTINCT = 14
"""Mixtures that the verdict trains at most: seven found, four baselines for both targets, three for one."""


def run(
    out: str | os.PathLike[str],
    *,
    quick: bool = False,
    seconds: float | None = None,
    seed: int = 0,
    fresh: bool = False,
    device: str = "cpu",
    screen: Screen | None = None,
) -> None:
    """Run the demo into a folder; one that was interrupted goes on where it was.

    Raises:
        InputError: a folder that cannot be written or holds another study, a device that is absent.
    """
    screen = screen or Screen()
    clock = time.perf_counter()
    store = Store.open(out)
    checked_device(device)
    if fresh:
        store.clear()
    screen.head("mixopt demo: which mixture of Python's own text trains the better model?")
    screen.say("  reading the text and measuring this machine ...", "dim")
    text = corpus.load()
    identity = {"preset": "quick" if quick else "full", "seed": seed, "corpus": text.fingerprint[:12], "mixopt": mx.__version__}
    before = store.sizes(identity)
    sizes, speed = _sizes(text, before or (QUICK if quick else FULL), before is not None, seconds, device, screen, clock)
    store.begin(identity, sizes)
    data = prepare(text, sizes.training_text, device)
    _introduce(screen, data, sizes, text.missing, before is not None)
    try:
        limit = 1.15 * (seconds or sizes.seconds)
        _study(screen, store, data, sizes, seed, speed, lambda: time.perf_counter() - clock > limit)
    except KeyboardInterrupt:
        screen.say(f"\nInterrupted. What was finished is in {store.folder}; the same command goes on from there.", "yellow")
        _conclude(screen, store, data, sizes)
        raise
    minutes = (time.perf_counter() - clock) / 60
    pictures = ", pictures" if find_spec("matplotlib") else ""
    screen.say(f"\nIn {minutes:.1f} minutes. In {store.folder}: weights.json, runs.csv, table.json{pictures}.")


def _sizes(
    text: corpus.Corpus, sizes: Sizes, fixed: bool, seconds: float | None, device: str, screen: Screen, clock: float
) -> tuple[Sizes, float]:
    """The sizes that fit the time on this machine, and its speed in operations a second with the better number of threads."""
    data = prepare(text, sizes.training_text, device)
    speeds = {}
    for threads in sorted({1, torch.get_num_threads()}):
        torch.set_num_threads(threads)
        speeds[threads] = search.speed(data, sizes)
    best = max(speeds, key=lambda n: speeds[n])
    torch.set_num_threads(best)
    limit = (seconds or sizes.seconds) - (time.perf_counter() - clock)
    screen.say(f"  this machine trains at {speeds[best] / 1e9:.0f} GFLOP/s with {best} thread{'s' if best > 1 else ''}")
    if fixed:
        return sizes, speeds[best]
    cut, dropped = fitted(sizes, speeds[best], max(limit, 1.0), len(data.domains), DISTINCT)
    for what in dropped:
        screen.say(f"  too slow for {(seconds or sizes.seconds):.0f} s: {what}", "yellow")
    return cut, speeds[best]


def _introduce(screen: Screen, data: Data, sizes: Sizes, missing: Mapping[str, str], again: bool) -> None:
    shares = ", ".join(f"{n} {s / 1000:.0f}k" for n, s in zip(data.domains, data.domains.sizes, strict=True))
    screen.say(f"  trained on   {shares} (bytes)")
    for name, why in missing.items():
        screen.say(f"  left out     {name}: {why}", "yellow")
    screen.say(f"  never on     {data.held_out}, the out-of-domain target")
    small, large = parameters(sizes.proxy_width) / 1e3, parameters(sizes.target_width) / 1e3
    screen.say(f"  proxies      {sizes.proxies} of {small:.0f}k parameters, {sizes.proxy_tokens / 1e3:.0f}k bytes each")
    screen.say(f"  target runs  {large:.0f}k parameters, {sizes.target_tokens / 1e3:.0f}k bytes, {sizes.seeds} seeds for each mixture")
    if find_spec("matplotlib") is None:
        screen.say(f"  no pictures: {MissingExtraError('matplotlib', 'plots', 'drawing them')}", "yellow")
    if again:
        screen.say("  going on with the study that was begun in this folder")


def _study(screen: Screen, store: Store, data: Data, sizes: Sizes, seed: int, speed: float, late: Callable[[], bool]) -> None:
    ahead = (search_work(sizes, len(data.domains)) + verdict_work(sizes, DISTINCT)) / speed
    screen.expect(ahead)
    screen.head("1  Proxy runs, as one vmapped ensemble")
    seconds = work(sizes.proxies * sizes.proxy_tokens, sizes.proxy_width) / speed
    with screen.stage(f"{sizes.proxies} proxies", seconds) as tell:
        runs = search.proxy_runs(data, sizes, seed, store.runs(), store.save_runs, tell)
    law, checked = search.fit_law(runs)
    found = _found(screen, store, data, sizes, seed, law, checked, search_work(sizes, len(data.domains)) / speed - seconds)
    rows = _candidates(data, sizes, runs, found)
    store.save_weights({c.name: dict(zip(data.domains, c.weights, strict=True)) for c in rows})
    screen.head("The mixtures")
    screen.weights(data.domains.names, {c.name: dict(zip(data.domains, c.weights, strict=True)) for c in rows})
    _pictures(store, data, runs, checked, found, rows)
    screen.head("5  The verdict: a larger model, trained longer, on every mixture")
    with screen.stage(f"{sum(not c.same_as for c in rows) * sizes.seeds} target runs", verdict_work(sizes, DISTINCT) / speed) as tell:
        losses = verdict.measure(data, sizes, rows, store.losses(), store.save_losses, tell, late)
    done = len(verdict.complete(rows, losses))
    if done < sizes.seeds:
        screen.say(f"  slower than measured: stopped at {done} of {sizes.seeds} seeds; the same command goes on from here", "yellow")
    _conclude(screen, store, data, sizes)


def _found(
    screen: Screen, store: Store, data: Data, sizes: Sizes, seed: int, law: Exponential, checked: CrossValidation, seconds: float
) -> list[Found]:
    """Every mixture found; those of an earlier start are taken from the folder."""
    found = store.found()
    have = {(f.method, f.target) for f in found}
    tokens = float(sizes.proxies * sizes.proxy_tokens)

    def keep(new: Found) -> None:
        found.append(new)
        store.save_found(found)

    screen.head("2  Mixing law: exponential laws of the runs, optimised by the conic solver")
    screen.say(f"  errors of predicting each run by a law fitted without it, in {search.UNIT}:", "dim")
    for line in checked.table().splitlines():
        screen.say("  " + line)
    for target in (MEAN, data.held_out):
        if ("law", target) not in have:
            keep(search.by_law(law, checked, data, sizes, target, tokens))
        screen.found(_of(found, "law", target))
    screen.head("3  Min-max: DoReMi against a reference model")
    if ("DoReMi", "all") not in have:
        with screen.stage("DoReMi", 0.2 * seconds) as tell:
            keep(search.by_doremi(data, sizes, seed, tell))
    screen.found(_of(found, "DoReMi", "all"))
    screen.head("4  Bilevel: one problem, two solvers")
    for name, solver in search.bilevel_solvers(data, sizes).items():
        for target in (MEAN, data.held_out):
            if (name, target) not in have:
                with screen.stage(f"{name} ({target})", (0.1 if name == "DoGE" else 0.3) * seconds) as tell:
                    keep(search.by_bilevel(name, solver, data, sizes, target, seed, tell))
            screen.found(_of(found, name, target))
    return found


def _of(found: Sequence[Found], method: str, target: str) -> Found:
    return next(f for f in found if (f.method, f.target) == (method, target))


def _candidates(data: Data, sizes: Sizes, runs: Runs, found: Sequence[Found]) -> list[verdict.Candidate]:
    """The baselines, the best measured and the best single domain by the proxies, and what the methods found."""
    both = (MEAN, data.held_out)
    tokens = float(sizes.proxies * sizes.proxy_tokens)
    baselines: dict[str, tuple[tuple[str, ...], Mapping[str, float], float]] = {
        "uniform": (both, uniform(data.domains), 0.0),
        "natural": (both, proportional(data.domains), 0.0),
        "UniMax": (both, unimax(data.domains, sizes.target_tokens, EPOCHS), 0.0),
    }
    single = np.flatnonzero(runs.mixtures.max(axis=1) == 1)
    for target in both:
        loss = search.target_losses(runs.metrics, data.names, target, data.held_out)
        for name, rows, cost in (
            ("best proxy", np.arange(len(loss)), tokens),
            ("best single", single, len(single) * tokens / sizes.proxies),
        ):
            best = runs.mixtures[rows[int(np.argmin(loss[rows]))]]
            baselines[f"{name} ({target})"] = ((target,), dict(zip(data.domains, best.tolist(), strict=True)), float(cost))
    one_run = work(sizes.target_tokens, sizes.target_width)
    return verdict.candidates(data, found, baselines, lambda t: work(t, sizes.proxy_width) / one_run)


def _conclude(screen: Screen, store: Store, data: Data, sizes: Sizes) -> None:
    """The verdict from what has been measured, on the screen and in table.json."""
    runs, found, losses = store.runs(), store.found(), store.losses()
    if runs is None or not losses:
        return
    rows = _candidates(data, sizes, runs, found)
    seeds = verdict.complete(rows, losses)
    if len(seeds) < 2:
        screen.say(f"{len(seeds)} seeds are complete; a verdict needs two", "yellow")
        return
    table: dict[str, Any] = {
        "unit": "nats per byte",
        "seeds": seeds,
        "losses": losses,
        "mixtures": [asdict(c) for c in rows],
        "targets": {},
    }
    drawn = []
    for target in (MEAN, data.held_out):
        lines = verdict.judged(data, sizes, rows, losses, target)
        said = verdict.sentences(data, rows, losses, target, lines)
        what = f"mean of the {len(data.domains)} domains trained on" if target == MEAN else f"{target}, never trained on"
        screen.verdict(f"Target: {what} (test text, nats per byte, {len(seeds)} seeds)", lines, said)
        table["targets"][target] = {"lines": [asdict(x) for x in lines], "sentences": said}
        drawn += [(what, x.name, x.difference, x.low, x.high) for x in lines if x.name != "uniform"]
    screen.say("  * baselines; ± 95 %, paired over seeds; epochs of the most repeated domain;", "dim")
    screen.say("    cost of finding the mixture, in target runs", "dim")
    store.save_table(table)
    with suppress(MissingExtraError):
        plots.verdict(store.folder / "verdict.png", drawn, unit=search.UNIT)


def _pictures(
    store: Store, data: Data, runs: Runs, checked: CrossValidation, found: Sequence[Found], rows: Sequence[verdict.Candidate]
) -> None:
    """Pictures of what was found; without matplotlib there are none, which was said at the start."""
    weights = {c.name: dict(zip(data.domains, c.weights, strict=True)) for c in rows if c.name != "natural"}
    natural = dict(zip(data.domains, data.domains.natural.tolist(), strict=True))
    traces = {f"{f.method}{'' if f.target == 'all' else f' ({f.target})'}": np.array(f.trace) for f in found if f.trace}
    with suppress(MissingExtraError):
        plots.weights(store.folder / "weights.png", weights, natural=natural)
        plots.trajectories(store.folder / "trajectories.png", traces, data.domains.names)
        plots.law_fit(store.folder / "law.png", checked.predicted, search.mixed(runs).metrics, runs.targets)
