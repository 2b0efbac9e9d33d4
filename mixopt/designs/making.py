"""``design``: which mixtures to run proxies on, for domains or for a problem with its constraints, at first and after runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count as counted
from itertools import islice
from typing import Any

import numpy as np

from mixopt.errors import InputError, listed, nearest, unknown
from mixopt.language.domains import Domains
from mixopt.language.expression import Relation
from mixopt.laws import Law
from mixopt.laws.law import signs
from mixopt.laws.validation import Loss
from mixopt.runs import Runs, Targets

from .advice import advised, warned
from .kinds import Ask, Dirichlet, Kind, Lattice, Proposal, Sobol, Uniform, distinct
from .learning import Bayesian, Climb, DOptimal
from .perturbations import Perturbations
from .plan import Design, made
from .space import Space

KINDS: dict[str, type[Kind]] = {kind.name: kind for kind in (Dirichlet, Sobol, Uniform, Lattice, DOptimal, Perturbations, Bayesian, Climb)}
"""The kinds of design by name."""


def design(
    where: Domains | Iterable[str] | Any,
    *,
    runs: int | None = None,
    kind: str | Kind = "dirichlet",
    law: str | Law = "exponential",
    after: Runs | None = None,
    objective: Mapping[str, float] | Loss | None = None,
    prior: Mapping[str, float] | Sequence[float] | None = None,
    subject_to: Iterable[Relation] = (),
    given: Mapping[str, Any] | None = None,
    replicates: int | None = None,
    tokens: float | None = None,
    seed: int = 0,
) -> Design:
    """Choose mixtures [R, k] to train proxies on, all of them within the constraints.

    ``where`` are domains, or a problem over one mixture, whose constraints the design keeps beside those of ``subject_to``;
    ``given`` are the numbers of parameters in them. ``runs`` is R, by default 3 (k + 1). ``kind`` is a name in ``designs.KINDS``, or one of
    the classes there with settings of its own. ``law`` is what will be fitted: too few runs for it are noted. ``prior`` is the
    reference mixture, by default natural proportions, or uniform where sizes are unknown; it is moved into the constraints.

    ``after`` are all runs so far, and the design is the next round; kinds that learn look at them. ``objective`` is what they are
    judged by: weights of targets, a function of metrics [..., m] to losses [...], or None, the mean over the targets by the sign
    that makes less better.

    ``replicates`` of the R runs repeat one mixture with training seeds of their own, so that ``runs.noise()`` is known: the reference
    mixture (by default 2 runs, 3 of 12, up to 6 of many), or after runs the best of those (1 run). 0 leaves them out.
    ``tokens`` are training tokens of each run. The same seed and runs give the same design.

    Raises:
        InputError: an unknown kind, no runs, constraints that no mixture keeps or one alone, or a prior or runs that do not fit.
    """
    space = Space.of(where, subject_to, given)
    chosen, known = _kind(kind, after), 0 if after is None else len(after)
    if after is not None:
        after = _ordered(after, space.domains)
    usual = (chosen.usual(space) if runs is None else None) or 0
    asked = advised(space.domains) if runs is None else runs
    again = _replicates(replicates, usual or asked, chosen, first=after is None)
    count = usual + again if usual else asked
    if tokens is not None and not 0 < tokens < math.inf:
        raise InputError(f"tokens are {tokens}; a run has more than 0")
    wanted = _prior(space.domains, prior)
    centre = space.nearest(wanted) if space.linear or (again and after is None) else wanted
    loss = None if after is None else _loss(objective, after.targets)
    ask = Ask(space, count - again, centre, np.random.default_rng(seed), law, tokens, after, loss)
    found = chosen.propose(ask) if ask.count else Proposal(np.empty((0, space.k)), ())
    if ask.count > 1 and len(distinct(found.mixtures)) == 1:
        told = ", ".join(f"{n} {v:.3g}" for n, v in zip(space.domains, found.mixtures[0], strict=True))
        raise InputError(f"the constraints leave one mixture only ({told}), so that there is nothing to compare; relax them")
    same, origin = (centre, "reference") if after is None or loss is None else (_best(after, loss), "best so far")
    mixtures = np.vstack([np.repeat(same[None], again, axis=0), found.mixtures])
    ids = tuple(islice(_names(after), len(mixtures)))
    space.check(mixtures, ids)
    notes = found.notes if chosen.whole else (*found.notes, *warned(law, space.domains, known + len(mixtures)))
    lengths = found.tokens if found.tokens is not None or tokens is None else np.full(len(mixtures), float(tokens))
    seeds = np.arange(seed + known, seed + known + len(mixtures))
    origins = (origin,) * again + found.origins
    return made(space.domains, mixtures, ids, origins, chosen.name, seed, seeds=seeds, tokens=lengths, notes=notes)


def _kind(given: str | Kind, after: Runs | None) -> Kind:
    if not isinstance(given, Kind):
        if given not in KINDS:
            raise InputError(f"no kind of design {given!r} in {listed(KINDS, most=20)}{nearest(str(given), KINDS)}")
        given = KINDS[given]()
    if given.follows and after is None:
        raise InputError(f"a {given.name} design goes on from runs; give them, after=runs, and begin with another kind such as 'sobol'")
    return given


def _ordered(runs: Runs, domains: Domains) -> Runs:
    """The runs with their domains in the order of the design's."""
    if set(runs.domains) != set(domains):
        raise InputError(f"the runs so far are over {runs.domains}, and the design is over {domains}; they must have the same domains")
    places = [runs.domains.index(n) for n in domains]
    return Runs.from_arrays(
        domains, runs.mixtures[:, places], runs.targets, runs.metrics, ids=runs.ids, params=runs.params, tokens=runs.tokens
    )


