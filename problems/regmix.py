"""RegMix: a regression of one target's loss on the mixture, and a search by simulation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Literal

from mixopt.errors import InputError, listed
from mixopt.language.expression import Relation
from mixopt.language.problem import maximize, minimize
from mixopt.language.symbols import Mixture
from mixopt.laws import Law, LightGBM
from mixopt.method import Method
from mixopt.runs import Runs, Targets

Faithful = Literal["paper", "code"]


def regmix(
    given: Runs | Law,
    target: str | None = None,
    *,
    prior: Mapping[str, float] | None = None,
    subject_to: Iterable[Relation] = (),
    faithful_to: Faithful | None = None,
    held_out: Runs | None = None,
) -> Method:
    r"""min over w of L_target(w), L by gradient-boosted trees: an opaque program, searched by simulation.

    ``given`` are runs, of which ``target`` is fitted by LightGBM, or any fitted law (``laws.Linear.fit(runs)`` is the source's other
    regression). The target is Pile-CC in the source, and need not be named where there is one alone. ``prior`` gives the mean of
    the draws by domain: the token proportions of the training set in the source, without it those of the domains' tokens.

    The search draws 100,000 mixtures around the prior and returns the mean of the best 128. ``faithful_to="paper"`` draws 1,000,000 and
    takes the best 100; "code" is the released notebook: numpy's seed 42, and trees that stop early on ``held_out``, its test runs,
    by which its law is then judged. The notebook fits the rows of its table as they stand, which sum to 0.996 to 1.003: read them
    with ``Runs.from_csv(..., rescale=False)`` to have its very mixture.

    Trees are flat beyond the runs, and the mean of the best draws is no optimum: the result ends SEARCHED, with no certificate. A law
    with a formula is solved exactly in milliseconds, by ``Conic``.

    Raises:
        InputError: a target that is not named or not there, runs that cannot be fitted, or ``held_out`` missing or without use.
        MissingExtraError: lightgbm is not installed.

    Source: Liu et al. 2024, RegMix, arXiv 2407.01492; code sail-sg/regmix (regression notebook).
    """
    from mixopt.solvers import Simulation

    name = _target(given.targets, target)
    if isinstance(given, Runs):
        runs, kept = of_target(given, name), None if held_out is None else of_target(held_out, name)
        law: Law = LightGBM.fit(runs, faithful_to="code" if faithful_to == "code" else None, held_out=kept)
    elif held_out is not None or faithful_to == "code":
        raise InputError("held_out and faithful_to='code' are settings of the fit, and the law is fitted already; give Runs")
    else:
        law = given
    w = Mixture(given.domains)
    sense = minimize if given.targets.directions[given.targets.index(name)] == "min" else maximize
    search = {"paper": Simulation(1_000_000, 100, prior=prior), "code": Simulation(100_000, 128, prior=prior, seed=42)}
    solver = search.get(faithful_to or "", Simulation(prior=prior))
    return Method(sense(law[name](w), over=w, subject_to=subject_to), solver, "RegMix")


def of_target(runs: Runs, name: str) -> Runs:
    """The runs with one of their targets.

    Raises:
        InputError: it is not among them.
    """
    j, targets = runs.targets.index(name), runs.targets
    one = Targets([name], {name: targets.directions[j]}, {name: targets.units[j]})
    return replace(runs, targets=one, metrics=runs.metrics[:, [j]])


def _target(targets: Targets, name: str | None) -> str:
    if name is None and len(targets) != 1:
        raise InputError(f"RegMix's search is of one target, in the source Pile-CC; name one of {listed(targets.names)} as target=")
    return targets.names[0] if name is None else targets.names[targets.index(name)]
