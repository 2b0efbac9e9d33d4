"""Simulated epoching: short proxies read a part of each domain, so that they repeat what the long run will repeat."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mixopt.errors import InputError
from mixopt.language.domains import Domains

_STRETCH = 4096
"""Tokens that are kept in one piece, so that windows seldom cross from one to the next."""


def simulated(domains: Domains, proxy_tokens: float, target_tokens: float) -> Domains:
    """The domains with the tokens that a proxy may read of each: those that there are times proxy / target tokens.

    At any mixture a proxy of ``proxy_tokens`` then passes over each domain as often as the run of ``target_tokens`` does over the
    whole of it: w_i D_proxy / (n_i D_proxy / D_target) = w_i D_target / n_i.

    Source: Zhou et al. 2026, Repetition mismatch, arXiv 2606.07597; the idea of Muennighoff et al. 2023, arXiv 2305.16264.

    Raises:
        InputError: domains without sizes, tokens that are not > 0, or a proxy that is longer than the target.
    """
    for name, value in (("proxy_tokens", proxy_tokens), ("target_tokens", target_tokens)):
        if not 0 < value < math.inf:
            raise InputError(f"{name} is {value!r}; it is a finite number > 0")
    if proxy_tokens > target_tokens:
        raise InputError(f"the proxy reads {proxy_tokens:g} tokens and the target {target_tokens:g}; give the longer run as the target")
    return Domains(domains.names, [size * proxy_tokens / target_tokens for size in domains.sizes])


def subsample(rows: Mapping[str, Any], sizes: Domains) -> dict[str, np.ndarray]:
    """Of each domain's tokens [n] so many as ``sizes`` tells (rounded up), in stretches of 4096 spread evenly over the row.

    ``rows`` are arrays or ``data.Pieces``, as ``Prepared.parts`` has them, and only what is kept is read. Nothing is drawn:
    the same rows give the same part.

    Raises:
        InputError: a domain without tokens here, or sizes that are larger than the rows.
    """
    found = {}
    for name, size in zip(sizes, sizes.sizes, strict=True):
        if name not in rows:
            raise InputError(f"there are no tokens of {name!r} to take a part of; the rows have {list(rows)}")
        row = rows[name]
        whole, wanted = len(row), math.ceil(size * (1 - 1e-12))
        if not 0 < wanted <= whole:
            raise InputError(
                f"{wanted} tokens of {name!r} are wanted, and there are {whole}; a part has at least one, and no more than all"
            )
        count = math.ceil(wanted / _STRETCH)
        ends = np.arange(count + 1) * wanted // count  # of the stretches, as they lie in what is kept
        gaps = np.arange(count) * (whole - wanted) // count  # what is left out before each
        found[name] = np.concatenate([row[a + gap : b + gap] for a, b, gap in zip(ends[:-1], ends[1:], gaps, strict=True)])
    return found
