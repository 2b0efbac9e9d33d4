"""Where mixtures may lie: the simplex under a problem's constraints, with its corners, and draws from its inside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

import numpy as np
from scipy.linalg import null_space

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
_ROUNDS, _CHAINS, _MOVED = (200, 2000), 400, 3e8
"""The fewest and the most steps of chains through the inside, the most chains where fewer are asked for, the most weights moved in all."""


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

    def vertices(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """``corners``, and those that are farthest along ``count`` drawn directions: all of a polytope that has few."""
        if self.free:
            return self.corners
        ways = rng.standard_normal((count, self.k))
        found = np.vstack([self.corners, *([self.region.layout.exact(self.region.lowest(g))] for g in ways)])
        return found[np.sort(np.unique(found.round(9), axis=0, return_index=True)[1])]

    def inside(self, starts: np.ndarray, rng: np.random.Generator, alpha: np.ndarray | None = None) -> np.ndarray:
        """Mixtures [R, k] by hit-and-run from feasible ``starts`` [R, k]: uniform over the linear constraints.

        Each step draws a direction that keeps the equalities, and a point of the chord uniformly. Half of the directions move weight from
        one domain to another, which is quick over the simplex; half are drawn as the chains lie at that time of the first half of the
        steps, which is quick where constraints leave a thin slice. With ``alpha`` [R, k] a move is kept with the ratio of Dirichlet
        densities (Metropolis), so that the chains have that distribution, cut to the space.

        Source: Smith 1984, Operations Research 32(6); with Metropolis' rule Belisle, Romeijn and Smith 1993; Lovasz and Vempala 2006
        on directions by the covariance.
        """
        self._need_linear("hit-and-run")
        settled = np.eye(self.k)[self.region.upper - self.region.lower < 1e-12]
        basis = null_space(np.vstack([dense(self.region.A), np.ones((1, self.k)), settled]))  # the ways that the equalities leave
        room = basis.shape[1]
        if not room or not len(starts):
            return starts
        chains = np.resize(
            np.arange(len(starts)), max(len(starts), 4 * room if 4 * room <= _CHAINS else 0)
        )  # so many that they tell a covariance
        w, powers = 1e-3 * self.centre + (1 - 1e-3) * starts[chains], None if alpha is None else alpha[chains] - 1
        least, most = _ROUNDS
        rounds, shape = int(np.clip(20 * room, least, max(min(most, _MOVED / w.size), least))), basis
        for step in range(rounds):
            if step % 20 == 0 and step <= rounds / 2 and 2 * room <= len(w):
                shape = basis @ _root(np.cov(w @ basis, rowvar=False).reshape(room, room))
            if step % 2:
                first, second = rng.integers(0, self.k, (2, len(w)))
                d = (basis[first] - basis[second]) @ basis.T
            else:
                d = rng.standard_normal((len(w), room)) @ shape.T
            moved = self._along(w, d, rng)
            if powers is not None:
                ratio = (powers * (np.log(np.maximum(moved, 1e-300)) - np.log(np.maximum(w, 1e-300)))).sum(axis=1)
                moved = np.where((np.log(rng.random(len(w))) < ratio)[:, None], moved, w)
            w = moved
        w = w[: len(starts)]
        return np.where(self.feasible(w)[:, None], w, starts)

    def _along(self, w: np.ndarray, d: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A point of each chord through w [R, k] along d [R, k], uniformly; where d is 0 the point stays."""
        region, G = self.region, dense(self.region.G)
        d = d / np.maximum(np.linalg.norm(d, axis=1, keepdims=True), 1e-300)
        slack = np.hstack([region.upper - w, w - region.lower, region.h - w @ G.T])
        along = np.hstack([d, -d, d @ G.T])
        with np.errstate(divide="ignore", invalid="ignore"):
            reach = np.maximum(slack, 0) / along
        most, least = np.where(along > 1e-14, reach, np.inf).min(axis=1), np.where(along < -1e-14, reach, -np.inf).max(axis=1)
        least, most = np.where(np.isfinite([least, most]), [least, most], 0.0)
        moved = np.clip(w + (least + rng.random(len(w)) * (most - least))[:, None] * d, 0, 1)
        return np.asarray(moved / moved.sum(axis=1, keepdims=True))

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


def _root(covariance: np.ndarray) -> np.ndarray:
    """A root [n, n] of a covariance, all of whose directions are kept possible."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 1e-6 * values[-1] + 1e-300)))
