"""DoGE: the weights that most reduce a target loss after one training step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from mixopt.errors import InputError
from mixopt.language.atoms import mean
from mixopt.language.domains import Domains
from mixopt.language.expression import Relation, constant
from mixopt.language.problem import Problem, argmin, minimize
from mixopt.language.symbols import Mixture, losses, model
from mixopt.method import Method

Source = Literal["paper", "code", "survey"]


def validation_problem(
    domains: Domains,
    targets: Domains | None = None,
    *,
    weights: Sequence[float] | None = None,
    name: str = "val",
    subject_to: Iterable[Relation] = (),
) -> Problem:
    """min over w of the mean loss on ``targets`` of the model trained on the mixture w: Eq. 2 of the survey.

    ``targets`` are the training domains themselves, or any others, which are then never trained on (out of domain);
    ``weights`` [m] take the place of the mean's 1/m. ``subject_to`` are relations on ``Mixture(domains)``.
    """
    w, theta = Mixture(domains), model()
    trained = argmin(w @ losses(theta, domains), over=theta)
    reached = losses(trained, targets or domains, name=name)
    objective = mean(reached) if weights is None else constant(weights) @ reached
    return minimize(objective, over=w, subject_to=subject_to)


def doge(
    domains: Domains,
    targets: Domains | None = None,
    *,
    mu: float = 0.01,
    step_size: float = 1e-3,
    steps: int = 1000,
    name: str = "val",
    subject_to: Iterable[Relation] = (),
    faithful_to: Source | None = None,
) -> Method:
    r"""w_i proportional to w_i exp(eta W_i / mu), W_i = <grad l_i, grad l_target>, then one training step under the new w.

    One unrolled step of size eta = ``step_size`` and a mirror step of rate 1 / ``mu``; the result is the mean of the weights after the
    start. Without ``targets`` they are the training domains (universal): under ``name``, "train" being the batch of training itself.

    None: grad l_target is the mean over the targets, Eq. 2 of the survey. "paper": their sum, a factor of m in ``mu``. "survey": the
    same, with the normaliser that its section 3.2.2 leaves out (T09). "code": the sum too; products are divided by the mean gradient
    norm and clipped to [0, 5], so that a harmful domain loses by renormalising alone, and each training domain's gradient is clipped to
    norm 5 first. Differences from the code in that mode: eta is fixed and not the schedule's; batches hold every domain, so that no
    stale gradient is reused; targets' gradients are not clipped one by one; a domain's product with itself stays in, as in the code as
    released, whose test for it never holds. ``OneStep(own=False)`` leaves it out.

    Raises:
        InputError: ``faithful_to`` is not None, "paper", "code" or "survey".

    Source: Fan, Pagliardini and Jaggi 2024, arXiv 2310.15393, Algorithm 1; code Olivia-fsm/DoGE, src/trainer.py.
    """
    from mixopt.solvers import OneStep, Unrolled

    if faithful_to not in (None, "paper", "code", "survey"):
        raise InputError(f"faithful_to is {faithful_to!r}; doge follows 'paper', 'code' or 'survey', or None for the mean over the targets")
    summed = None if faithful_to is None else [1.0] * len(targets or domains)
    problem = validation_problem(domains, targets, weights=summed, name=name, subject_to=subject_to)
    if faithful_to == "code":
        code = OneStep(step_size=step_size, rate=1 / mu, steps=steps, normalised=True, floor=0.0, ceiling=5.0, clip=5.0)
        return Method(problem, code, "DoGE (code)")
    solver = Unrolled(steps=1, step_size=step_size, rate=1 / mu, geometry="entropic", average="mean", outer_steps=steps)
    return Method(problem, solver, "DoGE")
