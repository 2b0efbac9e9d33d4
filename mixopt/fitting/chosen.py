"""The law of a recommendation: the one that was asked for, or the one that decides best on held-out runs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, final

from mixopt.errors import InputError, listed, nearest
from mixopt.laws import LAWS, CrossValidation, Formula, Law, LawChoice, Planned, choose, cross_validate
from mixopt.laws.comparison import USUAL
from mixopt.laws.least_squares import Settings
from mixopt.laws.named import Fitter, fitter, is_formula
from mixopt.laws.planned import Planning
from mixopt.laws.validation import Loss
from mixopt.runs import SCALES, Runs

AUTO, CONVEX = "auto", "convex"
AMONG = {AUTO: USUAL, CONVEX: ("exponential", "additive-power")}
"""The laws that are compared under each word; under "convex" those that bend, and whose optimum is certified: a linear law's is a
corner whatever the runs say."""

_FLAGS = {"params": "size", "tokens": "tokens", "steps": "steps"}

LawOption = str | type[Law] | Fitter


@final
@dataclass(frozen=True, eq=False)
class Chosen:
    """A law fitted to all runs with its cross-validation, what fits it, and the comparison that it was chosen from, if any."""

    law: Law
    fit: Fitter
    validation: CrossValidation
    choice: LawChoice | None = None

    def planned(self, size: Mapping[str, float]) -> Chosen:
        """The law at the size of the run that is planned, params, tokens and steps, where it depends on them.

        Raises:
            InputError: a law that depends on what is not given.
        """
        lacking = [n for n in self.law.requires if n not in size]
        if lacking:
            flags = ", ".join(f"target_{_FLAGS[n]}= (--target-{_FLAGS[n]})" for n in lacking)
            raise InputError(
                f"the {self.law.name} law depends on {listed(SCALES[n] for n in lacking)}: give those of the run planned, {flags}"
            )
        if not self.law.requires:
            return self
        return replace(self, law=Planned.of(self.law, **size), fit=Planning(self.fit, tuple(size.items())))

    @property
    def notes(self) -> tuple[str, ...]:
        """Why the law was taken, where it was chosen, and what its fit says."""
        return (*([] if self.choice is None else [self.choice.sentence]), *self.law.fitted.notes)


def fitters(law: LawOption, **settings: Any) -> dict[str, Fitter]:
    """What fits the law that is asked for, or under "auto" and "convex" each law that is compared, by name.

    Of several laws each is given those of the settings (``least_squares.Settings``) that it takes; None is left to the law.

    Raises:
        InputError: an unknown law, or settings that it does not take.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    Settings(**given)
    if isinstance(law, str) and law in AMONG:
        return {name: fitter(name, **_taken(name, given)) for name in AMONG[law] if name in LAWS}
    return {str(law): fitter(known(law), **given)}


def chosen(runs: Runs, fits: Mapping[str, Fitter], judge: Loss, folds: int, seed: int, *, blend: bool = False) -> Chosen:
    """Fit the only law, or of several the one that is chosen, or their blend, for the objective ``judge``.

    Raises:
        InputError: runs that cannot be fitted.
    """
    if len(fits) == 1:
        (fit,) = fits.values()
        return Chosen(fit(runs), fit, cross_validate(runs, folds, seed, law=fit))
    found = choose(runs, fits, loss=judge, folds=folds, seed=seed, blend=blend)
    return Chosen(found.fit(runs), found.fit, found.validation, found)


def known(law: LawOption) -> LawOption:
    """The law, where there is one of that name, or where it is a formula.

    Raises:
        InputError: a name that no law has, with the names that there are and the nearest.
    """
    if isinstance(law, str) and law not in AMONG and not is_formula(law) and (law not in LAWS or law == Formula.name):
        names = (*AMONG, *(n for n in LAWS if n != Formula.name))
        told = f"it is one of {listed(names, most=20)}, or a formula such as 'c + b*exp(A @ w)'"
        raise InputError(f"{law!r} is no law; {told}{nearest(law, names)}")
    return law


def _taken(name: str, given: dict[str, Any]) -> dict[str, Any]:
    taken = inspect.signature(LAWS[name].fit).parameters  # type: ignore[attr-defined]
    return {n: v for n, v in given.items() if n in taken}
