"""What a mixture is judged by: the mean over targets or families of targets, or the worst of them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from mixopt.errors import InputError, listed, nearest, unknown
from mixopt.language import atoms
from mixopt.language.expression import Expr, constant
from mixopt.laws import Law
from mixopt.runs import Targets

from .own import Build, Own

KINDS = ("mean", "max", "max-relative")
_WORD = re.compile(r"[\w-]+")
_NOUNS = {"nats per token": "loss", "bits per byte": "loss", "error rate": "error"}


@final
@dataclass(frozen=True, eq=False)
class Objective:
    """Groups of targets, each a weighted mean of its targets, and of the groups the weighted mean or the worst.

    ``shares`` [g, m] has a row for each group, which sums to 1; ``weights`` [g] sum to 1. A target to be maximised counts by
    its negative, so that less is better everywhere inside. ``kind`` "max-relative" is the worst group in shares of the best
    that it could reach under the constraints, ``best`` [g]: max_g (loss_g - best_g) / |best_g|. Under ``kind`` "own" it is
    the user's expression of the metrics, minimised.
    """

    targets: Targets
    kind: str
    groups: tuple[str, ...]
    shares: np.ndarray
    weights: np.ndarray
    best: np.ndarray | None = None
    own: Own | None = None

    @classmethod
    def of(
        cls,
        targets: Targets,
        kind: str | Build = "mean",
        weights: Mapping[str, float] | None = None,
        families: Mapping[str, Sequence[str]] | None = None,
    ) -> Objective:
        """The objective over these targets; a target in no family is a group of its own, and a weight not given is 1.

        ``kind`` is one of ``KINDS``, the name of a target or family that counts alone, or what is minimised: a formula in the
        targets' names, such as "0.5*chat + max([python, novels])", or a function of the metrics [m] as an expression. Weights go
        by target, which then counts so much within its family, or by family.

        Raises:
            InputError: an unknown kind or name, a target in two families, weights that are negative or all 0, or any under "max";
                a formula of what is no target, or one that is no number.
        """
        members = _members(targets, families or {})
        given = dict(weights or {})
        if isinstance(kind, str) and kind not in KINDS and (kind in targets.names or kind in members):
            if given:
                raise InputError(f"weights have no meaning where {kind!r} alone counts; leave them out, or use 'mean'")
            given = {n: float(kind in (n, g)) for g, names in members.items() for n in names}
            given |= {g: 0.0 for g, names in members.items() if g not in targets.names and kind != g and kind not in names}
            kind = "mean"
        if not isinstance(kind, str) or (kind not in KINDS and not _WORD.fullmatch(kind)):
            if given or families:
                raise InputError("weights and families have no meaning beside an objective of your own; put them into its formula")
            m = len(targets)
            return cls(targets, "own", targets.names, np.eye(m), np.full(m, 1 / m), own=Own.of(kind, targets))
        if kind not in KINDS:
            every = (*KINDS, *targets.names)
            raise InputError(
                f"the objective is {kind!r}; it is one of {listed(KINDS)}, a target, or a formula of them{nearest(kind, every)}"
            )
        for name, value in given.items():
            if name not in targets.names and name not in members:
                raise unknown("target or family", name, [*targets.names, *(f for f in members if f not in targets.names)])
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"the weight of {name!r} is {value}; weights are finite and >= 0")
        if given and kind != "mean":
            raise InputError(
                f"weights have no meaning under the objective {kind!r}, which looks at the worst; leave them out, or use 'mean'"
            )
        shares = np.zeros((len(members), len(targets)))
        of_group = np.empty(len(members))
        for g, (group, names) in enumerate(members.items()):
            own = np.array([given.get(n, 1.0) for n in names])
            alone = group in targets.names
            of_group[g] = own.sum() if alone else given.get(group, 1.0) * (own.sum() > 0)
            shares[g, [targets.index(n) for n in names]] = own / own.sum() if own.sum() > 0 else 1 / len(names)
        if not of_group.sum() > 0:
            raise InputError("every weight is 0, so there is nothing to improve; give one target a weight > 0")
        return cls(targets, kind, tuple(members), shares, of_group / of_group.sum())

    @property
    def target_weights(self) -> np.ndarray:
        """How much each target counts [m]; they sum to 1."""
        return self.weights @ self.shares

    @property
    def maximised(self) -> bool:
        """Whether the value is shown as something to be made large: every target is, and it is no relative loss."""
        return self.kind not in ("max-relative", "own") and set(self.targets.directions) == {"max"}

    @property
    def unit(self) -> str:
        """The unit of the value."""
        units = set(self.targets.units)
        if self.kind == "max-relative":
            return "of the best reachable"
        return units.pop() if len(units) == 1 else "in mixed units"

    @property
    def name(self) -> str:
        """The value in words, such as "mean loss"."""
        if self.own is not None:
            return self.own.text
        nouns = {_NOUNS.get(u, u) for u in self.targets.units}
        noun = nouns.pop() if len(nouns) == 1 else "metric"
        alone = np.flatnonzero(self.weights)
        if len(alone) == 1 and len(self.groups) > 1:
            return f"{noun} of {self.groups[alone[0]]}"
        if len(self.targets) == 1 and self.kind != "max-relative":
            return f"{noun} of {self.targets.names[0]}"
        by_family = any(g not in self.targets.names for g in self.groups)
        if self.kind == "mean":
            even = np.ptp(self.weights) < 1e-12
            return f"{'mean' if even or len(self.groups) == 1 else 'weighted mean'} {noun}{' over families' if by_family else ''}"
        worst = f"worst {'family mean of the ' if by_family else ''}{noun}"
        return f"{worst}, relative to the best of each" if self.kind == "max-relative" else worst

    def losses(self, metrics: np.ndarray) -> np.ndarray:
        """The groups' losses [..., g] from metrics [..., m], less being better."""
        signs = np.array([1 if way == "min" else -1 for way in self.targets.directions])
        found: np.ndarray = (signs * np.asarray(metrics)) @ self.shares.T
        return found

    def loss(self, metrics: np.ndarray) -> np.ndarray:
        """What is minimised [...] from metrics [..., m]."""
        if self.own is not None:
            return self.own.values(np.asarray(metrics, dtype=float))
        groups = self.losses(metrics)
        if self.kind == "mean":
            return np.asarray(groups @ self.weights)
        if self.kind == "max-relative":
            assert self.best is not None
            groups = (groups - self.best) / np.abs(self.best)
        return np.asarray(groups.max(axis=-1))

    def shown(self, loss: float) -> float:
        """A loss in the sense that people read: the value itself where it is to be made large."""
        return -loss if self.maximised else loss

    def value(self, metrics: np.ndarray) -> float:
        """The value that people read from metrics [m]."""
        return self.shown(float(self.loss(metrics)))

    def group_expression(self, law: Law, w: Expr, group: int) -> Expr:
        """One group's loss as a convex expression [] of a mixture."""
        return constant(self.shares[group]) @ law.losses(w)

    def expression(self, law: Law, w: Expr) -> Expr:
        """What is minimised as an expression [] of a mixture, convex where the law is and an objective of one's own does not bend it."""
        if self.own is not None:
            return self.own.build(law(w))
        losses = law.losses(w)
        plain = len(self.groups) == len(self.targets)
        if self.kind == "mean":
            weights = self.target_weights
            return atoms.mean(losses) if np.ptp(weights) < 1e-15 else constant(weights) @ losses
        if self.kind == "max":
            return atoms.max(losses if plain else constant(self.shares) @ losses)
        assert self.best is not None
        scale = np.abs(self.best)
        return atoms.max(constant(self.shares / scale[:, None]) @ losses - constant(self.best / scale))

    def relative_to_best_of(self, metrics: np.ndarray) -> Objective:
        """The objective relative to the best of each group in a table of metrics [R, m]."""
        return self.relative_to(np.nanmin(self.losses(metrics), axis=0))

    def relative_to(self, best: np.ndarray) -> Objective:
        """The objective with the best loss of each group [g].

        Raises:
            InputError: a best loss of 0, of which there are no shares.
        """
        for group, value in zip(self.groups, best, strict=True):
            if abs(value) < 1e-9:
                raise InputError(f"the best that {group!r} can reach is {value:.2g}, and there are no shares of 0; use the objective 'max'")
        return replace(self, best=best)


def _members(targets: Targets, families: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Group -> its targets, in the order of the targets."""
    home: dict[str, str] = {}
    for family, names in families.items():
        if family in targets.names and tuple(names) != (family,):
            raise InputError(f"the family {family!r} has the name of a target; call it otherwise")
        if not names:
            raise InputError(f"the family {family!r} has no targets; name at least one of {listed(targets.names)}")
        for name in names:
            targets.index(name)
            if home.setdefault(name, family) != family:
                raise InputError(f"target {name!r} is in two families, {home[name]!r} and {family!r}; it can be in one")
    members: dict[str, list[str]] = {}
    for name in targets.names:
        members.setdefault(home.get(name, name), []).append(name)
    return {group: tuple(names) for group, names in members.items()}
