"""The user's own law: a formula as text, whose parameters are the names in it that have no meaning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import ArrayLike

from mixopt.errors import InputError, ProblemError, listed, unknown
from mixopt.language.atoms import stack
from mixopt.language.domains import Domains
from mixopt.language.expression import Expr, constant
from mixopt.language.formula import formula
from mixopt.language.free import unbound
from mixopt.language.symbols import Mixture, parameter
from mixopt.runs import Runs
from mixopt.runtime.rows import Rows

from .curve import Curve, CurveLaw
from .law import At
from .least_squares import Settings

SCALED = {"N": "params", "D": "tokens", "s": "steps"}
"""The names of a formula that stand for a scale of the runs."""
_DRAWS = 100
_LEAST_WIDTH, _MOST_WIDTH = 0.1, 3.0

Bounds = Mapping[str, tuple[float, float]]


@final
@dataclass(frozen=True, eq=False)
class FormulaCurve(Curve):
    """The formula's value; theta is its parameters in the order of the text, those of ``positive`` by their logarithms."""

    text: str
    domains: tuple[str, ...]
    positive: tuple[str, ...] = ()
    limits: Bounds = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    start: Mapping[str, ArrayLike] = field(default_factory=dict)
    seed: int = 0

    by_every_domain: ClassVar[bool] = False
    finalists: ClassVar[int] = 4

    def __post_init__(self) -> None:
        for given in (self.positive, self.limits, self.sizes, self.start):
            for name in given:
                if name not in self.variables:
                    raise unknown("parameter", name, self.variables)

    @cached_property
    def _read(self) -> tuple[Rows, dict[str, Expr], dict[str, Expr]]:
        """The formula, its variables, and what it knows: the mixture and the scales that occur."""
        known = {"w": Mixture(Domains(self.domains)), **{n: parameter(n, nonneg=True) for n in SCALED}}
        expr, variables = unbound(self.text, known, self.domains, self.sizes)
        if expr.shape != ():
            raise ProblemError(f"'{self.text}' has {list(expr.shape or ())} values, and a law is one number: fold by sum, or by @")
        if not variables:
            raise InputError(f"'{self.text}' has no parameter to be fitted; every name but w, N, D and s is one")
        there = set(expr.walk())
        return Rows(expr), variables, {name: symbol for name, symbol in known.items() if symbol in there}

    @property
    def variables(self) -> dict[str, Expr]:
        """The parameters by their names, in the order of the text."""
        return self._read[1]

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(scale for name, scale in SCALED.items() if name in self._read[2])

    def parameters(self, domains: Domains) -> tuple[str, ...]:
        names: list[str] = []
        for name, symbol in self.variables.items():
            keys = symbol.index or range(symbol.shape[0] if symbol.shape else 0)
            told = f"log {name}" if name in self.positive else name
            names += [f"{told}[{key}]" for key in keys] if symbol.shape else [told]
        return tuple(names)

    def value(self, theta: np.ndarray, at: At) -> np.ndarray:
        shape = (len(theta), len(at.mixtures))
        found = self._read[0].values(self._bound(theta, at))
        return np.array(np.broadcast_to(found, shape[0] * shape[1]).reshape(shape))

    def jacobian(self, theta: np.ndarray, at: At) -> np.ndarray:
        symbols, shape = self._bound(theta, at), (len(theta), len(at.mixtures))
        slopes = self._read[0].gradients(symbols, self.variables, shape[0] * shape[1])
        with np.errstate(over="ignore", invalid="ignore"):
            rows = [s * symbols[self.variables[n]] if n in self.positive else s for n, s in slopes.items()]
        return np.moveaxis(np.concatenate([r.reshape(-1, *shape) for r in rows]), 0, 2)

    def bounds(self, at: At, y: np.ndarray) -> np.ndarray:
        low, high = super().bounds(at, y)
        for name, where in self._slices.items():
            if name in self.limits:
                ends = np.array(self.limits[name], dtype=float)
                with np.errstate(divide="ignore"):
                    low[where], high[where] = np.log(np.maximum(ends, 0)) if name in self.positive else ends
        return np.array([low, high])

    def starts(self, at: At, y: np.ndarray, settings: Settings) -> np.ndarray:
        """Random draws, but for the parameters that are told; those in which the formula is linear are then solved for.

        Raises:
            InputError: the formula is finite at all runs from no draw.
        """
        rng, low_high = np.random.default_rng(self.seed), self.bounds(at, y)
        widths = np.exp(rng.uniform(np.log(_LEAST_WIDTH), np.log(_MOST_WIDTH), (_DRAWS, 1)))
        draws = np.clip(widths * rng.standard_normal((_DRAWS, len(low_high[0]))), *np.nan_to_num(low_high, posinf=1e3, neginf=-1e3))
        for name, told in self.start.items():
            where = self._slices[name]
            numbers = np.broadcast_to(np.asarray(told, dtype=float), (where.stop - where.start,))
            draws[:, where] = np.log(numbers) if name in self.positive else numbers
        if len(self.start) == len(self.variables):
            draws = draws[:1]
        finite = np.isfinite(self.value(draws, at))
        good = finite.all(axis=1)
        if not good.any():
            raise InputError(self._lost(at, finite.mean(axis=0)))
        draws = draws[good]
        linear = self._linear(draws[0], at)
        if linear.any():
            slopes, gaps = self.jacobian(draws, at)[:, :, linear], y - self.value(draws, at)
            draws[:, linear] += np.array([np.linalg.lstsq(s, g)[0] for s, g in zip(slopes, gaps, strict=True)])
        return draws

    def expression(self, theta: np.ndarray, w: Expr, names: tuple[str, ...], scale: Mapping[str, float]) -> Expr:
        scales = {name: scale[full] for name, full in SCALED.items() if full in scale and name in self._read[2]}
        return stack([formula(self.text, {"w": w, **scales, **self.numbers(t)}) for t in theta], index=names)

    def numbers(self, theta: np.ndarray) -> dict[str, Expr]:
        """The parameters of one target [p] by their names, as constants."""
        found = {}
        for name, symbol in self.variables.items():
            values = np.exp(theta[self._slices[name]]) if name in self.positive else theta[self._slices[name]]
            found[name] = constant(values if symbol.shape else values[0], index=symbol.index)
        return found

    def content(self) -> dict[str, Any]:
        limits = {name: [float(end) for end in ends] for name, ends in self.limits.items()}
        return {"formula": self.text, "positive": list(self.positive), "limits": limits, "sizes": dict(self.sizes)}

    @cached_property
    def _slices(self) -> dict[str, slice]:
        ends = np.cumsum([symbol.shape[0] if symbol.shape else 1 for symbol in self.variables.values()]).tolist()
        return {name: slice(a, b) for name, a, b in zip(self.variables, [0, *ends], ends, strict=False)}

    def _bound(self, theta: np.ndarray, at: At) -> dict[Expr, np.ndarray]:
        """Every symbol at every pair of parameters and run [B R]."""
        B, R, known = len(theta), len(at.mixtures), self._read[2]
        found = {known["w"]: np.tile(at.mixtures.T, (1, B))} if "w" in known else {}
        found |= {known[n]: np.tile(getattr(at, full), B) for n, full in SCALED.items() if n in known}
        for name, symbol in self.variables.items():
            part = theta[:, self._slices[name]].T if symbol.shape else theta[:, self._slices[name].start]
            with np.errstate(over="ignore"):
                found[symbol] = np.repeat(np.exp(part) if name in self.positive else part, R, axis=-1)
        return found

    def _linear(self, theta: np.ndarray, at: At) -> np.ndarray:
        """Parameters in which the formula is linear together [p]: a change in them leaves their slopes as they are."""
        few = at.rows(np.arange(len(at.mixtures)) < 20)
        found = np.zeros(len(theta), dtype=bool)
        rng = np.random.default_rng(self.seed)
        for name, where in self._slices.items():
            if name in self.positive or name in self.limits or name in self.start:
                continue
            tried = found.copy()
            tried[where] = True
            moved = np.where(tried, theta + rng.standard_normal(len(theta)), theta)
            one, two = self.jacobian(np.array([theta, moved]), few)[:, :, tried]
            if np.allclose(one, two, rtol=1e-9, atol=1e-12 * np.abs(one).max()):
                found = tried
        return found

    def _lost(self, at: At, share: np.ndarray) -> str:
        open_names = [n for n in self.variables if n not in self.start]
        r = int(share.argmin())
        empty = [n for n, x in zip(self.domains, at.mixtures[r], strict=True) if x == 0]
        where = f", and least often in a run with weight 0 for {listed(empty)}" if empty else ""
        mend = f"give start={{{open_names[0]!r}: ...}}, or positive=({open_names[0]!r},)" if open_names else "give other starts"
        return f"no start of the {len(self.variables)} parameters was found from which '{self.text}' is finite at all runs{where}; {mend}"


