"""What to do with a recommendation before a run that costs money."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mixopt.laws.planned import Planned

from .words import compared, figure

if TYPE_CHECKING:
    from .recommend import Recommendation

_AFFORDED = 8
"""Runs of each of two mixtures beyond which a check is as dear as more mixtures."""


def advice(found: Recommendation) -> str:
    """The next step in a sentence or two: a check that the proxies can afford, more runs, or to leave the mixture as it is.

    The check is n runs of both mixtures, each with a seed of its own. A run lies within h of its prediction, the law's error included,
    so that by 2 (h / gain)^2 runs the gain exceeds the interval of a difference of two means, at the same level.
    """
    name, gain = compared(found)
    if gain <= 0:
        return f"Stay with {name}, or ask for less besides the loss; these runs give no reason to move."
    noise, half = found.fitted.noise.value, (found.doubt.value[1] - found.doubt.value[0]) / 2
    shown, count = figure(gain, min(gain, noise)), max(math.ceil(2 * (half / gain) ** 2), 1)
    if gain <= noise or count > _AFFORDED:
        return (
            f"Stay with {name} until more runs are in: --suggest {len(found.runs.domains) + 1} names the mixtures that would tell most. "
            f"Where a run is predicted to ± {figure(half, half)}, a gain of {shown} takes {count} runs of each mixture to check."
        )
    runs = f"{count} runs each, with seeds of their own," if count > 1 else "a run each"
    size = "the largest size of the runs" if isinstance(found.law, Planned) else "the size of the runs"
    return (
        f"Before the large run, train this mixture and {name} at {size}: {runs} would show the gain of {shown}. "
        "If it does not show, the law misled: add those runs to the table and fit again."
    )
