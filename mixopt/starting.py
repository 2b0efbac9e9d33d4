"""Where a run starts: the weights that a user gives, and the region that steps keep to."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mixopt.errors import InputError, listed
from mixopt.forms import Form, unknowns
from mixopt.language.problem import Problem
from mixopt.language.symbols import domains_of
from mixopt.report.result import Result, saved_weights
from mixopt.runtime.layout import Layout
from mixopt.runtime.region import Region
from mixopt.solvers.constraints import refuses_region

Start = Result | Mapping[str, float] | Sequence[float] | np.ndarray | str | os.PathLike[str] | None


def started(form: Form, problem: Problem, start: Start) -> np.ndarray | None:
    """The start that a user gives for the unknowns of a form, as one vector; None where none is given.

    Raises:
        InputError: a result without weights or of another mixture, weights of other domains, a file of another problem.
    """
    if start is None:
        return None
    domains, layout = domains_of(form.mixture), Layout.of(unknowns(form))
    if isinstance(start, Result):
        if start.mixture != form.mixture:
            raise InputError(
                f"start is a result for '{start.mixture}' over {domains_of(start.mixture)}, "
                f"but the problem's '{form.mixture}' is over {domains}"
            )
        if not start.status.usable:
            raise InputError(f"start is a result without weights: {start.status.value}")
        return layout.joined({s: value for s, value in start.values.items() if s in layout.slices})
    if isinstance(start, (str, os.PathLike)):
        start = saved_weights(start, problem)
    mixtures = [s for s in layout.symbols if s.op == "mixture"]
    if len(mixtures) == 1:
        return layout.joined({form.mixture: domains.weights(start)})
    names = [str(s) for s in mixtures]
    if not isinstance(start, Mapping) or set(start) != set(names):
        raise InputError(f"start is a dict with the weights of each of the mixtures {listed(names)}, by their names; it is {start!r}")
    return layout.joined({s: domains_of(s).weights(start[str(s)]) for s in mixtures})  # type: ignore[arg-type]


def stepping(form: Form, region: Region, numbers: Mapping[str, np.ndarray]) -> Region:
    """The region with steps under constraints that are not linear, where it has such and a solver can keep to them."""
    if region.kind != "nonlinear" or refuses_region(form.constraints):
        return region
    from mixopt.solvers.conic_steps import ConicSteps

    return replace(region, steps=ConicSteps(form.mixture, form.constraints, numbers))
