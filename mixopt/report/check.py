"""Certificates: what a point is, from a gradient and the constraints alone, whatever solver found it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from scipy.linalg import block_diag
from scipy.optimize import brentq, nnls

from mixopt.forms import Program, unknowns
from mixopt.language.expression import Relation, equal
from mixopt.language.opaque import blind
from mixopt.language.support import SUPPORT, Switch, switch
from mixopt.runtime.program import Function
from mixopt.runtime.region import Region, dense

from .kinks import Tangent, dual_gap, linear_size, multiplied, normals, tangent_gap, told
from .result import Check

ACTIVE = 1e-6
SMALL = 1e-9  # a gap by multipliers below it, relative to the value, is good enough as it is
LARGE = 2_000_000
"""With more entries than this, multipliers and linear programs are not computed here."""
STEEPEST = 1e100
"""The slope of a root at 0, as it is taken in numbers, is larger still."""
EXACT = "the exact gradient in float64"

Duals = dict[str, "float | dict[str, float]"]


def certify(
    region: Region,
    w: np.ndarray,
    gradient: np.ndarray,
    oracle: str,
    *,
    inner: float | None = None,
    notes: tuple[str, ...] = (),
    known: Mapping[str, Any] | None = None,
    gap: float | None = None,
    found: tuple[float, Duals] | None = None,
) -> tuple[Check, Duals]:
    """The check of weights [k] for an objective to be minimised with the given gradient [k], and the multipliers it implies.

    The Frank-Wolfe gap is <g, w> - min over the feasible u of <g, u>, where the constraints are linear or the region has steps for
    them; the KKT residual is the norm of g + sum_j m_j a_j + nu 1 - s for the best multipliers m, s >= 0 of the active constraints
    and bounds; with further unknowns w holds all of them, each mixture has a nu of its own, and there is no such gap. A large
    problem has no gap by a linear program, and its m are those that the solver told (``known``), where there are constraints.
    A ``gap`` that is known is taken over, and so is what ``multipliers`` has ``found`` for this gradient.
    """
    if not np.isfinite(gradient).all() or (gap is None and np.abs(gradient).max(initial=0.0) > STEEPEST):
        lost = "no gap or KKT residual: the gradient there is not finite"
        return Check(region.layout.off(w), region.residuals(w), oracle, inner=inner, notes=(*notes, lost)), {}
    large = _large(region)
    if gap is None and (region.kind != "nonlinear" or region.steps is not None) and region.layout.alone and (region.boxed or not large):
        gap = max(float(gradient @ w - gradient @ region.lowest(gradient)), 0.0)
    if large:
        kkt = stationarity(region, w, gradient, known or {})
        notes = notes if gap is not None else (*notes, "no gap: its linear program would be too large")
        words = f"{oracle} and the solver's multipliers" if region.limits and kkt is not None else oracle
        return Check(region.layout.off(w), region.residuals(w), words, gap, kkt, inner, notes), {}
    kkt, duals = found or multipliers(region, w, gradient)
    return Check(region.layout.off(w), region.residuals(w), oracle, gap, kkt, inner, notes), duals


def _large(region: Region) -> bool:
    """Whether multipliers are not looked for here."""
    return region.size * (1 + sum(prod(limit.gap.shape) for limit in region.limits)) > LARGE


def program_check(
    form: Program,
    region: Region,
    w: np.ndarray,
    given: Mapping[str, np.ndarray],
    known: Mapping[str, Any] | None = None,
    function: Function | None = None,
) -> tuple[Check, Duals]:
    """The check of a program's weights, its gradient taken by our own reverse mode in float64.

    A convex program with kinks or with constraints that are not linear has the gap of its linearised pieces (see ``kinks``);
    ``known`` are the solver's multipliers, which bound the gap, and stand in for ours where the problem is too large to find any;
    ``function`` is the objective where it is lowered already.
    """
    unseen = blind(form.objective, *(side for r in form.constraints for side in (r.left, r.right)))
    if unseen is not None:
        note = f"no gap or KKT residual: '{unseen}' is opaque, so that there is no gradient, and optimality is not certified"
        return Check(region.layout.off(w), region.residuals(w), "evaluation in float64", notes=(note,)), {}
    switches = [s for s in map(switch, form.constraints) if s is not None]
    if switches:
        return _on_support(form, switches, region, w, given)
    function = function or Function(form.objective, region.layout, given)
    here = Tangent(w, *function.value_and_gradient(w))
    if not np.isfinite(here.height):
        note = f"no gap or KKT residual: the objective is {here.height} there"
        return Check(region.layout.off(w), region.residuals(w), "evaluation in float64", notes=(note,)), {}
    if form.kink is None:
        gap, at, found = _smooth_gap(form, function, region, here, given, known or {}) if form.convex else (None, here, None)
        inside = f"the gradient taken {np.abs(at.point - w).max():.0e} inside, for it has no bound at a weight of 0"
        return certify(region, w, at.slope, EXACT, notes=() if at is here else (inside,), known=known, gap=gap, found=found)
    pieces = not form.convex or linear_size(form) <= LARGE
    gap = tangent_gap(form, w, given)[0] if form.convex and pieces else None
    reason = "" if pieces else "it is too large for the linear program of its pieces, and"
    note = f"no gap or KKT residual: {reason} there is a kink at '{form.kink}'".replace("  ", " ")
    oracle = "the exact gradients of the pieces in float64"
    return Check(region.layout.off(w), region.residuals(w), oracle, gap, notes=(note,) if gap is None else ()), {}


def _smooth_gap(
    form: Program, function: Function, region: Region, here: Tangent, given: Mapping[str, np.ndarray], known: Mapping[str, Any]
) -> tuple[float | None, Tangent, tuple[float, Duals] | None]:
    """The gap of a smooth convex program, its tangent, and our multipliers where they were found on the way.

    By the solver's multipliers, by those that leave the least of the gradient, and by a linear program where both are far apart.
    """

    def small(gap: float | None) -> bool:
        return gap is not None and gap <= SMALL * (1 + abs(here.height))

    found = None
    gap, at = dual_gap(function, region, here, known)
    if not small(gap) and not _large(region) and np.isfinite(at.slope).all():
        found = multipliers(region, here.point, at.slope)
        ours = multiplied(region, here.height, at, found[1])
        gap = ours if gap is None or (ours is not None and ours < gap) else gap
    if small(gap) or linear_size(form) > LARGE:
        return gap, at, found
    other, where = _frank_wolfe(region, here), here
    if other is None:
        other, point = tangent_gap(form, here.point, given)
        where = here if point is here.point else Tangent(point, *function.value_and_gradient(point))
    if gap is not None and (other is None or other >= gap):
        return gap, at, found
    return other, where, found if where is at else None


def _frank_wolfe(region: Region, here: Tangent) -> float | None:
    """<g, w> - min over the feasible u of <g, u> for a smooth function; None where constraints are not linear or g is not finite."""
    if region.kind == "nonlinear" or not region.layout.alone or not np.isfinite(here.slope).all():
        return None
    return max(float(here.slope @ here.point - here.slope @ region.lowest(here.slope)), 0.0)


def _on_support(
    form: Program, switches: list[Switch], region: Region, w: np.ndarray, given: Mapping[str, np.ndarray]
) -> tuple[Check, Duals]:
    """The check with the domains that are used held fixed; of other choices of domains it proves nothing."""
    rest, fixed = [r for r in form.constraints if switch(r) is None], []
    for i, each in enumerate(switches):
        weights = w[region.layout.slices[each.mixture]]
        zero = [p for p in each.positions if weights[p] <= SUPPORT]
        more = [p for p in each.positions if weights[p] > SUPPORT] if each.least else []
        fixed += [equal(each.mixture[zero], 0.0).named(f"zero {i}")] if zero else []
        fixed += [(each.mixture[more] >= each.least).named(f"used {i}")] if more else []
    plain = replace(form, constraints=(*rest, *fixed))
    check, duals = program_check(plain, Region.compile(unknowns(form), plain.constraints, given), w, given)
    note = "gap and KKT residual hold the domains that are used fixed; of other choices the message tells what the search proved"
    labels = {r.label for r in rest}
    return replace(check, constraints=region.residuals(w), notes=(*check.notes, note)), {n: d for n, d in duals.items() if n in labels}


def stationarity(region: Region, w: np.ndarray, gradient: np.ndarray, known: Mapping[str, Any]) -> float | None:
    """The KKT residual with the constraints' multipliers as given, and the best ones of sums and bounds; None where some are missing."""
    rest = gradient.copy()
    for limit in region.limits:
        if limit.relation.label not in known:
            return None
        rest = rest + limit.rows(w).T @ told(known[limit.relation.label], limit.equality)
    low, high = w - region.layout.lower <= ACTIVE, region.layout.ceiling - w <= ACTIVE

    def left(part: np.ndarray, where: slice | np.ndarray) -> np.ndarray:
        part = np.where(low[where], np.minimum(part, 0.0), part)
        return np.where(high[where], np.maximum(part, 0.0), part)

    total = float((left(rest, np.arange(len(rest)))[~region.layout.weights] ** 2).sum())
    for where in region.layout.simplexes:
        part = rest[where]
        nu = brentq(lambda v, part=part, where=where: left(part + v, where).sum(), -part.max() - 1, -part.min() + 1, xtol=1e-15)
        total += float((left(part + nu, where) ** 2).sum())
    return float(np.sqrt(total))


