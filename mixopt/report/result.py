"""What comes back from a solve: why it stopped, what the point is, and what it cost."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mixopt.errors import InputError, ProblemError, cause, listed
from mixopt.export import Blend, Exported, export
from mixopt.files import write
from mixopt.language.expression import Expr
from mixopt.language.ops import TRAINED
from mixopt.language.problem import Problem
from mixopt.notebook import table
from mixopt.runtime import simplex

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_SHOWN = 8
"""How many entries of a variable are printed."""


class Status(Enum):
    """Why a solve stopped; the value is the sentence that a user reads."""

    OPTIMAL = "a global optimum, to the solver's tolerance"
    STATIONARY = "a stationary point, to the solver's tolerance: no small move of the weights helps, to first order"
    SEARCHED = "the search is over: the best of the points that it tried; nothing is proved of the others"
    BUDGET = "the budget was spent; this is the best point so far. Give a larger budget, or start=result to go on from here"
    STUCK = "it can get no further: rounding, or an inexact inner solve, is in the way"
    INFEASIBLE = "no weights satisfy all the constraints; relax one of them"
    FAILED = "the losses became NaN or infinite; the weights are the last good ones. Lower the rate"
    INTERRUPTED = "it was interrupted; this is the best point so far"

    @property
    def solved(self) -> bool:
        """Whether the point is what was asked for."""
        return self in (Status.OPTIMAL, Status.STATIONARY)

    @property
    def usable(self) -> bool:
        """Whether there are weights at all."""
        return self is not Status.INFEASIBLE


@dataclass(frozen=True)
class Check:
    """What a point is, computed apart from the solver and labelled with the oracle it was computed by.

    ``simplex`` is the larger of |sum - 1| and the most negative entry; ``constraints`` the violation of each;
    ``gap`` the Frank-Wolfe gap <g, w> - min <g, u> over the feasible u (for a saddle the best-response gap in w; for a
    convex program with kinks that of its linearised pieces), in the objective's unit; ``kkt`` the norm of what no
    multipliers explain of the gradient; ``inner`` the norm of the lower level's gradient; ``saddle`` the gap of both players of
    a saddle, max over w of the payoff at the answer's model less min over the model at the answer's w (exact learners only).
    ``curvature`` is the least eigenvalue of the Hessian of a bilevel problem's upper objective, as it is minimised, along the weights
    that are free at the answer, by differences of hypergradients: for a solved run with an exact learner and up to 16 domains.
    """

    simplex: float
    constraints: Mapping[str, float]
    oracle: str
    gap: float | None = None
    kkt: float | None = None
    inner: float | None = None
    notes: tuple[str, ...] = ()
    saddle: float | None = None
    curvature: float | None = None

    @property
    def feasible(self) -> bool:
        """Whether every constraint holds within 1e-6."""
        return self.simplex <= 1e-9 and all(v <= 1e-6 for v in self.constraints.values())

    def __str__(self) -> str:
        worst = max(self.constraints.values(), default=0.0)
        parts = [f"off the simplex by {self.simplex:.1e}", f"constraints off by {worst:.1e}"]
        figures = (("gap", self.gap), ("saddle gap", self.saddle), ("KKT residual", self.kkt), ("inner gradient", self.inner))
        parts += [f"{name} {figure:.1e}" for name, figure in (*figures, ("least curvature", self.curvature)) if figure is not None]
        return "; ".join([*parts, f"by {self.oracle}", *self.notes])


@dataclass(frozen=True)
class Cost:
    """What a run used, in units that compare across methods."""

    steps: int = 0
    gradients: int = 0
    hessian_products: int = 0
    forward_passes: int = 0
    tokens: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        counts = {
            "steps": self.steps,
            "gradients": self.gradients,
            "Hessian products": self.hessian_products,
            "forward passes": self.forward_passes,
        }
        return ", ".join(
            [
                *(f"{v} {n}" for n, v in counts.items() if v),
                *([f"{self.tokens:.3g} tokens"] if self.tokens else []),
                f"{self.seconds:.2f} s",
            ]
        )


@dataclass(frozen=True)
class Trace:
    """The course of a run: weights [T, k] after each step, and whatever the solver reported, [T] or [T, k] by name."""

    weights: np.ndarray
    series: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.weights)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.series[name]

    @property
    def entropy(self) -> np.ndarray:
        """Entropy of the weights in nats [T]."""
        return np.asarray(simplex.entropy(self.weights))

    @property
    def effective_domains(self) -> np.ndarray:
        """exp of the entropy [T]: k where the weights are even, 1 where one domain has them all."""
        return np.asarray(np.exp(self.entropy))


@dataclass(frozen=True)
class Result:
    """Weights with their certificate. ``result.weights`` is a dict name -> float that sums to 1 within 1e-12.

    ``conflict`` names a least set of constraints that no weights satisfy together, where the problem is infeasible for it.

    With several mixtures, or stages of one, or auxiliary variables, ``result[symbol]`` is the answer for one of them; ``vector`` then
    holds the weights of all mixtures one behind the other, and the trace follows the first. ``result[z]`` is also the answer for
    the mixture z of an ``inner`` problem that was rewritten: its weights are duals, here put exactly on the simplex.
    """

    problem: Problem
    mixture: Expr
    solver: str
    status: Status
    vector: np.ndarray | None
    value: float | None
    check: Check | None
    duals: Mapping[str, float | dict[str, float]]
    trace: Trace
    cost: Cost
    parameters: Any = None
    message: str = ""
    conflict: tuple[str, ...] = ()
    values: Mapping[Expr, Any] = field(default_factory=dict, repr=False)
    inner: tuple[Expr, ...] = ()
    sloping: Callable[[], Mapping[str, float | np.ndarray]] = field(default=dict, repr=False, compare=False)

    @cached_property
    def slopes(self) -> Mapping[str, float | np.ndarray]:
        """By how much the value of a solved program changes with each parameter, per unit: a number, or one for each entry.

        The slope of the Lagrangian at the answer (the envelope theorem); there is none where ``given`` was empty, for a parameter
        under a kink, and where a multiplier is missing.
        """
        return self.sloping()

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each domain, >= 0, sum 1.

        Raises:
            ProblemError: the problem is infeasible, so there are none; or it has several mixtures.
        """
        self._there()
        if len(self._mixtures) > 1:
            raise ProblemError(
                f"the problem has the mixtures {listed(self._mixtures)}; write result[{self.problem.over[0]}] for one of them"
            )
        return self[self.mixture]

    @property
    def _mixtures(self) -> list[Expr]:
        return [s for s in self.values if s.op == "mixture"] or [self.mixture]

    def _there(self) -> None:
        if self.vector is None:
            raise ProblemError(f"there are no weights: {self.message or self.status.value}")

    def __getitem__(self, symbol: Expr) -> Any:
        """The answer for a symbol: a dict domain -> weight for a mixture, a list of them for its stages, and for a variable
        its number, or the vector [size] of them.
        """
        if isinstance(symbol, Expr) and symbol.op == "stages":
            return [self[stage] for stage in symbol.args]
        if symbol in self.inner:
            found = np.maximum(list(self.duals[str(symbol)].values()), 0.0)  # type: ignore[union-attr]
            return dict(zip(symbol.index or (), (found / found.sum()).tolist(), strict=True))
        known = {**dict.fromkeys(self._mixtures), **self.values, **dict.fromkeys(self.inner)}
        if symbol not in known:
            raise ProblemError(
                f"the result has weights for {listed(known) if len(known) > 1 else repr(str(self.mixture))}, not for '{symbol}'; "
                "give the symbol that Mixture(domains) made"
            )
        self._there()
        value = self.values.get(symbol, self.vector)
        return dict(zip(symbol.index or (), value.tolist(), strict=True)) if symbol.op == "mixture" else value

    def _rows(self) -> list[tuple[str, str]]:
        """The names and the numbers of all unknowns, to be shown."""
        if self.vector is None:
            return []
        mixtures, rows = self._mixtures, []
        for s in dict.fromkeys((*mixtures, *self.values)):
            if s.op == "mixture":
                rows += [(name if len(mixtures) == 1 else f"{s}[{name}]", f"{value:.4f}") for name, value in self[s].items()]
            else:
                shown = np.atleast_1d(self[s])[:MOST_SHOWN]
                rows.append((str(s), ", ".join(f"{v:.6g}" for v in shown) + (", ..." if np.size(self[s]) > MOST_SHOWN else "")))
        return rows

    def __str__(self) -> str:
        lines = [f"{self.solver}: {self.status.name}, {self.status.value}"]
        if self.message:
            lines.append(f"  {self.message}")
        rows = self._rows()
        width = max((len(name) for name, _ in rows), default=0)
        lines += [f"  {name:<{width}}  {value}" for name, value in rows]
        if self.value is not None:
            lines.append(f"  value {self.value:.6g}")
        for name, dual in self.duals.items():
            entries = dual.items() if isinstance(dual, dict) else [("", dual)]
            lines += [f"  dual of {name}{f'[{n}]' if n else ''}: {v:.4g}" for n, v in entries if abs(v) > 1e-7]
        if self.check is not None:
            lines.append(f"  check: {self.check}")
        lines.append(f"  cost: {self.cost}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        duals = [(name, dual if isinstance(dual, dict) else {"": dual}) for name, dual in self.duals.items()]
        notes = [self.message, "" if self.value is None else f"value {self.value:.6g}"]
        notes += [f"dual of {name}{f' at {n}' if n else ''}: {v:.4g}" for name, each in duals for n, v in each.items() if abs(v) > 1e-7]
        notes += ["" if self.check is None else f"check: {self.check}", f"cost: {self.cost}"]
        simple = self.vector is not None and len(self.values) <= 1
        rows = [(name, f"{100 * w:.2f} %") for name, w in self.weights.items()] if simple else self._rows()
        caption = f"{self.solver}: {self.status.name}, {self.status.value}"
        return table(["domain", "weight"], rows, caption=caption, notes=filter(None, notes))

    def plot(self, ax: Axes | None = None) -> Axes:
        """The course of the weights as matplotlib axes, drawn on ``ax`` where it is given.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from .plots import trajectories

        return trajectories({self.solver: self.trace.weights}, self.mixture.index or (), ax=ax)[0]

    def export(
        self,
        target: str,
        path: str | os.PathLike[str],
        *,
        paths: Mapping[str, str | Sequence[str]] | None = None,
        root: str | None = None,
        tokens: Mapping[str, float] | None = None,
        budget: float | None = None,
        tokens_per_example: Mapping[str, float] | None = None,
        unit: str = "token",
        **options: Any,
    ) -> Exported:
        """Write the weights in a trainer's format, as ``mixopt.export.export`` does; ``mixopt.export.targets()`` lists them.

        ``paths`` or ``root`` say where the domains lie, ``tokens`` (those of the domains, if not given) and ``budget`` how often each is
        read, ``tokens_per_example`` how shares of tokens become shares of examples; ``unit`` is what the weights are shares of.
        ``options`` are those of ``export``.

        Raises:
            ProblemError: there are no weights.
            InputError: anything that the target would refuse; nothing is written then.
        """
        sizes = self.mixture.data[1].tokens
        known = dict(zip(self.mixture.index or (), sizes, strict=True)) if sizes else {}
        blend = Blend(self.weights, unit=unit).completed(paths, root, {**known, **(tokens or {})}, budget, tokens_per_example)
        return export(blend, target, path, **options)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights, status and the problem's text as JSON; ``solve(..., start=path)`` goes on from it."""
        variables = {str(s): np.asarray(v).tolist() for s, v in self.values.items() if s.op == "variable"}
        content = {
            "format": "mixopt result 1",
            "problem": fingerprint(self.problem),
            "weights": self.weights if len(self._mixtures) == 1 else {str(s): self[s] for s in self._mixtures},
            **({"variables": variables} if variables else {}),
            "status": self.status.name,
            "value": self.value,
            "solver": self.solver,
        }
        write(path, json.dumps(content, indent=2) + "\n")


def fingerprint(problem: Problem) -> str:
    """The problem's text with a digest of the names and numbers that it leaves out: a saved result knows its problem by it.

    Numbers count to six digits of the largest beside them, so that a law that was fitted again is the same law.
    """
    digest = hashlib.sha256()
    for node in _nodes(problem):
        value = getattr(node.data, "value", None)
        if isinstance(value, np.ndarray):
            size = float(np.abs(value).max(initial=0.0)) or 1.0
            digest.update(f"{size:.5e} {(np.round(value / size, 6) + 0.0).tolist()}".encode())
        digest.update(f"{node.op} {node.shape} {node.index}".encode())
        digest.update(str(node.data[1:]).encode() if node.op == "variable" else b"")
    return f"{problem}\n(names and numbers: {digest.hexdigest()[:12]})"


def _nodes(part: Problem | Expr) -> Iterator[Expr]:
    """The nodes of a problem, of its constraints, and of the problem or the lower level inside it."""
    if isinstance(part, Problem):
        for inside in (part.objective, *(side for r in part.subject_to for side in (r.left, r.right))):
            yield from _nodes(inside)
        return
    for node in part.walk():
        yield node
        if node.op in TRAINED:
            yield from _nodes(node.data[1])


def saved_weights(path: str | os.PathLike[str], problem: Problem) -> dict[str, float]:
    """The weights of a saved result.

    Raises:
        InputError: no such file, not a saved result, or the result of another problem.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a saved result: {cause(error)}") from None
    known = isinstance(content, dict) and content.get("format") == "mixopt result 1"
    if not known or "problem" not in content or not isinstance(content.get("weights"), dict):
        raise InputError(f"{path} is no saved result; give a file written by result.save(path)")
    if content["problem"] != fingerprint(problem):
        raise InputError(f"{path} is a checkpoint of another problem:\n{content['problem']}\nand not of\n{fingerprint(problem)}")
    return dict(content["weights"])
