"""Convex programs by a conic solver (cvxpy), with duals by the constraints' names."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, final

import numpy as np

from mixopt.errors import ProblemError, unknown
from mixopt.forms import Abilities, Form, Program, kind
from mixopt.language.atoms import tail_caps
from mixopt.language.culprit import culprit
from mixopt.language.curvature import curvature, sign
from mixopt.language.expression import Expr
from mixopt.language.opaque import TAKERS
from mixopt.language.support import Switch
from mixopt.report.kinks import tangent_gap
from mixopt.report.result import Status
from mixopt.solver import Pace, Solver, State, Task

from .conic_program import ConicProgram
from .polish import polished
from .supports import between, bounded, branched, by_highs, linear, on_support, switches_of, without

SMALL = 1e-6
_GAPS = ("tol_gap_abs", "tol_gap_rel", "tol_feas")
TIGHT = {**dict.fromkeys(_GAPS, 1e-10), **{f"reduced_{name}": 1e-8 for name in _GAPS}}
"""What is tried first: short of 1e-10, CLARABEL calls a point inaccurate that still meets its own 1e-8."""
OWN = {**dict.fromkeys(_GAPS, 1e-8), **{f"reduced_{name}": 5e-5 for name in _GAPS}}
"""What is tried next, said in full, since a solver that cvxpy keeps keeps its last settings too."""


@dataclass(frozen=True)
class Conic(Solver):
    """A convex program with convex constraints, solved to optimality by an interior-point method.

    ``solver`` names one of cvxpy's; ``options`` go to it unread. The default is CLARABEL, run to gaps of 1e-10 or, where
    rounding forbids that, to its own 1e-8; the answer of a smooth program over few domains is then polished. Duals come back
    by the constraint's name: >= 0 for an inequality, and the value improves by the dual times a small relaxation. A plan that
    is run again with other numbers keeps what cvxpy has compiled. ``cardinality`` and ``used`` make it a search over supports:
    by HiGHS where all else is linear, else by branch and bound with a convex program a node, ``nodes`` of them at most. No start
    is used: interior-point methods begin inside the cone, and OSQP and SCS at their own last solution.
    """

    starts: ClassVar[bool] = False

    solver: str = "CLARABEL"
    options: Mapping[str, Any] = field(default_factory=dict)
    nodes: int = 20_000

    def refuses(self, form: Form, abilities: Abilities | None) -> tuple[str, ...]:
        if not isinstance(form, Program):
            return (f"it takes programs, and this is a {kind(form)}",)
        reasons = []
        bend = curvature(form.objective)
        if bend not in ("convex", "affine"):
            reasons.append(_bent(form, bend))
        for relation in without(form, switches_of(form)).constraints:
            bend = curvature(relation.gap)
            if relation.sense == "==" and bend != "affine":
                reasons.append(f"the equality '{relation.label}' is not affine in the weights, so its points are no convex set")
            elif bend not in ("convex", "affine"):
                needed = f"constraint '{relation.label}' is {_named(bend)} where it must be convex (left - right <= 0)"
                reasons.append(needed + _where(relation.gap, relation.gap))
        return tuple(reasons)

    def kept(self, form: Form) -> Kept:
        """The cvxpy problem with its parameters left open, which a plan keeps from run to run."""
        return Kept(form, self._built(form, None))

    def pace(self, task: Task) -> Pace:
        return Pace(1)

    def begin(self, task: Task) -> State:
        return State(task.start)

    def step(self, task: Task, state: State) -> State:
        program = self._program(task)
        with program.lock:
            switches = switches_of(task.form) if isinstance(task.form, Program) else ()
            return self._mixed(task, program, switches) if switches else self._once(task, program, task.given)

    def _program(self, task: Task) -> ConicProgram:
        """The problem that the plan keeps, or one with these numbers where it keeps none of this form, or cannot."""
        kept = task.kept
        if isinstance(kept, Kept) and kept.source is task.form and kept.program.open:
            return kept.program
        return self._built(task.form, task.given)

    def _once(self, task: Task, program: ConicProgram, given: Mapping[str, np.ndarray]) -> State:
        failure, sure = self.solved(program, given)
        if failure:
            return State(task.start, status=Status.STUCK, message=f"{self.solver} gave up: {failure}")
        return self._answer(task, program, given, sure)

    def _mixed(self, task: Task, program: ConicProgram, switches: tuple[Switch, ...]) -> State:
        """The best support first, then the program on it."""
        layout, form = task.region.layout, task.form
        assert isinstance(form, Program)

        def solved(lower: np.ndarray, upper: np.ndarray) -> State:
            return self._once(task, program, {**task.given, **between(switches, layout, lower, upper)})

        plain = without(form, switches)
        region = linear(plain, task.given)
        search = branched(switches, layout, solved, self.nodes) if region is None else by_highs(plain, switches, region, task.given)
        if search.on is None:
            return search.empty(task.start)
        state = solved(*on_support(search.on, switches, layout))
        labels = {r.label for r in plain.constraints}
        w = layout.exact(np.where(search.on, state.weights, 0.0))
        return search.told(replace(state, weights=w, duals={n: v for n, v in state.duals.items() if n in labels}))

    def _built(self, form: Form, given: Mapping[str, np.ndarray] | None) -> ConicProgram:
        import cvxpy as cp

        assert isinstance(form, Program)
        if self.solver != "CLARABEL" and self.solver not in cp.installed_solvers():  # cvxpy brings the one; looking for all takes its time
            raise unknown("conic solver", self.solver, cp.installed_solvers())
        switches = switches_of(form)
        return ConicProgram(bounded(without(form, switches), switches) if switches else form, conic_table(), given)

    def _answer(self, task: Task, program: ConicProgram, given: Mapping[str, np.ndarray], sure: bool) -> State:
        form, layout, found = program.form, task.region.layout, program.values()
        raw = f"{self.solver}: {'optimal' if sure else program.status}{_anew(task, program)}"
        if program.status in ("infeasible", "infeasible_inaccurate"):
            names = ", ".join(repr(r.label) for r in form.constraints)
            why = f"no weights satisfy these constraints together: {names}" if names else "the objective is finite at no weights"
            return State(task.start, status=Status.INFEASIBLE, message=f"{why} ({raw})")
        if program.status in ("unbounded", "unbounded_inaccurate"):
            return State(task.start, status=Status.STUCK, message=f"the objective improves without end; bound the variables ({raw})")
        if found is None:
            return State(task.start, status=Status.STUCK, message=f"{raw}, without a point")
        w, duals = layout.exact(layout.joined(found)), program.duals()
        if sure and isinstance(task.form, Program) and task.form.kink is None:
            w = polished(task.objective, task.region, w, duals)
        value = task.objective.value(w)
        status = Status.OPTIMAL if sure else Status.BUDGET if program.status == "user_limit" else Status.STUCK
        if status is Status.STUCK:  # the solver is not sure; a small gap of our own settles it
            gap, _ = tangent_gap(form, w, given)
            status = Status.OPTIMAL if gap is not None and gap <= SMALL * (1 + abs(value)) else status
        return State(w, info={"value": value}, status=status, message=raw, duals=duals)

    def leaves(self, state: State) -> None:
        return None

    def solved(self, program: ConicProgram, given: Mapping[str, np.ndarray]) -> tuple[str, bool]:
        """Solve with these numbers, to our tight tolerances or, where rounding forbids them, to the solver's own.

        Why it failed, or nothing; and whether the point is optimal by the solver's own tolerances at least.
        """
        import cvxpy as cp

        failure = ""
        for tolerances in (TIGHT, OWN) if self.solver == "CLARABEL" else ({},):
            try:
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", "Solution may be inaccurate")  # the status says it
                    program.solve(given, self.solver, {**tolerances, **self.options})
            except cp.error.SolverError as error:
                failure = str(error)
                continue
            failure = ""
            if program.status != "optimal_inaccurate":
                break
            if tolerances is TIGHT and not set(TIGHT) & set(self.options):
                return "", True
        return failure, program.status == "optimal"


@final
@dataclass(frozen=True)
class Kept:
    """The compiled problem of a form, which a plan keeps."""

    source: Form
    program: ConicProgram


def _anew(task: Task, program: ConicProgram) -> str:
    """A word where the plan's own problem could not be run again with other numbers."""
    if not isinstance(task.kept, Kept) or task.kept.source is not task.form or program is task.kept.program:
        return ""
    return "; the problem was built anew, for its parameters do not enter affinely (cvxpy's DPP rules)"


