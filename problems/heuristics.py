"""Mixtures that need no training: uniform, proportional, temperature and UniMax."""

from __future__ import annotations

import math

import numpy as np

from mixopt.errors import InputError
from mixopt.language.domains import Domains


def uniform(domains: Domains) -> dict[str, float]:
    """The same weight 1/k for every domain."""
    return _weights(domains, np.ones(len(domains)))


def proportional(domains: Domains) -> dict[str, float]:
    """Weights n_i / sum n, the shares of the domains' tokens n [k]; raises InputError where the sizes are not known."""
    return _weights(domains, domains.sizes)


def temperature(domains: Domains, tau: float) -> dict[str, float]:
    """Weights proportional to (token share)^(1/tau): tau = 1 is proportional, a large tau nears uniform.

    A domain without tokens keeps weight 0 at every tau, ``math.inf`` included.

    Raises:
        InputError: sizes that are not known, or a tau that is not > 0.

    Source: Conneau et al. 2020, arXiv 1911.02116, section 3.1, with alpha = 1/tau.
    """
    if not tau > 0:
        raise InputError(f"the temperature is {tau}; it must be > 0 (1 gives the token shares, math.inf the uniform mixture)")
    sizes = domains.sizes
    full = sizes > 0
    powers = np.zeros(len(domains))
    powers[full] = np.exp(np.log(sizes[full] / sizes.max()) / tau)
    return _weights(domains, powers)


def unimax(domains: Domains, budget: float, at_most: float) -> dict[str, float]:
    """As uniform as a training budget in tokens allows while no domain is repeated more than ``at_most`` times.

    From the smallest domain on, each gets an equal share of the budget that is left, or all its ``at_most`` epochs where
    those are fewer: w_i = min(at_most n_i / budget, level), the point of the capped simplex closest to uniform.

    Raises:
        InputError: sizes that are not known, numbers that are not > 0, or a budget of more than ``at_most`` times all tokens.

    Source: Chung et al. 2023, arXiv 2304.09151, Algorithm 1; there a budget that is too large is silently cut.
    """
    for name, value in (("budget", budget), ("at_most", at_most)):
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"{name} is {value}; it must be a finite number > 0")
    caps = at_most * domains.sizes
    if budget > caps.sum() * (1 + 1e-12):
        raise InputError(
            f"a budget of {budget:.6g} tokens is more than {at_most:g} epochs of all {domains.sizes.sum():.6g} tokens; "
            f"lower it to {caps.sum():.6g}, or allow at_most={budget / domains.sizes.sum():.4g} epochs"
        )
    given, left = np.zeros(len(domains)), float(budget)
    for done, i in enumerate(np.argsort(caps, kind="stable")):
        given[i] = min(caps[i], left / (len(domains) - done))
        left -= given[i]
    return _weights(domains, given)


def _weights(domains: Domains, amounts: np.ndarray) -> dict[str, float]:
    """Amounts [k] as weights by name, summing to 1."""
    return dict(zip(domains, (amounts / amounts.sum()).tolist(), strict=True))
