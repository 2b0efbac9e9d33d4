"""What a target is, and what its writers get."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, final

from mixopt.errors import InputError, listed

from .blend import Blend, Stage


@final
@dataclass(frozen=True)
class Job:
    """What a writer gets: a blend whose weights are already the target's.

    ``stages`` hold the kept weights (sum 1 exactly) in the target's unit, the first from 0 tokens on; ``epochs`` the passes over each
    domain, where they are known; ``header`` says where the file comes from.
    """

    blend: Blend
    stages: tuple[Stage, ...]
    epochs: Mapping[str, float] | None
    header: tuple[str, ...]
    seed: int = 0
    step_tokens: float | None = None
    equal_lengths: bool = False
    splits: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def weights(self) -> Mapping[str, float]:
        """The weights that the run begins with."""
        return self.stages[0].weights

    @property
    def names(self) -> tuple[str, ...]:
        """Every domain that some stage keeps, in the blend's order."""
        return tuple(n for n in self.blend.weights if any(n in s.weights for s in self.stages))

    def paths(self, name: str) -> tuple[str, ...]:
        """Where a domain lies."""
        return tuple((self.blend.paths or {})[name])

    def pieces(self, weights: Mapping[str, float]) -> list[tuple[str, float]]:
        """Each path with its weight: a domain's is divided among its paths by their size on disk, or equally where that is not known."""
        found = []
        for name, weight in weights.items():
            places = self.paths(name)
            sizes = [size(place) for place in places] if len(places) > 1 else [1]
            parts = [s / sum(sizes) for s in sizes] if all(sizes) else [1 / len(places)] * len(places)
            found += [(place, weight * part) for place, part in zip(places, parts, strict=True)]
        return found

    def step(self, tokens: float) -> int:
        """The training step at which so many tokens are done.

        Raises:
            InputError: the tokens of a step are not known.
        """
        if self.step_tokens is None:
            raise InputError("this target starts its stages at training steps; give the tokens of one step, step_tokens (--step-tokens)")
        if not self.step_tokens > 0:
            raise InputError(f"a training step has {self.step_tokens:g} tokens; give a number above 0, step_tokens (--step-tokens)")
        return round(tokens / self.step_tokens)

    def examples(self, why: str) -> int:
        """How many examples the run's budget holds at these weights.

        Raises:
            InputError: the budget or the lengths are not known.
        """
        if self.blend.budget is None:
            raise InputError(f"{why}; give the tokens of the run, budget (--budget)")
        missing = self.blend.short_of(self.weights)
        if missing:
            raise InputError(f"{why}; give the tokens per example of {listed(missing)}, tokens_per_example (--tokens-per-example)")
        lengths = self.blend.lengths(self.weights)
        return round(self.blend.budget / sum(w * lengths[n] for n, w in self.weights.items()))


Writer = Callable[[Job], str]
Check = Callable[[Job], tuple[str, ...]]


@final
@dataclass(frozen=True)
class Target:
    """One way to hand a mixture to a trainer.

    ``unit`` is what the target's weights are shares of: "sequence" (packed to one length, so shares of tokens), "token", "example",
    "epoch" (how often each domain is read) or "as given". ``zeros``, ``schedule`` and ``paths`` say whether it takes weights of zero,
    takes weights that change, and needs to know where the domains lie. ``sums`` is what its weights must sum to. ``forms`` maps a file's
    suffix to what writes it; ``check`` refuses, or returns notes.
    """

    name: str
    unit: str
    forms: Mapping[str, Writer]
    usage: str
    reference: str
    zeros: bool = False
    schedule: bool = False
    paths: bool = True
    sums: str = "any positive scale"
    check: Check = lambda job: ()


def size(path: str) -> int:
    """Bytes of a file, of a folder's files, or of the .bin file of a prefix; 0 where there are none here."""
    places = (Path(path), Path(f"{path}.bin"))
    for place in places:
        if place.is_file():
            return os.path.getsize(place)
    return sum(p.stat().st_size for p in places[0].rglob("*") if p.is_file()) if places[0].is_dir() else 0


def header(blend: Blend, unit: str, epochs: Mapping[str, float] | None) -> tuple[str, ...]:
    """The lines that say what made a file, what its numbers are, and how often each domain is read."""
    what = {"epoch": "passes over each domain's data", "as given": f"shares of {blend.unit}s"}.get(unit, f"shares of {unit}s")
    lines = [f"Made by mixopt {version('mixopt')}. Numbers are {what}."]
    if epochs:
        read = ", ".join(f"{' '.join(name.split())} {value:.3g}" for name, value in epochs.items())
        lines.append(f"Epochs over {blend.budget:.4g} tokens: {read}.")
    return tuple(lines)


def commented(job: Job, content: Mapping[str, Any]) -> str:
    """Content as YAML under the header's comments."""
    import yaml

    return "".join(f"# {line}\n" for line in job.header) + yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True)


def arguments(job: Job, content: Mapping[str, Any]) -> str:
    """Content as JSON, the header under ``about``."""
    return json.dumps({"about": " ".join(job.header), **content}, indent=2, ensure_ascii=False) + "\n"
