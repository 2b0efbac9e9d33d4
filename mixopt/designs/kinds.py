"""Designs that need no runs: draws around a prior, Sobol points, uniform draws inside the constraints, and corners with their blends."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar, final

import numpy as np

from mixopt.errors import InputError
from mixopt.laws import Law
from mixopt.laws.validation import Loss
from mixopt.runs import Runs

from .space import Space

_TRIES = 100
"""How many draws are made for each mixture that is wanted before the rest are moved into the constraints, as RegMix draws."""
_ROOM = 5_000_000
"""The most weights that are drawn in order to choose among many times as many mixtures as are wanted, or to find some inside."""
_STRENGTHS = 15
"""How many strengths RegMix's generator spaces between its least and its largest."""


@final
@dataclass(frozen=True, eq=False)
class Ask:
    """What a kind of design gets: the space, how many mixtures, the reference ``prior`` [k], a generator, the law to be fitted, tokens of
    a run, and where there are runs so far these, with the ``loss`` [R] that their metrics [R, m] are judged by."""

    space: Space
    count: int
    prior: np.ndarray
    rng: np.random.Generator
    law: str | Law = "exponential"
    tokens: float | None = None
    runs: Runs | None = None
    loss: Loss | None = None


@final
@dataclass(frozen=True, eq=False)
class Proposal:
    """Mixtures [R, k], where each is from, tokens [R] where the kind sets them, and what is worth saying."""

    mixtures: np.ndarray
    origins: tuple[str, ...]
    tokens: np.ndarray | None = None
    notes: tuple[str, ...] = ()


class Kind(ABC):
    """A way to choose mixtures; its settings are its fields."""

    name: ClassVar[str]
    """What ``mx.design`` and the command line call it."""
    follows: ClassVar[bool] = False
    """Whether it chooses by the runs so far, which it then needs."""
    whole: ClassVar[bool] = False
    """Whether it makes all of the runs itself, so that none are kept for replicates."""

    def usual(self, space: Space) -> int | None:
        """How many mixtures it makes where nobody says; None leaves it to the law's need."""
        return None

    @abstractmethod
    def propose(self, ask: Ask) -> Proposal:
        """The mixtures [count, k], each in the space."""


