"""Online saddles: mixtures that move while the target model itself is trained, by the worst loss, excess or gap of the moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from mixopt.errors import InputError, listed
from mixopt.language.atoms import clip, pos
from mixopt.language.domains import Domains
from mixopt.language.expression import Expr, constant
from mixopt.language.history import initial
from mixopt.language.problem import Problem, maximize, minimize
from mixopt.language.symbols import Mixture, losses, model, surrogate
from mixopt.method import Method

from .doremi import payoff_of

Numbers = Mapping[str, float] | Sequence[float] | np.ndarray
LEAST = 1e-9
"""The least way that a loss has to go, in nats: nothing below it is divided by."""


def group_dro(domains: Domains, *, sizes: Numbers | None = None, adjustment: float = 0.0, rate: float = 0.01, steps: int = 1000) -> Method:
    """min_theta max_{w in simplex} sum_i w_i (l_i(theta) + C / sqrt(n_i)): the worst domain of the training losses themselves.

    ``adjustment`` C makes up for small domains, whose losses generalise worse; ``sizes`` n are their numbers of examples, without which
    the domains' tokens are taken. The weights move first, by ``rate``, and the new ones weight the same batch; the answer is the last
    mixture, for the model trained on the way is what the source is after. As in its code the value has the adjustment in it.

    Raises:
        InputError: an adjustment that is negative, or without sizes > 0 of every domain.

    Source: Sagawa et al. 2020, arXiv 1911.08731, Algorithm 1 and section 3.3; code kohpangwei/group_DRO.
    """
    from mixopt.solvers import DescentAscent

    w, theta = Mixture(domains), model()
    payoff = losses(theta, domains)
    if not 0 <= adjustment < np.inf:
        raise InputError(f"the adjustment is {adjustment!r}; it is a finite number >= 0")
    if adjustment:
        counts = _numbers(domains, domains.sizes if sizes is None else sizes, "sizes")
        if (counts <= 0).any():
            raise InputError(f"the sizes are {counts.tolist()}; the adjustment C / sqrt(n) needs n > 0 examples of every domain")
        payoff = payoff + constant(adjustment / np.sqrt(counts), index=domains.names)
    game = minimize(maximize(w @ payoff, over=w), over=theta)
    return Method(game, DescentAscent(rate=rate, average="last", steps=steps), "group DRO")


def online_doremi(
    domains: Domains,
    *,
    rate: float = 1.0,
    smoothing: float | None = None,
    steps: int = 1000,
    faithful_to: Literal["paper", "survey"] = "paper",
) -> Method:
    """DoReMi's weights used at once on the model that they are found with: no average, no second training run.

    "paper": excess clipped per token and smoothing 1e-3, as in ``doremi``. "survey": its Table 3, clipped per domain and not smoothed, with
    an update at every step. No code was released. Give the reference as ``given={"reference": parameters}``; whether the weights
    draw the batches or weight their losses is the learner's ``sampling``.

    Raises:
        InputError: ``faithful_to`` is neither "paper" nor "survey".

    Source: section C.1.2 and Table 3 of the survey; Xie et al. 2023, arXiv 2305.10429.
    """
    from mixopt.solvers import DescentAscent

    if faithful_to not in ("paper", "survey"):
        raise InputError(f"faithful_to is {faithful_to!r}; online_doremi follows 'paper' or 'survey', and no code was released")
    smoothing = (1e-3 if faithful_to == "paper" else 0.0) if smoothing is None else smoothing
    solver = DescentAscent(rate=rate, smoothing=smoothing, average="last", steps=steps)
    return Method(payoff_of(domains, "domain" if faithful_to == "survey" else "token"), solver, "online DoReMi")


def sheared_llama(
    domains: Domains,
    targets: Numbers | Expr,
    *,
    rate: float = 1.0,
    every: int = 50,
    steps: int = 1000,
    name: str = "val",
    faithful_to: Literal["paper", "code", "survey"] = "code",
) -> Method:
    """w_i <- w_i exp(eta (l_i - target_i)), normalised, at every ``every``-th step: dynamic batch loading.

    The losses under ``name``, on held-out text, move the weights; the model descends ``w @ losses`` of its training text, for which the
    source draws the batches by w: give the learner ``sampling="weights"``. ``targets`` [k] are the losses that the finished model should
    have, in nats per token: those of a larger model, a scaling law's (``laws.Chinchilla.fit(runs).predict(w, params=..., tokens=...)``),
    or an expression such as ``parameter("target", k)``.

    "code": gaps as they are, so that a domain below its target loses weight, and smoothing 1e-4. "paper", and the survey's Table 3: gaps
    clipped at zero per domain, no smoothing. (The survey's section C.1.2 leaves the clip out: misprint T11.) The code updates at each
    evaluation, every 50 batches while it prunes and every 400 in further training.

    Raises:
        InputError: targets that are no finite numbers for each domain, or another ``faithful_to``.

    Source: Xia et al. 2024, arXiv 2310.06694, Algorithm 1; code princeton-nlp/LLM-Shearing; section C.1.2 of the survey.
    """
    from mixopt.solvers import DescentAscent

    if faithful_to not in ("paper", "code", "survey"):
        raise InputError(f"faithful_to is {faithful_to!r}; sheared_llama follows 'paper', 'code' or 'survey'")
    gap = losses(model(), domains, name) - _targets(domains, targets)
    code = faithful_to == "code"
    solver = DescentAscent(rate=rate, smoothing=1e-4 if code else 0.0, average="last", every=every, steps=steps)
    return Method(_online(domains, gap if code else pos(gap)), solver, "Sheared LLaMA")


def velocitune(
    domains: Domains,
    targets: Numbers | Expr,
    first: Numbers | None = None,
    *,
    rate: float = 1.0,
    every: int = 50,
    steps: int = 1000,
    name: str = "val",
) -> Method:
    """w_i <- w_i exp(eta V_i), normalised, V_i = clip((l_i - target_i) / (first_i - target_i), 0, 1): the share of the way left to go.

    A domain that learns slowly has a large V and gains weight. ``first`` [k] are the losses before training; without them they are those
    of the run's first step, ``initial(losses)``; a domain that begins at or below its target then has V = 0 unless it rises above it.
    ``targets`` [k] and ``name`` are as in ``sheared_llama``. The clamp stands in the survey's Table 3 and not in its section C.1.2
    (misprint T12); no code was released.

    Raises:
        InputError: numbers that are not finite, or a first loss that is not above its target, for V would change its sign there.

    Source: Luo et al. 2025, arXiv 2411.14318; Table 3 of the survey.
    """
    from mixopt.solvers import DescentAscent

    target, now = _targets(domains, targets), losses(model(), domains, name)
    if first is not None:
        begin = _numbers(domains, first, "first losses")
        aims = None if isinstance(targets, Expr) else _numbers(domains, targets, "targets")
        low = [] if aims is None else [n for n, a, b in zip(domains, begin, aims, strict=True) if a <= b]
        if low:
            raise InputError(
                f"the first losses of {listed(low)} are not above their targets; a velocity needs room to fall, so lower the targets"
            )
    start = initial(now) if first is None else constant(begin, index=domains.names)
    room = pos(start - target - LEAST) + LEAST
    solver = DescentAscent(rate=rate, average="last", every=every, steps=steps)
    return Method(_online(domains, clip((now - target) / room, 0.0, 1.0)), solver, "Velocitune")


def _online(domains: Domains, score: Expr) -> Problem:
    """The weights ascend a score [k] of the moment; the model descends its training losses under them."""
    w, theta = Mixture(domains), model()
    return minimize(maximize(surrogate(w @ score, gradient=w @ losses(theta, domains)), over=w), over=theta)


def _targets(domains: Domains, given: Numbers | Expr) -> Expr:
    return given if isinstance(given, Expr) else constant(_numbers(domains, given, "targets"), index=domains.names)


def _numbers(domains: Domains, given: Numbers, what: str) -> np.ndarray:
    """Finite numbers [k] in the order of the domains."""
    if isinstance(given, Mapping):
        missing = [n for n in domains if n not in given]
        extra = [n for n in given if n not in domains]
        if missing or extra:
            raise InputError(f"the {what} are for {listed(given)}; one number for each of {listed(domains)} is expected")
        given = [given[n] for n in domains]
    try:
        found = np.asarray(given, dtype=float)
    except (TypeError, ValueError):
        raise InputError(f"the {what} are {given!r}; one number for each of {listed(domains)} is expected") from None
    if found.shape != (len(domains),) or not np.isfinite(found).all():
        raise InputError(f"the {what} are {found.tolist()}; a finite number for each of {listed(domains)} is expected")
    return found