def _bent(form: Program, bend: str) -> str:
    shown = -form.objective if form.maximised else form.objective
    if bend == "concave":
        what = "convex, and is maximised" if form.maximised else "concave, and is minimised"
        return f"'{shown}' is {what}: its optima lie at corners, of which there can be many"
    return f"'{shown}' is neither convex nor concave by the rules{_where(form.objective, shown)}"


def _where(expr: Expr, shown: Expr) -> str:
    """The part at fault, unless it is the whole that is shown, and why."""
    found = culprit(expr)
    if found is None:
        return ""
    return (f", at '{found.node}'" if found.node != shown else "") + f": {found.reason}"


def _named(bend: str) -> str:
    return "neither convex nor concave by the rules" if bend == "unknown" else bend


def _not_convex(node: Expr, x: Any) -> Any:
    raise ProblemError(f"'{node}' is no convex expression; it stands alone in a constraint, which Conic searches over supports")


def _no_cone(node: Expr, x: Any) -> Any:
    raise ProblemError(f"'{node}' is opaque, which no cone describes; {TAKERS}")


def conic_table() -> dict[str, Callable[..., Any]]:
    """Every atom in cvxpy; the keys equal the language's atoms, which a test asserts."""
    import cvxpy as cp
    from cvxpy.atoms.affine.add_expr import AddExpression
    from cvxpy.atoms.affine.binary_operators import DivExpression
    from cvxpy.atoms.affine.unary_operators import NegExpression
    from cvxpy.atoms.elementwise.elementwise import Elementwise

    entrywise = (Elementwise, AddExpression, NegExpression, cp.multiply, DivExpression)

    def taken(x: Any, key: Any) -> Any:
        """Entries of x, taken before what is done entry by entry: an entry that nothing takes must not narrow the domain."""
        return x.copy([taken(a, key) if a.shape else a for a in x.args]) if isinstance(x, entrywise) else x[key]

    def take(n: Expr, x: Any) -> Any:
        return taken(x, n.data if isinstance(n.data, int) else list(n.data))

    def power(n: Expr, x: Any) -> Any:
        """By the exact power cone; where x is never positive, as the power of -x, whose rules cvxpy knows."""
        if n.data > 1 and sign(n.args[0]) == "-":
            return (1 if n.data % 2 == 0 else -1) * cp.power(-x, n.data, approx=False)
        return cp.power(x, n.data, approx=False)

    def divide(n: Expr, x: Any, y: Any) -> Any:
        """A number over what is never negative is that number times a power, whose rules cvxpy knows."""
        varies = isinstance(y, cp.Expression) and not y.is_constant()
        return cp.multiply(x, cp.power(y, -1, approx=False)) if varies else x / y

    def tail(n: Expr, x: Any, *parts: Any) -> Any:
        if parts:  # the least over t is the tail; the mean lies below it, and tells cvxpy its sign
            t = cp.Variable()
            return cp.maximum(t + tail_caps(n) @ cp.pos(x - t), parts[0] @ x)
        count = round(n.data * x.size, 9)
        whole, part = int(count), count % 1
        pieces = [(1 - part, whole), (part, whole + 1)]
        return sum(w * cp.sum_largest(x, k) for w, k in pieces if w > 0 and k > 0) / count

    return {
        "add": lambda n, x, y: x + y,
        "subtract": lambda n, x, y: x - y,
        "negate": lambda n, x: -x,
        "multiply": lambda n, x, y: cp.multiply(x, y),
        "divide": divide,
        "matmul": lambda n, x, y: x @ y,
        "take": take,
        "stack": lambda n, *parts: cp.hstack(parts),
        "sum": lambda n, x: cp.sum(x),
        "mean": lambda n, x: cp.sum(x) / x.size,
        "exp": lambda n, x: cp.exp(x),
        "log": lambda n, x: cp.log(x),
        "sqrt": lambda n, x: cp.sqrt(x),
        "square": lambda n, x: cp.square(x),
        "power": power,
        "softplus": lambda n, x: cp.logistic(x),
        "logsumexp": lambda n, x: n.data * cp.log_sum_exp(x / n.data),
        "huber": lambda n, x: cp.huber(x, n.data) / 2,
        "tail": tail,
        "rel_entropy": lambda n, x, y: cp.rel_entr(x, y),
        "sum_squares": lambda n, x: cp.sum_squares(x),
        "norm": lambda n, x: cp.norm2(x) if n.data == 2 else cp.pnorm(x, n.data, approx=False),
        "abs": lambda n, x: cp.abs(x),
        "pos": lambda n, x: cp.pos(x),
        "clip": lambda n, x: cp.minimum(cp.maximum(x, n.data[0]), n.data[1]),
        "max": lambda n, x: cp.max(x),
        "min": lambda n, x: cp.min(x),
        "maximum": lambda n, x, y: cp.maximum(x, y),
        "minimum": lambda n, x, y: cp.minimum(x, y),
        "entropy": lambda n, x: cp.sum(cp.entr(x)),
        "kl": lambda n, p, q: cp.sum(cp.rel_entr(p, q)),
        "quad_form": lambda n, x: cp.quad_form(x, cp.psd_wrap(n.data.value)),
        "domain_mean": lambda n, x: cp.mean(x, axis=-1),
        "surrogate": lambda n, value, gradient: value,
        "cardinality": _not_convex,
        "least_used": _not_convex,
        "opaque": _no_cone,
    }
