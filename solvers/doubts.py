"""Why a hypergradient of an exact learner may be wrong, in words with the mend."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.autograd import forward_ad

from mixopt.errors import listed
from mixopt.runtime.modelled import Modelled
from mixopt.runtime.tree import Leaves

NEGATIVE = (
    "the lower level's Hessian is not positive definite there: negative curvature, or none, ended the linear system early, so the "
    "hypergradient may be off, or zero where it ended at once. Raise damping, or take curvature='gauss-newton'"
)
NEARBY = 1e-2


def flat(model: Modelled, w: Tensor, leaves: Leaves) -> str:
    """That the upper objective changes neither with the model nor with the weights, here and nearby; empty where it does."""
    draw = torch.Generator().manual_seed(0)
    for share in (0.0, NEARBY):
        at = tuple((leaf + share * torch.randn(leaf.shape, generator=draw, dtype=torch.float64).to(leaf)).detach() for leaf in leaves)
        live, free = tuple(leaf.requires_grad_() for leaf in at), w.detach().clone().requires_grad_()
        slopes = model.gradient(model.upper(free, live, None), (*live, free))
        if any(bool((slope != 0).any()) for slope in slopes):
            return ""
    return (
        "the upper objective depends neither on the model nor on the weights: its gradient is exactly 0 here and nearby. A loss of signs, "
        "roundings or counts, such as an accuracy, has no slope; give one that can be differentiated, such as the cross-entropy"
    )


def endless_slopes(model: Modelled, w: Tensor, leaves: Leaves) -> str:
    """Which domains' losses have a slope over the model that is not finite; empty where none has, or where there is no forward mode.

    In forward mode, for a backward pass through one loss multiplies the infinite slopes of the others by 0.
    """
    draw = torch.Generator().manual_seed(0)
    names = model.form.mixture.index or ()
    bad: list[str] = []
    try:
        with forward_ad.dual_level():
            duals = tuple(
                forward_ad.make_dual(leaf.detach(), torch.randn(leaf.shape, generator=draw, dtype=torch.float64).to(leaf))
                for leaf in leaves
            )
            env = model.env(w.detach(), duals, None)
            model.second(env)
            for node in model.second.measures:
                tangent = forward_ad.unpack_dual(env.measure(node)).tangent
                if node.op == "losses" and node.args[0] == model.inner and tangent is not None:
                    bad += [name for name, slope in zip(names, tangent.tolist(), strict=False) if not math.isfinite(slope)]
    except (NotImplementedError, RuntimeError):
        return ""
    if not bad:
        return ""
    return (
        f"the gradient of the loss of {listed(dict.fromkeys(bad))} is not finite there: a root, a logarithm or a quotient at "
        "its edge? Keep it away from that, as in sqrt(x + 1e-12), or start elsewhere"
    )
