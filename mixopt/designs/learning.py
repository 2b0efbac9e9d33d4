"""Designs that look at a law: D-optimal ones, and those that go on from runs: Bayesian optimisation and CLIMB's rounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

import numpy as np

from mixopt.errors import InputError, listed
from mixopt.laws import GaussianProcess, bootstrap, suggest
from mixopt.laws.curve import CurveLaw
from mixopt.laws.law import At, Law
from mixopt.laws.named import Fitter, fitter
from mixopt.laws.suggestion import around, greedy
from mixopt.runs import Runs

from .advice import curve_of
from .kinds import Ask, Dirichlet, Kind, Proposal, Uniform, distinct

_DRAWS, _PARAMETERS = 20, 16
"""Bootstrap draws for laws without a Jacobian; draws of a law's parameters before there are runs."""
_DIRECTIONS = 200
"""Directions in which vertices of the constraints are looked for."""


@final
@dataclass(frozen=True)
class DOptimal(Kind):
    """The mixtures whose outcomes would together tell most of the law's parameters, chosen one after the other out of candidates.

    With runs, the law is fitted to them and ``laws.suggest`` goes on from what they tell: by the Jacobian at the fit, or by
    bootstrap draws of laws that have none. Without, sum_s log det J_s'J_s is raised over 16 draws of the parameters, each standard
    normal within its bounds, and a mixture may come again; of a law fitted elsewhere J is that at its fit. For trees, processes and laws
    that see scales the exponential law stands in. Candidates are ``candidates`` draws around the prior and all over the space, its
    vertices and centre, and blends of the runs.

    Source: Fedorov 1972, Theory of Optimal Experiments; over draws of the parameters Chaloner and Larntz 1989.
    """

    candidates: int = 2000

    name: ClassVar[str] = "d-optimal"

    def propose(self, ask: Ask) -> Proposal:
        table = pool(ask, self.candidates)
        if ask.space.linear:
            table = distinct(np.vstack([ask.space.vertices(_DIRECTIONS, ask.rng), table]))
        if ask.runs is None:
            features, notes = _slopes(ask, table)
            return Proposal(table[greedy(features * 1e3, ask.count, repeats=True)], (self.name,) * ask.count, notes=notes)
        if len(table) < ask.count:
            raise InputError(f"{ask.count} mixtures are asked for, and there are {len(table)} candidates; give more candidates")
        law = ask.law if isinstance(ask.law, Law) else fitter(ask.law)(ask.runs)
        by = law if isinstance(law, CurveLaw) else bootstrap(_fit(ask), ask.runs, draws=_DRAWS)
        return Proposal(suggest(by, ask.runs, ask.count, candidates=table), (self.name,) * ask.count)


@final
@dataclass(frozen=True)
class Bayesian(Kind):
    """Bayesian optimisation: the candidates of largest expected improvement of the objective under a Gaussian process fitted to the runs.

    E[(best - f(w))+] = (best - mean) Phi(z) + sd phi(z), z = (best - mean) / sd, where best is the least mean at the runs, which noise
    does not flatter as it does the best measured. Of several mixtures each is chosen as if those before it had come out at their means
    (the Kriging believer). Give ``after=runs``, five at least; a first round is one of the other kinds.

    Source: Jones, Schonlau and Welch 1998, Journal of Global Optimization 13, Eq. 15; Ginsbourger, Le Riche and Carraro 2010.
    """

    candidates: int = 4000

    name: ClassVar[str] = "bayesian"
    follows: ClassVar[bool] = True

    def propose(self, ask: Ask) -> Proposal:
        runs = judged(ask)
        process = GaussianProcess.fit(runs)
        table = pool(ask, self.candidates)
        chosen: list[int] = []
        for _ in range(min(ask.count, len(table))):
            mean, sd = process.predicted(table)[:, 0], process.deviation(table)[:, 0]
            gain = improvement(float(process.predicted(process.mixtures).min()), mean, sd)
            gain[chosen] = -1
            best = int(gain.argmax())
            chosen.append(best)
            seen = np.vstack([process.mixtures, table[best]])
            process = replace(process, mixtures=seen, observed=np.vstack([process.observed, mean[best]]))
        return Proposal(table[chosen], (self.name,) * len(chosen))


