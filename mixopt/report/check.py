"""Certificates: what a point is, from a gradient and the constraints alone, whatever solver found it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.optimize import brentq, nnls

from mixopt.forms import Program, unknowns
from mixopt.language.curvature import smooth
from mixopt.language.expression import equal
from mixopt.language.support import SUPPORT, Switch, switch
from mixopt.runtime.program import Function
from mixopt.runtime.region import Region, dense

from .kinks import convex, dual_gap, linear_size, tangent_gap, told
from .result import Check

ACTIVE = 1e-6
SMALL = 1e-8  # a gap below it, relative to the value, is good enough as it is
LARGE = 2_000_000
"""With more entries than this, multipliers and linear programs are not computed here."""
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
) -> tuple[Check, Duals]:
    """The check of weights [k] for an objective to be minimised with the given gradient [k], and the multipliers it implies.

    The Frank-Wolfe gap is <g, w> - min over the feasible u of <g, u>, where the constraints are linear or the region has steps for
    them; the KKT residual is the norm of g + sum_j m_j a_j + nu 1 - s for the best multipliers m, s >= 0 of the active constraints
    and bounds; with further unknowns w holds all of them, each mixture has a nu of its own, and there is no such gap. A large
    problem has no gap by a linear program, and its m are those that the solver told (``known``), where there are constraints.
    A ``gap`` that is known is taken over.
    """
    if not np.isfinite(gradient).all():
        lost = "no gap or KKT residual: the gradient there is not finite"
        return Check(region.layout.off(w), region.residuals(w), oracle, inner=inner, notes=(*notes, lost)), {}
    large = region.size * (1 + sum(int(np.prod(limit.gap.shape)) for limit in region.limits)) > LARGE
    if gap is None and (region.kind != "nonlinear" or region.steps is not None) and region.layout.alone and (region.boxed or not large):
        gap = max(float(gradient @ w - gradient @ region.lowest(gradient)), 0.0)
    if large:
        kkt = stationarity(region, w, gradient, known or {})
        notes = notes if gap is not None else (*notes, "no gap: its linear program would be too large")
        words = f"{oracle} and the solver's multipliers" if region.limits and kkt is not None else oracle
        return Check(region.layout.off(w), region.residuals(w), words, gap, kkt, inner, notes), {}
    kkt, duals = multipliers(region, w, gradient)
    return Check(region.layout.off(w), region.residuals(w), oracle, gap, kkt, inner, notes), duals


def program_check(
    form: Program, region: Region, w: np.ndarray, given: Mapping[str, np.ndarray], known: Mapping[str, Any] | None = None
) -> tuple[Check, Duals]:
    """The check of a program's weights, its gradient taken by our own reverse mode in float64.

    A convex program with kinks or with constraints that are not linear has the gap of its linearised pieces (see ``kinks``);
    ``known`` are the solver's multipliers, which are used where the problem is too large to find any here.
    """
    switches = [s for s in map(switch, form.constraints) if s is not None]
    if switches:
        return _on_support(form, switches, region, w, given)
    function = Function(form.objective, unknowns(form), given)
    value = function.value(w)
    if not np.isfinite(value):
        note = f"no gap or KKT residual: the objective is {value} there"
        return Check(region.layout.off(w), region.residuals(w), "evaluation in float64", notes=(note,)), {}
    kinks = [smooth(e) for e in (form.objective, *(r.gap for r in form.constraints))]
    kink = next((k for k in kinks if k is not None), None)
    provable = convex(form)
    pieces = not provable or linear_size(form) <= LARGE
    gap, where = dual_gap(function, region, w, known or {}) if provable and kink is None else (None, w)
    if provable and pieces and (gap is None or gap > SMALL * (1 + abs(value))):
        other, at = _frank_wolfe(function, region, w), w
        if kink is not None or other is None:
            other, at = tangent_gap(form, w, given)
        gap, where = (other, at) if gap is None or (other is not None and other < gap) else (gap, where)
    if kink is None:
        notes = () if where is w else (f"the gradient taken {np.abs(where - w).max():.0e} inside, for it has no bound at a weight of 0",)
        return certify(region, w, function.gradient(where), EXACT, notes=notes, known=known, gap=gap)
    reason = "" if pieces else "it is too large for the linear program of its pieces, and"
    note = f"no gap or KKT residual: {reason} there is a kink at '{kink}'".replace("  ", " ")
    oracle = "the exact gradients of the pieces in float64"
    return Check(region.layout.off(w), region.residuals(w), oracle, gap, notes=(note,) if gap is None else ()), {}


def _frank_wolfe(function: Function, region: Region, w: np.ndarray) -> float | None:
    """<g, w> - min over the feasible u of <g, u> for a smooth function; None where constraints are not linear or g is not finite."""
    if region.kind == "nonlinear" or not region.layout.alone:
        return None
    g = function.gradient(w)
    return max(float(g @ w - g @ region.lowest(g)), 0.0) if np.isfinite(g).all() else None


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
    """The norm of what is left of the gradient under the best multipliers, and those multipliers by constraint name."""
    k = region.size
    layout = region.layout
    unit = np.eye(k)
    columns: list[np.ndarray] = [*layout.sums, *-layout.sums, *-unit[w - layout.lower <= ACTIVE], *unit[layout.ceiling - w <= ACTIVE]]
    owners: list[tuple[int, int, float]] = [(-1, 0, 0.0)] * len(columns)
    for j, limit in enumerate(region.limits):
        gaps, rows = np.atleast_1d(limit.gap.value(w)), dense(limit.rows(w))
        for i, (gap, row) in enumerate(zip(gaps, rows, strict=True)):
            if limit.equality or gap > -ACTIVE:
                columns.append(row)
                owners.append((j, i, 1.0))
            if limit.equality:
                columns.append(-row)
                owners.append((j, i, -1.0))
    solution, residual = nnls(np.array(columns).T, -gradient)
    duals: Duals = {}
    for j, limit in enumerate(region.limits):
        size = int(np.prod(limit.gap.shape))
        entries = np.zeros(max(size, 1))
        for value, (owner, i, sign) in zip(solution, owners, strict=True):
            if owner == j:
                entries[i] += sign * value
        label = limit.relation.label
        names = limit.relation.gap.index or tuple(map(str, range(size)))
        duals[label] = float(entries[0]) if limit.gap.shape == () else dict(zip(names, map(float, entries), strict=True))
    return float(residual), duals
