"""The recommendation and its doubts in sentences for people."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mixopt.errors import listed
from mixopt.laws.curve import CurveLaw
from mixopt.laws.extent import FAR_TIMES, OUTSIDE, strange_times
from mixopt.laws.planned import Planned
from mixopt.report.sections import REPEATED
from mixopt.runs import SCALES

if TYPE_CHECKING:
    from .recommend import Recommendation

GIVEN = "given by the user"
_MOST_NAMED, _LEAST_NAMED = 8, 0.01
_POOR_RANKS, _POOR_R2 = 0.8, 0.5


def percent(share: float) -> str:
    """A share as a person writes it: 41 %, 4.1 %, 0.4 %.

    >>> percent(0.412), percent(0.0412), percent(0.00004), percent(0)
    ('41 %', '4.1 %', '<0.1 %', '0 %')
    """
    if 0 < share < 0.0005:
        return "<0.1 %"
    return f"{100 * share:.0f} %" if share >= 0.0995 or share == 0 else f"{100 * share:.1f} %"


def figure(value: float, noise: float) -> str:
    """A number with as many decimals as two digits of its noise."""
    places = 4 if not (noise > 0 and math.isfinite(noise)) else min(max(1 - math.floor(math.log10(noise)), 0), 8)
    return f"{value:.{places}f}"


def blended(weights: dict[str, float]) -> str:
    """The larger weights by name, and the rest together."""
    order = sorted(weights, key=lambda n: -weights[n])
    named = [n for n in order[:_MOST_NAMED] if weights[n] >= _LEAST_NAMED] or order[:1]
    rest = [n for n in order if n not in named]
    parts = [f"{percent(weights[n])} {n}" for n in named]
    if rest:
        left = sum(weights[n] for n in rest)
        parts.append(f"{percent(max(left, 0.0))} in the other {len(rest)}" if len(rest) > 1 else f"{percent(max(left, 0.0))} {rest[0]}")
    return ", ".join(parts)


def sentence(found: Recommendation) -> str:
    """Train on ...: the predicted value with the interval of a run, the gain over natural with its doubt, and what could move."""
    question, noise, value = found.fitted.question, found.fitted.noise, found.doubt.value
    goal, best, half = question.objective, found.fitted.vector, (value[1] - value[0]) / 2
    at = f"predicted {goal.name} {figure(question.value(best), half)} ± {figure(half, half)} {goal.unit}"
    name, gain = compared(found)
    way = "above" if (gain > 0) == goal.maximised else "below"
    against = f"{figure(abs(gain), noise.value)} ± {figure(noise.value, noise.value)} {way} {name}"
    source = "90 % intervals" if noise.how != GIVEN else "noise as given"
    return f"Train on {blended(found.weights)}: {at}, {against} ({source}); {_movable(found)}."


def compared(found: Recommendation) -> tuple[str, float]:
    """The mixture that the gain is told against, natural or else uniform, and the predicted gain, > 0 where ours is better."""
    return found.fitted.question.limits.other_name, found.doubt.gain.value


def _movable(found: Recommendation) -> str:
    if found.ranges is None:
        return f"the {found.law.name} law has no proof of its optimum, so that its weights are those of the best mixture that was tried"
    low, high = found.ranges.low, found.ranges.high
    widest = sorted(low, key=lambda n: low[n] - high[n])[:2]
    moving = [n for n in widest if high[n] - low[n] >= 0.005]
    if not moving:
        return "no weight can move by half a percent without a difference that these runs could show"
    spans = [f"{n} {'' if i else 'could be anywhere '}from {percent(low[n])} to {percent(high[n])}" for i, n in enumerate(moving)]
    return f"{' and '.join(spans)} without a difference that these runs could show"


def doubts(found: Recommendation) -> tuple[str, ...]:
    """Every reason not to trust the answer that the numbers give."""
    return tuple(
        filter(
            None,
            (
                _unsolved(found),
                _gain(found),
                _measured(found),
                _outside(found),
                _larger(found),
                _poor(found),
                _unended(found),
                _repeated(found),
                _few(found),
                _corner(found),
                _units(found),
            ),
        )
    )


def _unsolved(found: Recommendation) -> str:
    status = found.result.status
    return "" if status.solved else f"The solver did not reach the optimum: {status.value} ({found.result.message})."


def _gain(found: Recommendation) -> str:
    noise = found.fitted.noise.value
    name, gain = compared(found)
    if gain > noise:
        return ""
    if gain <= 0:
        return (
            f"The recommendation is predicted to be no better than {name}: what is asked for besides (KL, caps, bounds) outweighs the gain."
        )
    told = f"The predicted gain over {name}, {figure(gain, min(gain, noise))}, is within its doubt, {figure(noise, noise)}"
    return f"{told}: these runs do not show that the recommended mixture is better."


def _measured(found: Recommendation) -> str:
    """Best measured, unless the predicted gain over it exceeds the doubt of a prediction."""
    best, question = found.best_run(), found.fitted.question
    if best is None or isinstance(found.law, Planned):  # its runs were measured at sizes of their own
        return ""
    goal, weights = question.objective, found.runs.mixtures[best]
    measured = float(goal.loss(found.runs.metrics[best]))
    half = (found.doubt.value[1] - found.doubt.value[0]) / 2
    gain = measured - question.loss(found.fitted.vector)
    if gain > half or question.limits.broken(weights):
        return ""
    label = found.runs.ids[best] if found.runs.labels is None else found.runs.labels[best]
    than = f"{figure(abs(gain), half)} {'better' if gain > 0 else 'worse'} than that"
    what = (
        "until a run of it says otherwise, what was measured is the safer choice"
        if found.quality.r2 >= _POOR_R2
        else f"the best of {found.quality.runs} runs that the law cannot tell from noise owes much of its lead to luck: run it again first"
    )
    return (
        f"The best run measured ({label}) reached {figure(goal.shown(measured), half)}; the recommended mixture is predicted {than}, "
        f"within the error of a prediction, {figure(half, half)}: {what}."
    )


def _outside(found: Recommendation) -> str:
    beyond = found.law.beyond(found.weights)
    far = found.extent
    if not beyond and far.hull <= OUTSIDE:
        return ""
    seen = dict(zip(found.law.domains, found.law.seen.tolist(), strict=True))
    worst = sorted(beyond, key=lambda n: -beyond[n])[:3]
    which = "; ".join(f"{n} {percent(found.weights[n])}, at most {percent(seen[n])} in any run" for n in worst)
    return (
        f"The optimum lies outside the runs, and there the law extrapolates{f' ({which})' if which else ''}: {percent(far.hull)} of the "
        f"data would have to be other to come to a blend of the runs, {percent(far.nearest)} to come to the nearest run ({far.run}). "
        "Add runs near it, or bound it (--kl, --cap, --at-most)."
    )


def _larger(found: Recommendation) -> str:
    """A planned run far from the sizes of the runs."""
    law = found.law
    if not isinstance(law, Planned):
        return ""
    told = [
        f"{strange_times(law, n, np.array(v)):.0f} times in {SCALES[n]}"
        for n, v in law.size.items()
        if strange_times(law, n, np.array(v)) > FAR_TIMES
    ]
    return (
        f"The planned run is far outside the sizes of the runs, {listed(told)}: the law extrapolates, and no interval knows how well."
        if told
        else ""
    )


def _poor(found: Recommendation) -> str:
    quality, checked = found.quality, found.validation
    parts, besides = [], ""
    if not (quality.spearman >= _POOR_RANKS and quality.r2 >= _POOR_R2):
        parts.append(f"of the objective the rank correlation is {quality.spearman:.2f} and R2 {quality.r2:.2f}")
    if len(checked.targets) > 1:
        weak = [
            f"{n} {r:.2f}"
            for n, r, weight in zip(checked.targets.names, checked.r2, found.fitted.question.objective.target_weights, strict=True)
            if weight > 0 and not r >= _POOR_R2
        ]
        if weak:
            parts.append(f"R2 is below {_POOR_R2} for {len(weak)} of {len(checked.targets)} targets {listed(weak)}")
            if len(weak) < len(checked.targets):
                besides = (
                    " A target that is noise, or that no mixture moves, moves the answer all the same: fit without it (--drop) and compare."
                )
    return f"The law predicts runs that it has not seen badly: {'; '.join(parts)}.{besides}" if parts else ""


def _unended(found: Recommendation) -> str:
    lost = [n for n, ended in zip(found.law.targets.names, found.law.converged, strict=True) if not ended]
    return f"The least squares did not come to their end for {listed(lost)}; a ridge, or another --law, steadies them." if lost else ""


def _repeated(found: Recommendation) -> str:
    limits = found.fitted.question.limits
    epochs = limits.epochs(found.fitted.vector)
    often = [] if epochs is None else [f"{n} {e:.1f}" for n, e in zip(limits.domains, epochs, strict=True) if e > REPEATED + 1e-6]
    return (
        f"The run would read some domains more than {REPEATED:g} times, {listed(often)}: by then repeated data are worth visibly less "
        "(Muennighoff et al. 2023), and the law knows of it only where the runs repeated as much. --cap 4 bounds it."
        if often
        else ""
    )


def _few(found: Recommendation) -> str:
    law, R = found.law, len(found.runs)
    law = law.law if isinstance(law, Planned) else law
    if not isinstance(law, CurveLaw):
        return ""
    parameters, steadied = law.theta.shape[1], law.fitted.ridge is not None and bool(law.fitted.ridge.any())
    if (2 if steadied else 3) * parameters <= R:
        return ""
    mend = "a ridge holds what they do not tell, and the intervals are rough" if steadied else "a ridge (--ridge 1e-3) steadies the law"
    return f"{R} runs are few for {parameters} parameters a target (a rule of thumb are three runs a parameter); {mend}."


def _corner(found: Recommendation) -> str:
    limits = found.fitted.question.limits
    low, high = limits.box()
    best = found.fitted.vector
    if limits.kl:
        return ""
    inside = int(((best > low + 1e-6) & (best < np.minimum(high, 1.0) - 1e-6)).sum())
    corner = (
        "The optimum is a corner of the feasible set, so that a small change of the law can move it to another. " if inside <= 1 else ""
    )
    free = "Neither a KL term nor caps nor bounds were asked for: the optimum goes wherever the law leads. " if not limits.asked else ""
    return f"{free}{corner}".strip()


def _units(found: Recommendation) -> str:
    goal = found.fitted.question.objective
    if goal.unit != "in mixed units":
        return ""
    units = sorted(set(goal.targets.units))
    return (
        f"The objective averages metrics of different units {listed(units)} as they stand; "
        "weigh them (--weight), or take --objective max-relative."
    )
