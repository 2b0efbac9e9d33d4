"""The augmented Lagrangian: nonlinear constraints become penalties with multipliers, for programs that are convex or not."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from mixopt.errors import InputError, listed
from mixopt.forms import Abilities, Form, Program, kind, one_mixture, sides
from mixopt.language.curvature import curvature, smooth
from mixopt.report.check import ACTIVE, Duals, by_name, multipliers
from mixopt.report.conflict import gradient_size
from mixopt.report.kinks import told
from mixopt.report.result import Status
from mixopt.runtime.descent import Descent, begin, spectral_step
from mixopt.runtime.program import Function
from mixopt.runtime.region import Limit, Region, dense
from mixopt.solver import Pace, Solver, State, Task

from .by_scipy import scipy_state
from .constraints import refuses_blind
from .polish import newton

LARGEST = 1e10
NEAR, NEWTON, LOOK = 0.1, 8, 10
MOST = 400
"""With more domains, second derivatives by differences take longer than the descent."""


@dataclass(frozen=True)
class Lagrangian(Solver):
    r"""min over w of f(w) + sum_j ((mu_j + rho g_j(w))_+^2 - mu_j^2) / (2 rho), then mu_j <- (mu_j + rho g_j)_+, and so on.

    For smooth programs with smooth nonlinear constraints g_j(w) <= 0 (or == 0, without the positive part), convex or not;
    linear constraints hold at every step, by projection. A step is one minimisation, by spectral projected gradient from the last
    point, and one change of the multipliers, which are the duals; each constraint is divided by the size of its gradient, and
    ``penalty``, rho, grows tenfold where the violation does not fall to a quarter. Near a solution over up to 400 domains Newton
    steps on the constraints that bind end it. A convex program ends OPTIMAL, any other STATIONARY, once violation and
    complementarity, or violation and KKT residual, are below ``tolerance``.

    ``method="slsqp"`` and ``"trust-constr"`` are SciPy's, which take linear constraints alone too and end in one step, of ``steps`` times
    ten iterations at most; whether their answer is a solution is for our own certificate to say, and its duals are ours.

    Source: Birgin and Martinez 2014, Practical Augmented Lagrangian Methods, Algorithm 4.1.
    """

    method: Literal["augmented", "slsqp", "trust-constr"] = "augmented"
    steps: int = 60
    inner_steps: int = 300
    penalty: float = 10.0
    tolerance: float = 1e-8

    def __post_init__(self) -> None:
        if self.method not in ("augmented", "slsqp", "trust-constr"):
            raise InputError(f"Lagrangian's method is {self.method!r}; it is 'augmented', or SciPy's 'slsqp' or 'trust-constr'")
        for name in ("steps", "inner_steps", "penalty", "tolerance"):
            if not getattr(self, name) > 0:
                raise InputError(f"Lagrangian's {name} is {getattr(self, name)!r}; it is a number > 0")

    def refuses(self, form: Form, abilities: Abilities | None) -> tuple[str, ...]:
        if not isinstance(form, Program):
            return (f"it takes programs, and this is a {kind(form)}",)
        unseen = refuses_blind(form.objective, *sides(form))
        if unseen:
            return unseen
        reasons = list(one_mixture(form))
        bent = [r for r in form.constraints if curvature(r.gap) not in ("affine", "constant")]
        if not bent and self.method == "augmented":
            reasons.append("it is for constraints that are not linear, and this problem has none")
        kink = smooth(form.objective)
        if kink is not None:
            reasons.append(f"the objective has a kink at '{kink}', where descent along a gradient can stall")
        kinks = [(r.label, smooth(r.gap)) for r in bent]
        reasons += [f"constraint '{label}' has a kink at '{kink}'" for label, kink in kinks if kink is not None]
        return tuple(reasons)

    def pace(self, task: Task) -> Pace:
        return Pace(self.steps if self.method == "augmented" else 1)

    def begin(self, task: Task) -> State:
        if self.method != "augmented":
            return State(task.start)
        form = task.form
        assert isinstance(form, Program)
        function = Function(form.objective, form.mixture, task.given)
        flat = Region.compile(form.mixture, [limit.relation for limit in task.region.limits if limit.linear], task.given)
        bent = tuple(limit for limit in task.region.limits if not limit.linear)
        scale = tuple(gradient_size(limit) for limit in bent)
        rho = self.penalty * (1 + abs(function.value(task.start)))
        at = _Augmented(function, bent, scale, tuple(np.zeros(max(int(np.prod(b.gap.shape)), 1)) for b in bent), min(rho, LARGEST))
        if task.region.size <= MOST and at.violation(task.start) <= ACTIVE:  # an answer to go on from: its multipliers balance its slope
            duals = multipliers(task.region, task.start, function.gradient(task.start))[1]
            at = replace(at, multipliers=tuple(s * told(duals[b.relation.label], b.equality) for b, s in zip(bent, scale, strict=True)))
        return State(task.start, _Memory(at, flat, form.convex))

    def step(self, task: Task, state: State) -> State:
        if self.method != "augmented":
            return scipy_state(task, self.method, 10 * self.steps, self.tolerance)
        memory: _Memory = state.memory
        oracle, target = memory.oracle, max(self.tolerance, memory.target)
        at, gap = self._descended(oracle, memory.flat, state.weights, target)
        if not np.isfinite([at.value, *at.gradient]).all():
            said = f"the objective or {listed([b.relation.label for b in oracle.bent])} has no finite value or slope there"
            return State(at.w, memory, status=Status.FAILED, message=f"{said}; give start=..., weights at which they are finite")
        off = oracle.off(at.w)
        info = {"value": oracle.objective.value(at.w), "violation": oracle.violation(at.w), "penalty": oracle.rho, "gap": gap}
        risen = min(oracle.rho * 10, LARGEST) if off > 0.25 * memory.off else oracle.rho
        after = replace(oracle, multipliers=oracle.raised(at.w), rho=risen)
        finished = self._finished(task, oracle, at.w, memory.duals(task, at.w, after)) if off <= NEAR else None
        if finished is not None:
            w, duals = finished
            info = {**info, "value": oracle.objective.value(w), "violation": oracle.violation(w)}
            return State(w, memory, info, Status.OPTIMAL if memory.convex else Status.STATIONARY, duals=duals)
        settled = off <= self.tolerance and gap <= 10 * self.tolerance * (1 + abs(at.value))
        new = State(at.w, replace(memory, oracle=after, target=target / 10, off=off), info)
        if settled:
            return replace(new, status=Status.OPTIMAL if memory.convex else Status.STATIONARY, duals=memory.duals(task, at.w, after))
        if oracle.rho >= LARGEST:
            names = ", ".join(repr(limit.relation.label) for limit in oracle.bent)
            if off <= self.tolerance:
                said = f"the constraints {names} are met, and descent under them stands still with a gap of {gap:.2g}"
            else:
                said = f"the constraints {names} are off by up to {info['violation']:.2g}, whatever the penalty"
            return replace(new, status=Status.STUCK, message=said)
        return replace(new, duals=memory.duals(task, at.w, after))

    def _descended(self, oracle: _Augmented, flat: Region, w: np.ndarray, target: float) -> tuple[Descent, float]:
        """Descent from w until the gap is below the target, and that gap; where it takes a linear program it is looked at now and then."""
        at, every = begin(oracle, w), 1 if flat.boxed else LOOK
        for taken in range(self.inner_steps):
            if taken % every == 0:
                gap = float(at.gradient @ (at.w - flat.lowest(at.gradient)))
                if gap <= target * (1 + abs(at.value)):
                    return at, gap
            if at.stuck or not np.isfinite(at.value):
                break
            at = spectral_step(oracle, flat, at)
        return at, float(at.gradient @ (at.w - flat.lowest(at.gradient)))

    def _finished(self, task: Task, oracle: _Augmented, w: np.ndarray, duals: Duals) -> tuple[np.ndarray, Duals] | None:
        """A minimum by Newton steps on the constraints that bind, with its multipliers; None where they do not lead to one from here."""
        region, objective = task.region, oracle.objective
        for _ in range(NEWTON if region.size <= MOST else 0):
            step = newton(objective, region, w, duals)
            if step is None or not step.minimum or not (step.point > 0).any():
                return None
            w = region.layout.exact(step.point)
            value, gradient = objective.value_and_gradient(w)
            slopes = [gradient, *(dense(limit.rows(w)) for limit in oracle.bent), *map(np.atleast_1d, region.residuals(w).values())]
            if not all(np.isfinite(slope).all() for slope in slopes):
                return None
            kkt, duals = multipliers(region, w, gradient)
            if kkt <= self.tolerance * (1 + abs(value)) and max(region.residuals(w).values()) <= self.tolerance:
                return w, duals
        return None

    def leaves(self, state: State) -> None:
        return None


@dataclass(frozen=True)
class _Augmented:
    """The objective with its penalties, an oracle of a descent; multipliers and gaps are those of the scaled constraints."""

    objective: Function
    bent: tuple[Limit, ...]
    scale: tuple[float, ...]
    multipliers: tuple[np.ndarray, ...]
    rho: float

    def _gaps(self, w: np.ndarray) -> list[np.ndarray]:
        return [limit.gaps(w) / s for limit, s in zip(self.bent, self.scale, strict=True)]

    def raised(self, w: np.ndarray) -> tuple[np.ndarray, ...]:
        """The multipliers after a step to w."""
        pairs = zip(self.bent, self.multipliers, self._gaps(w), strict=True)
        return tuple(mu + self.rho * gap if limit.equality else np.maximum(mu + self.rho * gap, 0.0) for limit, mu, gap in pairs)

    def value(self, w: np.ndarray) -> float:
        """The augmented Lagrangian at w."""
        squares = sum(float(new @ new - mu @ mu) for new, mu in zip(self.raised(w), self.multipliers, strict=True))
        return float(self.objective.value(w)) + squares / (2 * self.rho)

    def gradient(self, w: np.ndarray) -> np.ndarray:
        """Its gradient [k]."""
        total = self.objective.gradient(w)
        for limit, s, new in zip(self.bent, self.scale, self.raised(w), strict=True):
            if new.any():
                total = total + (new / s) @ limit.gap.jacobian(w)
        return total

    def violation(self, w: np.ndarray) -> float:
        """The largest violation of a constraint, in its own unit."""
        return max(limit.residual(w) for limit in self.bent)

    def off(self, w: np.ndarray) -> float:
        """The larger of violation and complementarity, max(g, -mu / rho), of the scaled constraints."""
        parts = zip(self.bent, self.multipliers, self._gaps(w), strict=True)
        return max(float(np.abs(gap if limit.equality else np.maximum(gap, -mu / self.rho)).max()) for limit, mu, gap in parts)


@dataclass(frozen=True)
class _Memory:
    oracle: _Augmented
    flat: Region
    convex: bool
    target: float = 1e-3
    off: float = field(default=np.inf)

    def duals(self, task: Task, w: np.ndarray, after: _Augmented) -> Duals:
        """The multipliers by name in the problem's order: our own for what is bent, those that are left for linear constraints."""
        slope = self.oracle.gradient(w)
        flat = multipliers(self.flat, w, slope)[1]
        own: Duals = {}
        for limit, s, mu in zip(after.bent, after.scale, after.multipliers, strict=True):
            own[limit.relation.label] = by_name(limit.relation, mu / s)
        return {limit.relation.label: {**flat, **own}[limit.relation.label] for limit in task.region.limits}
