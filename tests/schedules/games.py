"""A saddle over three domains, and a learner for it."""

import torch

import mixopt as mx

DOMAINS = mx.Domains(["web", "code", "books"])
K = len(DOMAINS)
CENTRES = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 0.5]], dtype=torch.float64)


def game(*limits: mx.Relation, history: bool = False) -> mx.Problem:
    w, theta = mx.Mixture(DOMAINS), mx.model()
    payoff = mx.losses(theta, DOMAINS) - mx.parameter("reference", K)
    if history:
        payoff = payoff - 0.5 * mx.previous(mx.losses(theta, DOMAINS))
    return mx.minimize(mx.maximize(w @ payoff, over=w, subject_to=list(limits)), over=theta)


def learner() -> mx.FunctionLearner:
    start = {"x": torch.tensor([0.3, 0.2], dtype=torch.float64)}
    return mx.FunctionLearner(start, {"train": lambda p: ((p["x"] - CENTRES) ** 2).sum(dim=1)})


REFERENCE = {"reference": [0.1, 0.2, 0.3]}
