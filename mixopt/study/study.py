"""A study from start to end: proxy runs, three families of methods, and an honest verdict; what is finished stays finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from itertools import count
from types import MappingProxyType
from typing import Any, final

import torch

from mixopt.errors import MissingExtraError
from mixopt.fitting import Recommendation
from mixopt.report.page import provenance
from mixopt.runs import Runs

from . import search, verdict
from .console import Screen
from .data import Data
from .models import Models
from .outcome import Outcome, candidates, draw, outcome_of
from .report import saved
from .search import ALL, Found
from .sizes import METHODS, Sizes, fitted, known_methods, search_work, verdict_work, work
from .store import Store
from .verdict import Candidate


@final
@dataclass(frozen=True)
class Study:
    """What is studied, how large, with which models and methods, and where what is finished is kept."""

    data: Data
    models: Models
    sizes: Sizes
    store: Store
    screen: Screen
    identity: Mapping[str, Any]  # what makes it another study than one in the same folder
    origins: Mapping[str, str] = field(default_factory=dict)  # what was read, and its digest
    seed: int = 0
    methods: tuple[str, ...] = METHODS
    speed: float = 1e10  # operations a second

    def __post_init__(self) -> None:
        known_methods(self.methods)

    @property
    def distinct(self) -> int:
        """Mixtures that the verdict trains at most: what is found, four baselines for every target, and one of its own each."""
        targets, looking = len(self.data.targets), sum(m != "doremi" for m in self.methods)
        return looking * targets + ("doremi" in self.methods) + 4 + targets

    @property
    def work(self) -> float:
        """Operations ahead, roughly."""
        return self.search + verdict_work(self.sizes, self.distinct)

    @property
    def search(self) -> float:
        """Operations of the search, roughly."""
        return search_work(self.sizes, len(self.data.domains), self.methods, len(self.data.targets))


def measured(study: Study, fixed: bool, spent: float) -> Study:
    """The study with this machine's speed, the better number of threads, and, unless they are fixed, sizes that fit its time.

    A study that goes on keeps its sizes and threads, so that it ends with the result that it would have had.
    """
    speeds: dict[int, float] = {}
    for threads in sorted({1, torch.get_num_threads()}) if not study.sizes.threads else [study.sizes.threads]:
        torch.set_num_threads(threads)
        speeds[threads] = search.speed(study.data, study.sizes, study.models)
    best = max(speeds, key=lambda n: speeds[n])
    torch.set_num_threads(best)
    study.screen.say(f"  this machine trains at {speeds[best] / 1e9:.0f} GFLOP/s with {best} thread{'s' if best > 1 else ''}")
    sizes = replace(study.sizes, threads=best)
    if not fixed:
        left = max(sizes.seconds - spent, 1.0)
        sizes, dropped = fitted(sizes, speeds[best], left, len(study.data.domains), study.distinct, study.methods, len(study.data.targets))
        for what in dropped:
            study.screen.say(f"  too slow for {sizes.seconds:.0f} s: {what}", "yellow")
    return replace(study, sizes=sizes, speed=speeds[best])


def introduce(study: Study, again: bool) -> None:
    """Say what will be trained on what, before any of it."""
    data, sizes, models, say = study.data, study.sizes, study.models, study.screen.say
    shares = ", ".join(f"{n} {_thousands(s)}" for n, s in zip(data.domains, data.domains.sizes, strict=True))
    say(f"  trained on   {shares} (tokens)")
    never = [n for n in data.names if n not in data.domains]
    if never:
        say(f"  never on     {', '.join(never)}: out of domain")
    say(f"  targets      {', '.join(t.name for t in data.targets)} ({data.unit})")
    if "law" in study.methods:
        each = f"{_thousands(models.proxy_parameters)} parameters, {_thousands(sizes.proxy_tokens)} tokens each"
        say(f"  proxies      {sizes.proxies} of {each}")
    say(
        f"  target runs  {_thousands(models.target_parameters)} parameters, {_thousands(sizes.target_tokens)} tokens, "
        f"{sizes.seeds} seeds for each mixture"
    )
    minutes = study.work / study.speed / 60
    say(f"  takes        about {minutes:.0f} minutes" if minutes >= 1.5 else f"  takes        about {60 * minutes:.0f} s")
    if find_spec("matplotlib") is None:
        say(f"  no pictures: {MissingExtraError('matplotlib', 'plots', 'drawing them')}", "yellow")
    if again:
        say("  going on with the study that was begun in this folder")


def carried_out(study: Study, clock: float, command: str) -> Outcome:
    """Run a study that began at ``clock`` and write its report; an interruption says what is finished, and where it lies."""
    screen, folder = study.screen, study.store.folder
    limit = 1.15 * study.sizes.seconds
    study.store.begin(study.identity, study.sizes)
    try:
        outcome = run(study, lambda: time.perf_counter() - clock > limit)
    except KeyboardInterrupt:
        screen.say(f"\nInterrupted. What was finished is in {folder}; the same command goes on from there.", "yellow")
        conclude(study)
        raise
    made_by = replace(provenance(command, (), study.seed), files=dict(study.origins))
    made = saved(study.data, study.sizes, outcome, made_by, folder)
    minutes = (time.perf_counter() - clock) / 60
    screen.say(f"\nIn {minutes:.1f} minutes.")
    screen.say(f"In {folder}: report.html (and .md, .json), mixture.json to export, weights.json, runs.csv, table.json.")
    return replace(outcome, report=made)


def run(study: Study, late: Callable[[], bool]) -> Outcome:
    """Find mixtures and judge them.

    Once it is ``late``, the verdict stops at the fewest seeds that it takes. What is finished is on disk at every moment.
    """
    screen, store, data, sizes = study.screen, study.store, study.data, study.sizes
    number = count(1)
    screen.expect(study.work / study.speed)
    found: list[Found] = store.found()
    laws: dict[str, Recommendation] = {}
    if "law" in study.methods:
        screen.head(f"{next(number)}  Proxy runs")
        runs = _proxies(study)
        screen.head(f"{next(number)}  Mixing law: exponential laws of the runs, optimised by the conic solver")
        laws = _by_law(study, runs, found)
    if "doremi" in study.methods:
        screen.head(f"{next(number)}  Min-max: DoReMi against a reference model")
        _each(study, found, "DoReMi", [ALL], 0.2, lambda _, tell: search.by_doremi(data, sizes, study.models, study.seed, tell))
    if {"doge", "implicit"} & set(study.methods):
        screen.head(f"{next(number)}  Bilevel: which direction lowers the validation loss")
        _by_bilevel(study, found)
    rows = candidates(data, sizes, store.runs(), found)
    mixtures = {c.name: dict(zip(data.domains, c.weights, strict=True)) for c in rows}
    store.save_weights(mixtures)
    screen.head("The mixtures")
    screen.weights(data.domains.names, mixtures)
    if sizes.seeds:
        screen.head(f"{next(number)}  The verdict: the target model trained on every mixture")
        _measure(study, rows, late)
    return conclude(study, laws)


def _measure(study: Study, rows: Sequence[Candidate], late: Callable[[], bool]) -> None:
    """Train the target model on every mixture, as far as the time goes."""
    sizes, store = study.sizes, study.store
    seconds = verdict_work(sizes, study.distinct) / study.speed
    with study.screen.stage(f"{sum(not c.same_as for c in rows) * sizes.seeds} target runs", seconds) as tell:
        losses = verdict.measure(study.data, sizes, study.models, rows, store.losses(), store.save_losses, tell, late)
    done = len(verdict.complete(rows, losses))
    if done < sizes.seeds:
        study.screen.say(f"  slower than measured: stopped at {done} of {sizes.seeds} seeds; the same command goes on from here", "yellow")


def _proxies(study: Study) -> Runs:
    sizes, store = study.sizes, study.store
    seconds = work(sizes.proxies * sizes.proxy_tokens, sizes.proxy_parameters) / study.speed
    with study.screen.stage(f"{sizes.proxies} proxies", seconds) as tell:
        return search.proxy_runs(study.data, sizes, study.models, study.seed, store.runs(), store.save_runs, tell)


def _by_law(study: Study, runs: Runs, found: list[Found]) -> dict[str, Recommendation]:
    """The law's recommendation for each target."""
    screen, tokens = study.screen, float(study.sizes.proxies * study.sizes.proxy_tokens)
    laws = {t.name: search.recommended(runs, study.data, study.sizes, t) for t in study.data.targets}
    screen.say(f"  errors of predicting each run by a law fitted without it, in {study.data.unit}:", "dim")
    for line in next(iter(laws.values())).validation.table().splitlines():
        screen.say("  " + line)
    for target in study.data.targets:
        if not _of(found, "law", target.name):
            _keep(study, found, search.by_law(laws[target.name], study.data, target, tokens))
        screen.found(_of(found, "law", target.name)[0])
    return laws


