"""The report of a study: what was found and measured, as the record that report.html shows, and the mixture to hand on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mixopt.export.blend import Blend
from mixopt.fitting.words import blended
from mixopt.report import page
from mixopt.report.report import Judged, Prediction, Provenance, Report

from .data import NATS, Data, Target
from .outcome import Outcome
from .search import Found
from .sizes import Sizes
from .verdict import Line

HEAD = ("mixture", "loss", "vs uniform, 95 %", "", "worst domain", "most epochs", "cost in target runs")


def saved(data: Data, sizes: Sizes, outcome: Outcome, provenance: Provenance, folder: Path) -> Report:
    """Write report.html, report.md, report.json and mixture.json into a folder, and give the report back."""
    made = report(data, sizes, outcome, provenance)
    page.save(made, folder)
    Blend(dict(made.recommended), tokens=_sizes(data), budget=sizes.budget).save(folder / "mixture.json")
    return made


def report(data: Data, sizes: Sizes, outcome: Outcome, provenance: Provenance) -> Report:
    """The report of a study, for its first target; where no verdict was measured it is the law's own, with a word that says so."""
    target = data.targets[0]
    law = outcome.laws.get(target.name)
    ground = Report("", "", {}) if law is None else law.report()
    lines = outcome.lines.get(target.name, [])
    own = [c for c in outcome.rows if target.name in c.targets]
    named = {c.name: dict(zip(data.domains, c.weights, strict=True)) for c in own if not c.same_as}
    twin = {c.name: c.same_as or c.name for c in own}
    chosen = _chosen(lines, sizes.cap)
    best = twin[chosen.name if chosen else _found_for(outcome, target)]
    sentence = _sentence(data.unit, named[best], chosen) if chosen else ground.recommendation
    return replace(
        ground,
        title=f"A mixture of {len(data.domains)} domains for {target.title or target.name}",
        recommendation=sentence or f"Train on {blended(named[best])}, as {best} found it.",
        doubts=(*_doubts(data, sizes, outcome, lines), *(ground.doubts if best == f"law ({target.name})" or not lines else ())),
        mixtures={best: named[best]} | {n: w for n, w in named.items() if n != best},
        tokens=_sizes(data),
        budget=sizes.run_tokens,
        cap=sizes.cap,
        predictions=_measured(data, outcome, target, named) or ground.predictions,
        measured=bool(outcome.lines),
        ranges=ground.ranges if law is not None and best == f"law ({target.name})" else None,
        trajectories={f.label: np.array(f.trace) for f in outcome.found if f.trace},
        verdicts=[_judged(data, outcome, t) for t in data.targets if t.name in outcome.lines],
        cost=_cost(outcome.found),
        notes=(*ground.notes, *(f"{f.label}: {line}" for f in outcome.found for line in f.evidence)),
        provenance=provenance,
    )


def _sizes(data: Data) -> dict[str, float]:
    return dict(zip(data.domains, data.domains.sizes.tolist(), strict=True))


def _found_for(outcome: Outcome, target: Target) -> str:
    """The first mixture that a method found for a target, or the first baseline where none did."""
    fitting = [f.label for f in outcome.found if f.target in (target.name, "all")]
    return fitting[0] if fitting else outcome.rows[0].name


def _chosen(lines: Sequence[Line], cap: float) -> Line | None:
    """The best measured mixture that reads no domain more often than the cap allows; None where nothing was measured."""
    return next((x for x in lines if x.epochs <= cap * (1 + 1e-6)), next(iter(lines), None))


def _sentence(unit: str, weights: dict[str, float], best: Line) -> str:
    """The best measured mixture, and whether it is better than uniform weights, which cost nothing."""
    start = f"Train on {blended(weights)} ({best.name}): {best.loss:.3f} {unit} on test text"
    if best.name == "uniform":
        return f"{start}; nothing that was found did better than uniform weights."
    half = (best.high - best.low) / 2
    said = f"{start}, {best.difference:+.3f} ± {half:.3f} against uniform"
    return f"{said}." if best.against_uniform == "better" else f"{said}: that is within noise, so uniform weights would do as well."


def _doubts(data: Data, sizes: Sizes, outcome: Outcome, lines: Sequence[Line]) -> tuple[str, ...]:
    if not lines:
        return ("No target model was trained on any of these mixtures: what follows is predicted by proxies, not measured.",)
    said = [f"The verdict rests on {len(outcome.seeds)} seeds of a model far smaller than the one that it is for."]
    chosen = _chosen(lines, sizes.cap)
    if chosen is not lines[0]:
        over = f"reads a domain {lines[0].epochs:.2g} times, over the cap of {sizes.cap:g}"
        said.append(f"The mixture {lines[0].name} did better ({lines[0].loss:.3f}), but {over}.")
    elif chosen.epochs > sizes.cap * (1 + 1e-6):
        said.append(f"Every mixture that was judged reads a domain more often than the cap of {sizes.cap:g} allows.")
    free = [x for x in lines if not x.method]
    methods = [x for x in lines if x.method]
    if methods and free and free[0].loss <= methods[0].loss:
        said.append(f"No method beat the best baseline, {free[0].name}, on this target.")
    if not data.in_domain(data.targets[0]):
        said.append("The target is text that is never trained on, so that the best mixture depends on how near its domains come to it.")
    return tuple(said)


def _measured(data: Data, outcome: Outcome, target: Target, shown: Iterable[str]) -> tuple[Prediction, ...]:
    """Test losses of everything measured, the mean over the seeds, in the study's unit, and in nats per token where that is another."""
    if not outcome.lines:
        return ()
    mean = {n: np.mean([outcome.losses[n][s] for s in outcome.seeds], axis=0) for n in shown}
    units = {data.unit: np.ones(len(data.names))}
    if data.scale:
        units[NATS] = 1 / data.scales
    return tuple(
        Prediction(name, unit, "min", {n: float(v[j] * by[j]) for n, v in mean.items()}, target.weights.get(name, 0.0))
        for unit, by in units.items()
        for j, name in enumerate(data.names)
    )


def _judged(data: Data, outcome: Outcome, target: Target) -> Judged:
    """The verdict on one target as a table, best first; baselines carry a star."""
    rows = []
    for line in outcome.lines[target.name]:
        half = (line.high - line.low) / 2
        against = "" if line.name == "uniform" else f"{line.difference:+.3f} ± {half:.3f}"
        epochs = "∞" if math.isinf(line.epochs) else f"{line.epochs:.2g}"
        word = "" if line.name == "uniform" else line.against_uniform
        name = line.name if line.method else f"{line.name} *"
        cost = f"{line.cost:.2g}" if line.cost else ""
        rows.append((name, f"{line.loss:.3f}", against, word, f"{line.worst} {line.worst_loss:.2f}", epochs, cost))
    title = f"{target.title or target.name}: test text, {data.unit}, {len(outcome.seeds)} seeds (* costs no search, or little)"
    return Judged(title, HEAD, tuple(rows), tuple(outcome.sentences[target.name]))


def _cost(found: Sequence[Found]) -> tuple[str, ...]:
    return tuple(f"{f.label}: {f.tokens:.3g} proxy tokens, {f.seconds:.1f} s" for f in found)
