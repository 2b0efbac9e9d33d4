"""Classification: which of the three forms a problem is, with its sense normalised once; else the reason and the mend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mixopt.errors import ProblemError, listed
from mixopt.forms import Bilevel, Form, Program, Saddle, expressions, kind, sides, unknowns
from mixopt.language.curvature import depends_on_mixture
from mixopt.language.expression import Expr, Relation
from mixopt.language.history import live, refuse_history
from mixopt.language.opaque import blind
from mixopt.language.ops import HISTORY, TRAINED, UNKNOWNS
from mixopt.language.problem import Problem
from mixopt.language.symbols import MODELS

FORMS_ARE = (
    "mixopt solves programs (min over w of an expression of w), saddles (min over theta of max over w) "
    "and bilevel problems (min over w of a loss of argmin over theta)"
)


def classify(problem: Problem) -> Form:
    """The form of a problem.

    Raises:
        ProblemError: it is none of the three, uses two mixtures, or constrains what cannot be constrained.
    """
    if not isinstance(problem, Problem):
        raise ProblemError(f"{problem!r} is no problem; write mx.minimize(..., over=...) or mx.maximize(..., over=...)")
    form = _saddle(problem) if isinstance(problem.objective, Problem) else _one_level(problem, problem.objective)
    _no_history(form)
    _no_slopes(form)
    _no_opaque(form)
    known = unknowns(form)
    _known_symbols(form, known)
    for relation in form.constraints:
        _constraint(relation, known)
    return form


def _saddle(outer: Problem) -> Saddle:
    inner = outer.objective
    assert isinstance(inner, Problem)
    if isinstance(inner.objective, Problem):
        raise ProblemError(f"the problem nests three levels of optimisation; {FORMS_ARE}")
    theta, w = _single(outer), _single(inner)
    if theta.op != "model" or w.op != "mixture":
        raise ProblemError(
            f"'{outer.sense}' is over {theta.op} '{theta}' and the inner '{inner.sense}' over {w.op} '{w}': "
            "neither min-max, bilevel nor a program. Write minimize(maximize(payoff, over=w), over=theta) for a saddle, "
            "or minimize(loss(argmin(...)), over=w) for a bilevel problem"
        )
    if outer.sense == inner.sense:
        raise ProblemError(
            f"both levels {outer.sense}, over {theta} and over {w}; a saddle minimises over the model and maximises over the weights"
        )
    if outer.subject_to:
        raise ProblemError(
            f"{listed([r.label for r in outer.subject_to])} stands on the outer problem, over '{theta}'; "
            "constraints on the weights belong to the inner one"
        )
    sign = 1 if outer.sense == "minimize" else -1
    payoff = inner.objective if sign > 0 else -inner.objective
    if w not in set(payoff.walk()):
        raise ProblemError(f"the payoff '{inner.objective}' does not depend on '{w}', over which it is optimised")
    if theta not in set(payoff.walk()):
        raise ProblemError(f"the payoff '{inner.objective}' does not depend on '{theta}', over which it is optimised")
    trained = next((n for n in payoff.walk() if n.op in TRAINED), None)
    if trained is not None:
        raise ProblemError(f"the payoff '{inner.objective}' uses the {trained.op} '{trained}', a third level; {FORMS_ARE}")
    saddle = Saddle(w, theta, view(payoff, 0), view(payoff, 1), inner.subject_to, maximised=sign < 0)
    _seen(saddle)
    return saddle


def _one_level(problem: Problem, objective: Expr) -> Form:
    kinds = {s.op for s in problem.over}
    if "model" in kinds and len(kinds) > 1:
        raise ProblemError(
            f"{problem.sense} over both a mixture and a model is neither min-max, bilevel nor a program: "
            "the weights would favour whatever is easy to learn. "
            "Write argmin(w @ losses(theta, domains), over=theta) for the model and minimise its validation loss over w"
        )
    if kinds == {"model"}:
        raise ProblemError(
            f"{problem.sense} over the model alone has no mixture to find; {FORMS_ARE}. "
            "For the worst domain write maximize(w @ ..., over=w) inside"
        )
    if kinds == {"variable"}:
        raise ProblemError(f"{problem.sense} over {listed(problem.over)} has no mixture to find; name it too: over=(w, ...)")
    maximised = problem.sense == "maximize"
    least = -objective if maximised else objective
    nodes = set(least.walk())
    trained = [n for n in nodes if n.op in TRAINED]
    if len(trained) > 1:
        what = "argmins" if all(n.op == "argmin" for n in trained) else "lower levels"
        raise ProblemError(f"the objective uses {len(trained)} different {what}; a bilevel problem has one lower level")
    if trained:
        w = _single(problem)
        theta, lower, *steps = trained[0].data
        if w not in set(lower.walk()):
            raise ProblemError(f"the lower level '{lower}' does not depend on '{w}', so the weights change nothing")
        if theta in nodes:
            raise ProblemError(
                f"the objective '{objective}' uses the free model '{theta}' beside the trained '{trained[0]}'; "
                f"write its losses of '{trained[0]}', which {trained[0].op}(...) made"
            )
        return Bilevel(w, theta, trained[0], least, lower, problem.subject_to, maximised, *steps)
    loose = sorted(str(n) for n in nodes if n.op == "model")
    if loose:
        raise ProblemError(
            f"the objective has losses of {listed(loose)}, which nothing trains: neither min-max, bilevel nor a program. "
            "Use losses(argmin(...), ...) for a trained model, or fit a law to runs"
        )
    first, *others = _all_unknowns(problem)
    if nodes.isdisjoint((first, *others)):
        raise ProblemError(f"the objective '{objective}' does not depend on {_either(first, others)}")
    limited = {n for r in problem.subject_to for n in (*r.left.walk(), *r.right.walk())}
    idle = [s for s in (first, *others) if s not in nodes and s not in limited]
    if idle:
        raise ProblemError(f"'{idle[0]}' occurs in neither the objective nor a constraint, so nothing decides it; leave it out of over")
    return Program(first, least, problem.subject_to, maximised, tuple(others))


def view(payoff: Expr, which: int) -> Expr:
    """The payoff with every surrogate replaced by one of its two views (0: the weights' value, 1: the model's); history is of values."""
    rebuilt: dict[Expr, Expr] = {}
    for node in payoff.walk():
        args = tuple(rebuilt[a] for a in node.args)
        if which and node.op in HISTORY:
            rebuilt[node] = view(node, 0)
        else:
            rebuilt[node] = args[which] if node.op == "surrogate" else node if args == node.args else replace(node, args=args)
    return rebuilt[payoff]


def _seen(form: Saddle) -> None:
    """The weights and the model each follow a gradient, and none flows through history."""
    for symbol, expr in ((form.mixture, form.payoff), (form.theta, form.descent)):
        if symbol in expr.walk() and symbol not in live(expr):
            mend = (
                "write surrogate(value, gradient=w @ losses(...)), with the history in the value"
                if symbol is form.theta
                else f"let '{symbol}' stand outside too, as in {symbol} @ previous(...)"
            )
            raise ProblemError(f"'{expr}' depends on '{symbol}' through history alone, and no gradient flows through history; {mend}")


def _no_history(form: Form) -> None:
    """History is kept by the steps of a saddle; everything else has one value at given weights."""
    if not isinstance(form, Saddle):
        refuse_history(f"a {kind(form)}", expressions(form))
    for relation in form.constraints:
        refuse_history(f"the constraint '{relation.label}'", (relation.left, relation.right))


def _no_slopes(form: Form) -> None:
    """A gram is a number to the weights of a saddle: no model descends it, and no hypergradient passes through it."""
    for expr in (form.descent,) if isinstance(form, Saddle) else expressions(form):
        found = next((n for n in live(expr) if n.op == "gram"), None)
        if found is not None:
            raise ProblemError(
                f"'{found}' stands where a model follows its gradient; it is a number that only the weights of a saddle see. Write "
                "surrogate(value, gradient=...) with it in the value alone: surrogate(w @ (gram(...) @ c), gradient=w @ losses(...))"
            )


def _no_opaque(form: Form) -> None:
    """The weights of a saddle and of a bilevel problem follow gradients, which an opaque function has none of."""
    found = None if isinstance(form, Program) else blind(*expressions(form), *sides(form))
    if found is not None:
        raise ProblemError(
            f"'{found}' is opaque: it has values and no derivative, so it stands in programs alone, and this is a {kind(form)}; "
            "write the term in atoms of the language, or leave it out"
        )


def _single(problem: Problem) -> Expr:
    if len(problem.over) != 1 or problem.over[0].op not in ("mixture", "model"):
        raise ProblemError(
            f"'{problem.sense}' is over {listed(problem.over)}{_staged(problem)}; each level of a saddle or bilevel problem "
            "has one symbol, a mixture or a model. Only programs take several mixtures, stages and variables"
        )
    return problem.over[0]


def _staged(problem: Problem) -> str:
    return "".join(f", where '{s}' has {len(s)} stages" for s in problem.over if s.op == "stages")


def _all_unknowns(problem: Problem) -> tuple[Expr, ...]:
    """The symbols of a program with every stage by itself, mixtures first."""
    symbols = [s for symbol in problem.over for s in (symbol.args if symbol.op == "stages" else (symbol,))]
    return tuple(sorted(symbols, key=lambda s: s.op != "mixture"))


def _either(first: Expr, others: Sequence[Expr]) -> str:
    return f"any of {listed([first, *others])}" if others else f"'{first}'"


def _known_symbols(form: Form, known: tuple[Expr, ...]) -> None:
    foreign = [n for e in expressions(form) for n in e.walk() if n.op in UNKNOWNS and n not in known]
    if not foreign:
        return
    one = foreign[0]
    if one.op == "variable":
        raise ProblemError(_not_over("the objective", one, form))
    if len([s for s in known if s.op == "mixture"]) > 1 or str(one) not in [str(s) for s in known]:
        raise ProblemError(
            f"the objective uses the mixtures {listed([*known, *dict.fromkeys(foreign)])}, but the problem is over "
            f"{_either(known[0], known[1:])}; name every unknown of a program in over=(...), and write the others as numbers"
        )
    raise ProblemError(
        f"the objective uses '{one}' over {listed(one.index or ())}, but the problem is over '{known[0]}' over "
        f"{listed(known[0].index or ())}: one name over two sets of domains. Make the symbol once, and use it everywhere"
    )


def _not_over(where: str, variable: Expr, form: Form) -> str:
    joined = f"write over=({form.mixture}, {variable})"
    mend = joined if isinstance(form, Program) else f"only programs take variables, and this is a {kind(form)}"
    return f"{where} uses the variable '{variable}', which the problem is not over; {mend}"


def _constraint(relation: Relation, known: tuple[Expr, ...]) -> None:
    nodes = [n for side in (relation.left, relation.right) for n in side.walk()]
    bad = next((n for n in nodes if n.op in (*MODELS, "tokens")), None)
    if bad is not None:
        raise ProblemError(
            f"constraint '{relation.label}' uses the model '{bad}'; constraints are on the weights, put losses into the objective"
        )
    others = [n for n in nodes if n.op in UNKNOWNS and n not in known]
    if others:
        over = f" over {listed(others[0].index)}" if others[0].index else ""
        raise ProblemError(
            f"constraint '{relation.label}' is on '{others[0]}'{over}, not on the problem's {_either(known[0], known[1:])}"
            + ("" if others[0].op == "mixture" else f"; write over=({', '.join(map(str, (*known, others[0])))})")
        )
    if not any(depends_on_mixture(side) for side in (relation.left, relation.right)):
        raise ProblemError(f"constraint '{relation.label}' has no weight in it, so no choice of weights can meet or break it")
