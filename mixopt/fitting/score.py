"""What the law says of a mixture of the user's own, beside the recommended one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np

from mixopt.errors import InputError, listed
from mixopt.laws.extent import OUTSIDE, Extent, extent
from mixopt.runs import Runs

from .fitted import Fitted
from .limits import by_domain
from .words import figure, percent

if TYPE_CHECKING:
    from mixopt.export import Blend


@final
@dataclass(frozen=True, eq=False)
class Score:
    """A mixture [k] judged by a fit: predicted metrics [m] and objective, beside those of the recommended mixture.

    ``gap`` is how much worse the objective is, in its unit (negative where it is better), ``broken`` the constraints that the
    mixture breaks, by name and by how much weight, ``epochs`` by domain where sizes and budget are known, ``beyond`` the
    domains with more weight than in any run and by how much, ``extent`` the distance to the runs where these are known.
    """

    fitted: Fitted
    weights: Mapping[str, float]
    predicted: np.ndarray
    recommended: np.ndarray
    value: float
    best: float
    gap: float
    broken: Mapping[str, float]
    epochs: Mapping[str, float] | None
    beyond: Mapping[str, float]
    extent: Extent | None
    notes: tuple[str, ...] = ()

    @property
    def within(self) -> bool:
        """Whether the gap is one that the runs could not show."""
        return abs(self.gap) <= self.fitted.noise.value

    @property
    def sentence(self) -> str:
        """The verdict in a sentence."""
        goal, noise = self.fitted.question.objective, self.fitted.noise.value
        against = f"the recommended mixture's {figure(self.best, noise)}"
        size = figure(abs(self.gap), min(abs(self.gap), noise))
        same = abs(self.gap) <= 1e-6 * max(noise, abs(self.best))
        told = f"as {against}" if same else f"{size} {'worse' if self.gap > 0 else 'better'} than {against}"
        verdict = "within" if self.within else "more than"
        return f"Predicted {goal.name} {figure(self.value, noise)} {goal.unit}, {told}: {verdict} the noise of {figure(noise, noise)}."

    @property
    def remarks(self) -> tuple[str, ...]:
        """What else to know: constraints that are broken, extrapolation, and how the mixture was read."""
        found = [f"It breaks '{name}' by {percent(by)} of the data." for name, by in self.broken.items()]
        if self.gap < -self.fitted.noise.value and self.fitted.question.limits.kl and not self.broken:
            found.append("The recommended mixture pays for staying near the natural proportions (its KL term); this one does not.")
        seen = dict(zip(self.fitted.question.law.domains, self.fitted.question.law.seen.tolist(), strict=True))
        found += [
            f"{n} at {percent(self.weights[n])} is beyond any run (at most {percent(seen[n])}): the law extrapolates." for n in self.beyond
        ]
        if self.extent is not None and self.extent.hull > OUTSIDE:
            found.append(f"{percent(self.extent.hull)} of the data would have to be other to come to a blend of the runs.")
        return (*found, *self.notes)

    def __str__(self) -> str:
        targets = self.fitted.question.law.targets
        width = max(len("target"), *map(len, targets.names))
        lines = [self.sentence, *self.remarks, "", f"{'target':<{width}}  {'yours':>9}  {'recommended':>11}  unit"]
        rows = zip(targets.names, targets.units, self.predicted, self.recommended, strict=True)
        lines += [f"{name:<{width}}  {mine:9.4f}  {theirs:11.4f}  {unit}" for name, unit, mine, theirs in rows]
        if self.epochs is not None:
            width = max(map(len, self.epochs))
            lines += ["", f"{'domain':<{width}}  epochs", *(f"{n:<{width}}  {e:6.2f}" for n, e in self.epochs.items())]
        return "\n".join(lines)

    def record(self) -> dict[str, Any]:
        """Everything as plain data."""
        names = self.fitted.question.law.targets.names
        goal = self.fitted.question.objective
        return {
            "sentence": self.sentence,
            "objective": {"name": goal.name, "unit": goal.unit, "value": self.value, "recommended": self.best, "gap": self.gap},
            "noise": self.fitted.noise.value,
            "within_noise": self.within,
            "predictions": dict(zip(names, self.predicted.tolist(), strict=True)),
            "recommended": dict(zip(names, self.recommended.tolist(), strict=True)),
            "broken": dict(self.broken),
            "epochs": self.epochs,
            "beyond": dict(self.beyond),
            "weights": dict(self.weights),
            "remarks": self.remarks,
        }


def score(fitted: Fitted, mixture: Blend | Mapping[str, float], runs: Runs | None = None) -> Score:
    """Judge a mixture by a fit: a domain that it does not name has weight 0; ``runs`` add the distance to them.

    Raises:
        InputError: names that match no domain, weights that are no mixture, or one with stages, of which the law says nothing.
    """
    question = fitted.question
    domains = question.limits.domains
    given = _shares(mixture)
    named = by_domain("the mixture", given, domains, fitted.columns, whole=False)
    absent = [n for n in domains if n not in named]
    weights = domains.weights({n: named.get(n, 0.0) for n in domains})
    epochs = question.limits.epochs(weights)
    by_name = dict(zip(domains, weights.tolist(), strict=True))
    return Score(
        fitted,
        by_name,
        question.law.predicted(weights),
        question.law.predicted(fitted.vector),
        question.value(weights),
        question.value(fitted.vector),
        question.loss(weights) - question.loss(fitted.vector),
        question.limits.broken(weights),
        None if epochs is None else dict(zip(domains, epochs.tolist(), strict=True)),
        question.law.beyond(by_name),
        None if runs is None else extent(runs, weights),
        (f"The mixture does not name {listed(absent)}, which count as 0.",) if absent else (),
    )


def _shares(mixture: Blend | Mapping[str, float]) -> dict[str, float]:
    """Shares of tokens by domain."""
    if isinstance(mixture, Mapping):
        return dict(mixture)
    if mixture.stages:
        raise InputError(f"the mixture has {len(mixture.stages) + 1} stages, and the law is of one mixture; score each stage by itself")
    return mixture.token_shares(mixture.weights)
