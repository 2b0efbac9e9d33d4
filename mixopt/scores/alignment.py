"""Alignment: how much a small training step on each domain lowers a target loss, to first order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd import forward_ad

from mixopt.errors import InputError, LearnerError, unknown
from mixopt.runtime.gramian import fits, product, wide
from mixopt.runtime.tree import Leaves

from .subject import Layers, Loss, Subject, items, sharded, subject

Way = Literal["jvp", "difference", "backward"]

HELD = 2**28
"""Gradients of all domains are held together where that takes no more than so many bytes and saves a pass."""

STEP = 0.2
"""A difference moves the target's loss by this times the cube root of the rounding: a thousandth of it in float32, 4 % in bfloat16."""


def alignment(
    model: Any,
    batches: Any,
    target: Any = None,
    *,
    weights: Any = None,
    gradient: Any = None,
    loss: Loss | None = None,
    by: Way = "jvp",
    layers: Layers = "all",
    step: float | None = None,
    at: Any = None,
) -> Tensor:
    """<grad l_i, sum_j weights_j grad l_target_j> for every domain i [k]: DoGE's score, and R&B's with weights p.

    ``model`` is a torch module, or a function (parameters, batch) -> loss with the parameter tree ``at``. ``batches`` are a mapping or
    a list with a batch for each domain, or one batch of which ``loss(module, batch)`` makes the losses [k] (a tuple is one batch).
    Without ``loss`` a batch is windows of tokens [b, t + 1], or [k, b, t + 1] of all domains, or what a Hugging Face model takes, with
    labels. ``target`` are batches alike, without it the training batches themselves; ``weights`` [m] take the place of the mean over
    the targets. ``gradient`` takes the place of the target: a mapping from parameters' names (the tree ``at`` of a function) to a
    gradient that is there already, such as ``{name: p.grad for name, p in module.named_parameters()}``; it saves the backward pass.

    ``by`` "jvp": one backward pass for the target's gradient g, then one forward-mode pass over the batches: no gradient of a domain is
    ever made, memory is that of inference and one gradient. Attention runs by plain maths in it. "difference":
    (l_i(theta + e g) - l_i(theta - e g)) / 2e, two forward passes of any kind (fused attention, FSDP's shards), with an error that
    ``choose`` measures, in float32 about a thousandth of |g_i| |g|; ``step`` is e |g|, without it what changes the target's loss by a
    thousandth. "backward": one backward pass a domain, always possible, and no more for a target that is the domains themselves where
    their gradients take no more than 256 MiB.

    ``layers`` "last" (or names) takes the gradients by these parameters alone: another score, that of a step of these layers, without
    activations kept nor a way back through the rest of the model.

    Dropout is off in all passes. The module's gradients, mode and parameters and the random generators are left as they were. Of a
    module over several ranks each has the scores of its own batches with the target's gradient, which is the mean over the ranks of DDP
    and FSDP; the mean of these scores is that of all batches together.

    Raises:
        InputError: settings out of range, batches or weights that do not fit.
        LearnerError: no forward mode (the mend is told), a loss that is no number, a target whose gradient is not finite.

    Source: Fan, Pagliardini and Jaggi 2024, arXiv 2310.15393, Algorithm 1.
    """
    _check(by, step)
    what, own = subject(model, loss=loss, at=at, layers=layers), items(batches)[1]
    with what.still():
        k = len(what.apart(own))
        if by == "backward" and target is None and gradient is None and k > 1 and fits(k, what.leaves, HELD):
            return _among_themselves(what, own, _shares(weights, k))
        if gradient is not None:
            along = what.given(gradient)
        else:
            along = target_gradient(what, own if target is None else items(target)[1], weights)
        if by == "backward":
            return rows(what, own, along)
        return pushed(what, own, along) if by == "jvp" else differences(what, own, along, step)[0]


def target_gradient(what: Subject, targets: list[Any], weights: Any) -> Leaves:
    """sum_j weights_j grad l_target_j; the activations of one batch, or of few windows, are held at a time."""
    several, start = len(targets) > 1, 0
    share = None if weights is None else _shares(weights, len(targets) if several else None)

    def value(losses: Tensor, start: int, one: bool) -> Tensor:
        if one and len(losses) != 1:
            raise LearnerError(f"the loss of batch {start} is {list(losses.shape)}; among several batches each has one number []")
        if share is None:
            return losses.sum() / (len(targets) if several else len(losses))
        if not several and len(share) != len(losses):
            raise InputError(f"there are {len(share)} weights for {len(losses)} target losses")
        return losses @ share[start : start + len(losses)].to(losses)

    total: Leaves | None = None
    for group, size in what.grouped(targets):
        part = what.slope(partial(value, start=start, one=several and size == 1), group)
        total = part if total is None else tuple(a + b for a, b in zip(total, part, strict=True))
        start += size
    assert total is not None
    return _finite(what.pooled(total))


def _among_themselves(what: Subject, own: Sequence[Any], share: Tensor) -> Tensor:
    """The products [k] of k gradients that may all be held with their sum under these shares [k]: no pass of its own for the sum."""
    found = list(slopes(what, own))
    summed = tuple(s * share[0].item() for s in found[0])
    for slope, part in zip(found[1:], share.tolist()[1:], strict=True):
        summed = tuple(a + part * b for a, b in zip(summed, slope, strict=True))
    along = _finite(what.pooled(summed))
    return torch.stack([inner(slope, along) for slope in found]).to(wide(what.leaves[0].dtype))


