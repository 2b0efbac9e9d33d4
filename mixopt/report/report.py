"""The record behind a report: everything that report.html, report.md and report.json show, as plain frozen data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import numpy as np


@final
@dataclass(frozen=True)
class Prediction:
    """One target: what each mixture of the report is predicted (or measured) to reach, in the target's unit."""

    target: str
    unit: str
    direction: str  # "min" or "max"
    values: Mapping[str, float]  # mixture name -> value
    weight: float = 1.0  # share of the objective
    family: str = ""


@final
@dataclass(frozen=True)
class Fit:
    """How well a law predicts runs that it was not fitted to; each figure [m] by target, arrays [R, m] in the targets' units."""

    law: str
    targets: tuple[str, ...]
    units: tuple[str, ...]
    folds: int
    rmse: np.ndarray
    spearman: np.ndarray
    r2: np.ndarray
    regret: np.ndarray
    predicted: np.ndarray
    measured: np.ndarray


@final
@dataclass(frozen=True)
class Bound:
    """One constraint: its name and text, which of its entries bind, and the multiplier of each.

    ``duals`` maps an entry (a domain, or "" for a scalar relation) to its multiplier, in the objective's unit for each unit of
    the relation's right side; ``buys`` says in a sentence for a person what relaxing the binding entries would buy.
    """

    name: str
    text: str
    duals: Mapping[str, float]
    buys: str = ""

    @property
    def binding(self) -> tuple[str, ...]:
        """The entries whose multiplier is not zero."""
        largest = max((abs(v) for v in self.duals.values()), default=0.0)
        return tuple(name for name, v in self.duals.items() if abs(v) > max(1e-6, 1e-6 * largest))


@final
@dataclass(frozen=True)
class Ranges:
    """How far each domain's weight can move while the objective stays within ``noise`` of its optimum, and what the noise is."""

    low: Mapping[str, float]
    high: Mapping[str, float]
    noise: float
    how: str  # in words, where the noise comes from
    optima: tuple[Mapping[str, float], Mapping[str, float]] | None = None  # the 90 % interval of each optimal weight, low and high


@final
@dataclass(frozen=True)
class Compared:
    """Laws side by side, cross-validated on the same folds and judged by the objective, and a sentence on why one was taken.

    ``figures`` maps a law to figures, each with its 90 % interval, (value, low, high); ``expected`` is the regret expected of decisions
    like those that the runs ask for, ``seconds`` what the cross-validation took.
    """

    figures: Mapping[str, Mapping[str, tuple[float, float, float]]]
    expected: Mapping[str, float]
    seconds: Mapping[str, float]
    taken: str = ""
    left_out: tuple[str, ...] = ()


@final
@dataclass(frozen=True)
class Outcome:
    """The objective of R runs: mixtures [R, k], measured and out-of-fold predicted values [R], half the 90 % interval of each [R].

    Over three domains ``grid`` [N, 3] are mixtures and ``values`` [N] what the law predicts of them.
    """

    name: str
    unit: str
    mixtures: np.ndarray
    measured: np.ndarray
    predicted: np.ndarray
    half: np.ndarray
    maximised: bool = False
    grid: np.ndarray | None = None
    values: np.ndarray | None = None


@final
@dataclass(frozen=True)
class Judged:
    """The measured verdict on one target: a table whose rows are mixtures, best first, and its sentences."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    sentences: tuple[str, ...] = ()


@final
@dataclass(frozen=True)
class Provenance:
    """What made a report: the command, versions by package, seeds, and the SHA-256 of each file read."""

    command: str
    versions: Mapping[str, str]
    seed: int | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    date: str = ""


@final
@dataclass(frozen=True)
class Report:
    """A recommendation that can be shown to a meeting; whatever is not known is empty or None, and its section is left out.

    ``mixtures`` maps a name to domain -> weight, the recommended one first, then natural, uniform and others; ``unit`` is what
    the weights are shares of. ``formula`` is LaTeX. ``tokens`` are the sizes of the domains, ``budget`` the tokens of the
    training run, ``cap`` the epochs allowed; from them come the epochs of each mixture.
    """

    title: str
    recommendation: str
    mixtures: Mapping[str, Mapping[str, float]]
    doubts: tuple[str, ...] = ()
    advice: str = ""  # what to do next
    formula: str = ""
    problem: str = ""
    unit: str = "tokens"
    tokens: Mapping[str, float] | None = None
    budget: float | None = None
    cap: float | None = None
    predictions: Sequence[Prediction] = ()
    measured: bool = False  # whether the values of ``predictions`` were measured, not predicted
    fit: Fit | None = None
    compared: Compared | None = None
    outcome: Outcome | None = None
    bounds: Sequence[Bound] = ()
    ranges: Ranges | None = None
    trajectories: Mapping[str, np.ndarray] = field(default_factory=dict)  # method -> weights [T, k], in the order of the mixtures' domains
    verdicts: Sequence[Judged] = ()
    certificate: str = ""
    cost: Sequence[str] = ()
    notes: Sequence[str] = ()
    provenance: Provenance | None = None

    @property
    def recommended(self) -> Mapping[str, float]:
        """The recommended weights."""
        return next(iter(self.mixtures.values()))

    def epochs(self, name: str) -> dict[str, float] | None:
        """How often a run of ``budget`` tokens passes over each domain under a mixture, or None where sizes or budget are unknown.

        w_i budget / tokens_i; infinite where a domain without tokens has weight.
        """
        if self.tokens is None or self.budget is None:
            return None
        return {
            d: w * self.budget / self.tokens[d] if self.tokens[d] else (float("inf") if w else 0.0) for d, w in self.mixtures[name].items()
        }