def _by_bilevel(study: Study, found: list[Found]) -> None:
    for name, solver in search.bilevel_solvers(study.data, study.sizes).items():
        if name.lower() not in study.methods:
            continue
        share = 0.1 if name == "DoGE" else 0.3

        def one(target: str, tell: search.Tell, name: str = name, solver: Any = solver) -> Found:
            aim = study.data.target(target)
            return search.by_bilevel(name, solver, study.data, study.sizes, study.models, aim, study.seed, tell)

        _each(study, found, name, [t.name for t in study.data.targets], share, one)


def _each(
    study: Study, found: list[Found], method: str, targets: Sequence[str], share: float, one: Callable[[str, search.Tell], Found]
) -> None:
    """A method for each target, those of an earlier start taken from the folder."""
    seconds = share * study.search / study.speed
    for target in targets:
        if not _of(found, method, target):
            with study.screen.stage(method if target == ALL else f"{method} ({target})", seconds) as tell:
                _keep(study, found, one(target, tell))
        study.screen.found(_of(found, method, target)[0])


def _keep(study: Study, found: list[Found], new: Found) -> None:
    found.append(new)
    study.store.save_found(found)


def _of(found: Sequence[Found], method: str, target: str) -> list[Found]:
    return [f for f in found if (f.method, f.target) == (method, target)]


def conclude(study: Study, laws: Mapping[str, Recommendation] = MappingProxyType({})) -> Outcome:
    """The outcome of what is on disk, its verdict on the screen and in table.json."""
    store, screen, data = study.store, study.screen, study.data
    outcome = outcome_of(data, study.sizes, store.runs(), laws, store.found(), store.losses())
    if outcome.losses and not outcome.lines:
        screen.say(f"{len(outcome.seeds)} seeds are complete; a verdict needs two", "yellow")
    for name, lines in outcome.lines.items():
        what = data.target(name).title or name
        screen.verdict(f"Target: {what} (test text, {data.unit}, {len(outcome.seeds)} seeds)", lines, outcome.sentences[name])
    if outcome.lines:
        screen.say("  * baselines; ± 95 %, paired over seeds; epochs of the most repeated domain;", "dim")
        screen.say("    cost of finding the mixture, in target runs", "dim")
        store.save_table(outcome.table(data.unit))
    draw(data, outcome, store.folder)
    return outcome


def _thousands(value: float) -> str:
    """A count as a person writes it: 12k, 3.4M, 1.2B."""
    for size, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:.0f}"
