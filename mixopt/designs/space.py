"""Where mixtures may lie: the simplex under a problem's constraints, with its corners, and draws from its inside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

import numpy as np
from scipy.linalg import orth

from mixopt.compiler.classify import classify
from mixopt.compiler.rewrites import rewritten
from mixopt.errors import InputError, listed
from mixopt.forms import one_mixture
from mixopt.language.domains import Domains
from mixopt.language.expression import Expr, Relation
from mixopt.language.problem import Problem, problem_in
from mixopt.language.symbols import Mixture, domains_of
from mixopt.runtime.batch import Batch
from mixopt.runtime.region import Region, dense

CLOSE = 1e-7
"""A constraint holds up to this much."""
_SPREAD = 64
"""The most corners that are looked for along the domains' own axes, one way each; beyond it directions are drawn."""
_ROUNDS = (50, 300)
"""The fewest and the most steps of a chain through the inside."""


@final
@dataclass(frozen=True, eq=False)
class Space:
    """The mixtures over k domains that keep ``constraints``; make one by ``Space.of``, which checks."""

    domains: Domains
    region: Region
    limits: tuple[tuple[str, bool, Batch], ...]

    @classmethod
    def of(
        cls,
        where: Domains | Problem | Iterable[str] | Any,
        subject_to: Iterable[Relation] = (),
        given: Mapping[str, Any] | None = None,
    ) -> Space:
        """The space of domains with constraints on one mixture of them, or of a problem (or method) with its own and these.

        ``given`` are the numbers of the parameters in the constraints.

        Raises:
            InputError: several mixtures, other domains, a parameter without numbers, or constraints that no mixture keeps.
        """
        stated, relations = problem_in(where), tuple(subject_to)
        if isinstance(stated, Problem):
            form = classify(rewritten(stated).problem)
            odd = one_mixture(form)
            if odd:
                raise InputError(f"a design is of one mixture: {odd[0]}")
            w, relations = form.mixture, (*form.constraints, *relations)
            domains = domains_of(w)
        else:
            domains = stated if isinstance(stated, Domains) else Domains(stated)
            w = _symbol(domains, relations)
        numbers = _numbers(relations, given)
        region = Region.compile(w, relations, numbers)
        if region.empty:
            raise InputError(f"there is nothing to design: {region.empty}")
        return cls.within(domains, region, numbers)

    @classmethod
    def within(cls, domains: Domains, region: Region, given: Mapping[str, np.ndarray]) -> Space:
        """The space of a region that was compiled with these numbers."""
        relations = (limit.relation for limit in region.limits)
        return cls(domains, region, tuple((r.label, r.sense == "==", Batch(r.gap, region.layout, given)) for r in relations))

    @property
    def k(self) -> int:
        """The number of domains."""
        return len(self.domains)

    @property
    def free(self) -> bool:
        """Whether there is nothing beside the simplex."""
        return self.region.kind == "simplex"

    @property
    def linear(self) -> bool:
        """Whether all constraints are linear."""
        return self.region.kind != "nonlinear"

    def feasible(self, mixtures: np.ndarray) -> np.ndarray:
        """Which rows [R] of mixtures [R, k] keep all constraints."""
        fits = ((mixtures <= self.region.upper + CLOSE) & (mixtures >= self.region.lower - CLOSE)).all(axis=1)
        for _, equality, gap in self.limits if len(mixtures) else ():
            off = gap(mixtures).reshape(len(mixtures), -1)
            fits &= ((np.abs(off) if equality else off) <= CLOSE).all(axis=1)
        return np.asarray(fits)

    def capped(self, most: np.ndarray) -> Space:
        """The same space with weights of at most ``most`` [k].

        Raises:
            InputError: no mixture is left.
        """
        region = replace(self.region, upper=np.minimum(self.region.upper, most))
        if region.empty:
            raise InputError(f"no mixture keeps the caps of the design: {region.empty}")
        return replace(self, region=region)

    def check(self, mixtures: np.ndarray, ids: Sequence[str]) -> None:
        """Refuse mixtures [R, k] of which one breaks a constraint.

        Raises:
            InputError: the first such row, what it breaks, and by how much.
        """
        bad = np.flatnonzero(~self.feasible(mixtures))
        if len(bad):
            broken = {name: v for name, v in self.region.residuals(mixtures[bad[0]]).items() if v > CLOSE}
            told = ", ".join(f"{name!r} by {v:.3g}" for name, v in broken.items())
            more = f", and {len(bad) - 1} more runs break constraints" if len(bad) > 1 else ""
            raise InputError(
                f"the mixture of run {ids[bad[0]]!r} breaks {told}{more}; change or leave out the row, or relax the constraint"
            )

    def nearest(self, w: np.ndarray) -> np.ndarray:
        """The mixture [k] nearest to w that keeps the constraints, where these are linear or w keeps them already.

        Raises:
            InputError: w breaks a constraint that is not linear.
        """
        found = self.region.start(w) if self.linear else w
        if not self.feasible(found[None])[0]:
            raise InputError(
                f"the reference mixture breaks {listed(n for n, v in self.region.residuals(found).items() if v > CLOSE)}, which is not "
                "linear, so that no nearest one is known; give a prior that keeps it"
            )
        return found

    @cached_property
    def corners(self) -> np.ndarray:
        """Corners [V, k] of the linear constraints: where each domain's weight is largest, then smallest; of many domains, at random."""
        if self.free:
            return np.eye(self.k)
        self._need_linear("corners")
        axes = np.eye(self.k)
        ways = np.vstack([-axes, axes]) if self.k <= _SPREAD else np.random.default_rng(0).standard_normal((2 * _SPREAD, self.k))
        found = np.array([self.region.layout.exact(self.region.lowest(g)) for g in ways])
        _, first = np.unique(found.round(9), axis=0, return_index=True)
        return found[np.sort(first)]

    @cached_property
    def centre(self) -> np.ndarray:
        """The mean [k] of the corners, which lies inside."""
        return np.asarray(self.corners.mean(axis=0))

    def inside(self, starts: np.ndarray, rng: np.random.Generator, alpha: np.ndarray | None = None) -> np.ndarray:
        """Mixtures [R, k] by hit-and-run from feasible ``starts`` [R, k]: uniform over the linear constraints.

        Each step draws a direction among those that keep the equalities, and a point of the chord uniformly. With ``alpha`` [R, k]
        a move is kept with the ratio of Dirichlet densities (Metropolis), so that the chain has that distribution, cut to the space.

        Source: Smith 1984, Operations Research 32(6); with Metropolis' rule Belisle, Romeijn and Smith 1993.
        """
        self._need_linear("hit-and-run")
        region, G = self.region, dense(self.region.G)
        settled = np.eye(self.k)[region.upper - region.lower < 1e-12]
        fixed = orth(np.vstack([dense(region.A), np.ones((1, self.k)), settled]).T)  # directions that the equalities take
        room = self.k - fixed.shape[1]
        w = 1e-3 * self.centre + (1 - 1e-3) * starts
        for _ in range(int(np.clip(5 * room, *_ROUNDS)) if room else 0):
            z = rng.standard_normal(w.shape)
            d = z - (z @ fixed) @ fixed.T
            slack = np.hstack([region.upper - w, w - region.lower, region.h - w @ G.T])
            along = np.hstack([d, -d, d @ G.T])
            with np.errstate(divide="ignore", invalid="ignore"):
                reach = np.maximum(slack, 0) / along
            most, least = np.where(along > 1e-14, reach, np.inf).min(axis=1), np.where(along < -1e-14, reach, -np.inf).max(axis=1)
            moved = np.clip(w + (least + rng.random(len(w)) * (most - least))[:, None] * d, 0, 1)
            if alpha is not None:
                ratio = ((alpha - 1) * (np.log(np.maximum(moved, 1e-300)) - np.log(np.maximum(w, 1e-300)))).sum(axis=1)
                moved = np.where((np.log(rng.random(len(w))) < ratio)[:, None], moved, w)
            w = moved / moved.sum(axis=1, keepdims=True)
        return np.where(self.feasible(w)[:, None], w, starts)

    def blends(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Feasible mixtures [count, k] to start chains from: random blends of the corners."""
        return rng.dirichlet(np.ones(len(self.corners)), count) @ self.corners

    def _need_linear(self, what: str) -> None:
        if not self.linear:
            bent = [limit.relation.label for limit in self.region.limits if not limit.linear]
            raise InputError(
                f"{what} are found under linear constraints, and {listed(bent)} is not linear; draw (kind='dirichlet') instead"
            )


def _symbol(domains: Domains, relations: tuple[Relation, ...]) -> Expr:
    """The mixture that the constraints are on, over these domains; a new one where there are none."""
    found = list(dict.fromkeys(n for r in relations for n in r.gap.walk() if n.op in ("mixture", "stages", "variable")))
    if not found:
        return Mixture(domains)
    if len(found) > 1 or found[0].op != "mixture":
        raise InputError(f"a design is of one mixture, and the constraints are on {listed(found)}")
    if domains_of(found[0]).names != domains.names:
        raise InputError(
            f"the constraints are on a mixture of {domains_of(found[0])}, and the design is of {domains}; the order counts too"
        )
    return found[0]


def _numbers(relations: tuple[Relation, ...], given: Mapping[str, Any] | None) -> dict[str, np.ndarray]:
    """The numbers of the parameters in the constraints."""
    wanted = {n.data[0]: n for r in relations for n in r.gap.walk() if n.op == "parameter"}
    lacking = [n for n in wanted if n not in (given or {})]
    if lacking:
        raise InputError(f"the constraints use the parameters {listed(lacking)}; give their numbers, given={{{lacking[0]!r}: ...}}")
    return {n: np.broadcast_to(np.asarray((given or {})[n], dtype=float), p.shape or ()) for n, p in wanted.items()}
