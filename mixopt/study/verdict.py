"""The verdict: the same target model on every mixture, paired over seeds, judged on text that no method saw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from mixopt.runtime.ensemble import train

from .data import Data, Target
from .models import Models
from .search import ALL, Found, part_of, recipe
from .sizes import Sizes, together

SAME = 2e-3
LEVEL = 0.95
FEWEST_SEEDS = 3

Baseline = tuple[tuple[str, ...], Mapping[str, float], float]
"""The targets that a baseline is for, its weights, and the proxy tokens that it cost."""

Losses = dict[str, dict[int, list[float]]]
"""Test losses of every domain [m] by mixture and seed."""


@dataclass(frozen=True)
class Candidate:
    """A mixture to be judged: its name, the targets that it is meant for, and whether a method found it."""

    name: str
    targets: tuple[str, ...]
    weights: tuple[float, ...]
    method: bool
    cost: float = 0.0
    same_as: str = ""


@dataclass(frozen=True)
class Line:
    """One row of the verdict on a target; losses in the study's unit, differences from uniform paired over the seeds.

    ``worst`` is the domain of the highest test loss among all that are measured, ``cost`` what finding the mixture took, in
    target runs; ``epochs`` how often the most repeated domain is read.
    """

    name: str
    method: bool
    loss: float
    difference: float
    low: float
    high: float
    worst: str
    worst_loss: float
    epochs: float
    cost: float

    @property
    def against_uniform(self) -> str:
        """The difference in a word."""
        return verdict_word(self.low, self.high)


def candidates(
    data: Data,
    found: Sequence[Found],
    baselines: Mapping[str, Baseline],
    run_cost: Callable[[float], float],
) -> list[Candidate]:
    """Every mixture once; one that equals an earlier one within a fifth of a per cent points to it instead of being trained twice."""
    every = tuple(t.name for t in data.targets)
    rows = [(name, targets, weights, False, run_cost(tokens)) for name, (targets, weights, tokens) in baselines.items()]
    rows += [(f.label, every if f.target == ALL else (f.target,), f.weights, True, run_cost(f.tokens)) for f in found]
    out: list[Candidate] = []
    for name, targets, weights, method, cost in rows:
        w = tuple(weights[d] for d in data.domains)
        twin = next((c.name for c in out if not c.same_as and np.max(np.abs(np.subtract(c.weights, w))) < SAME), "")
        out.append(Candidate(name, targets, w, method, cost, twin))
    return out


def measure(
    data: Data,
    sizes: Sizes,
    models: Models,
    rows: Sequence[Candidate],
    losses: Losses,
    save: Callable[[Losses], None],
    tell: Callable[[float], None],
    late: Callable[[], bool],
) -> Losses:
    """Train every candidate at every seed, a few together, and measure the test part; each few are saved as they finish.

    Once it is ``late``, no more are trained than the fewest seeds that a verdict takes.
    """
    windows = data.test.fixed(sizes.test_windows)
    every = [(seed, c) for seed in range(sizes.seeds) for c in rows if not c.same_as]
    todo = [(seed, c) for seed, c in every if seed not in losses.get(c.name, {})]
    finished, at_once = len(every) - len(todo), together(sizes.target_parameters)
    while todo and not (late() and len(complete(rows, losses)) >= FEWEST_SEEDS):
        part, todo = todo[:at_once], todo[at_once:]
        seeds = [1000 + seed for seed, _ in part]
        trained = train(
            models.target,
            np.array([c.weights for _, c in part]),
            data.train,
            recipe(sizes.target_steps, sizes, models),
            seeds=seeds,
            data_seed=seeds,
            watch=part_of(tell, finished, len(part), len(every)),
        )
        for (seed, c), row in zip(part, data.measured(trained.losses(windows).cpu().numpy()), strict=True):
            losses.setdefault(c.name, {})[seed] = row.tolist()
        finished += len(part)
        save(losses)
    return losses


def judged(data: Data, sizes: Sizes, rows: Sequence[Candidate], losses: Losses, target: Target) -> list[Line]:
    """The verdict on one target over the seeds that every mixture has, best first."""
    own = [c for c in rows if target.name in c.targets]
    seeds = complete(rows, losses)
    table = {c.name: np.array([losses[c.same_as or c.name][s] for s in seeds]) for c in own}
    score = {n: data.score(v, target) for n, v in table.items()}
    lines = []
    for c in own:
        difference, low, high = paired(score[c.name] - score["uniform"])
        by_domain, names = table[c.name].mean(axis=0), data.names
        worst = int(np.argmax(by_domain))
        epochs = float(np.max(np.array(c.weights) * sizes.run_tokens / data.domains.sizes))
        lines.append(
            Line(
                c.name, c.method, float(score[c.name].mean()), difference, low, high, names[worst], float(by_domain[worst]), epochs, c.cost
            )
        )
    return sorted(lines, key=lambda line: line.loss)


def complete(rows: Sequence[Candidate], losses: Losses) -> list[int]:
    """The seeds at which every mixture has been trained."""
    kept = [set(losses.get(c.name, {})) for c in rows if not c.same_as]
    return sorted(set.intersection(*kept)) if kept else []


def sentences(data: Data, rows: Sequence[Candidate], losses: Losses, target: Target, lines: Sequence[Line]) -> list[str]:
    """What each method bought: its paired difference from the best baseline, called noise where it is."""
    seeds = complete(rows, losses)
    twin = {c.name: c.same_as or c.name for c in rows}

    def score(name: str) -> np.ndarray:
        return data.score(np.array([losses[twin[name]][s] for s in seeds]), target)

    best = min((line for line in lines if not line.method), key=lambda line: line.loss)
    out = [f"The best baseline is {best.name} ({best.loss:.3f})."]
    for line in (x for x in lines if x.method):
        if twin[line.name] == twin[best.name]:
            out.append(f"{line.name} found the same mixture as {best.name}: it bought nothing.")
            continue
        difference, low, high = paired(score(line.name) - score(best.name))
        word = verdict_word(low, high)
        figures = f"{difference:+.3f} [{low:+.3f}, {high:+.3f}]"
        if word == "better":
            out.append(f"{line.name} beats every baseline: {figures} against {best.name}.")
        elif word == "worse":
            out.append(f"{line.name} is worse than {best.name}: {figures}. It bought nothing.")
        else:
            out.append(f"{line.name} is within noise of {best.name}: {figures}. It bought nothing that {best.name} does not give.")
    return out


def paired(differences: np.ndarray) -> tuple[float, float, float]:
    """Mean of paired differences [n] with its 95 % t interval; infinite for fewer than two."""
    mean = float(np.mean(differences))
    if len(differences) < 2 or np.ptp(differences) == 0:
        wide = 0.0 if np.all(differences == 0) and len(differences) else float("inf")
        return mean, mean - wide, mean + wide
    half = float(stats.t.ppf(0.5 + LEVEL / 2, len(differences) - 1) * np.std(differences, ddof=1) / np.sqrt(len(differences)))
    return mean, mean - half, mean + half


def verdict_word(low: float, high: float) -> str:
    """ "better" or "worse" where the interval excludes zero, else "within noise" (or "the same" where it is zero)."""
    if low == high == 0:
        return "the same"
    return "better" if high < 0 else "worse" if low > 0 else "within noise"
