"""The one step that most methods share, on the simplex and on boxes within it, for numpy arrays and torch tensors alike.

w+ = argmin over u in C of  <g, u> + (1/rate) D(u || w), with D the Kullback-Leibler divergence (mirror) or half the
squared distance (Euclidean); C is the simplex, or the simplex with bounds on its entries. Nothing here waits for a device.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Vector = Any
"""A numpy array or a torch tensor [k]; results are of the same kind."""


def namespace(x: Vector) -> Any:
    """numpy for arrays; torch, imported only then, for tensors."""
    if isinstance(x, np.ndarray):
        return np
    import torch

    return torch


def mirror(w: Vector, g: Vector, rate: float, *, temperature: float = 0.0, lower: Vector = None, upper: Vector = None) -> Vector:
    """The entropic step: u_i proportional to w_i exp(-rate g_i), clipped to its bounds by one multiplier [k].

    With ``temperature`` t the objective gains t KL(u || uniform), taken exactly (a proximal step): logs shrink towards
    0 by 1 / (1 + rate t). A weight of 0 stays 0, unless the bounds of the others leave no room for the sum to be 1.
    """
    xp = namespace(w)
    logits = (xp.log(xp.clip(w, float(xp.finfo(w.dtype).tiny), None)) - rate * g) / (1 + rate * temperature)
    if lower is not None or upper is not None:
        return _scaled_into(logits, lower, upper)
    logits = xp.where(w > 0, logits, -xp.inf)
    u = xp.exp(logits - logits.max())
    return u / u.sum()


def project(x: Vector, *, lower: Vector = None, upper: Vector = None) -> Vector:
    """The point of the simplex, or of the box in it, nearest to x [k]: clip(x - tau, lower, upper) with sum 1.

    The sum falls with tau along straight pieces; their ends are sorted.
    """
    if lower is None and upper is None:
        return _on_simplex(x)
    xp = namespace(x)
    low = xp.zeros_like(x) if lower is None else lower
    high = xp.ones_like(x) if upper is None else upper
    ends = xp.concatenate((x - high, x - low))  # as tau grows, an entry leaves its upper bound at the one and meets its lower at the other
    order = xp.argsort(ends)
    ends = ends[order]
    falls = xp.concatenate((xp.ones_like(x), -xp.ones_like(x)))[order].cumsum(0)  # how many entries fall beyond each end
    zero = xp.zeros_like(x[:1])
    sums = high.sum() - xp.concatenate((zero, (falls[:-1] * (ends[1:] - ends[:-1])).cumsum(0)))
    at = xp.clip((sums >= 1).sum() - 1, 0, None)
    tau = xp.take(ends, at) + (xp.take(sums, at) - 1) / xp.clip(xp.take(falls, at), 1, None)
    u = xp.clip(x - tau, low, high)
    free = (x - tau > low) & (x - tau < high)  # the multiplier solves a linear equation on the entries strictly inside
    count = xp.clip(free.sum(), 1, None)
    return xp.clip(xp.where(free, u + (1 - u.sum()) / count, u), low, high)


def _on_simplex(x: Vector) -> Vector:
    """clip(x - tau, 0, None) with sum 1: tau is the largest of (sum of the j largest entries - 1) / j over all j [k].

    Source: Held, Wolfe and Crowder 1974, with the maximum in place of their search for j.
    """
    xp = namespace(x)
    x = x - x.max()  # so that rounding is that of the entries which stay
    falling = -np.sort(-x) if xp is np else x.sort(descending=True).values
    tau = ((falling.cumsum(0) - 1) / xp.ones_like(x).cumsum(0)).max()
    u = xp.clip(x - tau, 0, None)
    free = u > 0
    return xp.clip(xp.where(free, u + (1 - u.sum()) / free.sum(), u), 0, None)


def through_softmax(w: Vector, g: Vector) -> Vector:
    """w_i (g_i - <w, g>): the gradient [k] by the logits v of w = softmax(v), of what has the gradient g by w."""
    return w * (g - w @ g)


def smoothed(w: Vector, smoothing: float) -> Vector:
    """(1 - c) w + c / k: every domain keeps at least c / k."""
    return (1 - smoothing) * w + smoothing / len(w) if smoothing else w


def entropy(w: Vector) -> Vector:
    """-sum w log w in nats over the last axis of [..., k], 0 log 0 = 0; exp of it is the effective number of domains."""
    xp = namespace(w)
    return -(w * xp.log(xp.clip(w, float(xp.finfo(w.dtype).tiny), None))).sum(-1)


def _scaled_into(logits: Vector, lower: Vector, upper: Vector) -> Vector:
    """clip(exp(logits + s), lower, upper) with the s that makes the sum 1: the KL projection onto the box in the simplex.

    The sum rises with s; the places where an entry leaves a bound are sorted, those next to the answer found by halving among them, and
    between them the entries that are free share what the others leave.
    """
    xp = namespace(logits)
    low = xp.zeros_like(logits) if lower is None else lower
    high = xp.ones_like(logits) if upper is None else upper
    tiny = float(xp.finfo(logits.dtype).tiny)
    leaves, meets = xp.log(xp.clip(low, tiny, None)) - logits, xp.log(xp.clip(high, tiny, None)) - logits
    ends = xp.concatenate((leaves, meets))
    ends = ends[xp.argsort(ends)]
    first, last = xp.argmin(ends), xp.argmax(ends)
    for _ in range((len(ends) - 1).bit_length()):
        middle = (first + last) // 2
        over = xp.clip(xp.exp(xp.clip(logits + xp.take(ends, middle), None, 0)), low, high).sum() > 1
        first, last = xp.where(over, first, middle), xp.where(over, middle, last)
    full, held = meets <= xp.take(ends, first), leaves >= xp.take(ends, last)
    fixed, free = xp.where(full, high, low), ~(full | held)
    room = 1 - xp.where(free, xp.zeros_like(fixed), fixed).sum()
    sizes = xp.where(free, xp.exp(xp.clip(logits - xp.where(free, logits, logits.min()).max(), None, 0)), xp.zeros_like(logits))
    return xp.clip(xp.where(free, sizes * (room / xp.clip(sizes.sum(), tiny, None)), fixed), low, high)
