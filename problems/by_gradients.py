"""Online methods whose weights follow gradients, or short probes: DoGE, R&B, GRAPE, PiKE and Aioli in the target run itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np

from mixopt.errors import InputError
from mixopt.language.domains import Domains
from mixopt.language.expression import Expr, Relation, constant
from mixopt.language.problem import Problem, maximize, minimize
from mixopt.language.symbols import Mixture, gram, losses, model, surrogate
from mixopt.method import Method
from mixopt.rules import GRAPE, Aioli, DoGE, PiKE, RAndB, Rule

Weights = Mapping[str, float] | Sequence[float] | np.ndarray


def online_doge(
    domains: Domains,
    targets: Domains | None = None,
    *,
    mu: float = 0.01,
    step_size: float = 1e-3,
    smoothing: float = 0.0,
    every: int = 1,
    steps: int = 1000,
    name: str = "val",
    subject_to: Iterable[Relation] = (),
    faithful_to: Literal["paper", "code", "survey"] | None = None,
) -> Method:
    """w_i <- w_i exp(eta W_i / mu), normalised, with W_i = <grad l_i, grad l_target>, on the model that is wanted: DoGE without a proxy.

    ``mx.online`` takes W as ``alignment`` [k], which ``mx.scores.alignment`` finds by one forward-mode pass, and eta as ``learning_rate``
    where the loop tells it, else ``step_size``. Without ``targets`` they are the training domains. There is no mean of the weights: those
    of the moment train the model.

    None: grad l_target is the mean over the targets (give ``alignment`` without weights). "paper" and "survey", whose missing normaliser
    (T09) is put in: the sum, ``weights=[1.0] * m`` there. "code": the sum too, divided by the mean length of the domains' gradients
    (``norms``) and clipped to [0, 5]; the code clips each domain's gradient to norm 5 before, which is left to the measurement, and a
    domain's product with itself stays in, as its test for it never holds.

    Raises:
        InputError: another ``faithful_to``, or a number out of range.

    Source: Fan, Pagliardini and Jaggi 2024, arXiv 2310.15393, Algorithm 1; code Olivia-fsm/DoGE, src/trainer.py.
    """
    if faithful_to not in (None, "paper", "code", "survey"):
        raise InputError(f"faithful_to is {faithful_to!r}; online_doge follows 'paper', 'code' or 'survey', or None for a mean")
    rule = DoGE(
        mu=mu,
        step_size=step_size,
        targets=None if targets is None else targets.names,
        pooled="mean" if faithful_to is None else "sum",
        form="code" if faithful_to == "code" else "paper",
        smoothing=smoothing,
    )
    m = len(targets or domains)
    score = _products(domains, targets, name) @ np.full(m, 1 / m if faithful_to is None else 1.0)
    return _method("DoGE online", domains, rule, score, every, steps, subject_to)


def r_and_b(
    domains: Domains,
    goal: Weights | None = None,
    *,
    rate: float = 1.0,
    every: int = 100,
    steps: int = 1000,
    subject_to: Iterable[Relation] = (),
) -> Method:
    """w = softmax(rate G p / |G p|), G the inner products of the training gradients: R&B's balancing, without memory of the last weights.

    ``goal`` p are the shares of the evaluation, uniform if None. ``mx.online`` takes ``alignment`` [k], which is G p
    (``mx.scores.alignment(..., weights=p, layers="last")``), or ``gram`` [k, k]; both are averaged between two moves. The source sums
    last-layer gradients between them: give ``gram`` as the products of summed ``mx.scores.sketches`` for that. Its regrouping of
    the data by embeddings comes before and is not part of it. The source tunes ``rate`` for each set of data.

    Raises:
        InputError: a rate that is not > 0, or a goal that is no mixture of the domains.

    Source: Ge et al. 2025, arXiv 2505.00358 (no code was released).
    """
    k = len(domains)
    p = np.full(k, 1 / k) if goal is None else domains.weights(goal)
    rule = RAndB(rate, None if goal is None else tuple(p.tolist()))
    return _method("R&B", domains, rule, _products(domains, None, "") @ p, every, steps, subject_to)


def grape(
    domains: Domains,
    tasks: Domains,
    *,
    rate: float = 1e-3,
    task_rate: float = 1e-4,
    every: int = 10,
    task_every: int = 10,
    smoothing: float = 1e-3,
    steps: int = 1000,
    name: str = "val",
    subject_to: Iterable[Relation] = (),
    faithful_to: Literal["paper", "code"] = "code",
) -> Method:
    """w_i <- w_i exp(rate (R z)_i), z_n <- z_n exp(-task_rate (R' w)_n), normalised, R_in = <g_i, g_n> / l_n: for the least helped task.

    ``mx.online`` takes ``gram`` [k, n] (``mx.scores.products(model, batches, tasks)``) and the tasks' losses ``val`` [n]. The domains'
    weights move every ``every`` steps, those of the tasks at every ``task_every``-th of these, before them.

    "code": the weights z are mixed with a share ``smoothing`` of the uniform ones. "paper": not. The code estimates R z by one batch drawn
    by z, and R' w by one drawn by w, instead of the sums here; its rates, the defaults, are 1 / mu in the paper's letters and without the
    learning rate, which the paper has in them.

    Raises:
        InputError: another ``faithful_to``, or a number out of range.

    Source: Fan, Glarou and Jaggi 2025, arXiv 2505.20380; code Olivia-fsm/GRAPE_data_mixture_with_multi_target, src/trainer.py.
    """
    if faithful_to not in ("paper", "code"):
        raise InputError(f"faithful_to is {faithful_to!r}; grape follows 'paper' or 'code'")
    rule = GRAPE(tasks.names, rate, task_rate, task_every, smoothing if faithful_to == "code" else 0.0, name)
    n = len(tasks)
    score = _products(domains, tasks, name) @ ((1 / n) / losses(model(), tasks, name))
    return _method("GRAPE", domains, rule, score, every, steps, subject_to)


def pike(
    domains: Domains,
    *,
    gain: float = 1.0,
    damping: float = 1.0,
    curvature: float = 1.0,
    batch: int = 1,
    every: int = 100,
    steps: int = 1000,
    subject_to: Iterable[Relation] = (),
    form: Literal["practical", "exact"] = "practical",
) -> Method:
    """w_i <- w_i exp(gain |grad L_i|^2 - damping s_i^2 / 2b), normalised; or, "exact", the minimum of the bound that this stands for.

    ``mx.online`` takes ``signal`` and ``noise`` [k] of ``mx.scores.signal_and_noise``, b being ``batch``, the examples of a domain's batch.
    With a learner of ours the signal is the diagonal of the gradients' inner products, lengthened by noise, and the noise is 0. The
    weights accumulate, so that long gradients take all in the end: the rates are to be small for the lengths at hand.

    Raises:
        InputError: another form, or a number out of range.

    Source: Li et al. 2025, arXiv 2502.06244; its balanced variant is not here, and no code was released.
    """
    rule = PiKE(gain, damping, curvature, batch, form)
    return _method("PiKE", domains, rule, _products(domains, None, "") @ np.ones(len(domains)), every, steps, subject_to)


def aioli(
    domains: Domains,
    targets: Domains | None = None,
    *,
    rate: float = 0.2,
    factor: float = 0.75,
    sweeps: int = 1,
    hold: int = 10,
    decay: float | None = None,
    every: int = 5,
    steps: int = 1000,
    name: str = "val",
    subject_to: Iterable[Relation] = (),
    faithful_to: Literal["paper", "code", "survey"] = "code",
) -> Method:
    """w_i <- w_i exp(rate sum_j A_ji), normalised, where probes of ``every`` steps on each domain tell A: l_j falls by sum_i A_ji w_i.

    ``mx.online`` takes the losses ``val`` [m] every ``every`` steps, with ``step=`` where it is not told of those between. Each round
    probes all domains, ``sweeps`` times, and then keeps the weights for ``hold`` times as many steps: k sweeps / (k sweeps + hold) of the
    training is probing, which is told where it is more than half. ``factor`` is the share of the domain that is probed.

    "code": A is shifted to be >= 0 and divided by the sum of its entries; ``decay`` is 0.1 unless it is given, as in the released scripts
    (0.1 to 0.5), by which A is averaged over the rounds and the weights start from uniform each time. ``decay=None`` is not that: it is
    the default of "paper" and "survey", which step from the last weights by A as it is.

    Raises:
        InputError: another ``faithful_to``, or a number out of range.

    Source: Chen et al. 2024, arXiv 2411.05735, Algorithm 1; code HazyResearch/aioli; Table 4 of the survey.
    """
    if faithful_to not in ("paper", "code", "survey"):
        raise InputError(f"faithful_to is {faithful_to!r}; aioli follows 'paper', 'code' or 'survey'")
    code = faithful_to == "code"
    rule = Aioli(
        rate=rate,
        factor=factor,
        sweeps=sweeps,
        hold=hold,
        normalise=code,
        decay=0.1 if code and decay is None else decay,
        targets=None if targets is None else targets.names,
        watch=name,
    )
    score = constant(np.ones((len(domains), len(targets or domains)))) @ losses(model(), targets or domains, name)
    return _method("Aioli", domains, rule, score, every, steps, subject_to)


def _products(domains: Domains, targets: Domains | None, name: str) -> Expr:
    """The inner products of the domains' gradients with each other, or with those of targets [k, m]."""
    theta = model()
    return gram(theta, domains) if targets is None else gram(theta, losses(theta, domains), losses(theta, targets, name))


def _method(name: str, domains: Domains, rule: Rule, score: Expr, every: int, steps: int, subject_to: Iterable[Relation]) -> Method:
    """The weights move by the rule, which sees what the score measures; the model descends its training losses under them."""
    from mixopt.solvers import Online

    w, theta = Mixture(domains), model()
    payoff = surrogate(w @ score, gradient=w @ losses(theta, domains))
    problem: Problem = minimize(maximize(payoff, over=w, subject_to=subject_to), over=theta)
    return Method(problem, Online(rule, every=every, steps=steps), name)
