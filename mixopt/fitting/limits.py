"""What keeps a mixture near home: KL to the natural proportions, epochs, and bounds on single domains."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

import numpy as np

from mixopt.errors import InputError, listed, nearest
from mixopt.language import atoms
from mixopt.language.domains import Domains
from mixopt.language.expression import Expr, Relation, constant, equal

REPETITION = "repetition"
_LEAST = 1e-12


@final
@dataclass(frozen=True, eq=False)
class Limits:
    """The KL term and the constraints of a mixture [k] over ``domains``, whose tokens are known where they were given.

    ``natural`` [k] are the proportions that KL (nats, times ``kl``) is taken to. ``cap`` is the most epochs that a run of
    ``budget`` tokens may take of a domain: w_i <= cap tokens_i / budget. ``at_least``, ``at_most`` and ``fixed`` go by domain.
    """

    domains: Domains
    natural: np.ndarray | None = None
    kl: float = 0.0
    budget: float | None = None
    cap: float | None = None
    at_least: Mapping[str, float] = field(default_factory=dict)
    at_most: Mapping[str, float] = field(default_factory=dict)
    fixed: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_numbers()
        if self.kl and self.natural is None:
            raise InputError(
                f"a KL term of {self.kl:g} needs the natural proportions, to which it is taken; give --prior (a file, or "
                "name=share,...) or --tokens (a file, or name=count,...), in Python prior= or tokens="
            )
        if self.cap is not None and (self.domains.tokens is None or self.budget is None):
            lacking = " and ".join(
                text
                for text, missing in (
                    ("the size of each domain (--tokens FILE or name=count,...)", self.domains.tokens is None),
                    ("the tokens of the training run (--budget)", self.budget is None),
                )
                if missing
            )
            raise InputError(f"a cap of {self.cap:g} epochs needs {lacking}")
        self._check_feasible()

    @property
    def asked(self) -> bool:
        """Whether anything at all is asked for besides the simplex."""
        return bool(self.kl or self.cap is not None or self.at_least or self.at_most or self.fixed)

    @property
    def other(self) -> np.ndarray:
        """The mixture [k] that a gain is told against: natural, or uniform where that is unknown."""
        return np.full(len(self.domains), 1 / len(self.domains)) if self.natural is None else self.natural

    @property
    def other_name(self) -> str:
        """What ``other`` is called."""
        return "uniform" if self.natural is None else "natural"

    @property
    def caps(self) -> np.ndarray | None:
        """The largest weight [k] that the epochs allow, or None without a cap."""
        if self.cap is None:
            return None
        assert self.budget is not None
        return self.cap * self.domains.sizes / self.budget

    def box(self) -> tuple[np.ndarray, np.ndarray]:
        """The least and the largest weight [k] of each domain under all constraints but the sum."""
        low, high = np.zeros(len(self.domains)), np.ones(len(self.domains))
        if self.caps is not None:
            high = np.minimum(high, self.caps)
        for name, value in self.at_most.items():
            high[self.domains.index(name)] = min(high[self.domains.index(name)], value)
        for name, value in self.at_least.items():
            low[self.domains.index(name)] = value
        for name, value in self.fixed.items():
            low[self.domains.index(name)] = max(low[self.domains.index(name)], value)
            high[self.domains.index(name)] = min(high[self.domains.index(name)], value)
        return low, high

    def relations(self, w: Expr) -> tuple[Relation, ...]:
        """The constraints, each under a name that its dual and messages go by."""
        found = []
        if self.caps is not None:
            found.append((w <= constant(self.caps, self.domains.names)).named(REPETITION))
        found += [(w[n] <= v).named(f"at most {v:g} {n}") for n, v in self.at_most.items()]
        found += [(w[n] >= v).named(f"at least {v:g} {n}") for n, v in self.at_least.items()]
        found += [equal(w[n], v).named(f"fixed {v:g} {n}") for n, v in self.fixed.items()]
        return tuple(found)

    def penalty(self, w: Expr) -> Expr | None:
        """The KL term [], or None."""
        return self.kl * atoms.kl(w, self.natural) if self.kl and self.natural is not None else None

    def divergence(self, weights: np.ndarray) -> float:
        """The KL term of weights [k], in the objective's unit; 0 without one."""
        if not self.kl or self.natural is None:
            return 0.0
        inside = weights > 0
        return self.kl * float((weights[inside] * np.log(weights[inside] / self.natural[inside])).sum())

    def epochs(self, weights: np.ndarray) -> np.ndarray | None:
        """How often a run of ``budget`` tokens passes over each domain [k] under weights [k]; None where sizes or budget are unknown."""
        if self.budget is None or self.domains.tokens is None:
            return None
        with np.errstate(divide="ignore", invalid="ignore"):
            found: np.ndarray = np.where(weights > 0, weights * self.budget / self.domains.sizes, 0.0)
        return found

    def broken(self, weights: np.ndarray, tolerance: float = 1e-6) -> dict[str, float]:
        """The constraints that weights [k] break, by name (a cap with its domain), and by how much weight."""
        excess: dict[str, float] = {}
        if self.caps is not None:
            excess |= {f"{REPETITION} of {n}": float(w - c) for n, w, c in zip(self.domains, weights, self.caps, strict=True)}
        at = {n: float(w) for n, w in zip(self.domains, weights, strict=True)}
        excess |= {f"at most {v:g} {n}": at[n] - v for n, v in self.at_most.items()}
        excess |= {f"at least {v:g} {n}": v - at[n] for n, v in self.at_least.items()}
        excess |= {f"fixed {v:g} {n}": abs(at[n] - v) for n, v in self.fixed.items()}
        return {name: value for name, value in excess.items() if value > tolerance}

    def _check_numbers(self) -> None:
        if not (math.isfinite(self.kl) and self.kl >= 0):
            raise InputError(f"the KL weight is {self.kl}; it is a finite number >= 0")
        for what, value in (("budget", self.budget), ("cap", self.cap)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(f"the {what} is {value}; it is a finite number > 0")
        for what, bounds in (("at least", self.at_least), ("at most", self.at_most), ("fixed", self.fixed)):
            for name, share in bounds.items():
                self.domains.index(name)
                if not 0 <= share <= 1:
                    raise InputError(f"{what} {share} of {name!r}: a share is from 0 to 1 (or 0 % to 100 %)")

    def _check_feasible(self) -> None:
        low, high = self.box()
        for name, least, most in zip(self.domains, low, high, strict=True):
            if least > most + 1e-12:
                raise InputError(f"no mixture keeps the bounds of {name!r}: it needs at least {least:.4g} and may have at most {most:.4g}")
        if low.sum() > 1 + 1e-9:
            which = [f"{n} {v:.3g}" for n, v in zip(self.domains, low, strict=True) if v > 0]
            raise InputError(
                f"no mixture keeps the lower bounds {listed(which)}: they sum to {low.sum():.4g}, {low.sum() - 1:.4g} over 1; lower one"
            )
        if high.sum() < 1 - 1e-9:
            raise InputError(self._too_tight(high))

    def _too_tight(self, high: np.ndarray) -> str:
        order = np.argsort(-high)
        which = [f"{self.domains.names[i]} {high[i]:.3g}" for i in order]
        text = f"no mixture keeps the upper bounds {listed(which)}: they sum to {high.sum():.4g}, {1 - high.sum():.4g} short of 1"
        caps = self.caps
        if caps is None:
            return f"{text}; raise one of them"
        assert self.cap is not None
        assert self.budget is not None
        if caps.sum() >= 1:
            return f"{text}; raise --at-most or --fix, or the epochs"
        enough, room = math.ceil(100 * self.cap / caps.sum()) / 100, caps.sum() * self.budget
        return (
            f"{text}. A run of {self.budget:.3g} tokens at {self.cap:g} epochs finds only {room:.3g} tokens in all domains together; "
            f"allow {enough:g} epochs, or train on at most {room:.3g} tokens"
        )


def proportions(domains: Domains, given: Mapping[str, float]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Shares [k] from numbers by domain, and notes on what was done to them; a share of 0 becomes 1e-12, as in Olmix.

    Raises:
        InputError: a negative number, or nothing but zeros.
    """
    values = np.array([float(given[n]) for n in domains])
    for name, value in zip(domains, values, strict=True):
        if not (math.isfinite(value) and value >= 0):
            raise InputError(f"the natural share of {name!r} is {value}; shares are finite and >= 0")
    total = values.sum()
    if not total > 0:
        raise InputError("every natural share is 0; give at least one domain some")
    notes: tuple[str, ...] = ()
    if abs(total - 1) > 1e-3:
        notes = (f"the natural shares sum to {total:.6g} and were divided by it",)
    empty = [n for n, v in zip(domains, values, strict=True) if v == 0]
    if empty:
        notes += (f"{listed(empty)} has a natural share of 0: KL is taken to {_LEAST:g} there, which keeps its weight near 0",)
    shares = np.maximum(values / total, _LEAST)
    return shares / shares.sum(), notes


def by_domain(what: str, given: Mapping[str, float], domains: Domains, columns: Mapping[str, str], whole: bool) -> dict[str, float]:
    """Numbers by domain from numbers by domain or by the column that it came from; ``whole`` where every domain needs one.

    Raises:
        InputError: names that match no domain or domains without a number, both sides listed, the nearest suggested.
    """
    named = {n if n in domains else columns.get(n, n): v for n, v in given.items()}
    strange = [n for n in named if n not in domains]
    lacking = [n for n in domains if n not in named] if whole else []
    if strange or lacking:
        parts = [
            f"{listed(strange)} of {what} match no domain" if strange else "",
            f"{listed(lacking)} have no entry in {what}" if lacking else "",
        ]
        hint = nearest(strange[0], lacking or domains.names) if strange else ""
        sides = f"{what} name {listed(given)} and the mixtures {listed(domains)}; the names must agree"
        raise InputError(f"{' and '.join(filter(None, parts))}: {sides}{hint}")
    return named
