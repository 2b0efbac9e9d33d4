"""How far a recommendation is to be doubted: its value, its gain over other mixtures, and its weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import numpy as np

from mixopt.errors import InputError
from mixopt.language.symbols import Mixture
from mixopt.laws import Gain, Planned, Posterior, jackknife, laplace
from mixopt.laws.curve import CurveLaw
from mixopt.laws.posterior import LEVEL, reach_of
from mixopt.runs import Runs

from .chosen import Chosen
from .fitted import Question
from .objective import Objective
from .ranges import Answer, answer

_MOST = 20


@final
@dataclass(frozen=True, eq=False)
class Doubt:
    """What the posterior of the law says of a recommendation, at the level of 90 %.

    ``value`` is where the objective (its loss) of an unseen run of the recommended mixture will lie, ``gain`` how much less that
    mixture loses than natural (or else uniform) by the law, ``low`` and ``high`` [k] the intervals of the optimal weights, None where
    the law, or all draws but one, have no proof of their optimum; ``how`` says in words how the ``posterior`` was taken.
    """

    value: tuple[float, float]
    gain: Gain
    low: np.ndarray | None
    high: np.ndarray | None
    how: str
    posterior: Posterior

    @property
    def half(self) -> float:
        """Half the interval of the gain: a smaller gain is none that the runs show."""
        low, high = self.gain.interval(LEVEL)
        return (high - low) / 2

    def intervals(self, runs: Runs, goal: Objective) -> np.ndarray:
        """Where the objective (its loss) of further runs of the same mixtures would lie [R, 2]."""
        posterior = self.posterior
        if not isinstance(posterior.law, Planned):
            return _intervals(posterior, runs.mixtures, goal)
        laws = [one.law for one in (posterior.law, *posterior.draws) if isinstance(one, Planned)]
        own = replace(posterior, law=laws[0], draws=tuple(laws[1:]))
        return _intervals(own, runs.mixtures, goal, **{n: getattr(runs, n) for n in laws[0].requires})


def doubt(question: Question, found: Chosen, best: Answer, other: np.ndarray) -> Doubt:
    """The doubt of an optimum against another mixture [k]."""
    goal, weights = question.objective, best.weights
    posterior = _posterior(found)
    (span,) = _intervals(posterior, weights[None], goal)
    how = f"{len(posterior.draws)} fits, each without the runs of one region of the mixtures (jackknife)"
    low, high = _weights(question, posterior, weights) if best.certified else (None, None)
    return Doubt((float(span[0]), float(span[1])), posterior.gain(weights, other, goal.loss), low, high, how, posterior)


def _intervals(posterior: Posterior, mixtures: np.ndarray, goal: Objective, **scale: np.ndarray) -> np.ndarray:
    """The intervals of the objective of runs of mixtures [R, k], [R, 2], at a lower level where the runs are too few for 90 %."""
    there = int(np.isfinite(goal.loss(posterior.validation.measured)).sum())
    return posterior.intervals(mixtures, min(LEVEL, there / (there + 1)), goal.loss, **scale)


def _posterior(found: Chosen) -> Posterior:
    """The jackknife over regions; where the runs are too few for it, Laplace's approximation."""
    try:
        return jackknife(found.fit, found.validation.runs, found.validation)
    except InputError:
        if not isinstance(found.law, CurveLaw):
            raise
        return laplace(found.law, found.validation.runs, found.validation)


def _weights(question: Question, posterior: Posterior, best: np.ndarray) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    """The interval of each optimal weight [k]: how far the optima of the draws lie from each other, within what is allowed."""
    optima = _optima(question, posterior)
    if len(optima) < 2:
        return None, None
    half = posterior.widen * optima.std(axis=0) * reach_of(LEVEL, len(optima) - 1)
    low, high = question.limits.box()
    return np.clip(best - half, np.minimum(low, best), best), np.clip(best + half, best, np.maximum(high, best))


def _optima(question: Question, posterior: Posterior) -> np.ndarray:
    """The optimal weights [S, k] by the posterior's draws."""
    found = []
    for law in posterior.draws[:_MOST]:
        result = answer(replace(question, law=law).problem(Mixture(question.limits.domains)))
        if result.certified and result.result.vector is not None:
            found.append(result.weights)
    return np.array(found)
