"""Online methods that are rules and no saddles: Skill-It, ODM, ADO, one's own score, and weights that are known beforehand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np

from mixopt.errors import InputError, listed
from mixopt.language.domains import Domains
from mixopt.language.expression import Expr, Relation, constant
from mixopt.language.problem import Problem, maximize, minimize
from mixopt.language.symbols import Mixture, losses, model, surrogate
from mixopt.laws.online import Online as OnlineLaw
from mixopt.method import Method
from mixopt.rules import ADO, ODM, LawStep, Rule, Stages
from mixopt.runtime.layout import Layout

Effects = OnlineLaw | np.ndarray | Sequence[Sequence[float]]
Weights = Mapping[str, float] | Sequence[float] | np.ndarray


def skill_it(
    domains: Domains,
    effects: Effects,
    *,
    targets: Domains | None = None,
    rate: float = 0.2,
    window: int | None = None,
    prior: Weights | None = None,
    evaluations: int = 1,
    over_first: bool = False,
    cooling: bool = False,
    halving: bool = False,
    lone: bool = False,
    every: int = 50,
    steps: int = 1000,
    name: str = "val",
    subject_to: Iterable[Relation] = (),
    faithful_to: Literal["code", "survey"] = "code",
) -> Method:
    """w_i <- prior_i exp(eta sum_j A_ij (the last losses of j)), normalised: domains that help with what is still hard.

    ``effects`` A [k, m] say by which share a run on domain i lowers the loss of target j: a table, or the law that
    ``laws.Online.fit(runs, now=losses)`` finds from a run on each domain alone. ``targets`` are the m validation sets, the domains
    themselves if None. The losses under ``name`` are measured every ``every`` steps, and at every ``evaluations``-th time the weights move.

    "code": from the ``prior`` anew each time (uniform if none is given, never the last weights), by the *sum* of the last
    ``window`` = 3 evaluations, or their mean where there are targets apart; it begins at prior exp(eta A 1). Nothing accumulates, so
    that two weights are never further apart than losses and eta say. "survey": its Table 4 with the errors put right (misprint T18),
    from the last weights, by the last evaluation; those accumulate, and end on few domains. A 0/1 graph is read as the code reads it:
    what is 1 off the diagonal is 0.5. The other settings are those of ``rules.LawStep``.

    Raises:
        InputError: effects that are no finite table [k, m], or another ``faithful_to``.

    Source: Chen et al. 2023, arXiv 2307.14430, Algorithm 1; code HazyResearch/skill-it; Table 4 of the survey.
    """
    if faithful_to not in ("code", "survey"):
        raise InputError(f"faithful_to is {faithful_to!r}; skill_it follows 'code' or 'survey'")
    code = faithful_to == "code"
    if prior is not None and not code:
        raise InputError(
            "the survey's form steps from the last weights; give start= to mx.online or mx.solve, or follow 'code' for a prior"
        )
    rule = LawStep(
        _graph(effects),
        targets=None if targets is None else targets.names,
        rate=rate,
        centre="prior" if code else "last",
        prior=None if prior is None else tuple(domains.weights(prior).tolist()),
        window=(3 if code else 1) if window is None else window,
        pooled="sum" if targets is None else "mean",
        evaluations=evaluations,
        watch=name,
        over_first=over_first,
        cooling=cooling,
        halving=halving,
        lone=lone,
    )
    score = constant(np.array(rule.effects)) @ losses(model(), targets or domains, name)
    return _method("Skill-It", domains, rule, score, every, steps, subject_to)


def online_law(
    domains: Domains,
    law: OnlineLaw,
    *,
    rate: float = 0.2,
    every: int = 50,
    steps: int = 1000,
    name: str = "val",
    subject_to: Iterable[Relation] = (),
) -> Method:
    """w_i <- w_i exp(zeta sum_j b_j sigma' A_ij), normalised: one step down the sum of the losses that an online law foresees.

    The law's A and floors are those that it was fitted with (``laws.Online.fit``); its b follow the losses under ``name``, measured
    every ``every`` steps. sigma = identity with shares is Skill-It's step in the survey's form, without shares Aioli's with its A held
    fixed; sigma = exp is the dynamic form of the exponential law.

    Raises:
        InputError: a law over other domains, of targets that are to rise, or fitted without the losses ``now``.

    Source: section 4.2 and Table 4 of the survey.
    """
    if law.domains.names != domains.names:
        raise InputError(f"the law is over {listed(law.domains)}, and the domains are {listed(domains)}")
    if law.now is None or (law.sign < 0).any():
        raise InputError(
            "the law is of one static round, or of targets that are to rise; fit it to losses, with those before the round, now=..."
        )
    names, floors = law.targets.names, tuple(law.c.tolist()) if law.sigma == "exp" else None
    rule = LawStep(_rows(law.A), names, rate, law.sigma, law.relative, floors, "last", window=1, watch=name)
    return _method(
        "online law", domains, rule, constant(np.array(rule.effects)) @ losses(model(), Domains(names), name), every, steps, subject_to
    )


def odm(
    domains: Domains,
    *,
    alpha: float = 0.9,
    warmup: int = 0,
    steps: int = 1000,
    subject_to: Iterable[Relation] = (),
    faithful_to: Literal["paper", "code"] = "paper",
) -> Method:
    """A bandit whose arms are domains and whose reward is the training loss: w = (1 - k e_t) q + e_t, q by mean rewards R_i.

    "paper": Exp3, q = softmax(e_{t-1} R) with importance-weighted rewards l_i / w_i. "code": the path that its runs took, q = R / sum R
    with rewards exp(l_i), not weighted. The survey (C.2.1) has prose alone (T21). ``warmup`` steps at the start's weights come first, in
    the source 2,000 of 100,000 at the natural mixture; give ``start=domains.natural``. See ``rules.ODM``.

    Raises:
        InputError: another ``faithful_to``, or a setting out of range.

    Source: Albalak et al. 2023, arXiv 2312.02406, Algorithm 1; code alon-albalak/online-data-mixing; section C.2.1 of the survey.
    """
    if faithful_to not in ("paper", "code"):
        raise InputError(f"faithful_to is {faithful_to!r}; odm follows 'paper' or 'code'")
    return _method("ODM", domains, ODM(faithful_to, alpha, warmup), losses(model(), domains), 1, steps, subject_to)


def ado(
    domains: Domains,
    *,
    prior: Weights | None = None,
    start: int = 2000,
    skip: int = 1000,
    refit: int = 1000,
    lag: int = 0,
    curve: Literal["code", "squares"] | None = None,
    steps: int = 10000,
    subject_to: Iterable[Relation] = (),
    faithful_to: Literal["code", "survey"] = "code",
    **settings: float,
) -> Method:
    """rho_i ~ -mu_i lambda_i dL_i/dn: domains whose fitted training curves still fall, Eq. 7 of the survey; the weights are rho averaged.

    The curves L_i(n) = epsilon_i + beta_i / n^alpha_i are fitted to the run's own losses as it goes: first after ``start`` steps and
    then every ``refit``, without the first ``skip``; a fit is used ``lag`` steps later, found in a thread till then. mu is the ``prior``,
    the shares of the domains' tokens where they are known and else uniform; lambda_i is the root of the domain's recent share.
    "code": w = 0.9 mean + 0.1 rho, rho at least 0.01, alpha at least 0.05, curves as the code fits them. "survey": w = the mean, without
    floors, by least squares of the losses. ``curve`` chooses the fit apart from that: "squares" is fast, and follows losses below
    1.65 nats, such as those per byte. Further ``settings`` are those of ``rules.ADO``.

    Raises:
        InputError: a first fit that would see too few points, another ``faithful_to``, or a setting out of range.

    Source: Jiang et al. 2024, arXiv 2410.11820, section 3; code yidingjiang/ado; Eq. 7 of the survey.
    """
    if faithful_to not in ("code", "survey"):
        raise InputError(f"faithful_to is {faithful_to!r}; ado follows 'code' or 'survey'")
    natural = domains.natural if prior is None and domains.tokens is not None else prior
    mu = None if natural is None else tuple(domains.weights(natural).tolist())
    plain = {} if faithful_to == "code" else {"blend": 0.0, "floor": 0.0, "steepest": 0.0}
    rule = ADO(start, skip, refit, lag, mu, curve=curve or ("code" if faithful_to == "code" else "squares"), **{**plain, **settings})  # type: ignore[arg-type]
    return _method("ADO", domains, rule, losses(model(), domains), 1, steps, subject_to)


def by_score(
    domains: Domains,
    score: Expr,
    *,
    rate: float = 1.0,
    centre: Literal["last", "start"] = "last",
    smoothing: float = 0.0,
    every: int = 1,
    steps: int = 1000,
    subject_to: Iterable[Relation] = (),
) -> Method:
    """w_i <- centre_i exp(rate score_i), normalised: a rule of one's own, its score [k] an expression of losses.

    ``score`` is written in ``losses(model(), ...)``, ``previous``, ``initial``, ``ema``, ``parameter`` and atoms, as the payoffs of the
    ready-made methods are; a domain with a larger score gains. ``centre`` are the weights of the moment, or the start each time, so that
    nothing accumulates. The model descends its training losses under the weights.

    Raises:
        InputError: a score that is not one number a domain, or another centre.

    Source: the template of section 4 of the survey.
    """
    from mixopt.solvers import BestResponse, DescentAscent, Entropic

    if score.shape != (len(domains),):
        raise InputError(
            f"the score has the shape {list(score.shape or ())}; one number for each of the {len(domains)} domains is expected"
        )
    if centre not in ("last", "start"):
        raise InputError(f"the centre is {centre!r}; it is 'last' or 'start'")
    if centre == "last":
        solver = DescentAscent(rate=rate, smoothing=smoothing, average="last", every=every, steps=steps)
        return Method(_observed(domains, score, subject_to), solver, "score")
    if smoothing or every != 1:
        raise InputError("with centre='start' give smoothing and every to mx.online; the solver's steps have neither")
    return Method(_observed(domains, score, subject_to), BestResponse(ball=Entropic(1 / rate), average="last", steps=steps), "score")


def stages(
    domains: Domains,
    rows: Sequence[Weights] | np.ndarray | Mapping[float, Weights],
    *,
    marks: Sequence[float] | None = None,
    by: Literal["steps", "tokens"] = "steps",
    between: Literal["hold", "linear"] = "hold",
    every: int = 1,
    steps: int = 1000,
) -> Method:
    """Weights that are known beforehand: one mixture, stages one after another, or a curriculum that passes from one to the next.

    ``rows`` are mixtures by the step or token (``by``) from which each holds, or a list, such as ``result.vector`` of a problem on
    ``Mixture(domains, stages=T)``, whose ``marks`` say it. One mixture alone is a static schedule. ``between`` "linear" goes
    straight from mark to mark.

    Raises:
        InputError: rows that are no mixtures, or marks that do not rise or are not as many.
    """
    if isinstance(rows, Mapping):
        if marks is not None:
            raise InputError("the marks are the keys of rows where it is a mapping; leave marks out")
        marks, table = list(rows), list(rows.values())
    else:
        table = list(np.reshape(rows, (-1, len(domains)))) if isinstance(rows, np.ndarray) else list(rows)
        marks = [0.0] if marks is None and len(table) == 1 else marks
    if marks is None:
        raise InputError(f"there are {len(table)} mixtures; marks=... says from which {by} on each holds")
    layout = Layout.of(Mixture(domains))
    mixtures = tuple(tuple(layout.exact(domains.weights(row)).tolist()) for row in table)
    rule = Stages(tuple(float(mark) for mark in marks), mixtures, by, between)
    return _method("stages", domains, rule, losses(model(), domains), every, steps, ())


def _method(name: str, domains: Domains, rule: Rule, score: Expr, every: int, steps: int, subject_to: Iterable[Relation]) -> Method:
    """A rule with the saddle that says what it measures: the weights see the score, the model descends its training losses."""
    from mixopt.solvers import Online

    rule.needs(domains)
    return Method(_observed(domains, score, subject_to), Online(rule, every=every, steps=steps), name)


def _observed(domains: Domains, score: Expr, subject_to: Iterable[Relation]) -> Problem:
    """The saddle whose weights see a score [k], and whose model descends its training losses."""
    w, theta = Mixture(domains), model()
    return minimize(maximize(surrogate(w @ score, gradient=w @ losses(theta, domains)), over=w, subject_to=subject_to), over=theta)


def _graph(effects: Effects) -> tuple[tuple[float, ...], ...]:
    """Effects [k, m] as rows; a table of 0 and 1 with 0.5 off the diagonal in the place of 1, as the code of Skill-It has it."""
    found = np.asarray(effects.A if isinstance(effects, OnlineLaw) else effects, dtype=float)
    if found.ndim != 2 or not np.isfinite(found).all():
        raise InputError(f"the effects have the shape {list(found.shape)}; a finite table [domains, targets] is expected")
    synthetic = np.isin(found, (0.0, 1.0)).all()
    return _rows(np.where(np.eye(*found.shape) == 1, found, found / 2) if synthetic else found)


def _rows(table: np.ndarray) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in table.tolist())
