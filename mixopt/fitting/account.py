"""A recommendation as the record that a report shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mixopt.language.latex import latex
from mixopt.laws.curve import CurveLaw
from mixopt.report.provenance import provenance
from mixopt.report.report import Bound, Compared, Fit, Outcome, Prediction, Report

from .limits import REPETITION
from .words import figure, percent

if TYPE_CHECKING:
    from .recommend import Recommendation

_BOUNDS = {"at most": "upper bound", "at least": "lower bound", "fixed": "fixed weight"}
_BINDS, _MOST_BOUGHT, _POINT = 1e-6, 3, 0.01
_GRID = 40


def report(found: Recommendation, *, command: str, files: Sequence[str], seed: int | None, title: str) -> Report:
    """The report of a recommendation: weights, predictions, fit, bounds, ranges, doubts and provenance."""
    limits = found.fitted.question.limits
    domains = limits.domains
    return Report(
        title or f"Mixture of {len(domains)} domains from {len(found.runs)} runs",
        found.sentence,
        found.mixtures(),
        doubts=found.doubts,
        advice=found.advice,
        formula=latex(found.problem),
        problem=str(found.problem),
        tokens=None if domains.tokens is None else dict(zip(domains, domains.tokens, strict=True)),
        budget=limits.budget,
        cap=limits.cap,
        predictions=predictions(found),
        fit=fit(found),
        compared=compared(found),
        outcome=outcome(found),
        bounds=bounds(found),
        ranges=found.ranges,
        certificate=f"{found.result.solver}: {found.result.status.value}; {found.result.check}.",
        cost=_cost(found),
        notes=found.notes,
        provenance=provenance(command, files, seed),
    )


def predictions(found: Recommendation) -> tuple[Prediction, ...]:
    """What the law says of each target under each mixture; the weights are the targets' shares of the objective."""
    goal, law = found.fitted.question.objective, found.law
    mixtures = found.mixtures()
    values = {name: law.predicted(list(w.values())) for name, w in mixtures.items()}
    named = [g if g not in law.targets.names else "" for g in goal.groups]
    family = {int(j): named[g] for g, row in enumerate(goal.shares) for j in np.flatnonzero(row)}
    return tuple(
        Prediction(t, u, way, {n: float(v[j]) for n, v in values.items()}, float(goal.target_weights[j]), family.get(j, ""))
        for j, (t, u, way) in enumerate(zip(law.targets.names, law.targets.units, law.targets.directions, strict=True))
    )


def fit(found: Recommendation) -> Fit:
    """The cross-validated figures of every target."""
    checked, targets = found.validation, found.law.targets
    return Fit(
        found.law.name,
        targets.names,
        targets.units,
        int(checked.folds.max()) + 1,
        checked.rmse,
        checked.spearman,
        checked.r2,
        checked.regret,
        checked.predicted,
        found.runs.metrics,
    )


def compared(found: Recommendation) -> Compared | None:
    """The laws that were compared, where one was chosen."""
    choice = found.found.choice
    if choice is None:
        return None
    entries = choice.comparison.fitted
    shown = ("rmse", "spearman", "regret")
    return Compared(
        {e.name: {n: (e.figure(n), *e.intervals[n]) for n in shown} for e in entries},
        {e.name: e.regret for e in entries},
        {e.name: e.seconds for e in entries},
        choice.sentence,
        tuple(f"{e.name} was left out: {e.refusal}." for e in choice.comparison.entries if e.refusal),
    )


def outcome(found: Recommendation) -> Outcome:
    """The objective of the runs, measured and predicted by fits without each, in the sense that people read."""
    goal, runs, law = found.fitted.question.objective, found.runs, found.law
    sign = -1 if goal.maximised else 1
    spans = found.doubt.intervals(runs, goal)
    grid = values = None
    if len(runs.domains) == 3 and not law.requires:
        corners = [(i, j, _GRID - i - j) for i in range(_GRID + 1) for j in range(_GRID + 1 - i)]
        grid = np.array(corners) / _GRID
        values = sign * goal.loss(law.predicted(grid))
    return Outcome(
        goal.name,
        goal.unit,
        runs.mixtures,
        sign * goal.loss(runs.metrics),
        sign * goal.loss(found.doubt.posterior.validation.predicted),
        (spans[:, 1] - spans[:, 0]) / 2,
        goal.maximised,
        grid,
        values,
    )