def _replicates(given: int | None, count: int, kind: Kind, first: bool) -> int:
    """How many runs repeat one mixture."""
    for name, value, least in (("runs", count, 1), ("replicates", 0 if given is None else given, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f"{name} is {value!r}; it is a whole number >= {least}")
    if given is None:
        usual = (2 if count < 12 else min(max(count // 16, 3), 6)) if first else 1
        return 0 if kind.whole or count < 6 else usual
    if (given == 1 and first) or given > count:
        raise InputError(f"{given} of {count} runs as replicates: give 0, or from 2 to {count}, since one run alone tells no noise")
    return given


def _prior(domains: Domains, given: Mapping[str, float] | Sequence[float] | None) -> np.ndarray:
    """The reference mixture [k]."""
    if given is None:
        return domains.natural if domains.tokens else np.full(len(domains), 1 / len(domains))
    return domains.weights(given)


def _loss(objective: Mapping[str, float] | Loss | None, targets: Targets) -> Loss:
    """What runs are judged by: losses [...] of metrics [..., m]."""
    if callable(objective):
        return objective
    for name in objective or ():
        if name not in targets.names:
            raise unknown("target", name, targets.names)
    ways = signs(targets)
    shares = np.array([1.0 if objective is None else float(objective.get(n, 0.0)) for n in targets.names])
    if not (np.isfinite(shares) & (shares >= 0)).all() or not shares.any():
        raise InputError(f"the objective's weights are {shares.tolist()}; they are >= 0 and not all 0")
    used = shares > 0

    def loss(metrics: np.ndarray) -> np.ndarray:
        return np.asarray((metrics * ways)[..., used] @ (shares / shares.sum())[used])

    return loss


def _best(runs: Runs, loss: Loss) -> np.ndarray:
    """The mixture [k] of the run with the least loss."""
    losses = loss(runs.metrics)
    if not np.isfinite(losses).any():
        raise InputError("no run has all the metrics that the objective is made of; name those that they have, objective={...}")
    return np.asarray(runs.mixtures[int(np.nanargmin(losses))])


def _names(after: Runs | None) -> Iterator[str]:
    """Names of runs that no run so far has."""
    taken = set(after.ids) if after is not None else set()
    return (name for i in counted(len(taken)) if (name := f"run{i:03d}") not in taken)