@final
@dataclass(frozen=True)
class Dirichlet(Kind):
    """Draws from Dirichlet(s p), p the prior to the power ``temperature`` over its sum, each with a strength s of its own.

    s is one of 15 numbers spaced evenly in logarithm over ``strengths``. A draw in which a domain has more than ``most`` times its prior
    is rejected; a weight below ``least`` becomes 0; rows are rounded to multiples of ``least`` that sum to 1 (RegMix's own sum to
    0.996 to 1.003). The design is drawn from the distinct ones of a hundred times as many, so that single domains, which small
    strengths draw again and again, are rare in it.

    Under constraints draws that break them are rejected too; where fewer than one in a hundred keeps them, draws are moved to the
    nearest weights that do, and from there by hit-and-run on the same distribution.

    Source: Liu et al. 2024, RegMix, arXiv 2407.01492; code sail-sg/regmix, mixture_config/synthesize_mixture.py. The 512 mixtures
    that were released are more even than the code's: 45 % of their weights are 0, of these some 63 %.
    """

    temperature: float = 0.5
    strengths: tuple[float, float] = (0.1, 5.0)
    most: float = 15.0
    least: float = 2e-4

    name: ClassVar[str] = "dirichlet"

    def __post_init__(self) -> None:
        low, high = self.strengths
        if not 0 < low <= high < math.inf:
            raise InputError(f"strengths are {self.strengths}; give the least and the largest, both > 0")
        if not (0 <= self.temperature <= 1 and self.most > 0 and 0 <= self.least < 1):
            raise InputError(
                f"temperature is {self.temperature:g} (from 0, uniform, to 1, the prior), most {self.most:g} (> 0, times the prior) and "
                f"least {self.least:g} (from 0 to below 1)"
            )

    def propose(self, ask: Ask) -> Proposal:
        capped = ask.space.capped(np.minimum(self.most * ask.prior, 1.0))
        p = np.maximum(ask.prior, 1e-12) ** self.temperature
        strengths = np.geomspace(*self.strengths, _STRENGTHS)

        def sample(n: int) -> tuple[np.ndarray, np.ndarray]:
            alpha = ask.rng.choice(strengths, n)[:, None] * p / p.sum()
            return self._rounded(_dirichlet(alpha, ask.rng)), alpha

        times = int(np.clip(_ROOM // (ask.count * capped.k), 1, _TRIES))
        limits = [f"{self.most:g} times the prior"] if (self.most * ask.prior < 1).any() else []
        within = " and ".join([*limits, *([] if limits and ask.space.free else ["the constraints"])])
        return _kept(ask, capped, sample, self._rounded, self.name, times, within)

    def _rounded(self, rows: np.ndarray) -> np.ndarray:
        """Rows without weights below ``least``, on its grid, of sum 1: the largest remainders take what rounding down leaves."""
        if not self.least:
            return rows
        units = round(1 / self.least)
        kept = np.where(rows < self.least, 0.0, rows)
        parts = kept / kept.sum(axis=1, keepdims=True) * units
        whole = np.floor(parts)
        left = np.rint(units - whole.sum(axis=1))
        ranks = np.argsort(np.argsort(whole - parts, axis=1, kind="stable"), axis=1)
        return np.asarray((whole + (ranks < left[:, None])) / units)


@final
@dataclass(frozen=True)
class Sobol(Kind):
    """Scrambled Sobol points, spread more evenly than draws: u in the cube becomes w_i proportional to the Gamma(alpha_i) quantile of u_i.

    With ``strength`` None alpha is 1, -log(1 - u_i) over its sum, which spreads points evenly over the simplex; else alpha is
    ``strength`` times the prior, a Dirichlet distribution around it. Points that break a constraint are left out.

    Source: Sobol 1967; the map is Devroye 1986, Non-Uniform Random Variate Generation, section XI.4.
    """

    strength: float | None = None

    name: ClassVar[str] = "sobol"

    def __post_init__(self) -> None:
        if self.strength is not None and not 0 < self.strength < math.inf:
            raise InputError(f"strength is {self.strength!r}; it is a number > 0, or None for points all over the simplex")

    def propose(self, ask: Ask) -> Proposal:
        from scipy.special import gammaincinv
        from scipy.stats import qmc

        if ask.space.k > qmc.Sobol.MAXDIM:
            raise InputError(
                f"Sobol points are known for {qmc.Sobol.MAXDIM:,} domains at most, and there are {ask.space.k:,}; draw uniformly"
            )
        alpha = np.ones(ask.space.k) if self.strength is None else self.strength * np.maximum(ask.prior, 1e-12)
        points = qmc.Sobol(ask.space.k, scramble=True, seed=ask.rng)

        def sample(n: int) -> tuple[np.ndarray, np.ndarray]:
            found = gammaincinv(alpha, points.random(2 ** math.ceil(math.log2(n))))
            found = found[found.sum(axis=1) > 0]
            return found / found.sum(axis=1, keepdims=True), np.broadcast_to(alpha, found.shape)

        return _kept(ask, ask.space, sample, None, self.name)


@final
@dataclass(frozen=True)
class Uniform(Kind):
    """Draws that are uniform over the simplex, or over what the constraints leave of it: those that keep them, the rest by hit-and-run."""

    name: ClassVar[str] = "uniform"

    def propose(self, ask: Ask) -> Proposal:
        k = ask.space.k
        return _kept(ask, ask.space, lambda n: (ask.rng.dirichlet(np.ones(k), n), np.ones((n, k))), None, self.name)


@final
@dataclass(frozen=True)
class Lattice(Kind):
    """The centre, the corners, the points half-way between them, and the middles of every two corners, in this order.

    Without constraints the corners are the single domains, and this is the simplex-centroid design with axial points; under linear
    ones they are the mixtures in which a domain's weight is as large, or as small, as they allow. Nothing is drawn.

    Source: Scheffe 1963, Journal of the Royal Statistical Society B 25(2); Cornell 2002, Experiments with Mixtures, chapter 2.
    """

    name: ClassVar[str] = "lattice"

    def usual(self, space: Space) -> int | None:
        return 1 + 2 * len(space.corners)

    def propose(self, ask: Ask) -> Proposal:
        corners, centre = ask.space.corners, ask.space.centre
        halves = (corners + centre) / 2
        pairs = np.array([(corners[i] + corners[j]) / 2 for i, j in combinations(range(len(corners)), 2)]).reshape(-1, ask.space.k)
        rows, place = np.unique(np.vstack([centre, corners, halves, pairs]).round(12), axis=0, return_index=True)
        order = np.argsort(place)
        names = ["centre", *["corner"] * len(corners), *["half-way"] * len(halves), *["middle of two"] * len(pairs)]
        if len(rows) < ask.count:
            raise InputError(
                f"the lattice of {len(corners)} corners has {len(rows)} mixtures, and {ask.count} are asked for; ask for fewer, or draw"
            )
        chosen = order[: ask.count]
        return Proposal(rows[chosen] / rows[chosen].sum(axis=1, keepdims=True), tuple(names[place[i]] for i in chosen))


def _dirichlet(alpha: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One draw for each row of alpha [R, k], by logarithms of gammas, so that small parameters do not all come out as 0."""
    logs = np.log(rng.standard_gamma(alpha + 1)) + np.log(rng.random(alpha.shape)) / alpha
    found = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def _kept(
    ask: Ask,
    space: Space,
    sample: Callable[[int], tuple[np.ndarray, np.ndarray]],
    rounded: Callable[[np.ndarray], np.ndarray] | None,
    name: str,
    times: int = 1,
    within: str = "the constraints",
) -> Proposal:
    """Distinct draws that are in the space: the first so many, or at random out of ``times`` as many; what lacks is moved into it."""
    rows, tried, most = np.empty((0, space.k)), 0, max(min(_TRIES * ask.count, _ROOM // space.k), ask.count)
    spare: list[np.ndarray] = []
    alphas: list[np.ndarray] = []
    while tried < times * ask.count or (len(rows) < ask.count and tried < most):
        drawn, alpha = sample(max(times * ask.count, 64))
        fits, tried = space.feasible(drawn), tried + len(drawn)
        rows = distinct(np.vstack([rows, drawn[fits]]))
        if sum(map(len, spare)) < 2 * ask.count:
            spare.append(drawn[~fits][: 2 * ask.count])
            alphas.append(alpha[~fits][: 2 * ask.count])
    if len(rows) >= ask.count:
        chosen = ask.rng.choice(len(rows), ask.count, replace=False) if times > 1 else slice(ask.count)
        return Proposal(rows[chosen], (name,) * ask.count)
    lacking = ask.count - len(rows)
    if not space.linear or not sum(map(len, spare)):
        raise InputError(
            f"only {len(rows)} distinct mixtures of {tried:,} draws are within {within}, and {ask.count} are asked for; ask for fewer, "
            "give a prior inside, or relax them"
        )
    outside = np.concatenate(spare)[: 2 * lacking]
    starts = np.array([space.region.layout.exact(space.region.project(row)) for row in outside])
    moved = space.inside(starts, ask.rng, np.concatenate(alphas)[: len(starts)])
    if rounded is not None:
        short = rounded(moved)
        moved = np.where(space.feasible(short)[:, None], short, moved)
    moved = distinct(np.vstack([rows, moved]))[len(rows) :][:lacking]
    rest = space.inside(np.tile(space.centre, (lacking - len(moved), 1)), ask.rng)
    note = f"{len(rows)} of {tried:,} draws are within {within}; {lacking} mixtures are drawn there by hit-and-run"
    return Proposal(np.vstack([rows, moved, rest]), (name,) * len(rows) + ("hit-and-run",) * lacking, notes=(note,))


def distinct(rows: np.ndarray) -> np.ndarray:
    """The rows [R, k] without those that occur before, in their order."""
    first: dict[bytes, int] = {}
    for r, row in enumerate(rows.round(9) + 0.0):
        first.setdefault(row.tobytes(), r)
    return rows[list(first.values())]
