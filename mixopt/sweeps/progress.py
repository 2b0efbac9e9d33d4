"""What a watcher of a sweep sees: runs done, tokens per second, time left, and the best mixture so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from mixopt.runtime.streams import Streams

from .job import Finished, Job

SHOWN = 3
"""Domains of the best mixture that a line of progress has room for, those of the largest weights."""


@final
@dataclass(frozen=True)
class Progress:
    """How far a sweep is: runs ``done`` of ``runs``, ``found`` of them before it began, tokens trained on a second, seconds left.

    ``share`` is the share of all tokens that runs are trained on, those under way among them. ``best`` is the run with the least mean
    loss so far, with its mean in nats per token, and ``mixture`` its weights by domain; None before the first.
    """

    done: int
    runs: int
    found: int
    tokens_per_second: float
    seconds: float
    seconds_left: float | None
    best: tuple[str, float] | None
    mixture: Mapping[str, float] | None = None
    share: float = 0.0

    def __str__(self) -> str:
        left = "" if self.seconds_left is None else f", {_time(self.seconds_left)} left"
        most = sorted((self.mixture or {}).items(), key=lambda one: -one[1])[:SHOWN]
        mixture = ", ".join(f"{name} {weight:.2f}" for name, weight in most)
        best = "" if self.best is None else f", best {self.best[1]:.4f}" + (f": {mixture}" if mixture else "")
        return f"{self.done} of {self.runs} runs, {self.tokens_per_second:,.0f} tokens/s{left}{best}"


Watch = Callable[[Progress], None]
Log = Callable[[Mapping[str, Any]], None]


@final
class Watched:
    """Counts what executors tell, and hands it on to the user's watcher and logger."""

    def __init__(
        self, jobs: Mapping[str, Job], train: Streams, before: Mapping[str, Finished], watch: Watch | None = None, log: Log | None = None
    ):
        self.jobs, self.names, self.context, self.watch, self.log = jobs, train.names, train.context, watch, log
        self.known = dict(before)
        self.found = len(before)
        self.steps: dict[str, int] = {}
        self.read = 0
        self.clock = time.perf_counter()

    def tell(self, keys: Sequence[str], step: int) -> None:
        """Runs in training have done so many steps."""
        self.steps.update({key: step for key in keys if key not in self.known})
        self._show()

    def done(self, some: Sequence[tuple[Finished, bool]], targets: Sequence[str]) -> None:
        """Runs have finished, each with whether it is new, as it is not where another sweep was faster."""
        for one, new in some:
            self.steps.pop(one.key, None)
            self.known[one.key] = one
            self.read += one.tokens
            if new and self.log is not None:
                job = self.jobs[one.key]
                self.log(
                    {
                        "run": job.id,
                        "mixture": dict(zip(self.names, job.mixture, strict=True)),
                        "losses": dict(zip(targets, one.losses, strict=True)),
                        "steps": one.steps,
                        "tokens": one.tokens,
                        "seconds": one.seconds,
                        "stopped": one.stopped,
                    }
                )
        self._show()

    def elsewhere(self, found: Mapping[str, Finished]) -> None:
        """These have finished by now, those of another sweep that shares the journal among them."""
        self.known.update(found)
        self._show()

    def progress(self) -> Progress:
        """How far the sweep is."""
        seconds = time.perf_counter() - self.clock
        under_way = sum(step * self._per_step(key) for key, step in self.steps.items())
        speed = (self.read + under_way) / seconds if seconds > 0 else 0.0
        every = {key: job.recipe.steps * self._per_step(key) for key, job in self.jobs.items()}
        rest = sum(tokens for key, tokens in every.items() if key not in self.known) - under_way
        whole = [one for one in self.known.values() if not one.stopped]
        best = min(whole, key=lambda one: sum(one.losses)) if whole else None
        return Progress(
            len(self.known),
            len(self.jobs),
            self.found,
            speed,
            seconds,
            rest / speed if speed > 0 else None,
            None if best is None else (self.jobs[best.key].id, sum(best.losses) / len(best.losses)),
            None if best is None else dict(zip(self.names, self.jobs[best.key].mixture, strict=True)),
            1 - rest / sum(every.values()),
        )

    def _per_step(self, key: str) -> int:
        return self.jobs[key].recipe.batch * self.context

    def _show(self) -> None:
        if self.watch is not None:
            self.watch(self.progress())


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
