"""A ridge toy with closed answers: theta*(w) = sum w_i c_i / (1 + rho), so that the upper objective is known for every w."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

import mixopt as mx

CENTRES = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
TARGET = np.array([0.9, 0.5])
RHO = 0.25


@dataclass(frozen=True)
class Toy:
    """min over w of |theta - t|^2 / 2 with theta the minimiser of sum w_i |theta - c_i|^2 / 2 + rho |theta|^2 / 2."""

    domains: mx.Domains
    w: mx.Expr
    upper: mx.Expr
    learner: mx.FunctionLearner

    def problem(self, *constraints):
        """The problem with constraints."""
        return mx.minimize(self.upper, over=self.w, subject_to=constraints)

    @staticmethod
    def theta(w):
        """The trained model [2] at free weights [k]."""
        return CENTRES.T @ w / (np.sum(w) + RHO)

    @staticmethod
    def value(w):
        """The upper objective in closed form."""
        return 0.5 * float(np.sum((Toy.theta(np.asarray(w)) - TARGET) ** 2))

    @staticmethod
    def gradient(w):
        """dF/dw_i = <theta - t, c_i - theta> / (sum w + rho), by hand."""
        theta = Toy.theta(np.asarray(w))
        return (CENTRES - theta) @ (theta - TARGET) / (np.sum(w) + RHO)


@pytest.fixture(params=[torch.float64], ids=str)
def toy(request):
    """The toy as a problem with an exact learner whose parameters are a tree of two tensors."""
    domains = mx.Domains(["a", "b", "c", "d"])
    w, theta = mx.Mixture(domains), mx.model()
    trained = mx.argmin(w @ mx.losses(theta, domains) + RHO / 2 * mx.sum_squares(theta), over=theta)
    centres, target = torch.tensor(CENTRES, dtype=request.param), torch.tensor(TARGET, dtype=request.param)

    def flat(p):
        return torch.cat([p["x"], p["y"]])

    learner = mx.FunctionLearner(
        {"x": torch.zeros(1, dtype=request.param), "y": torch.zeros(1, dtype=request.param)},
        losses={"train": lambda p: ((flat(p) - centres) ** 2).sum(1) / 2, "val": lambda p: ((flat(p) - target) ** 2).sum() / 2},
    )
    return Toy(domains, w, mx.loss(trained, "val"), learner)
