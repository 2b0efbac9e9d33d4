"""A rule of gradient balancing in push mode: the weights of the losses that the user's next step descends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, ClassVar, final

import numpy as np

from mixopt.balancing import Direction, GramRule, LossRule
from mixopt.errors import RefusalError
from mixopt.forms import Abilities, Saddle
from mixopt.language.domains import Domains
from mixopt.rules import Need, Rule, Scene, Seen, Standing
from mixopt.runtime.simplex import project
from mixopt.solvers import Balanced

UNITS = "in nats per token"


@final
class PushedBalance(Rule):
    """A rule of ``mixopt.balancing`` by numbers that are observed: before each step of the model the losses of its batch, or their gram.

    The weights are what the batch's losses are to be weighted by, the rule's coefficients brought to sum 1, or the nearest mixture where
    some are negative. A rule that looks at the same batch again after the step, as FAMO does, reads those losses as "after" with the
    next batch's; where they are not told the next batch's losses stand in for them, which saves the second forward pass and is noisier.
    """

    constrained: ClassVar[bool] = False

    def __init__(self, rule: GramRule | LossRule):
        self.rule = rule

    def needs(self, domains: Domains) -> tuple[Need, ...]:
        names = domains.names
        if isinstance(self.rule, GramRule):
            return (Need("gram", "inner products of the gradients of the domains' losses", names, names, each=False),)
        watch = self.rule.watch
        found = [Need("train", f"losses of the batch that is about to be descended, {UNITS}", names, optional=self._apart)]
        if watch is not None:
            found.append(Need(watch, f"the losses that progress is judged by, {UNITS}", names))
        if self.rule.again:
            what = f"the {watch or 'train'} losses of the last step's batch, taken again after that step, {UNITS}"
            found.append(Need("after", what, names, optional=True))
        return tuple(found)

    def begin(self, scene: Scene) -> Standing:
        memory = self.rule.begin(len(scene)) if isinstance(self.rule, LossRule) else None
        return Standing(scene.start, {"kept": _plain(memory), "before": None})

    def move(self, scene: Scene, at: Standing, seen: Seen) -> Standing:
        if isinstance(self.rule, GramRule):
            draw = self.rule.begin(len(scene), int(np.random.SeedSequence([scene.seed, seen.move]).generate_state(1)[0]))
            found = self.rule.direction(seen["gram"], region=scene.region, memory=draw)
            return Standing(_weights(found), at.memory, {"coefficients": found.coefficients})
        fresh, before = self.rule.begin(len(scene)), at.memory["before"]
        memory = _restored(fresh, at.memory["kept"])
        watched = seen[self.rule.watch or "train"]
        if self.rule.again and before is not None:
            memory = self.rule.after(memory, before, seen.values.get("after", watched))
        found, memory = self.rule.direction(memory, seen.values.get("train", watched), watched)
        return Standing(_weights(found), {"kept": _plain(memory), "before": watched}, {"coefficients": found.coefficients})

    @property
    def _apart(self) -> bool:
        """Whether the losses that it watches are all that it reads."""
        return isinstance(self.rule, LossRule) and self.rule.watch is not None and not self.rule.again


def balanced(form: Saddle, solver: Balanced, abilities: Abilities | None = None) -> PushedBalance:
    """The rule of a solver ``Balanced``; raises RefusalError where it would not take the saddle."""
    reasons = solver.refuses(form, abilities)
    if reasons:
        raise RefusalError(f"{solver} does not take this problem: {'; '.join(reasons)}")
    return PushedBalance(solver.rule)


def _weights(found: Direction) -> np.ndarray:
    c = found.coefficients
    if c.min() >= 0 and c.sum() > 0:
        return np.asarray(c / c.sum())
    return np.asarray(project(c) if found.inner is None else found.inner)


def _plain(memory: Any) -> Any:
    """What a rule remembers as arrays and numbers."""
    if is_dataclass(memory) and not isinstance(memory, type):
        return {entry.name: getattr(memory, entry.name) for entry in fields(memory)}
    return memory


def _restored(fresh: Any, kept: Any) -> Any:
    """What a rule remembers again, of the kind that it begins with."""
    return type(fresh)(**kept) if isinstance(kept, Mapping) else kept
