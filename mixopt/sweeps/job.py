"""One run of a sweep: what it is, by a key that no other run has, and what is left of it once it is finished."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, final

from mixopt.runtime.recipe import Recipe


@final
@dataclass(frozen=True)
class Job:
    """A run to train: its mixture [k], which of the sweep's models, the seeds of model and data, and how it is trained.

    ``label`` says where the mixture is from, and is not part of what the run is.
    """

    id: str
    mixture: tuple[float, ...]
    model: str
    seed: int
    data_seed: int
    recipe: Recipe
    label: str = ""

    @property
    def kind(self) -> tuple[str, Recipe]:
        """What runs that train as one program have in common: the model, and the recipe but for its rate."""
        return self.model, replace(self.recipe, rate=1.0)

    def key(self, digest: str, points: Sequence[int] = (), stops: Mapping[str, Any] | None = None) -> str:
        """A digest of all that the final losses depend on beside the corpus; ``digest`` is that of the model (``Work.digest``).

        After a colon there is one of what else is asked: the ``points`` of the curve on the way, and what ``stops`` runs early.
        """
        told = [list(self.mixture), self.model, digest, self.seed, self.data_seed, asdict(self.recipe)]
        return _digest(told, 24) + (f":{_digest([list(points), stops], 8)}" if points or stops else "")


def _digest(told: Any, length: int) -> str:
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:length]


@final
@dataclass(frozen=True)
class Finished:
    """What a run left: its losses [m] in nats per token, its curve as (step, losses [m]), what it read and how long it took.

    ``steps`` are those that it was trained for, fewer than the recipe's where it was ``stopped`` early.
    """

    key: str
    losses: tuple[float, ...]
    curve: tuple[tuple[int, tuple[float, ...]], ...]
    steps: int
    tokens: int
    params: int
    seconds: float
    stopped: bool = False

    def has(self, key: str, points: Sequence[int]) -> bool:
        """Whether it is the run of ``key``, whole and with losses at all of the points."""
        return self.key.split(":")[0] == key.split(":")[0] and not self.stopped and {*points} <= {step for step, _ in self.curve}

    def as_json(self) -> str:
        """The record as one line of JSON; numbers come back bit for bit."""
        return json.dumps(asdict(self))

    @staticmethod
    def of(text: str) -> Finished:
        """The record again; raises ValueError, KeyError or TypeError where it is none."""
        content: Mapping[str, Any] = json.loads(text)
        curve = tuple((int(step), tuple(map(float, losses))) for step, losses in content["curve"])
        return Finished(**{**content, "losses": tuple(map(float, content["losses"])), "curve": curve})
