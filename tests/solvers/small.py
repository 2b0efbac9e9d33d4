"""What tests of bilevel solvers share: a problem on an argmin with plain functions as losses, and functions that lack a derivative."""

from __future__ import annotations

import torch
from torch.autograd.function import once_differentiable

import mixopt as mx


def validation(losses, start=None, *, names="ab", ridge=0.0):
    """The loss "val" at the argmin of the losses "train" of the named domains and a ridge, and the learner of the losses.

    ``start`` are the parameters, two zeros in float64 if not given.
    """
    w, theta = mx.Mixture(list(names)), mx.model()
    lower = w @ mx.losses(theta, w.index) + ridge * mx.sum_squares(theta) if ridge else w @ mx.losses(theta, w.index)
    learner = mx.FunctionLearner(torch.zeros(2, dtype=torch.float64) if start is None else start, losses)
    return mx.minimize(mx.loss(mx.argmin(lower, over=theta), "val"), over=w), learner


class Once(torch.autograd.Function):
    """The identity with neither a double backward nor a forward mode, as a fused kernel."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, slope):
        return slope


class Twice(torch.autograd.Function):
    """The square with two backward passes and no forward mode."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, slope):
        (x,) = ctx.saved_tensors
        return 2 * slope * x
