"""A mixture as data: the weights, what they are shares of, and what is known of the domains; saved and loaded."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, final

from mixopt.errors import InputError, listed, unknown
from mixopt.files import write

from .reading import read

FORMAT = "mixopt mixture 1"
UNITS = ("token", "example")


@final
@dataclass(frozen=True)
class Stage:
    """Weights that hold from ``start`` on, in tokens of the run."""

    start: float
    weights: Mapping[str, float]


@final
@dataclass(frozen=True)
class Blend:
    """Domain weights with their unit, the record from which every file for a trainer is made.

    ``weights`` are shares (>= 0, sum 1) of the run's tokens or examples, as ``unit`` says; ``tokens`` what each domain has;
    ``budget`` the tokens of the run; ``paths`` where each domain lies, one path or several; ``tokens_per_example`` the mean
    length of a domain's examples; ``stages`` the changes of the weights that come later in the run, in order.

    >>> blend = Blend({"web": 0.75, "code": 0.25}, tokens={"web": 9e9, "code": 1e9}, budget=1e10)
    >>> blend.epochs
    {'web': 0.8333333333333334, 'code': 2.5}

    Raises:
        InputError: a weight that is negative or not finite, a sum off 1 by more than 1e-6, a name that is no domain, a size or
            length that is not positive, a unit that is unknown, stages out of order.
    """

    weights: Mapping[str, float]
    tokens: Mapping[str, float] | None = None
    budget: float | None = None
    unit: str = "token"
    paths: Mapping[str, Sequence[str]] | None = None
    tokens_per_example: Mapping[str, float] | None = None
    stages: tuple[Stage, ...] = ()

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise unknown("unit of weights", self.unit, UNITS)
        if not self.weights:
            raise InputError("there are no weights; give at least one domain")
        self._keep("weights", checked(self.weights))
        for later in self.stages:
            self._known("a stage", later.weights)
        self._keep("stages", tuple(Stage(float(s.start), self._all(checked(s.weights))) for s in self.stages))
        starts = [0.0, *(s.start for s in self.stages)]
        if any(b <= a for a, b in pairwise(starts)):
            raise InputError(f"stages start at {listed(starts[1:])} tokens; each must start after the one before, the first after 0")
        if self.budget is not None and not (math.isfinite(self.budget) and self.budget > starts[-1]):
            raise InputError(f"the budget is {self.budget} tokens; it must be a number above {starts[-1]:g}")
        for name in ("tokens", "tokens_per_example"):
            self._numbers(name, least=0.0 if name == "tokens" else math.ulp(0.0))
        if self.paths is not None:
            self._known("paths", self.paths)
            self._keep("paths", {n: (p,) if isinstance(p, str) else tuple(map(str, p)) for n, p in self.paths.items()})

    def _keep(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _known(self, what: str, given: Mapping[str, Any]) -> None:
        for name in given:
            if name not in self.weights:
                raise InputError(f"{what} name {name!r}, which has no weight; {unknown('domain', name, self.weights)}")

    def _all(self, weights: Mapping[str, float]) -> dict[str, float]:
        return {name: weights.get(name, 0.0) for name in self.weights}

    def _numbers(self, name: str, least: float) -> None:
        given = getattr(self, name)
        if given is None:
            return
        self._known(name, given)
        values = {n: number(f"{name} of {n!r}", v) for n, v in given.items()}
        for domain, value in values.items():
            if not (math.isfinite(value) and value >= least):
                raise InputError(f"{name} of {domain!r} is {value}; it must be a number {'>= 0' if least == 0 else '> 0'}")
        self._keep(name, values)

    @property
    def schedule(self) -> tuple[Stage, ...]:
        """All stages, the first from 0 tokens on."""
        return (Stage(0.0, self.weights), *self.stages)

    @property
    def epochs(self) -> dict[str, float] | None:
        """How often the run passes over each domain whose tokens are known; None without tokens, a budget or, for examples, lengths.

        The domain's tokens in the run, over all stages, divided by the tokens that it has.

        Raises:
            InputError: a domain with weight has 0 tokens.
        """
        if (
            self.tokens is None
            or self.budget is None
            or (self.unit == "example" and any(self.short_of(stage.weights) for stage in self.schedule))
        ):
            return None
        ends = [*(s.start for s in self.stages), self.budget]
        drawn = dict.fromkeys(self.weights, 0.0)
        for stage, end in zip(self.schedule, ends, strict=True):
            for name, share in self.token_shares(stage.weights).items():
                drawn[name] += share * (end - stage.start)
        for name, amount in drawn.items():
            if amount and self.tokens.get(name) == 0:
                raise InputError(f"{name!r} has weight but 0 tokens; give it weight 0, or its true size")
        return {name: drawn[name] / size if size else 0.0 for name, size in self.tokens.items()}

    def token_shares(self, weights: Mapping[str, float]) -> dict[str, float]:
        """Shares of tokens that belong to weights in this blend's unit."""
        return dict(weights) if self.unit == "token" else scaled(weights, self.lengths(weights))

    def example_shares(self, weights: Mapping[str, float]) -> dict[str, float]:
        """Shares of examples that belong to weights in this blend's unit: w_i / length_i, renormalised."""
        if self.unit == "example":
            return dict(weights)
        return scaled(weights, {name: 1 / length for name, length in self.lengths(weights).items()})

    def lengths(self, weights: Mapping[str, float]) -> dict[str, float]:
        """Tokens per example of each domain with weight.

        Raises:
            InputError: some are not known.
        """
        missing = self.short_of(weights)
        if missing:
            raise InputError(
                f"shares of tokens and of examples differ where examples differ in length, and the tokens per example of {listed(missing)} "
                f"are not known; give tokens_per_example (--tokens-per-example {missing[0]}=...), or equal_lengths (--equal-lengths) "
                "where every example has the same number of tokens, as packed sequences have"
            )
        return {name: (self.tokens_per_example or {}).get(name, 1.0) for name in weights}

    def short_of(self, weights: Mapping[str, float]) -> list[str]:
        """The domains with weight whose tokens per example are not known."""
        return [name for name, weight in weights.items() if weight and name not in (self.tokens_per_example or {})]

    def completed(
        self,
        paths: Mapping[str, str | Sequence[str]] | None = None,
        root: str | None = None,
        tokens: Mapping[str, float] | None = None,
        budget: float | None = None,
        tokens_per_example: Mapping[str, float] | None = None,
    ) -> Blend:
        """The same weights with more known of the domains; what is given here wins.

        ``root`` places each domain without a path at root/domain, or where ``{domain}`` stands in it.
        """
        where: dict[str, Any] = {**(self.paths or {}), **(paths or {})}
        if root is not None:
            pattern = root if "{domain}" in root else f"{root.rstrip('/')}/{{domain}}"
            where = {name: pattern.replace("{domain}", name) for name in self.weights} | where
        return replace(
            self,
            paths=where or None,
            tokens={**(self.tokens or {}), **(tokens or {})} or None,
            budget=self.budget if budget is None else budget,
            tokens_per_example={**(self.tokens_per_example or {}), **(tokens_per_example or {})} or None,
        )

    def record(self) -> dict[str, Any]:
        """The blend as plain data, without what is not known; ``Blend.load`` reads it back."""
        content: dict[str, Any] = {"format": FORMAT, "unit": self.unit, "weights": dict(self.weights)}
        for name in ("budget", "tokens", "tokens_per_example"):
            if getattr(self, name) is not None:
                content[name] = getattr(self, name)
        if self.paths is not None:
            content["paths"] = {name: list(paths) for name, paths in self.paths.items()}
        if self.stages:
            content["stages"] = [{"start": s.start, "weights": dict(s.weights)} for s in self.stages]
        return content

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the blend as JSON, usually mixture.json."""
        write(path, json.dumps(self.record(), indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str], normalise: bool = False) -> Blend:
        """Read a blend, or weights as others keep them; see ``mixopt.export.reading`` for the forms.

        Weights whose sum is off 1 by at most 0.005 (three digits, as RegMix rounds them) are divided by it.

        Raises:
            InputError: no such file, a form that is not known, weights that are none, or a sum that is not 1 without ``normalise``.
        """
        fields = read(path)
        try:
            stages = tuple(Stage(number("a stage's start", s["start"]), one(s["weights"], normalise)) for s in fields.pop("stages", ()))
            return cls(**{**fields, "weights": one(fields["weights"], normalise), "stages": stages})
        except InputError as error:
            raise InputError(f"{path}: {error}") from None


def number(what: str, value: Any) -> float:
    """A number, also one that stands as text.

    Raises:
        InputError: it is none.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise InputError(f"{what} is {value!r}; it must be a number") from None


