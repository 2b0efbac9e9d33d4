"""DoReMi as a whole: a reference is trained, then the proxy, and again with the weights found, until they settle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np

from mixopt.api import solve
from mixopt.errors import InputError
from mixopt.language.domains import Domains
from mixopt.language.symbols import Mixture, losses, model
from mixopt.report.result import Result, Status
from mixopt.solver import Budget
from mixopt.training import train

from .doremi import Source, doremi

if TYPE_CHECKING:
    from mixopt.runtime.learner import Learner


@final
@dataclass(frozen=True)
class Rounds:
    """The rounds of a procedure that feeds its weights back: ``results`` by round, and the largest ``moves`` of a weight in each."""

    domains: Domains
    results: tuple[Result, ...]
    moves: tuple[float, ...]
    tolerance: float

    @property
    def weights(self) -> dict[str, float]:
        """The mixture of the last round."""
        return self.results[-1].weights

    @property
    def settled(self) -> bool:
        """Whether the last round moved no weight by the tolerance or more."""
        return self.moves[-1] < self.tolerance

    def __str__(self) -> str:
        ending = "settled" if self.settled else f"not settled: {self.moves[-1]:.2g} is not below {self.tolerance:g}, give more rounds"
        lines = [f"DoReMi in {len(self.results)} rounds, {ending}"]
        width = max(map(len, self.domains))
        lines += [f"  {n:<{width}}  " + "  ".join(f"{r.weights[n]:.4f}" for r in self.results) for n in self.domains]
        return "\n".join([*lines, f"  {'moved':<{width}}  " + "  ".join(f"{move:.4f}" for move in self.moves)])


def doremi_rounds(
    learner: Learner,
    domains: Domains,
    *,
    rounds: int = 3,
    tolerance: float = 1e-3,
    start: Mapping[str, float] | Sequence[float] | np.ndarray | None = None,
    rate: float = 1.0,
    smoothing: float | None = None,
    steps: int = 1000,
    reference_steps: int | None = None,
    faithful_to: Source = "paper",
    seed: int = 0,
) -> Rounds:
    """DoReMi's two phases, repeated: a reference trained at the weights of the round before, a proxy against it, its mean weights.

    It stops where no weight moves by ``tolerance`` or more from the reference's weights, the source's rule, or after ``rounds``. The first
    reference is trained at ``start`` (uniform if none is given), for ``reference_steps`` (``steps`` if none); every proxy starts from the
    learner's own parameters and from uniform weights, as Algorithm 1 does. It ends early where a run fails or is interrupted.

    Raises:
        InputError: no whole number of rounds >= 1, or a tolerance that is not > 0.

    Source: Xie et al. 2023, arXiv 2305.10429, Algorithm 1 and section 2 (iterated DoReMi).
    """
    if isinstance(rounds, bool) or not isinstance(rounds, (int, np.integer)) or rounds < 1:
        raise InputError(f"there are {rounds!r} rounds; a whole number >= 1 is expected")
    if not 0 < tolerance < np.inf:
        raise InputError(f"the tolerance is {tolerance!r}; it is a share of weight > 0, such as 1e-3")
    method = doremi(domains, rate=rate, smoothing=smoothing, steps=steps, faithful_to=faithful_to)
    at = np.full(len(domains), 1 / len(domains)) if start is None else domains.weights(start)
    lower = Mixture(domains) @ losses(model(), domains)
    results: list[Result] = []
    moves: list[float] = []
    for _ in range(rounds):
        reference = train(lower, learner, at, budget=Budget(steps=reference_steps or steps), seed=seed)
        given: dict[str, Any] = {"reference": reference.parameters}
        found = solve(method, learner, given=given, seed=seed)
        assert found.vector is not None
        results.append(found)
        moves.append(float(np.abs(found.vector - at).max()))
        at = found.vector
        ended = {Status.FAILED, Status.INTERRUPTED} & {reference.status, found.status}
        if moves[-1] < tolerance or ended:
            break
    return Rounds(domains, tuple(results), tuple(moves), tolerance)
