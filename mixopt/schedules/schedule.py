"""A schedule: a compiled problem in push mode, which reads what a training loop measures, moves the weights, and survives restarts."""

from __future__ import annotations

import hashlib
import json
import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np

from mixopt.errors import InputError, cause, listed, nearest
from mixopt.files import write
from mixopt.language.domains import Domains
from mixopt.rules import Need, Rule, Scene, Seen, Standing
from mixopt.rules.rule import filled
from mixopt.runtime.simplex import entropy, smoothed

from .history import History
from .measured import FOLD, Tally
from .plain import as_arrays, as_lists, as_tensors
from .triggers import Every

FORMAT = 1
HEAVY = 0.98
"""A weight above it is warned of, once, where the schedule began without one."""


@dataclass(frozen=True)
class Settings:
    """When a schedule moves, and what it does to the weights of its rule before it hands them on."""

    every: Every = field(default_factory=partial(Every, steps=1))
    warmup: int = 0
    smoothing: float = 0.0
    inertia: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.warmup, bool) or not isinstance(self.warmup, (int, np.integer)) or self.warmup < 0:
            raise InputError(f"the warm-up is of {self.warmup!r} steps; it is a whole number >= 0")
        for name in ("smoothing", "inertia"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)!r}; it is a share in [0, 1)")


