"""The feasible weights: the simplex cut by a problem's constraints, with projections, linear minima and residuals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np
from scipy.linalg import null_space, solve_triangular
from scipy.optimize import linprog, nnls
from scipy.sparse import csr_array, diags_array

from mixopt.errors import MixoptError
from mixopt.language.curvature import curvature, smooth
from mixopt.language.expression import Expr, Relation

from .layout import Layout
from .program import Function
from .simplex import project
from .sparse import stacked

ROUNDING = 1e-15
MET = 1e-9


class InfeasibleError(MixoptError):
    """No weights satisfy the linear constraints; solvers answer with a status, not with this error."""


@dataclass(frozen=True)
class Rows:
    """The Jacobian [n, k] of a linear constraint; which rows have one entry that is not zero, in which columns, and those entries."""

    matrix: Any
    single: np.ndarray
    at: np.ndarray
    slope: np.ndarray

    @staticmethod
    def of(matrix: Any) -> Rows:
        """The rows of a matrix, dense or sparse."""
        return Rows(matrix, *_singles(matrix))


@dataclass(frozen=True)
class Limit:
    """One constraint as functions: gap(w) <= 0 or == 0, entry by entry; ``steady`` is its Jacobian where no numbers change it."""

    relation: Relation
    gap: Function
    linear: bool
    middle: np.ndarray
    steady: Rows | None = None

    @staticmethod
    def opened(relation: Relation, layout: Layout) -> Limit:
        """A constraint whose parameters have no numbers yet."""
        gap, middle = Function(relation.gap, layout, {}), layout.middle()
        linear = curvature(relation.gap) in ("affine", "constant")
        if not (linear and gap.steady):
            return Limit(relation, gap, linear, middle)
        any_numbers = {n.data[0]: np.ones(n.shape or ()) for n in relation.gap.walk() if n.op == "parameter"}
        return Limit(relation, gap, linear, middle, Rows.of(gap.with_numbers(any_numbers).rows(middle)))

    def with_numbers(self, given: Mapping[str, np.ndarray]) -> Limit:
        """The constraint with numbers for its parameters."""
        return Limit(self.relation, self.gap.with_numbers(given), self.linear, self.middle, self.steady)

    @property
    def equality(self) -> bool:
        """Whether the gap must be zero."""
        return self.relation.sense == "=="

    def rows(self, w: np.ndarray) -> Any:
        """The Jacobian of the gap at w, found once where it is the same everywhere."""
        return self.same.matrix if self.linear else self.gap.rows(w)

    @cached_property
    def same(self) -> Rows:
        """The Jacobian of a linear constraint."""
        return self.steady or Rows.of(self.gap.rows(self.middle))

    @cached_property
    def offset(self) -> np.ndarray:
        """The gaps [n] of a linear constraint where all unknowns are 0."""
        return np.atleast_1d(self.gap.value(np.zeros(len(self.middle))))

    @cached_property
    def kinked(self) -> bool:
        """Whether it is a convex inequality with kinks, where one slope does not say all."""
        gap = self.relation.gap
        return not self.linear and not self.equality and smooth(gap) is not None and curvature(gap) == "convex"

    def gaps(self, w: np.ndarray) -> np.ndarray:
        """The gaps [n] at w, of a scalar one too."""
        return self.same.matrix @ w + self.offset if self.linear else np.atleast_1d(self.gap.value(w))

    def residual(self, w: np.ndarray) -> float:
        """Largest violation at w, 0 where the constraint holds."""
        gap = self.gaps(w)
        return float((np.abs(gap) if self.equality else np.maximum(gap, 0.0)).max())


class Steps(Protocol):
    """Steps under constraints that are not linear; each raises InfeasibleError where there are no weights."""

    def nearest(self, x: np.ndarray) -> np.ndarray:
        """The feasible weights [k] nearest to x [k]."""

    def tilted(self, centre: np.ndarray, tilt: np.ndarray) -> np.ndarray:
        """argmin over the feasible u of <tilt, u> + KL(u || centre)."""

    def lowest(self, g: np.ndarray) -> np.ndarray:
        """The feasible weights at which <g, u> is least."""

    @property
    def empty(self) -> str:
        """Why there are no weights, or an empty text."""


@dataclass(frozen=True)
class Region:
    """The simplex over k domains with linear rows G w <= h, A w = b (the sum not among them), and nonlinear limits.

    With several unknowns w stands for all of them, one behind the other: simplexes and boxes side by side (see ``layout``).
    """

    names: tuple[str, ...]
    lower: np.ndarray
    upper: np.ndarray
    G: Any
    h: np.ndarray
    A: Any
    b: np.ndarray
    limits: tuple[Limit, ...]
    layout: Layout
    steps: Steps | None = None  # for constraints that are not linear, where the solver has such steps

    @staticmethod
    def compile(unknowns: Expr | tuple[Expr, ...], constraints: Sequence[Relation], given: Mapping[str, np.ndarray]) -> Region:
        """The region of a problem's constraints, with parameters at their given values."""
        return Region.opened(unknowns, constraints)(given)

    @staticmethod
    def opened(unknowns: Expr | tuple[Expr, ...], constraints: Sequence[Relation]) -> Callable[[Mapping[str, np.ndarray]], Region]:
        """What makes the region of given values, all that does not depend on them done."""
        layout = Layout.of(unknowns)
        return partial(_of, layout, tuple(Limit.opened(relation, layout) for relation in constraints))

    @property
    def size(self) -> int:
        """Number of domains k, and of the entries of all unknowns where there are more."""
        return len(self.names)

    @cached_property
    def bounds(self) -> dict[str, np.ndarray]:
        """``lower`` and ``upper`` [k] as a step takes them; empty where they are those of the simplex."""
        bind = (self.lower > 0).any() or (self.upper < 1).any()
        return {"lower": self.lower, "upper": self.upper} if bind else {}

    @cached_property
    def boxed(self) -> bool:
        """Whether the linear part is one simplex and bounds on its weights."""
        return self.layout.alone and len(self.h) == 0 and len(self.b) == 0

    @cached_property
    def kind(self) -> str:
        """ "simplex", "box", "joint" (several simplexes and boxes), "linear" or "nonlinear": what a step has to respect."""
        if any(not limit.linear for limit in self.limits):
            return "nonlinear"
        if len(self.h) or len(self.b):
            return "linear"
        if not self.layout.alone:
            return "joint"
        return "box" if self.bounds else "simplex"

    @cached_property
    def empty(self) -> str:
        """Why no weights satisfy the linear constraints, or an empty text."""
        names = ", ".join(repr(limit.relation.label) for limit in self.limits)
        for name, low, high in zip(self.names, self.lower, self.upper, strict=True):
            if low > high + 1e-12:
                what = "the weight of" if self.layout.alone else "the unknown"
                return f"{what} {name!r} has the lower bound {low:.6g} and the upper bound {high:.6g}, by the constraints {names}"
        for where in self.layout.simplexes:
            low, high = self.lower[where].sum(), self.upper[where].sum()
            if low > 1 + 1e-9:
                return f"the lower bounds sum to {low:.6g}, above 1, by the constraints {names}"
            if high < 1 - 1e-9:
                return f"the upper bounds sum to {high:.6g}, below 1, by the constraints {names}"
        if self.kind in ("simplex", "box"):
            return ""
        if self.steps is not None:
            return self.steps.empty
        return "" if self._lp(np.zeros(self.size)).status in (0, 3) else f"no weights satisfy these constraints together: {names}"

    def _lp(self, cost: np.ndarray) -> Any:
        """The linear program of a cost [k]; where HiGHS' simplex method cannot tell how it ended, by its interior points."""
        ask = partial(
            linprog,
            cost,
            A_ub=self.G if len(self.h) else None,
            b_ub=self.h if len(self.h) else None,
            A_eq=stacked([self.A, self.layout.sums]),
            b_eq=np.append(self.b, np.ones(len(self.layout.simplexes))),
            bounds=np.column_stack([self.lower, self.upper]),
        )
        found = ask(method="highs")
        return ask(method="highs-ipm") if found.status == 4 else found

    def lowest(self, g: np.ndarray) -> np.ndarray:
        """The weights [k] of the linear part at which <g, w> is least.

        Raises:
            InfeasibleError: there are no weights, or a variable without bounds makes <g, w> fall without end.
        """
        if self.steps is not None:
            return self.steps.lowest(g)
        if self.kind == "simplex":
            return np.eye(self.size)[int(np.argmin(g))]
        if self.boxed:
            order = np.argsort(g, kind="stable")
            wide = (self.upper - self.lower)[order]
            before = np.cumsum(wide) - wide
            w = self.lower.copy()
            w[order] += np.clip(1 - self.lower.sum() - before, 0, wide)
            return w
        solved = self._lp(g)
        if solved.x is None:
            raise InfeasibleError(self.empty or "<g, w> falls without end along a variable that has no bound")
        return np.asarray(solved.x)

    @cached_property
    def _frame(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A point on all equalities, a basis of the directions that keep them, and the rows of all inequalities."""
        equal = np.vstack([dense(self.A), self.layout.sums])
        point = np.linalg.lstsq(equal, np.append(self.b, np.ones(len(self.layout.simplexes))), rcond=None)[0]
        unit = np.eye(self.size)
        return point, null_space(equal), np.vstack([dense(self.G), unit[np.isfinite(self.upper)], -unit[np.isfinite(self.lower)]])

    def project(self, x: np.ndarray) -> np.ndarray:
        """The nearest weights [k] of the linear part: a least-distance problem, by non-negative least squares; or the region's own steps.

        Rounding is about 1e-16 times the distance, for which the problem is scaled.

        Source: Lawson and Hanson 1974, chapter 23 (LDP).
        """
        if self.steps is not None:
            return self.steps.nearest(x)
        if self.boxed:
            return project(x, **self.bounds)
        start, basis, _ = self._frame
        return self._nearest(start + basis @ (basis.T @ (x - start)), basis, self.lower)

    def bottom(self, w: np.ndarray, g: np.ndarray, H: np.ndarray, least: np.ndarray) -> np.ndarray:
        """argmin of <g, u - w> + <u - w, H (u - w)> / 2 over the weights u [k] >= ``least`` of the linear part, in which w [k] lies.

        Raises:
            numpy.linalg.LinAlgError: H [k, k] is not positive definite along the equalities.
        """
        _, basis, _ = self._frame
        root = np.linalg.cholesky(basis.T @ H @ basis)
        basis = solve_triangular(root, basis.T, lower=True).T  # of length 1 and at right angles by H
        u = self._nearest(w - basis @ (basis.T @ g), basis, least)
        off = np.concatenate([[self.layout.off(u)], np.abs(self.A @ u - self.b), self.G @ u - self.h]).max()
        return self.project(u) if off > MET / 1000 else u  # where H is uneven, rounding takes them off the region

    def _nearest(self, target: np.ndarray, basis: np.ndarray, lower: np.ndarray) -> np.ndarray:
        """The weights of the linear part nearest to a target on the equalities, directions in the basis counted by their coefficients."""
        rows, high, low = self._frame[2], np.isfinite(self.upper), np.flatnonzero(np.isfinite(self.lower))
        slack = rows @ target - np.concatenate([self.h, self.upper[high], -lower[low]])
        along = rows @ basis
        free = np.linalg.norm(along, axis=1) > 1e-12  # the equalities alone decide the others: the bounds of a weight that is fixed
        if (slack[~free] > 1e-9).any():
            raise InfeasibleError(self.empty)
        scale = slack[free].max(initial=0.0)
        if scale > ROUNDING:
            system = np.vstack([-along[free].T, slack[free] / scale])
            unit = np.append(np.zeros(basis.shape[1]), 1.0)
            multipliers, distance = nnls(system, unit)
            residual = system @ multipliers - unit
            if distance < 1e-12 or residual[-1] == 0:
                raise InfeasibleError(self.empty)
            target = target - scale * basis @ (residual[:-1] / residual[-1])
            held = np.flatnonzero(free)[multipliers > 0] - (len(rows) - len(low))
            at = low[held[held >= 0]]
            target[at] = lower[at]
        return np.clip(target, lower, self.upper)

    def start(self, wanted: np.ndarray | None) -> np.ndarray:
        """Weights [k] to start from: the wanted ones or uniform, moved into the linear constraints where they do not meet all already."""
        w = self.layout.middle() if wanted is None else wanted
        if self.kind == "simplex" or max(self.residuals(w).values(), default=np.inf) <= MET:
            return w
        return self.project(w)

    def residuals(self, w: np.ndarray) -> dict[str, float]:
        """Largest violation of each constraint at w, by name."""
        return {limit.relation.label: limit.residual(w) for limit in self.limits}


def _of(layout: Layout, limits: tuple[Limit, ...], given: Mapping[str, np.ndarray]) -> Region:
    """The region of constraints with numbers for their parameters."""
    lower, upper = layout.lower.copy(), layout.upper.copy()
    rows: dict[bool, list[tuple[Any, np.ndarray]]] = {True: [], False: []}
    limits = tuple(limit.with_numbers(given) for limit in limits)
    for limit in limits:
        if not limit.linear:
            continue
        same = limit.same
        bound = -limit.offset[same.single] / same.slope
        above, below = (same.slope > 0) | limit.equality, (same.slope < 0) | limit.equality
        np.minimum.at(upper, same.at[above], bound[above])
        np.maximum.at(lower, same.at[below], bound[below])
        if not same.single.all():
            rows[limit.equality].append((same.matrix[~same.single], -limit.offset[~same.single]))
    G, h = _matrix(rows[False], layout.size)
    A, b = _matrix(rows[True], layout.size)
    return Region(layout.names, lower, upper, G, h, A, b, limits, layout)


def dense(matrix: Any) -> np.ndarray:
    """A matrix as an array, whichever way it is kept."""
    return matrix if isinstance(matrix, np.ndarray) else np.asarray(matrix.toarray())


def _singles(matrix: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which rows have one entry that is not zero, in which column it is, and the entry."""
    if isinstance(matrix, np.ndarray):
        filled = matrix != 0
        single = filled.sum(axis=1) == 1
        at = filled[single].argmax(axis=1)
        return single, at, matrix[single, at]
    matrix.eliminate_zeros()
    single = np.diff(matrix.indptr) == 1
    first = matrix.indptr[:-1][single]
    return single, matrix.indices[first], matrix.data[first]


def _matrix(rows: list[tuple[Any, np.ndarray]], k: int) -> tuple[Any, np.ndarray]:
    """Rows of length 1 with their right sides; a row of zeros stays. Sparse where some of the rows are."""
    if not rows:
        return np.empty((0, k)), np.empty(0)
    matrix, right = stacked([m for m, _ in rows]), np.concatenate([v for _, v in rows])
    if isinstance(matrix, np.ndarray):
        sizes = np.linalg.norm(matrix, axis=1)
        sizes[sizes == 0] = 1.0
        return matrix / sizes[:, None], right / sizes
    sizes = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    sizes[sizes == 0] = 1.0
    return csr_array(diags_array(1 / sizes) @ matrix), right / sizes