def checked(weights: Mapping[str, Any]) -> dict[str, float]:
    """Weights as given, once they are known to be finite, >= 0 and of sum 1 within 1e-6."""
    values = finite(weights)
    total = math.fsum(values.values())
    if abs(total - 1) > 1e-6:
        raise InputError(f"the weights sum to {total:.6g}, not 1; divide them by their sum if that is meant")
    return values


def finite(weights: Mapping[str, Any]) -> dict[str, float]:
    """Weights as floats.

    Raises:
        InputError: one is no number, negative or not finite, or a name is not a text.
    """
    values = {name: number(f"the weight of {name!r}", value) for name, value in weights.items()}
    for name, value in values.items():
        if not isinstance(name, str) or not name.strip():
            raise InputError(f"a domain has the name {name!r}; every name is a text that is not empty")
        if not math.isfinite(value) or value < 0:
            raise InputError(f"the weight of {name!r} is {value}; weights are finite and >= 0")
    return values


def one(weights: Mapping[str, Any], normalise: bool) -> dict[str, float]:
    """Weights that were read, divided by their sum where that is off 1 by rounding, or where it is asked for."""
    values = finite(weights)
    total = math.fsum(values.values())
    if abs(total - 1) <= 1e-6:
        return values
    if total <= 0 or (abs(total - 1) > 0.005 and not normalise):
        raise InputError(
            f"the weights sum to {total:.6g}, not 1; where only their ratios count, divide them by their sum, as mixopt export does with "
            "--normalise (normalise=True)"
        )
    return {name: value / total for name, value in values.items()}


def scaled(weights: Mapping[str, float], by: Mapping[str, float]) -> dict[str, float]:
    """Weights times factors, divided by their sum."""
    products = {name: weight * by[name] for name, weight in weights.items()}
    total = math.fsum(products.values())
    return {name: value / total for name, value in products.items()}
