"""Laws side by side on the same runs and folds: how well each predicts unseen runs, and how well it decides."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, final

import numpy as np

from mixopt.errors import InputError, MissingExtraError, listed, unknown
from mixopt.notebook import table
from mixopt.runs import Runs, Targets

from .accuracy import expected_regret, intervals
from .law import signs
from .named import Fitter, fitter
from .validation import CrossValidation, Loss, cross_validate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

USUAL = ("linear", "exponential", "additive-power", "lightgbm")
"""The laws that are compared where none are named, simplest first."""
ALIKE = 0.003
"""Regrets that differ by less, in shares of what a random run loses, are alike."""
_HEAD = ("law", "rmse", "spearman", "regret, %", "expected regret, %", "mean spearman", "mean regret, %", "seconds")


@final
@dataclass(frozen=True, eq=False)
class Entry:
    """One law: its cross-validations, one for each repetition of the folds, and the seconds they took, or why it was refused.

    The figures are of the objective, means over the repetitions; ``mean_spearman`` and ``mean_regret`` are of single targets, means
    over them.
    """

    name: str
    fit: Fitter
    loss: Loss
    validations: tuple[CrossValidation, ...] = ()
    seconds: float = math.nan
    refusal: str = ""

    def figure(self, name: str) -> float:
        """A figure of the objective, such as "rmse"."""
        return float(np.mean([v.of(self.loss)[name] for v in self.validations]))

    @property
    def regret(self) -> float:
        """The regret that is expected of as many runs as there are, drawn at random; see ``accuracy.expected_regret``."""
        return float(np.mean([expected_regret(self.loss(v.predicted), self.loss(v.measured)) for v in self.validations]))

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """The 90 % interval of each figure of the objective by a bootstrap over the runs, on the first repetition of the folds."""
        first = self.validations[0]
        return intervals(self.loss(first.predicted), self.loss(first.measured))

    def mean(self, name: str) -> float:
        """A figure of single targets, the mean over them."""
        return float(np.mean([getattr(v, name) for v in self.validations]))


@final
@dataclass(frozen=True, eq=False)
class LawComparison:
    """The laws in the order in which they were named; ``print`` shows a table, ``plot`` a picture."""

    targets: Targets
    entries: tuple[Entry, ...]
    runs: int
    folds: int
    repeats: int

    def __getitem__(self, name: str) -> Entry:
        """The law of this name; raises with the nearest name suggested."""
        found = {entry.name: entry for entry in self.entries}
        if name not in found:
            raise unknown("compared law", name, found)
        return found[name]

    @property
    def best(self) -> Entry:
        """The law of least error (RMSE) among those whose expected regret is within 0.3 percentage points of the least."""
        least = min(entry.regret for entry in self.fitted)
        return min((e for e in self.fitted if e.regret <= least + ALIKE), key=lambda e: e.figure("rmse"))

    def judged_by(self, loss: Loss) -> LawComparison:
        """The same cross-validations judged by another objective; nothing is fitted again."""
        return replace(self, entries=tuple(replace(entry, loss=loss) for entry in self.entries))

    @property
    def fitted(self) -> tuple[Entry, ...]:
        """The laws that were not refused."""
        return tuple(entry for entry in self.entries if not entry.refusal)

    def __str__(self) -> str:
        rows = [_HEAD, *self._rows()]
        widths = [max(len(row[c]) for row in rows) for c in range(len(_HEAD))]
        lines = [
            "  ".join(cell.rjust(w) if c else cell.ljust(w) for c, (cell, w) in enumerate(zip(row, widths, strict=True))) for row in rows
        ]
        return "\n".join([*(line.rstrip() for line in lines), *self._notes()])

    def _repr_html_(self) -> str:
        return table(_HEAD, self._rows(), caption="Laws compared, cross-validated", notes=self._notes())

    def plot(self, *, ax: Axes | Sequence[Axes] | None = None, title: str = "Laws compared") -> tuple[Axes, ...]:
        """Error, rank correlation and regret of the objective by every law, each with its 90 % interval.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from mixopt.report.plots_laws import laws

        figures = {e.name: {n: (e.figure(n), *e.intervals[n]) for n in ("rmse", "spearman", "regret")} for e in self.fitted}
        return laws(figures, ax=ax, title=title)

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (
                e.name,
                "{:.4f} [{:.4f}, {:.4f}]".format(e.figure("rmse"), *e.intervals["rmse"]),
                "{:.3f} [{:.3f}, {:.3f}]".format(e.figure("spearman"), *e.intervals["spearman"]),
                f"{100 * e.figure('regret'):.1f}",
                f"{100 * e.regret:.1f}",
                f"{e.mean('spearman'):.3f}",
                f"{100 * e.mean('regret'):.1f}",
                f"{e.seconds:.2f}",
            )
            for e in self.fitted
        ]

    def _notes(self) -> list[str]:
        again = f", {self.repeats} times" if self.repeats > 1 else ""
        means = f"the means over {len(self.targets)} targets"
        told = f"{self.runs} runs in {self.folds} folds{again}; figures of the objective, with 90 % intervals, and {means}"
        return [told, *(f"{e.name} was left out: {e.refusal}" for e in self.entries if e.refusal)]


def compare_laws(
    runs: Runs,
    laws: Iterable[str] | Mapping[str, Fitter] = USUAL,
    *,
    loss: Loss | None = None,
    folds: int = 5,
    repeats: int = 1,
    seed: int = 0,
) -> LawComparison:
    """Cross-validate laws on the same folds, and judge them by each target and by an objective.

    ``laws`` are names (see ``LAWS``) or a mapping of names to functions that fit runs. ``loss`` [...] of metrics [..., m] is the
    objective, less being better; by default the mean of the targets, those to be maximised by their negative. Curves are fitted
    with a ridge that is chosen by cross-validation within each fold. A law that the runs are too few for, or whose
    package is not installed, is left out with the reason.

    Raises:
        InputError: an unknown name, folds out of range, or no law that could be fitted.
    """
    named = laws if isinstance(laws, Mapping) else {name: fitter(name) for name in laws}
    if repeats < 1:
        raise InputError(f"repeats is {repeats}; the folds are drawn at least once")
    ways = signs(runs.targets)
    goal: Loss = (lambda metrics: (ways * metrics).mean(axis=-1)) if loss is None else loss
    entries = tuple(_entry(name, fit, goal, runs, folds, repeats, seed) for name, fit in named.items())
    if all(entry.refusal for entry in entries):
        raise InputError(f"none of the laws {listed(named)} can be fitted: " + "; ".join(f"{e.name}: {e.refusal}" for e in entries))
    return LawComparison(runs.targets, entries, len(runs), folds, repeats)


def _entry(name: str, fit: Fitter, loss: Loss, runs: Runs, folds: int, repeats: int, seed: int) -> Entry:
    begun = time.perf_counter()
    try:
        checked = tuple(cross_validate(runs, folds, seed + r, law=fit) for r in range(repeats))
    except MissingExtraError as lack:
        return Entry(name, fit, loss, refusal=str(lack))
    except InputError as error:
        if not 2 <= folds <= len(runs):
            raise
        return Entry(name, fit, loss, refusal=str(error))
    return Entry(name, fit, loss, checked, time.perf_counter() - begun)