def _shares(weights: Any, count: int | None) -> Tensor:
    """Weights of targets [m] as given, or a mean's."""
    found = torch.full((count or 1,), 1 / (count or 1)) if weights is None else torch.as_tensor(weights, dtype=torch.float64)
    if found.dim() != 1 or not bool(torch.isfinite(found).all()) or count not in (None, len(found)):
        raise InputError(f"the weights of the targets are {weights!r}; a finite number for each of the {count or 'targets'} is expected")
    return found


def _finite(gradient: Leaves) -> Leaves:
    if not math.isfinite(float(norm(gradient))):
        raise LearnerError("the gradient of the target is not finite; the model has diverged, or a batch holds what it cannot take")
    return gradient


def pushed(what: Subject, own: Sequence[Any], along: Leaves) -> Tensor:
    """The derivatives [k] of the losses along a direction, by one forward-mode pass; no graph is made.

    Raises:
        LearnerError: some operation has no forward mode, or the parameters lie on several ranks.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel

    if any(sharded(leaf) for leaf in what.leaves):
        raise LearnerError("sharded parameters have no forward mode; give by='difference', or by='backward'")
    found = []
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            for item, _ in what.grouped(own):
                with forward_ad.dual_level():
                    duals = tuple(forward_ad.make_dual(leaf, g.to(leaf)) for leaf, g in zip(what.leaves, along, strict=True))
                    value, push = forward_ad.unpack_dual(what.losses(duals, [item]))
                    found.append(torch.zeros_like(value) if push is None else push.detach())
    except (NotImplementedError, RuntimeError) as error:
        if "forward" not in str(error):
            raise
        raise LearnerError(f"the losses have no forward mode: {error}; give by='difference', or by='backward'") from error
    return torch.cat(found)


def differences(what: Subject, own: Sequence[Any], along: Leaves, step: float | None = None) -> tuple[Tensor, float]:
    """The same by central differences, and the length of the step that they took in the space of parameters.

    Raises:
        LearnerError: parameters in half precision, in which so small a step is lost.
    """
    if any(leaf.dtype != wide(leaf.dtype) for leaf in what.leaves):
        raise LearnerError("parameters in half precision lose so small a step; keep them in float32, or give by='backward'")
    size = float(norm(along))
    if size == 0:
        return torch.zeros_like(what.losses(what.leaves, own)), 0.0
    with torch.no_grad():
        if step is None:
            step = STEP * _rounding(what.leaves) ** (1 / 3) * what.agreed(what.losses(what.leaves, own[:1]).abs().mean()) / size
        ends = []
        for sign in (1.0, -1.0):
            moved = tuple((leaf + sign * step / size * g.to(leaf)) for leaf, g in zip(what.leaves, along, strict=True))
            ends.append(what.losses(moved, [item for item, _ in what.grouped(own)]).double())
    return ((ends[0] - ends[1]) * (size / (2 * step))).to(wide(what.leaves[0].dtype)), step


def rows(what: Subject, own: Sequence[Any], along: Leaves) -> Tensor:
    """The same by one backward pass a domain; one gradient beside the target's is held at a time."""
    return torch.stack([inner(slope, along) for slope in slopes(what, own)]).to(wide(what.leaves[0].dtype))


def slopes(what: Subject, own: Sequence[Any]) -> Iterator[Leaves]:
    """The gradients of the domains one after the other; of one batch with losses [k] each is a pass of its own."""
    own = what.apart(own)
    if len(own) > 1:
        yield from (what.slope(_only, item) for item in own)
        return
    with torch.no_grad():
        count = len(what.losses(what.leaves, own))
    for i in range(count):
        yield what.slope(itemgetter(i), own[0])


def inner(first: Leaves, second: Leaves) -> Tensor:
    """The inner product of two gradients in float64, over all ranks where they are sharded."""
    if not any(sharded(a) for a in first):
        return product(first, second)
    return torch.stack([whole((a.double() * b.double()).sum()) for a, b in zip(first, second, strict=True)]).sum()


def norm(gradient: Leaves) -> Tensor:
    """The length of a gradient."""
    return inner(gradient, gradient).sqrt()


def whole(value: Any) -> Tensor:
    """A tensor that lies on several ranks, as a plain one."""
    return value.full_tensor() if sharded(value) else value


def _rounding(leaves: Leaves) -> float:
    """The distance from 1 to the next number in the coarsest dtype that a pass computes in."""
    kind = leaves[0].device.type
    cast = [torch.get_autocast_dtype(kind)] if torch.is_autocast_enabled(kind) else []
    return max(torch.finfo(dtype).eps for dtype in (*cast, *(leaf.dtype for leaf in leaves)))


def _only(losses: Tensor) -> Tensor:
    if len(losses) != 1:
        raise LearnerError(f"the loss of a domain's batch is {list(losses.shape)}; one number [] is expected")
    return losses[0]


def _check(by: str, step: float | None) -> None:
    if by not in get_args(Way):
        raise unknown("way to take scores", by, get_args(Way))
    if step is not None and not 0 < step < math.inf:
        raise InputError(f"the step is {step}; it is a finite number > 0, or None")