@final
class Schedule:
    """Weights that move while a model trains; ``mx.online`` makes one.

    ``observe`` takes what a step measured; where the trigger is due the weights move, and ``weights`` are new. Between two moves they
    stay as they are. ``history`` has the weights after every move, ``dropped`` how often each domain's value was NaN or infinite and
    was kept out. Two schedules that observe the same numbers have the same weights, bit for bit, on any machine of one kind.

    The state is plain: ``state_dict`` gives tensors and numbers for ``torch.save`` (``weights_only=True`` reads them), ``save`` a JSON
    file. It is of one problem, solver and order of domains, and another one's is refused.
    """

    def __init__(self, rule: Rule, scene: Scene, settings: Settings, title: str):
        self._rule, self._scene, self._settings, self._title = rule, scene, settings, title
        self._needs = {need.name: need for need in rule.needs(scene.domains)}
        seen = settings.every.seen
        if seen is not None and seen not in self._needs:
            raise InputError(f"the schedule moves when {seen!r} is seen, and it needs {listed(self._needs)}{nearest(seen, self._needs)}")
        self._tallies = {name: Tally(need) for name, need in self._needs.items()}
        self._last: dict[str, np.ndarray] = {}
        self._at = rule.allowed(scene, rule.begin(scene))
        self._shown = self._handed(self._at.weights, None)
        self._step, self._tokens, self._moves = 0, 0.0, 0
        self._uncounted: list[Any] = []  # tokens that wait on their device
        self._since = (0, 0.0)
        self._sum = np.zeros(len(scene))
        self._warned: set[str] = set()
        self.history = History(scene.domains.names)
        self.history.add(0, 0.0, self._shown)

    @property
    def domains(self) -> Domains:
        """The domains, in the order of ``w``."""
        return self._scene.domains

    @property
    def w(self) -> np.ndarray:
        """The weights [k] as they stand, float64."""
        return self._shown.copy()

    @property
    def weights(self) -> dict[str, float]:
        """The weights as they stand, by domain."""
        return dict(zip(self.domains.names, self._shown.tolist(), strict=True))

    @property
    def mean(self) -> dict[str, float]:
        """The mean of the weights after each move so far, which DoReMi takes for its answer; those of the start before any."""
        mean = self._sum / self._moves if self._moves else self._shown
        return dict(zip(self.domains.names, mean.tolist(), strict=True))

    @property
    def needs(self) -> dict[str, Need]:
        """What ``observe`` takes, by keyword."""
        return dict(self._needs)

    @property
    def steps(self) -> int:
        """The steps observed."""
        return self._step

    @property
    def moves(self) -> int:
        """How often the weights have moved."""
        return self._moves

    @property
    def tokens(self) -> float:
        """The tokens observed, where they were told."""
        for count in self._uncounted:  # one by one, so that the sum does not depend on when it was asked for
            self._tokens += float(count)
        self._uncounted = []
        return self._tokens

    @property
    def dropped(self) -> dict[str, int]:
        """How many values of each domain were NaN or infinite, and were kept out."""
        total: dict[str, int] = {}
        for tally in self._tallies.values():
            tally.fold()
            for name, count in tally.dropped.items():
                total[name] = total.get(name, 0) + count
        return total

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} {weight:.3g}" for name, weight in self.weights.items())
        return f"<Schedule after {self._step} steps and {self._moves} moves: {shown}>"

    def observe(
        self,
        *,
        counts: Mapping[str, Any] | None = None,
        summed: bool = False,
        step: int | None = None,
        tokens: float | None = None,
        **measured: Any,
    ) -> bool:
        """Tell what one training step measured; returns whether the weights moved.

        ``measured`` has the needs by name, each a tensor on any device, an array, a list or a dict by domain: means, in the units of
        ``needs``, or with ``summed`` sums over tokens. ``counts`` has for some of them the tokens behind each entry, 0 where the batch
        lacks a domain; without them every entry counts alike. ``step`` is the step's number where it is not one more than the last
        observed; ``tokens`` how many it read, else the sum of the counts of the first need that has them. Tensors wait on their device
        until the weights are due to move.

        Raises:
            InputError: something that is not needed, unknown or missing domains, wrong shapes, a step that is past, nothing at all, or
                a move that is due before all needs have been told.
        """
        self._check(measured, counts)
        now = self._step + 1 if step is None else self._later(step)
        if tokens is not None and not 0 <= float(tokens) < math.inf:
            raise InputError(f"a step of {tokens!r} tokens was told; it is a finite number >= 0")
        told = {name: self._tallies[name].read(value, (counts or {}).get(name), summed) for name, value in measured.items()}
        if self._step <= self._settings.warmup < now:
            self._begin_to_count()
        for name, (value, count) in told.items():  # all of them are well formed
            self._tallies[name].add(value, count)
        self._uncounted.append(float(tokens) if tokens is not None else _counted(counts))
        self._step = now
        every, steps = self._settings.every, now - max(self._since[0], self._settings.warmup)
        read = self.tokens - self._since[1] if every.tokens is not None or len(self._uncounted) >= FOLD else 0.0
        if now <= self._settings.warmup or not every.due(steps, read, frozenset(measured)):
            return False
        self._move()
        return True

    def state_dict(self) -> dict[str, Any]:
        """The state as tensors and numbers; ``load_state_dict`` goes on from it exactly."""
        return as_tensors(self._state())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of the same problem, solver, domains and settings.

        Raises:
            InputError: a state of another schedule or version, or no state; the schedule is then as it was.
        """
        found = self._checked(state)
        try:
            tallies = {name: Tally(need) for name, need in self._needs.items()}
            for name, tally in tallies.items():
                tally.load(found["tallies"][name])
            at = Standing(_weights(found["weights"], len(self._scene)), found["memory"])
            shown, total = _weights(found["shown"], len(self._scene)), np.asarray(found["sum"], dtype=float)
            last = {str(n): np.asarray(v, dtype=float) for n, v in found["last"].items()}
            step, tokens, moves = int(found["step"]), float(found["tokens"]), int(found["moves"])
            since, warned = (int(found["since"][0]), float(found["since"][1])), set(map(str, found["warned"]))
            history = History.of(self.domains.names, found["history"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"this is no whole state of a schedule: {type(error).__name__}: {error}") from None
        self._uncounted = []
        self._tallies, self._at, self._shown, self._sum, self._last = tallies, at, shown, total, last
        self._step, self._tokens, self._moves, self._since, self._warned = step, tokens, moves, since, warned
        self.history = history

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to a JSON file, whole or not at all."""
        write(path, json.dumps(as_lists(self._state()), indent=1) + "\n")

    def load(self, path: str | os.PathLike[str]) -> None:
        """Go on from a file that ``save`` wrote; raises InputError where it is not one, or another schedule's."""
        try:
            state = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read as a schedule's state: {cause(error)}; give a file that schedule.save wrote") from None
        self.load_state_dict(state)

    @property
    def fingerprint(self) -> str:
        """A short text that differs for another problem, solver, order of domains or numbers given."""
        given = json.dumps(as_lists({n: np.asarray(v) for n, v in sorted(self._scene.given.items())}))
        start = repr(self._scene.start.tolist())
        text = "\n".join((self._title, str(self._settings), str(self._scene.seed), *self.domains.names, given, start))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _state(self) -> dict[str, Any]:
        return {
            "mixopt schedule": FORMAT,
            "problem": self._title,
            "fingerprint": self.fingerprint,
            "domains": list(self.domains.names),
            "step": self._step,
            "tokens": self.tokens,
            "moves": self._moves,
            "since": list(self._since),
            "weights": self._at.weights,
            "memory": dict(self._at.memory),
            "shown": self._shown,
            "sum": self._sum,
            "last": self._last,
            "tallies": {name: tally.state() for name, tally in self._tallies.items()},
            "warned": sorted(self._warned),
            "history": self.history.state(),
        }

    def _checked(self, state: Any) -> dict[str, Any]:
        if not isinstance(state, Mapping) or "mixopt schedule" not in state:
            raise InputError("this is no state of a schedule; give what state_dict returned")
        if state["mixopt schedule"] != FORMAT:
            version = state["mixopt schedule"]
            raise InputError(f"the state is of format {version!r}, and this version reads {FORMAT}; save it again with that version")
        if list(state.get("domains", [])) != list(self.domains.names):
            raise InputError(f"the state is over the domains {listed(state.get('domains', []))}, and the schedule over {self.domains}")
        if state.get("fingerprint") != self.fingerprint:
            raise InputError(
                f"the state is of another schedule, or of other settings, numbers or seed: it says\n{state.get('problem')}\n"
                f"and this one is\n{self._title}\n{self._settings}"
            )
        return as_arrays(state)

    def _check(self, measured: Mapping[str, Any], counts: Mapping[str, Any] | None) -> None:
        extra = [name for name in (*measured, *(counts or {})) if name not in self._needs]
        if extra:
            what = "observe takes" if self._needs else "the schedule needs nothing:"
            close = nearest(extra[0], self._needs)
            raise InputError(f"{extra[0]!r} is not measured for this schedule; {what} {listed(self._needs)}{close}")
        uncounted = [name for name in counts or {} if name not in measured]
        if uncounted:
            raise InputError(f"counts has {uncounted[0]!r}, and no {uncounted[0]} is given")
        if not measured and any(not need.optional for need in self._needs.values()):
            raise InputError(f"observe was told nothing; the schedule needs {'; '.join(map(str, self._needs.values()))}")

    def _later(self, step: int) -> int:
        if isinstance(step, bool) or not isinstance(step, (int, np.integer)) or step <= self._step:
            raise InputError(f"step {step!r} is not after step {self._step}, the last one observed; load the state that belongs to it")
        return int(step)

    def _begin_to_count(self) -> None:
        """At the warm-up's end: what was measured in it does not count."""
        for tally in self._tallies.values():
            tally.clear()
        self._since = (self._step, self.tokens)

    def _move(self) -> None:
        values, present = {}, {}
        for name, tally in self._tallies.items():
            mean = tally.mean()
            there = np.isfinite(mean)
            if not there.any():
                if self._needs[name].optional:
                    continue
                if name not in self._last:
                    raise InputError(f"the weights are due to move, and no {name} has been observed; {self._needs[name]}")
            values[name], self._last[name] = filled(mean, there, self._last.get(name))
            present[name] = there
        before = self._moves
        at = self._rule.move(self._scene, self._at, Seen(values, present, before, self._step, self.tokens))
        if not np.isfinite(at.weights).all():
            raise InputError(f"the rule's weights are not finite at step {self._step}: {at.weights.tolist()}; lower its rate")
        self._at = self._rule.allowed(self._scene, at)
        self._shown = self._handed(self._at.weights, self._shown)
        self._moves, self._since = before + 1, (self._step, self.tokens)
        self._sum = self._sum + self._shown
        for tally in self._tallies.values():
            tally.clear()
        self._remark()
        self.history.add(self._step, self.tokens, self._shown)

    def _handed(self, weights: np.ndarray, last: np.ndarray | None) -> np.ndarray:
        """The rule's weights as the user sees them: smoothing, inertia, the weights allowed, and exactly on the simplex."""
        w, settings = weights, self._settings
        if settings.smoothing:
            w = smoothed(w, settings.smoothing)
        if last is not None and settings.inertia:
            w = settings.inertia * last + (1 - settings.inertia) * w
        if w is not weights:
            w = self._scene.nearest(w)
        return np.asarray(self._scene.region.layout.exact(w))

    def _remark(self) -> None:
        """Warn once of each domain whose values were kept out, and once where one domain takes nearly all the weight."""
        for name in self.dropped:
            if name not in self._warned:
                self._warned.add(name)
                warnings.warn(f"a value of {name!r} was NaN or infinite by step {self._step}; it is kept out and counted", stacklevel=4)
        top = int(self._shown.argmax())
        if len(self._scene) > 1 and self._shown[top] > HEAVY and "collapse" not in self._warned and self._scene.start.max() <= HEAVY:
            self._warned.add("collapse")
            effective = float(np.exp(entropy(self._shown)))
            name = self.domains.names[top]
            warnings.warn(
                f"the weights are collapsing on {name!r}: it has {self._shown[top]:.3g} at step {self._step} (effective number of domains "
                f"{effective:.2f} of {len(self._scene)}). If that is not meant, set smoothing=, a floor such as "
                f"w >= {0.1 / len(self._scene):.2g}, or a lower rate",
                stacklevel=4,
            )


def _counted(counts: Mapping[str, Any] | None) -> Any:
    """The tokens that the first counts tell, on the device of the counts."""
    for count in (counts or {}).values():
        if isinstance(count, Mapping):
            return sum(map(float, count.values()))
        return count.sum() if hasattr(count, "sum") else float(np.sum(count))
    return 0.0


def _weights(value: Any, k: int) -> np.ndarray:
    found = np.asarray(value, dtype=float)
    if found.shape != (k,) or not np.isfinite(found).all():
        raise ValueError(f"weights of the shape {list(found.shape)}, or not finite")
    return found
