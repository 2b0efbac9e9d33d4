"""Rewrites: an inner optimum over weights that has a closed form takes the place of the inner problem, and leaves a way back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import final

import numpy as np

from mixopt.errors import InputError, ProblemError, listed
from mixopt.language import atoms
from mixopt.language.curvature import sign as sign_of
from mixopt.language.expression import Expr, Relation, constant
from mixopt.language.history import refuse_history
from mixopt.language.ops import TRAINED
from mixopt.language.problem import Problem
from mixopt.language.symbols import variable

from .duals import dual
from .duals import taken as why_not
from .limits import plain_limits
from .linear import NotLinearError, at_zero, coefficients, holds, terms
from .recover import Duals, Evaluate, Recover, Rewritten


@dataclass(frozen=True)
class Inner:
    """An inner optimum over weights z [m] of z @ costs + temperature entropy(z), to be maximised; its sense in the user's words.

    ``costs`` [m] and the outer problem are as the user has them: where the inner problem minimises, ``sign`` is -1.
    """

    outer: Problem
    weights: Expr
    costs: Expr
    temperature: float | Expr
    constraints: tuple[Relation, ...]

    @property
    def entropic(self) -> bool:
        """Whether there is an entropic term; its temperature is a number, or an expression of parameters that is never negative."""
        return isinstance(self.temperature, Expr) or self.temperature > 0

    @property
    def sign(self) -> int:
        """1 where the outer problem minimises and the inner one maximises, -1 the other way round."""
        return 1 if self.outer.sense == "minimize" else -1

    @property
    def trained(self) -> bool:
        """Whether the costs are losses of a trained model, so that the problem is bilevel and takes no further unknowns."""
        return any(node.op in TRAINED for node in self.costs.walk())

    def with_objective(self, objective: Expr, over: Sequence[Expr] = (), subject_to: Sequence[Relation] = ()) -> Problem:
        """The outer problem with an expression in the place of the inner problem."""
        labels = [r.label for r in self.outer.subject_to]
        clash = [r.label for r in subject_to if r.label in labels]
        if clash:
            raise ProblemError(f"a constraint has the name {clash[0]!r}, which the inner weights' multipliers take; rename one of them")
        outer = self.outer
        return replace(outer, objective=objective, over=(*outer.over, *over), subject_to=(*outer.subject_to, *subject_to))


@final
@dataclass(frozen=True)
class Multipliers(Recover):
    """The inner weights are the multipliers of costs <= t, and the prices of the inner constraints are those of its dual."""

    weights: Expr
    prices: Mapping[str, tuple[Expr, tuple[str, ...]]]
    constraints: tuple[Relation, ...] = ()
    further: tuple[str, ...] = ()

    def inner(self) -> tuple[Expr, tuple[Relation, ...]]:
        return self.weights, self.constraints

    def duals(self, duals: Duals, evaluate: Evaluate) -> Duals:
        found = duals.get(str(self.weights))
        named = {label: value for label, value in duals.items() if label not in self.further}
        if isinstance(found, dict):
            named[str(self.weights)] = dict(zip(self.weights.index or found, found.values(), strict=True))
        for label, (price, names) in self.prices.items():
            value = np.atleast_1d(evaluate(price))
            named[label] = dict(zip(names, map(float, value), strict=True)) if price.shape else float(value[0])
        return named


@final
@dataclass(frozen=True)
class Softmax(Recover):
    """The inner weights are softmax(scores), the gradient of the log-sum-exp that took their place."""

    weights: Expr
    scores: Expr
    temperature: float | Expr

    def check(self, evaluate: Evaluate) -> None:
        if isinstance(self.temperature, Expr) and not evaluate(self.temperature) > 0:
            raise InputError(f"the temperature '{self.temperature}' of '{self.weights}' is 0 at the numbers given; it is > 0")

    def inner(self) -> tuple[Expr, tuple[Relation, ...]]:
        return self.weights, ()

    def duals(self, duals: Duals, evaluate: Evaluate) -> Duals:
        scores = np.asarray(evaluate(self.scores), dtype=float)
        e = np.exp(scores - scores.max())
        return {**duals, str(self.weights): dict(zip(self.weights.index or (), map(float, e / e.sum()), strict=True))}


class Rewrite(ABC):
    """One rule: settings only. It changes what is written, never what is meant."""

    @abstractmethod
    def refuses(self, inner: Inner) -> str:
        """Why it does not take this inner optimum; empty where it does."""

    @abstractmethod
    def apply(self, inner: Inner) -> Rewritten:
        """The problem without the inner one."""


@final
@dataclass(frozen=True)
class Epigraph(Rewrite):
    """max over z of z @ f(w) under linear constraints g + G z <= 0 -> min of t - g @ p under f <= t + G' p, p >= 0: its dual.

    A ball about a prior, norm(z - q) <= r or kl(z, q) <= r, has a dual too (``duals``). Exact, by duality of convex programs; the
    multipliers of f <= t + G' p are the worst z. Without constraints it is max(f);
    with z <= 1 / (share m) it is the tail (CVaR) of f. The losses of a trained model go to max(f), without a multiplier.
    """

    def refuses(self, inner: Inner) -> str:
        if inner.entropic:
            return "the payoff has an entropic term"
        if inner.trained and inner.constraints:
            return "its constraints need further unknowns, which a bilevel problem does not take; leave them out, or add an entropic term"
        return ""

    def apply(self, inner: Inner) -> Rewritten:
        z, f, said = inner.weights, inner.costs, "maximum" if inner.sign > 0 else "minimum"
        if inner.trained:
            best = atoms.max(f) if inner.sign > 0 else atoms.min(f)
            return Rewritten(inner.with_objective(best), (f"inner {said} over '{z}' -> {best.op} of what it weights (exact)",))
        taken = {str(n) for e in (f, *(s for r in inner.outer.subject_to for s in (r.left, r.right))) for n in e.walk() if not n.args}
        t, prices = variable(_free("t", taken)), {}
        objective, costs = t, f
        further: list[Expr] = []
        limits: list[Relation] = []
        for i, relation in enumerate(inner.constraints, 1):
            part = dual(relation, z, partial(_numbered, i, taken))
            costs = costs - part.pull if inner.sign > 0 else costs + part.pull
            if part.paid is not None:
                objective = objective + part.paid if inner.sign > 0 else objective - part.paid
            further += part.unknowns
            limits += part.limits
            prices[relation.label] = (part.price, relation.gap.index or tuple(map(str, range(len(part.price) if part.price.shape else 1))))
        limit = (costs <= t if inner.sign > 0 else costs >= t).named(str(z))
        problem = inner.with_objective(objective, (t, *further), [limit, *limits])
        shown = f"'{t}' with {', '.join(map(str, (limit, *limits)))}" + (f", '{objective}' its dual's objective" if prices else "")
        step = f"inner {said} over '{z}' of a linear payoff -> {shown} (exact; the duals of '{z}' are its weights)"
        return Rewritten(problem, (step,), (Multipliers(z, prices, inner.constraints, tuple(r.label for r in limits)),))


@final
@dataclass(frozen=True)
class LogSumExp(Rewrite):
    """max over z in the simplex of z @ f(w) + T entropy(z) -> T logsumexp(f / T), and z = softmax(f / T).

    A penalty -T kl(z, q) is the same with f + T log q. Exact; Boyd and Vandenberghe, Convex Optimization, Example 3.25.
    """

    def refuses(self, inner: Inner) -> str:
        if not inner.entropic:
            return "the payoff has no entropic term, T * entropy(z) or -T * kl(z, q) with a number T > 0, or a parameter with nonneg=True"
        if inner.constraints:
            return f"with an entropic term the inner constraints {listed([r.label for r in inner.constraints])} leave no closed form"
        return ""

    def apply(self, inner: Inner) -> Rewritten:
        z, f, T = inner.weights, inner.costs, inner.temperature
        scores = (f if inner.sign > 0 else -f) / T
        soft = T * atoms.logsumexp(scores) if isinstance(T, Expr) else atoms.logsumexp(f if inner.sign > 0 else -f, T)
        said, degree = "maximum" if inner.sign > 0 else "minimum", T if isinstance(T, Expr) else f"{T:g}"
        step = f"inner {said} over '{z}' with an entropic term -> log-sum-exp at temperature {degree} (exact; '{z}' is its softmax)"
        back = () if inner.trained else (Softmax(z, scores, T),)
        return Rewritten(inner.with_objective(soft if inner.sign > 0 else -soft), (step,), back)


RULES: tuple[Rewrite, ...] = (Epigraph(), LogSumExp())


def rewritten(problem: Problem) -> Rewritten:
    """The problem with an inner optimum over weights, inside an outer one over weights, replaced by its closed form, and plain constraints.

    Anything else comes back as it is.

    Raises:
        ProblemError: such an inner optimum that has no closed form here; the text says why.
    """
    if not isinstance(problem, Problem):
        return Rewritten(problem)
    plain = plain_limits(problem)
    inside = plain.problem.objective
    if not isinstance(inside, Problem) or isinstance(inside.objective, Problem):
        return plain
    if any(s.op == "model" for s in (*problem.over, *inside.over)):
        return plain
    inner = _inner(plain.problem, inside)
    reasons = {rule: rule.refuses(inner) for rule in RULES}
    for rule, reason in reasons.items():
        if not reason:
            done = rule.apply(inner)
            return Rewritten(done.problem, (*plain.steps, *done.steps), (*plain.recover, *done.recover))
    raise _no(problem, "; ".join(reasons.values()))


def _no(problem: Problem, why: str) -> ProblemError:
    inside = problem.objective
    assert isinstance(inside, Problem)
    inner = f"an inner '{inside.sense}' over {listed(inside.over)}"
    return ProblemError(
        f"'{problem.sense}' over {listed(problem.over)} of {inner} is taken where the inner one has a closed form: "
        f"linear in its weights, or that and an entropic term. Here {why}"
    )


def _inner(problem: Problem, inside: Problem) -> Inner:
    if problem.sense == inside.sense:
        raise _no(problem, f"both levels {problem.sense}, which is one level: write {problem.sense}(..., over=(w, z))")
    if len(inside.over) != 1 or inside.over[0].op != "mixture" or inside.over[0] in problem.over:
        raise _no(problem, f"the inner level is not over one mixture of its own, but over {listed(inside.over)}")
    z = inside.over[0]
    payoff = inside.objective
    assert isinstance(payoff, Expr)
    refuse_history("a problem over weights alone", (payoff,))
    if not holds(payoff, z):
        raise _no(problem, f"the payoff '{payoff}' does not depend on '{z}'")
    for relation in (*problem.subject_to, *inside.subject_to):
        both = relation.right - relation.left
        if (relation in problem.subject_to) == holds(both, z):
            raise _no(
                problem, f"the constraint '{relation.label}' stands on the wrong level: those on '{z}' belong inside, all others outside"
            )
        if relation in inside.subject_to and any(holds(both, symbol) for symbol in problem.over):
            raise _no(problem, f"the constraint '{relation.label}' ties the two levels to each other")
    for relation in inside.subject_to:
        reason = why_not(relation, z)
        if reason:
            raise _no(problem, reason)
    try:
        costs, temperature = _linear(payoff, z, 1 if inside.sense == "maximize" else -1)
    except NotLinearError as error:
        raise _no(problem, str(error)) from None
    return Inner(problem, z, costs, temperature, inside.subject_to)


def _linear(payoff: Expr, z: Expr, sign: int) -> tuple[Expr, float | Expr]:
    """costs [m] and temperature such that the payoff is z @ costs + sign temperature entropy(z), for z on the simplex."""
    costs: list[tuple[int, Expr]] = []
    temperature: float | Expr = 0.0
    for s, term in terms(payoff):
        if not holds(term, z):
            costs.append((s, term))
            continue
        factor, given, core = _scaled(term)
        if core.op in ("entropy", "kl") and core.args[0] == z and not any(holds(a, z) for a in core.args[1:]):
            weight = s * sign * factor * (1 if core.op == "entropy" else -1)
            if given is not None and sign_of(given) == "-":
                given, weight = -given, -weight
            if given is not None and sign_of(given) != "+":
                raise NotLinearError(f"the temperature '{given}' in '{term}' may be negative; declare it with nonneg=True")
            if weight <= 0:
                raise NotLinearError(f"'{term}' is convex in '{z}' where the inner level needs it concave: its sign is the other way round")
            degree = weight if given is None else given if weight == 1 else weight * given
            if core.op == "kl":
                q = core.args[1]
                logs = constant(np.log(q.data.value)) if q.op == "constant" else atoms.log(q)
                costs.append((sign, constant(weight * logs.data.value) if given is None and q.op == "constant" else degree * logs))
            temperature = degree if isinstance(temperature, float) and not temperature else temperature + degree
            continue
        entropic = next((n for n in term.walk() if n.op in ("entropy", "kl") and n.args[0] == z), None)
        if entropic is not None:
            raise NotLinearError(f"'{entropic}' stands in '{term}' otherwise than as a number times it; its factor is the temperature")
        costs.append((s, coefficients(term, z)))
        rest = at_zero(term, z)
        costs += [] if rest is None else [(s, rest)]
    (first, total), *more = sorted(costs, key=lambda part: part[1].shape == ())
    total = total if first > 0 else -total
    for s, part in more:
        total = total + part if s > 0 else total - part
    return (total if total.shape else total + np.zeros(len(z))), temperature


def _scaled(term: Expr) -> tuple[float, Expr | None, Expr]:
    """The constant factors of a term, those of parameters (None for none), and the rest."""
    factor, given = 1.0, None
    while True:
        fixed = [a for a in term.args if a.shape == () and all(n.args or n.op in ("constant", "parameter") for n in a.walk())]
        if term.op == "negate":
            factor, term = -factor, term.args[0]
            continue
        if term.op == "multiply" and fixed:
            by, term, turned = fixed[0], next(a for a in term.args if a is not fixed[0]), False
        elif term.op == "divide" and term.args[1] in fixed:
            by, term, turned = term.args[1], term.args[0], True
        else:
            return factor, given, term
        if by.op == "constant":
            factor *= 1 / float(by.data.value) if turned else float(by.data.value)
        else:
            given = (1 / by if turned else by) if given is None else given / by if turned else given * by


def _numbered(i: int, taken: set[str], name: str) -> str:
    return _free(f"{name}{i}", taken)


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "'"
    return name
