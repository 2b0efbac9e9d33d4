"""From a table of runs to a recommended mixture: the law, its cross-validation, the problem, its solution and its doubts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np

from mixopt.errors import InputError
from mixopt.language.problem import Problem, minimize
from mixopt.language.symbols import Mixture
from mixopt.laws import CrossValidation, Law, Planned
from mixopt.laws.extent import Extent, extent
from mixopt.laws.validation import folds_of
from mixopt.report.ranks import spearman
from mixopt.report.report import Ranges
from mixopt.report.result import Result
from mixopt.runs import SCALES, Runs

from .advice import advice
from .chosen import AUTO, CONVEX, Chosen, LawOption, chosen, fitters
from .doubt import Doubt, doubt
from .fitted import Fitted, Noise, Question
from .inputs import averaged, limits_of
from .limits import Limits
from .objective import Objective
from .own import Build
from .ranges import answer, ranges
from .words import GIVEN, doubts, figure, sentence

_LEAST_NOISE = 1e-6

if TYPE_CHECKING:
    from mixopt.export import Blend
    from mixopt.report.report import Report


@final
@dataclass(frozen=True)
class Quality:
    """How well out-of-fold predictions meet the objective itself, over the runs that have all its targets: rmse in its unit.

    ``near`` is the rmse over the ``nearby`` runs, a quarter of them, that are nearest to the recommended mixture.
    """

    runs: int
    rmse: float
    spearman: float
    r2: float
    nearby: int
    near: float

    @property
    def words(self) -> str:
        """The figures in a sentence."""
        return (
            f"Cross-validated over {self.runs} runs, the objective is predicted with an error of {figure(self.rmse, self.rmse)} (RMSE), "
            f"{figure(self.near, self.near)} near the recommended mixture, rank correlation {self.spearman:.2f}, R2 {self.r2:.2f}."
        )


@final
@dataclass(frozen=True, eq=False)
class Recommendation:
    """A mixture recommended from runs, with the evidence for it and the reasons to doubt it.

    ``found`` is the law with its cross-validation and the comparison that it comes from, ``quality`` tells how well it predicts
    the objective of runs that it was not fitted to, ``result`` holds weights, duals and certificate of ``problem``, ``doubt``
    the intervals of its value, gain and weights, ``ranges`` how far the weights can move within the noise (None where the
    optimum has no certificate), ``extent`` how far they lie from the runs; ``notes`` say what was done to the data, ``doubts``
    why not to trust the answer.
    """

    runs: Runs
    fitted: Fitted
    found: Chosen
    quality: Quality
    problem: Problem
    result: Result
    doubt: Doubt
    ranges: Ranges | None
    extent: Extent
    notes: tuple[str, ...] = ()

    @property
    def law(self) -> Law:
        """The law of every target."""
        return self.fitted.question.law

    @property
    def validation(self) -> CrossValidation:
        """How well the law predicts runs that it was not fitted to."""
        return self.found.validation

    @property
    def weights(self) -> dict[str, float]:
        """The recommended weight of each domain."""
        return self.result.weights

    @property
    def doubts(self) -> tuple[str, ...]:
        """Reasons not to trust the answer, each a sentence; none where there is none."""
        return doubts(self)

    @property
    def sentence(self) -> str:
        """The recommendation in one sentence, with its doubt."""
        return sentence(self)

    @property
    def advice(self) -> str:
        """What to do next, in a sentence or two."""
        return advice(self)

    def mixtures(self) -> dict[str, dict[str, float]]:
        """The mixtures to compare, recommended first: natural (where it is known), uniform, and the best run measured."""
        limits, names = self.fitted.question.limits, self.law.domains.names
        found = {"recommended": self.fitted.vector}
        if limits.natural is not None:
            found["natural"] = limits.natural
        found["uniform"] = np.full(len(names), 1 / len(names))
        best = self.best_run()
        if best is not None:
            label = self.runs.ids[best] if self.runs.labels is None else self.runs.labels[best]
            found[f"best run ({label})"] = self.runs.mixtures[best]
        return {name: dict(zip(names, w.tolist(), strict=True)) for name, w in found.items()}

    def best_run(self) -> int | None:
        """The position of the run whose measured objective is best, or None where no run has all targets."""
        losses = self.fitted.question.objective.loss(self.runs.metrics)
        return None if np.isnan(losses).all() else int(np.nanargmin(losses))

    def report(self, *, command: str = "", files: Sequence[str] = (), seed: int | None = None, title: str = "") -> Report:
        """The record that ``mixopt.report.page`` shows; ``command`` and ``files`` are what made it, for its provenance."""
        from .account import report

        return report(self, command=command, files=files, seed=seed, title=title)

    def blend(self) -> Blend:
        """The weights as token shares, with sizes and budget where they are known, for the exporters."""
        from mixopt.export import Blend

        limits = self.fitted.question.limits
        tokens = limits.domains.tokens
        sizes = None if tokens is None else dict(zip(limits.domains, tokens, strict=True))
        return Blend(self.weights, tokens=sizes, budget=limits.budget)


def recommend(
    runs: Runs,
    *,
    objective: str | Mapping[str, float] | Build = "mean",
    weights: Mapping[str, float] | None = None,
    families: Mapping[str, Sequence[str]] | None = None,
    aggregate: bool = False,
    kl: float = 0.0,
    prior: Mapping[str, float] | None = None,
    tokens: Mapping[str, float] | None = None,
    budget: float | None = None,
    cap: float | None = None,
    at_most: Mapping[str, float] | None = None,
    at_least: Mapping[str, float] | None = None,
    fix: Mapping[str, float] | None = None,
    law: LawOption = CONVEX,
    ridge: float | None = None,
    huber: float | None = None,
    folds: int = 5,
    seed: int = 0,
    noise: float | None = None,
    target_size: float | None = None,
    target_tokens: float | None = None,
    target_steps: float | None = None,
    begun: Callable[[], None] | None = None,
) -> Recommendation:
    """Fit a law to the runs, and find the mixture that it calls best under what is asked.

    ``objective`` is "mean", "max" (the worst target, or family mean), "max-relative" (the worst in shares of its own best), the
    name of a target or family, weights by target or family, or what is minimised: a formula in the targets' names, such as
    "0.5*chat + max([python, novels])", or a function of the metrics [m] as an expression. ``families`` maps a name to targets; a
    family counts as one, and with ``aggregate`` it is averaged, by the weights of its targets, before the law is fitted. ``kl``
    weighs KL(w || natural), natural being ``prior`` (shares) or else ``tokens``; ``cap`` is the most epochs of a domain in a run
    of ``budget`` tokens; ``at_most``, ``at_least`` and ``fix`` bound shares.

    ``law`` is "convex" (the one of exponential and additive power, whose optima are certified, that decides best on held-out runs),
    "auto" (a blend of these with linear, and LightGBM where it is installed), a law's name or class, a formula, or a function that
    fits runs.
    ``ridge`` is a number, or None to have the law choose it; ``huber`` is the width of a Huber loss in place of squares, in the
    targets' unit. ``noise`` replaces the doubt of the gain. A law that depends on N, D or steps is taken at those of the run that
    the mixture is for: ``target_size`` (parameters), ``target_tokens`` (``budget`` by default) and ``target_steps``. ``begun`` is called
    when everything that is given has been looked at and the first fit begins.

    Raises:
        InputError: names that do not agree, KL or caps without what they need, constraints that no mixture keeps, runs that
            cannot be fitted.
    """
    if noise is not None and not 0 <= noise < math.inf:
        raise InputError(f"the noise is {noise}; it is a finite number >= 0 in the objective's unit")
    kind = "mean" if isinstance(objective, Mapping) else objective
    if isinstance(objective, Mapping):
        weights = {**(weights or {}), **objective}
    if aggregate:
        if not families:
            raise InputError(
                "there are no families to average before the fit; name them, --family math=gsm8k,minerva (in Olmix eval.tasks)"
            )
        runs, weights, families = *averaged(runs, families, weights), None
    limits, notes = limits_of(runs, kl, prior, tokens, budget, cap, at_most or {}, at_least or {}, fix or {})
    goal = Objective.of(runs.targets, kind, weights, families)
    judged = goal.relative_to_best_of(runs.metrics) if goal.kind == "max-relative" else goal
    settings = {"ridge": ridge, "loss": None if huber is None else "huber", "huber_delta": huber}
    sizes = {"params": target_size, "tokens": budget if target_tokens is None else target_tokens, "steps": target_steps}
    planned = {n: v for n, v in sizes.items() if v is not None}
    fits = fitters(law, **settings)
    _look(runs, judged, folds, planned)
    if begun is not None:
        begun()
    found = chosen(runs, fits, judged.loss, folds, seed, blend=law == AUTO).planned(planned)
    if not isinstance(found.law, Planned) and not (target_size is target_tokens is target_steps is None):
        notes = (*notes, f"the {found.law.name} law is of the mixture alone: the size of the run planned makes no difference to it")
    if goal.kind == "max-relative":
        goal = goal.relative_to(_best(found.law, goal, limits))
    question = Question(found.law, goal, limits)
    best = answer(question.problem(Mixture(limits.domains)), seed)
    quality = _quality(goal, found.validation, runs, best.weights)
    far = doubt(question, found, best, limits.other)
    columns = {column: name for column, name in runs.name_map.items() if name in runs.domains and column != name}
    fitted = Fitted(question, _noise(question, best.weights, far, noise), best.result.weights, columns)
    notes = (*runs.notes, *notes, *found.notes)
    ranges = _ranges(fitted, far) if best.certified else None
    return Recommendation(runs, fitted, found, quality, best.result.problem, best.result, far, ranges, extent(runs, fitted.vector), notes)


def _look(runs: Runs, goal: Objective, folds: int, planned: Mapping[str, float]) -> None:
    """Refuse what no fit can be judged by, before the first."""
    there = int(np.isfinite(goal.loss(runs.metrics)).sum())
    if there < 3:
        raise InputError(f"only {there} runs have all {len(goal.targets)} targets; drop the targets that most runs lack")
    folds_of(len(runs), folds, 0)
    for name, value in planned.items():
        if not 0 < value < math.inf:
            raise InputError(f"{name} ({SCALES[name]}) of the run planned is {value}; it must be finite and > 0")


def _best(law: Law, goal: Objective, limits: Limits) -> np.ndarray:
    """The best loss of each group [g] alone under the constraints."""
    w = Mixture(limits.domains)
    relations = limits.relations(w)
    found = [answer(minimize(goal.group_expression(law, w, g), over=w, subject_to=relations)).result for g in range(len(goal.groups))]
    return np.array([math.nan if r.value is None else r.value for r in found])


def _quality(goal: Objective, validation: CrossValidation, runs: Runs, best: np.ndarray) -> Quality:
    measured, predicted = goal.loss(runs.metrics), goal.loss(validation.predicted)
    there = np.isfinite(measured)
    y, p = measured[there], predicted[there]
    squares, spread = (p - y) ** 2, float(y.var())
    nearest = np.argsort(np.abs(runs.mixtures[there] - best).sum(axis=1), kind="stable")[: max(len(y) // 4, 3)]
    r2 = 1 - float(squares.mean()) / spread if spread > 0 else math.nan
    return Quality(len(y), math.sqrt(squares.mean()), spearman(p, y), r2, len(nearest), math.sqrt(squares[nearest].mean()))


def _noise(question: Question, best: np.ndarray, far: Doubt, given: float | None) -> Noise:
    if given is None:
        how = (
            f"half the 90 % interval of the gain over {question.limits.other_name} that the law predicts, by {far.how}; a smaller "
            "difference of the objective is one that these runs cannot show"
        )
        return Noise(max(far.half, _LEAST_NOISE * abs(question.loss(best))), how)
    return Noise(given, GIVEN)


def _ranges(fitted: Fitted, far: Doubt) -> Ranges:
    """The ranges of all domains; under a KL term neither the whole objective nor its loss alone may be worse by more than the noise."""
    question, best, noise = fitted.question, fitted.vector, fitted.noise
    w = Mixture(question.limits.domains)
    within = {"within the noise": (question.whole(w), question.total(best) + noise.value)}
    if question.limits.kl:
        within["its loss too"] = (question.objective.expression(question.law, w), question.loss(best) + noise.value)
    low, high = ranges(w, question.limits.relations(w), within, best, question.limits.box())
    names = question.limits.domains.names
    ends = [None if end is None else dict(zip(names, end.tolist(), strict=True)) for end in (low, high, far.low, far.high)]
    assert ends[0] is not None
    assert ends[1] is not None
    optima = None if ends[2] is None or ends[3] is None else (ends[2], ends[3])
    return Ranges(ends[0], ends[1], noise.value, noise.how, optima)