def bounds(found: Recommendation) -> tuple[Bound, ...]:
    """Each constraint with its multipliers and what a person would get for relaxing it."""
    texts = {r.label: str(r) for r in found.problem.subject_to}
    made = []
    for name, dual in found.result.duals.items():
        entries = dict(dual) if isinstance(dual, Mapping) else {"": float(dual)}
        made.append(Bound(name, texts.get(name, name), entries, _buys(found, name, entries)))
    return tuple(made)


def _buys(found: Recommendation, name: str, entries: Mapping[str, float]) -> str:
    """What relaxing the binding entries would buy, in units a person understands; the dual bounds it, the problem being convex."""
    limits = found.fitted.question.limits
    if name == REPETITION:
        assert limits.budget is not None
        sizes = dict(zip(limits.domains, limits.domains.sizes, strict=True))
        bought = {n: v * sizes[n] / limits.budget for n, v in entries.items() if v > _BINDS}
        order = sorted(bought, key=lambda n: -bought[n])[:_MOST_BOUGHT]
        more = len(bought) - len(order)
        sentences = [f"One more epoch of {n} allowed would {_better(found, bought[n])} (dual {entries[n]:.2g})." for n in order]
        return " ".join(sentences) + (f" {more} more caps bind, for less each." if more > 0 else "")
    (value,) = entries.values()
    if abs(value) <= _BINDS:
        return ""
    kind, domain = next(
        (k, n)
        for k, bounds in (("at most", limits.at_most), ("at least", limits.at_least), ("fixed", limits.fixed))
        for n, v in bounds.items()
        if name == f"{k} {v:g} {n}"
    )
    share = {"at most": limits.at_most, "at least": limits.at_least, "fixed": limits.fixed}[kind][domain]
    up = kind == "at most" or (kind == "fixed" and value > 0)
    step = min(_POINT, 1 - share if up else share)
    moved = f"{100 * share:.3g} % to {100 * (share + (step if up else -step)):.3g} %"
    return f"Moving the {_BOUNDS[kind]} of {domain} from {moved} would {_better(found, abs(value) * step)} (dual {value:.2g})."


def _better(found: Recommendation, gain: float) -> str:
    goal = found.fitted.question.objective
    besides = ", its KL term included," if found.fitted.question.limits.kl else ""
    return f"{'raise' if goal.maximised else 'lower'} the {goal.name}{besides} by up to {figure(gain, gain)} {goal.unit}"


def _cost(found: Recommendation) -> tuple[str, ...]:
    runs = found.runs
    size = f" of {found.law.theta.shape[1]} parameters" if isinstance(found.law, CurveLaw) else ""
    lines = [f"{len(runs)} proxy runs, {len(runs.targets)} {found.law.name} laws{size}"]
    if runs.tokens is not None:
        lines[0] += f", {np.nansum(runs.tokens):.3g} tokens trained on"
        if runs.params is not None:
            lines.append(f"{6 * np.nansum(runs.params * runs.tokens):.2g} operations for the proxies, by 6 x parameters x tokens")
    lines.append(f"the solver took {found.result.cost.seconds:.2f} s")
    return tuple(lines)


def table(found: Recommendation) -> str:
    """The weights as text: recommended, its range within the noise, natural where it is known, and epochs where they are."""
    mixtures, limits = found.mixtures(), found.fitted.question.limits
    epochs = limits.epochs(found.fitted.vector)
    width = max(map(len, found.weights))
    spans = found.ranges
    head = f"{'domain':<{width}}  {'weight':>7}" + (f"  {'within the noise':>18}" if spans else "")
    head += f"  {'natural':>7}" * ("natural" in mixtures) + f"  {'epochs':>6}" * (epochs is not None)
    lines = [head]
    for i, (name, weight) in enumerate(found.weights.items()):
        line = f"{name:<{width}}  {percent(weight):>7}"
        line += f"  {f'{percent(spans.low[name])} to {percent(spans.high[name])}':>18}" if spans else ""
        line += f"  {percent(mixtures['natural'][name]):>7}" if "natural" in mixtures else ""
        lines.append(line + (f"  {epochs[i]:>6.2f}" if epochs is not None else ""))
    return "\n".join(lines)
