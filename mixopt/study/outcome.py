"""What a study came to: the mixtures that are judged, the losses measured, and the verdict on each target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np

from mixopt.errors import MissingExtraError
from mixopt.fitting import Recommendation
from mixopt.problems import proportional, uniform, unimax
from mixopt.report import plots
from mixopt.report.report import Report
from mixopt.runs import Runs

from . import verdict
from .data import Data, Target
from .search import Found
from .sizes import Sizes, work
from .verdict import Candidate, Line, Losses


@final
@dataclass(frozen=True, eq=False)
class Outcome:
    """Proxy runs, what the methods found, the mixtures to judge, and, as far as it was measured, the verdict.

    ``laws`` maps a target to the law's recommendation; ``losses`` are the test losses; ``lines`` and ``sentences`` are the verdict
    by target, over the ``seeds`` that every mixture has; both are empty where there are fewer than two. ``report`` is what was
    written at the end.
    """

    runs: Runs | None
    laws: Mapping[str, Recommendation]
    found: tuple[Found, ...]
    rows: tuple[Candidate, ...]
    losses: Losses = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    lines: Mapping[str, list[Line]] = field(default_factory=dict)
    sentences: Mapping[str, list[str]] = field(default_factory=dict)
    report: Report | None = None

    @property
    def mixtures(self) -> dict[str, tuple[float, ...]]:
        """The weights [k] of every mixture."""
        return {c.name: c.weights for c in self.rows}

    def table(self, unit: str) -> dict[str, Any]:
        """The verdict as table.json has it."""
        targets = {t: {"lines": [asdict(x) for x in lines], "sentences": self.sentences[t]} for t, lines in self.lines.items()}
        mixtures = [asdict(c) for c in self.rows]
        return {"unit": unit, "seeds": list(self.seeds), "losses": self.losses, "mixtures": mixtures, "targets": targets}


def outcome_of(
    data: Data, sizes: Sizes, runs: Runs | None, laws: Mapping[str, Recommendation], found: Sequence[Found], losses: Losses
) -> Outcome:
    """The outcome of what has been found and measured so far."""
    rows = candidates(data, sizes, runs, found)
    seeds = verdict.complete(rows, losses)
    lines: dict[str, list[Line]] = {}
    said: dict[str, list[str]] = {}
    for target in data.targets if len(seeds) > 1 else ():
        lines[target.name] = verdict.judged(data, sizes, rows, losses, target)
        said[target.name] = verdict.sentences(data, rows, losses, target, lines[target.name])
    return Outcome(runs, dict(laws), tuple(found), tuple(rows), losses, tuple(seeds), lines, said)


def candidates(data: Data, sizes: Sizes, runs: Runs | None, found: Sequence[Found]) -> list[Candidate]:
    """The baselines, the best measured and the best single domain by the proxies, and what the methods found."""
    every = tuple(t.name for t in data.targets)
    baselines: dict[str, verdict.Baseline] = {
        "uniform": (every, uniform(data.domains), 0.0),
        "natural": (every, proportional(data.domains), 0.0),
        "UniMax": (every, unimax(data.domains, sizes.run_tokens, sizes.cap), 0.0),
    }
    for target in data.targets if runs is not None else ():
        assert runs is not None
        baselines |= _measured_best(data, sizes, runs, target)
    one_run = work(sizes.target_tokens, sizes.target_parameters)
    return verdict.candidates(data, found, baselines, lambda tokens: work(tokens, sizes.proxy_parameters) / one_run)


def _measured_best(data: Data, sizes: Sizes, runs: Runs, target: Target) -> dict[str, verdict.Baseline]:
    """The best proxy run on a target, and the best on a single domain where there were any."""
    tokens = float(sizes.proxies * sizes.proxy_tokens)
    loss = data.score(runs.metrics, target)
    single = np.flatnonzero(runs.mixtures.max(axis=1) == 1)
    out: dict[str, verdict.Baseline] = {}
    for name, rows, cost in (
        ("best proxy", np.arange(len(loss)), tokens),
        ("best single", single, len(single) * tokens / sizes.proxies),
    ):
        if len(rows):
            best = runs.mixtures[rows[int(np.argmin(loss[rows]))]]
            out[f"{name} ({target.name})"] = ((target.name,), dict(zip(data.domains, best.tolist(), strict=True)), float(cost))
    return out


def draw(data: Data, outcome: Outcome, folder: Path) -> None:
    """Pictures of mixtures, courses, the law's fit and the verdict; without matplotlib there are none."""
    weights = {n: dict(zip(data.domains, w, strict=True)) for n, w in outcome.mixtures.items() if n != "natural"}
    natural = dict(zip(data.domains, data.domains.natural.tolist(), strict=True))
    traces = {f.label: np.array(f.trace) for f in outcome.found if f.trace}
    law = next(iter(outcome.laws.values()), None)
    titles = {t.name: t.title or t.name for t in data.targets}
    judged = [(titles[t], x.name, x.difference, x.low, x.high) for t, lines in outcome.lines.items() for x in lines if x.name != "uniform"]
    with suppress(MissingExtraError):
        plots.save(plots.weights(weights, natural=natural), folder / "weights.png")
        if traces:
            plots.save(plots.trajectories(traces, data.domains.names), folder / "trajectories.png")
        if law is not None:
            plots.save(plots.law_fit(law.validation.predicted, law.runs.metrics, law.runs.targets), folder / "law.png")
        if judged:
            plots.save(plots.verdict(judged, unit=data.unit), folder / "verdict.png")
