"""CLIMB: rounds of proxies, each drawn from the mixtures that a predictor fitted to all before calls best."""

from __future__ import annotations

from collections.abc import Callable

from mixopt.language.problem import Problem
from mixopt.laws import Law
from mixopt.method import Method
from mixopt.runs import Runs


def climb(
    problem: Problem,
    *,
    design: int = 64,
    rounds: tuple[int, ...] = (32, 16),
    law: str | Callable[[Runs], Law] = "lightgbm",
    train: int = 1000,
) -> Method:
    r"""min over w of upper(theta*(w)), by law_r fitted to all runs so far, and w drawn from the best of a pool by law_r.

    ``problem`` is bilevel; ``design`` mixtures are drawn around the natural proportions, then so many more in each of ``rounds``, then the
    law's optimum is trained, and the best that was measured is the answer. ``train`` is the steps of a proxy. Where proxies are
    trained elsewhere, ask for each round by ``mx.design(..., kind="climb", after=runs)``.

    The source clusters the corpus into about 20 domains first, and predicts the mean accuracy of some tasks by trees of depth 4 with
    early stopping; here the losses of the upper level are predicted by the law. Ends SEARCHED: nothing is certified.

    Source: Diao et al. 2025, CLIMB, arXiv 2504.13161, section 3.
    """
    from mixopt.solvers import Surrogate

    return Method(problem, Surrogate(law, design=design, rounds=tuple(rounds), train=train), "CLIMB")
