"""DoGE: the weights that most reduce a target loss after one training step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mixopt.language.atoms import mean
from mixopt.language.domains import Domains
from mixopt.language.expression import Relation, constant
from mixopt.language.problem import Problem, argmin, minimize
from mixopt.language.symbols import Mixture, losses, model
from mixopt.method import Method


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
) -> Method:
    r"""w_i proportional to w_i exp(eta W_i / mu), W_i = <grad l_i, grad l_target>, then one training step under the new w.

    One unrolled step of size eta = ``step_size`` and a mirror step of rate 1 / ``mu``; the result is the mean of the
    weights after the start. This is the paper's rule with its normaliser (survey misprint T09). The released
    code differs: it divides the scores by the mean gradient norm, floors them at 0, clips each domain's gradient, and
    lets eta follow the learning-rate schedule; and its targets' gradients are summed where Eq. 2 takes the mean, which
    a factor of m in ``mu`` undoes.

    Source: Fan, Pagliardini and Jaggi 2024, arXiv 2310.15393, Algorithm 1; code Olivia-fsm/DoGE.
    """
    from mixopt.solvers import Unrolled

    solver = Unrolled(steps=1, step_size=step_size, rate=1 / mu, geometry="entropic", average="mean", outer_steps=steps)
    return Method(validation_problem(domains, targets, name=name, subject_to=subject_to), solver, "DoGE")
