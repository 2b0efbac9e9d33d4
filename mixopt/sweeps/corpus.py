"""What a sweep trains and measures on: streams of tokens by domain, held-out windows by target, and a digest of both."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from mixopt.designs import simulated, subsample
from mixopt.errors import InputError
from mixopt.language.domains import Domains
from mixopt.runtime.streams import Streams

WINDOWS = 64


@final
@dataclass(frozen=True)
class Corpus:
    """Training streams, the streams that are measured, and how many windows of each of these.

    Raises:
        InputError: contexts that differ, or no window.
    """

    train: Streams
    targets: Streams
    windows: int = WINDOWS

    def __post_init__(self) -> None:
        if self.train.context != self.targets.context:
            raise InputError(f"the training streams have a context of {self.train.context}, the targets one of {self.targets.context}")
        if isinstance(self.windows, bool) or not isinstance(self.windows, int) or self.windows < 1:
            raise InputError(f"{self.windows!r} windows of each target are to be measured; it is a whole number >= 1")

    @property
    def domains(self) -> Domains:
        """The training domains, with their tokens."""
        return Domains(self.train.names, self.train.sizes)

    @property
    def vocabulary(self) -> int:
        """How many tokens there are in both."""
        return max(self.train.vocabulary, self.targets.vocabulary)

    def measured(self) -> Tensor:
        """The held-out windows [m, n, context+1], the same at every call."""
        return self.targets.fixed(self.windows)

    def on(self, device: str | torch.device) -> Corpus:
        """The same corpus on a device."""
        return Corpus(self.train.on(device), self.targets.on(device), self.windows)

    def fingerprint(self) -> str:
        """A digest of the names, the sizes and evenly spaced windows of both."""
        digest = hashlib.sha256()
        for streams, count in ((self.train, WINDOWS), (self.targets, self.windows)):
            digest.update(repr((sorted(streams.sizes.items()), streams.names, streams.context)).encode())
            digest.update(streams.fixed(count).cpu().numpy().tobytes())
        return digest.hexdigest()[:24]


def corpus(data: Any, targets: Any, context: int | None, windows: int, part: tuple[float, float] | None = None) -> Corpus:
    """A corpus from streams, from mappings of tokens by name, or from a prepared folder's parts "train" and "validation".

    Without ``targets`` the validation part of prepared data is measured; tokens alone have none, since losses on what a model was
    trained on say little. ``part`` are the tokens of a proxy and of the run that it stands for: each domain is cut to its share of that.

    Raises:
        InputError: neither, no context, or targets that are missing.
    """
    parts = getattr(data, "parts", None)
    if parts is not None:
        targets = parts["validation"] if targets is None else targets
        data = parts["train"]
    if targets is None:
        raise InputError("give targets={name: held-out tokens}: what the runs are measured on, apart from what they are trained on")
    if part is not None:
        if not isinstance(data, Mapping):
            raise InputError("target_tokens cuts the domains of a preparation, or of a dict of tokens; Streams are as they are")
        data = subsample(data, simulated(Domains(data, [len(row) for row in data.values()]), *part))
    train = _streams(data, context, "the first argument")
    return Corpus(train, _streams(getattr(targets, "parts", {}).get("test", targets), train.context, "targets"), windows)


def _streams(given: Any, context: int | None, what: str) -> Streams:
    if isinstance(given, Streams):
        if context not in (None, given.context):
            raise InputError(f"{what} has windows of {given.context} tokens, and context= is {context}; leave it out")
        return given
    if not isinstance(given, Mapping):
        raise InputError(f"{what} is {type(given).__name__}; give mixopt.data's Prepared, Streams, or a dict of tokens [n] by name")
    if context is None:
        raise InputError(f"{what} is tokens by name; give context=, the tokens of a window")
    return Streams(given, context)