def multipliers(region: Region, w: np.ndarray, gradient: np.ndarray) -> tuple[float, Duals]:
    """The norm of what is left of the gradient under the best multipliers, and those multipliers by constraint name.

    A constraint with kinks has every normal that its linear pieces give, not one slope alone.
    """
    layout, unit, k = region.layout, np.eye(region.size), region.size
    bounds = np.vstack([layout.sums, -layout.sums, -unit[w - layout.lower <= ACTIVE], unit[layout.ceiling - w <= ACTIVE]])
    columns, further, active = [bounds], [bounds[:, k:]], []  # the weights' part, and that of the variables of kinks
    for limit in region.limits:
        on = np.flatnonzero(limit.equality | (limit.gaps(w) > -ACTIVE))
        if limit.kinked and len(on):
            rows, cuts = normals(limit, layout, w, ACTIVE)
            both = np.vstack([rows[on], cuts])
        else:
            rows = dense(limit.rows(w))[on]
            both = np.vstack([rows, -rows]) if limit.equality else rows
        columns.append(both[:, :k])
        further.append(both[:, k:])
        active.append((on, len(both)))
    system = np.vstack(columns).T
    if any(part.size for part in further):
        system = np.vstack([system, block_diag(*further).T])
    solution, residual = nnls(system, np.append(-gradient, np.zeros(len(system) - k)))
    duals: Duals = {}
    first = len(bounds)
    for limit, (on, count) in zip(region.limits, active, strict=True):
        entries, part = np.zeros(prod(limit.gap.shape)), solution[first : first + count]
        entries[on] = part[: len(on)] - part[len(on) :] if limit.equality else part[: len(on)]
        first += count
        duals[limit.relation.label] = by_name(limit.relation, entries)
    return float(residual), duals


def by_name(relation: Relation, entries: np.ndarray) -> float | dict[str, float]:
    """The multipliers [n] of a relation as users see them: by the names of its entries, and a number for a scalar relation."""
    if relation.gap.shape == ():
        return float(entries[0])
    return dict(zip(relation.gap.index or map(str, range(len(entries))), map(float, entries), strict=True))