@final
@dataclass(frozen=True)
class Climb(Kind):
    """One of CLIMB's rounds: mixtures drawn at random from the ``top`` that a predictor fitted to all runs calls best.

    The candidates are ``pool`` draws from ``draws``, the same in every round of one seed, without those that were run; without runs the
    round is the first, and is drawn from them at random. The source has LightGBM, rounds of 64, 32 and 16, and draws by the token
    counts. It does not say how wide these are, by default from one domain alone to near the counts, nor how many the top are, by
    default 4 for each mixture of the round. RegMix is its case of one round.

    Source: Diao et al. 2025, CLIMB, arXiv 2504.13161, section 3.
    """

    law: str = "lightgbm"
    top: int | None = None
    pool: int = 10_000
    draws: Dirichlet = field(default_factory=lambda: Dirichlet(temperature=1.0, strengths=(1.0, 100.0)))

    name: ClassVar[str] = "climb"

    def __post_init__(self) -> None:
        fitter(self.law)  # refuses a name that no law has
        if self.pool < 1 or (self.top is not None and self.top < 1):
            raise InputError(f"pool is {self.pool} and top {self.top}; both are whole numbers >= 1")

    def propose(self, ask: Ask) -> Proposal:
        if ask.runs is None:
            found = self.candidates(ask)
            return Proposal(found.mixtures[: ask.count], (self.name,) * ask.count, notes=found.notes)
        runs = judged(ask)
        law = fitter(self.law)(runs)
        return self.better(ask, runs.mixtures, lambda rows: law.predicted(rows)[:, 0])

    def candidates(self, ask: Ask) -> Proposal:
        """The mixtures [pool, k] of all rounds."""
        if self.pool < ask.count:
            raise InputError(f"{ask.count} mixtures cannot be drawn from {self.pool}; raise pool, or ask for fewer")
        return self.draws.propose(replace(ask, count=self.pool))

    def better(self, ask: Ask, tried: np.ndarray, foretold: Callable[[np.ndarray], np.ndarray]) -> Proposal:
        """So many of the mixtures whose losses [N] are ``foretold`` least, drawn at random, none of those ``tried`` [R, k] among them."""
        found, top = self.candidates(ask), 4 * ask.count if self.top is None else self.top
        before = {row.tobytes() for row in tried.round(9) + 0.0}
        table = found.mixtures[[row.tobytes() not in before for row in found.mixtures.round(9) + 0.0]]
        best = np.argsort(foretold(table), kind="stable")[:top]
        if len(best) < ask.count:
            raise InputError(f"{ask.count} mixtures cannot be drawn from the best {len(best)}; raise top and pool, or ask for fewer")
        return Proposal(table[ask.rng.choice(best, ask.count, replace=False)], (self.name,) * ask.count, notes=found.notes)


def improvement(best: float, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """The expected improvement [N] on ``best`` of normal losses with these means and standard deviations [N]."""
    from scipy.special import ndtr

    gap = best - mean
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(sd > 0, gap / sd, np.inf * np.sign(gap))
    return np.where(sd > 0, gap * ndtr(z) + sd * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi), np.maximum(gap, 0))


def pool(ask: Ask, count: int) -> np.ndarray:
    """Candidates [N, k] in the space: draws around the prior and all over it, corners and centre, and blends of the runs so far."""
    half = replace(ask, count=max(count // 2, 1))
    parts = [Uniform().propose(half).mixtures]
    if (ask.prior > 0).all():
        parts.append(Dirichlet(most=math.inf).propose(half).mixtures)  # RegMix's rejection leaves nothing of them where domains are many
    if ask.space.linear:
        parts += [ask.space.corners, ask.space.centre[None]]
    if ask.runs is not None:
        near = around(ask.runs, ask.rng, count)
        parts.append(near[ask.space.feasible(near)])
    return distinct(np.vstack(parts))


def judged(ask: Ask) -> Runs:
    """The runs with the objective as their only target, less being better; runs that lack a part of it are left out."""
    runs = ask.runs
    assert runs is not None
    assert ask.loss is not None
    losses = ask.loss(runs.metrics)
    there = np.isfinite(losses)
    if not there.any():
        raise InputError("no run has all the metrics that the objective is made of; name those that they have, objective={...}")
    return Runs.from_arrays(runs.domains, runs.mixtures[there], ["objective"], losses[there][:, None])


def _slopes(ask: Ask, table: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """The Jacobians [S, N, p] of the law at a table of mixtures before there are runs, and what to know of them."""
    notes: tuple[str, ...] = ()
    curve, needs = curve_of(ask.law, ask.space.domains)
    if curve is None or needs:
        name = ask.law if isinstance(ask.law, str) else ask.law.name
        why = f"sees {listed(needs)} too" if needs else "has no slopes"
        notes = (f"the {name} law {why}: the design is D-optimal for the exponential law",)
        curve, _ = curve_of("exponential", ask.space.domains)
        assert curve is not None
    at = At(table)
    if isinstance(ask.law, CurveLaw) and not notes:
        return np.concatenate([curve.of_target(j).jacobian(ask.law.theta[[j]], at) for j in range(len(ask.law.targets))]), ()
    theta = np.random.default_rng(0).standard_normal((_PARAMETERS, curve.size(ask.space.k)))
    return curve.jacobian(np.clip(theta, *curve.bounds(at, np.zeros(len(table)))), at), notes


def _fit(ask: Ask) -> Fitter:
    """What fits the law of the design to runs."""
    return fitter(type(ask.law) if isinstance(ask.law, Law) else ask.law)