@final
@dataclass(frozen=True, eq=False)
class Formula(CurveLaw):
    """L_j = s_j f(w, N, D, s; the parameters of target j) with the user's own formula f; s_j is -1 for a target to be maximised, else 1.

    >>> import mixopt as mx
    >>> import numpy as np
    >>> w = np.random.default_rng(0).dirichlet(np.ones(2), 20)
    >>> runs = mx.Runs.from_arrays(["web", "code"], w, ["loss"], 2 + 0.5 * w[:, [0]] ** 1.5)
    >>> law = mx.laws.Formula.fit(runs, "c + b * w[web]^g")
    >>> {name: round(value, 4) for name, value in law.parameters("loss").items()}
    {'c': 2.0, 'b': 0.5, 'g': 1.5}

    In the text w is the mixture, N, D and s are model parameters, training tokens and steps of a run, and every other name is a
    parameter: a number, or a vector where it stands beside @ or entries of it are taken. Nothing in it is run as code. ``law(w)`` is
    the expression with the numbers in, whose curvature the plan tells.
    """

    name: ClassVar[str] = "formula"

    @classmethod
    def fit(
        cls,
        runs: Runs,
        text: str,
        *,
        positive: Iterable[str] = (),
        bounds: Bounds | None = None,
        start: Mapping[str, ArrayLike] | None = None,
        sizes: Mapping[str, int] | None = None,
        ridge: float = 0.0,
        loss: str = "linear",
        huber_delta: float = 0.02,
        seed: int = 0,
    ) -> Formula:
        """Fit the parameters to every target by least squares (or Huber), from told starts or the best of random ones.

        ``positive`` parameters are held by their logarithms; ``bounds`` gives others a least and a largest number, ``start`` where to
        begin, ``sizes`` the length of a vector that the text does not tell. Parameters without a start are drawn at random (``seed``), and
        those in which the formula is linear solved for. A ridge counts the squares of all numbers, of positive ones of their
        logarithms.

        Raises:
            ProblemError: a text that is no formula of one number.
            InputError: names of parameters that the text does not have, runs without the N, D or s that it names, no more runs
                than parameters without a ridge, a constant target, or a formula that is finite from no start.
        """
        curve = FormulaCurve(text, runs.domains.names, tuple(positive), dict(bounds or {}), dict(sizes or {}), dict(start or {}), seed)
        return cls.fitted_to(runs, curve, Settings(ridge, loss, huber_delta))

    def parameters(self, target: str) -> dict[str, float | np.ndarray]:
        """The fitted parameters of a target by their names."""
        assert isinstance(self.curve, FormulaCurve)
        numbers = self.curve.numbers(self.theta[self.targets.index(target)])
        return {name: value.data.value if value.shape else float(value.data.value) for name, value in numbers.items()}

    @classmethod
    def shape(cls, content: Mapping[str, Any]) -> FormulaCurve:
        limits = {name: (float(low), float(high)) for name, (low, high) in content["limits"].items()}
        return FormulaCurve(content["formula"], tuple(content["domains"]["names"]), tuple(content["positive"]), limits, content["sizes"])
