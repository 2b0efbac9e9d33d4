"""MFTCoder's four normalisations of a batch of several tasks, as weights of the tasks' means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mixopt.errors import InputError

OVER = {1: "tokens", 2: "samples", 3: "tokens", 4: "samples"}
"""What a task's own mean is over, by case: its tokens, or its samples' means."""


def mftcoder_weights(case: int, *, tokens: Sequence[float], samples: Sequence[float], weights: Sequence[float] | None = None) -> np.ndarray:
    """The weights [k] of the tasks in one batch, sum 1, for the tokens [k] and samples [k] that the batch has of each.

    Case 1 is the mean over all tokens: tasks by their tokens, on token means. Case 2 is the mean of sample means: tasks by their samples,
    on means of sample means. Cases 3 (the default of the source) and 4 weight the tasks that are there by ``weights`` [k] (1 each) over
    the sum of these, on token means and on means of sample means; a task that is absent has weight 0. ``OVER[case]`` says which mean.

    Source: Liu et al. 2023, arXiv 2311.02303, section 3.1; code codefuse-ai/MFTCoder, loss_utils.py.

    Raises:
        InputError: no such case, counts or weights that are negative or of different numbers, or nothing in the batch that has weight.
    """
    if case not in OVER:
        raise InputError(
            f"the case is {case!r}; the cases are 1 (all tokens), 2 (samples), 3 (tasks, token means) and 4 (tasks, sample means)"
        )
    there = np.asarray(samples, dtype=float)
    counts = np.asarray(tokens, dtype=float)
    given = np.ones_like(there) if weights is None else np.asarray(weights, dtype=float)
    if not there.shape == counts.shape == given.shape or there.ndim != 1:
        raise InputError(
            f"tokens, samples and weights are one number a task; they have the shapes {counts.shape}, {there.shape}, {given.shape}"
        )
    if min(there.min(initial=0), counts.min(initial=0), given.min(initial=0)) < 0:
        raise InputError("a count or a weight is negative")
    raw = {1: counts, 2: there}.get(case, given * (there > 0))
    if not raw.sum() > 0:
        raise InputError("nothing in the batch has weight")
    return np.asarray(raw / raw.sum())
