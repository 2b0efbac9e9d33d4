"""What a study is about: domains that are trained on, text that is measured, and the targets that mixtures are judged by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from mixopt.errors import InputError, unknown
from mixopt.language.domains import Domains
from mixopt.runtime.streams import Streams

NATS = "nats per token"


@final
@dataclass(frozen=True)
class Target:
    """What a mixture is meant for: a mean of measured losses under ``weights`` (measured name -> share, sum 1), with a title."""

    name: str
    weights: Mapping[str, float]
    title: str = ""

    def __post_init__(self) -> None:
        if not self.weights or min(self.weights.values()) <= 0 or abs(sum(self.weights.values()) - 1) > 1e-9:
            raise InputError(f"target {self.name!r} has the weights {dict(self.weights)}; they are > 0 and sum to 1")


@final
@dataclass(frozen=True, eq=False)
class Data:
    """Domains that are trained on, with their sizes in tokens, and streams of what is trained on and of what is measured.

    ``validation`` and ``test`` are over every measured name: the domains, then sets that are never trained on; the raw tokens of
    the first are in ``validation_tokens``. Losses in nats per token times ``scale`` (by measured name) are in ``unit``.
    """

    domains: Domains
    train: Streams
    validation: Streams
    test: Streams
    validation_tokens: Mapping[str, Any]
    targets: tuple[Target, ...]
    unit: str = NATS
    scale: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.validation.names != self.test.names:
            raise InputError(f"validation measures {self.validation.names}, the test {self.test.names}; they must be the same")
        for target in self.targets:
            for name in target.weights:
                if name not in self.names:
                    raise unknown(f"measured set for target {target.name!r}:", name, self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that is measured: the domains trained on, then the sets that never are."""
        return self.validation.names

    @property
    def scales(self) -> np.ndarray:
        """What turns nats per token into the unit [m]."""
        return np.array([self.scale.get(n, 1.0) for n in self.names])

    def measured(self, losses: Any) -> np.ndarray:
        """Losses [..., m] in nats per token, as the unit has them."""
        return np.asarray(losses, dtype=float) * self.scales

    def target(self, name: str) -> Target:
        """A target by name; raises with the nearest one suggested."""
        for target in self.targets:
            if target.name == name:
                return target
        raise unknown("target", name, [t.name for t in self.targets])

    def score(self, metrics: Any, target: Target) -> np.ndarray:
        """A target's loss [...] in the unit, from the losses of everything measured [..., m] in the unit."""
        weights = np.array([target.weights.get(n, 0.0) for n in self.names])
        return np.asarray(metrics) @ weights

    def in_domain(self, target: Target) -> bool:
        """Whether everything that the target weighs is trained on."""
        return all(n in self.domains for n in target.weights)


def mean_of(names: Iterable[str], name: str = "mean", title: str = "") -> Target:
    """The target that weighs these measured sets alike."""
    names = tuple(names)
    return Target(name, {n: 1 / len(names) for n in names}, title)
