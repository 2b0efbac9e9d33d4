"""Bilevel problems on the simplex with the method as one argument, by one-step directions among them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from mixopt.errors import InputError
from mixopt.language.atoms import mean, sum_squares
from mixopt.language.domains import Domains
from mixopt.language.expression import Expr, Relation
from mixopt.language.problem import argmin, minimize
from mixopt.language.symbols import Mixture, losses, model
from mixopt.method import Method
from mixopt.solver import Solver

from .doge import validation_problem

if TYPE_CHECKING:
    from mixopt.solvers import Normalised


def bilevel(
    domains: Domains,
    targets: Domains | None = None,
    *,
    solver: Solver,
    objective: Callable[[Expr], Expr] = mean,
    ridge: float = 0.0,
    name: str = "val",
    subject_to: Iterable[Relation] = (),
) -> Method:
    """min over w of objective(losses on the targets) of the model trained on w @ losses + ridge / 2 |theta|^2: Eq. 2 of the survey.

    ``solver`` is the method: ``Implicit()``, ``Unrolled(...)``, ``ValueFunction()``, ``VPBGD()``, ``BOME()``, ``ScaleBiO()``, ``OneStep()``
    or ``Surrogate()``. ``targets`` are the training domains themselves, or any others, which are then never trained on;
    ``objective`` makes one number of their losses [m]: ``mx.mean``, ``mx.max``, ``lambda l: l["code"]``. ``subject_to`` are relations
    on ``Mixture(domains)``.

    Raises:
        InputError: a ridge that is no finite number >= 0.
    """
    if not 0 <= ridge < math.inf:
        raise InputError(f"the ridge is {ridge!r}; it is a finite number >= 0")
    w, theta = Mixture(domains), model()
    lower = w @ losses(theta, domains)
    trained = argmin(lower + ridge / 2 * sum_squares(theta) if ridge else lower, over=theta)
    return Method(minimize(objective(losses(trained, targets or domains, name=name)), over=w, subject_to=subject_to), solver)


def one_step(
    domains: Domains,
    targets: Domains | None = None,
    *,
    step_size: float = 1e-3,
    rate: float | Normalised | None = None,
    steps: int = 1000,
    name: str = "val",
    subject_to: Iterable[Relation] = (),
) -> Method:
    """Eq. 2 of the survey with the lower level replaced by one gradient step from the model as it stands, in one training run.

    dF/dw_i = -step_size <grad l_i, grad l_target>, a mirror step along it at each training step; DoGE without its constants. ``rate``
    None moves no log weight by more than about 0.1 a step. Curvature is left out: where it rests, the true gap need not be 0.

    Source: section B.2.1 of the survey (gradient unrolling, K = 1); arXiv 2310.15393.
    """
    from mixopt.solvers import Normalised, OneStep

    solver = OneStep(step_size=step_size, rate=Normalised() if rate is None else rate, steps=steps)
    return Method(validation_problem(domains, targets, name=name, subject_to=subject_to), solver, "one step")
