"""What a design costs, before anything starts: the size, tokens and number of proxies that a budget of GPU-hours buys."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import final

from mixopt.errors import InputError
from mixopt.language.domains import Domains

from .advice import advised

HOUR = 3600.0
PEAK, MFU = 989e12, 0.4
"""FLOP/s of one H100 in bfloat16 without sparsity, and the share of it that training reaches."""
RATIO = 20.0
"""Tokens for each parameter of a proxy: compute-optimal by Hoffmann et al. 2022."""
SMALL = 15e6
"""Parameters below which Olmix saw the ranking of mixtures change with size (0.73 at 1M, about 0.9 from 15M)."""
_LEAST = 1e4
"""Parameters below which nothing is proposed: a model that small learns no mixture."""
_SHARE = 0.1
"""The largest proxy, as a share of the target's parameters and tokens."""
_MOST = 8
"""Runs for each domain and one more, beyond which a budget is not spent."""


@final
@dataclass(frozen=True)
class Price:
    """``runs`` proxies of ``params`` parameters on ``tokens`` tokens each, and what they cost at ``mfu`` of ``peak`` FLOP/s a GPU.

    Where runs differ in length, as AutoScale's, ``mean_length`` is the mean of theirs in multiples of ``tokens``.

    FLOPs are 6 N D, N the parameters without the ``embedding`` of the input: a table that is looked up multiplies nothing, the
    output's does. Attention's own products, 12 x layers x width x context a token, are left out; so is evaluation.

    Source: Kaplan et al. 2020, arXiv 2001.08361, section 2.1.
    """

    params: float
    tokens: float
    runs: int
    target_params: float
    target_tokens: float
    mfu: float = MFU
    peak: float = PEAK
    embedding: float = 0.0
    mean_length: float = 1.0
    notes: tuple[str, ...] = ()

    @property
    def run_flops(self) -> float:
        """FLOPs of one proxy, of mean length."""
        return 6 * (self.params - self.embedding) * self.tokens * self.mean_length

    @property
    def flops(self) -> float:
        """FLOPs of all proxies."""
        return self.runs * self.run_flops

    @property
    def run_hours(self) -> float:
        """GPU-hours of one proxy."""
        return self.run_flops / (self.mfu * self.peak) / HOUR

    @property
    def hours(self) -> float:
        """GPU-hours of all proxies."""
        return self.runs * self.run_hours

    @property
    def target_flops(self) -> float:
        """FLOPs of the run that the mixture is for, 6 N D with all its parameters."""
        return 6 * self.target_params * self.target_tokens

    @property
    def target_hours(self) -> float:
        """GPU-hours of the run that the mixture is for."""
        return self.target_flops / (self.mfu * self.peak) / HOUR

    def __str__(self) -> str:
        table = f", {self.embedding:.3g} of them an embedding that multiplies nothing" if self.embedding else ""
        length = f" ({self.mean_length:.3g} times that on average)" if self.mean_length != 1 else ""
        lines = [
            f"{_counted(self.runs)} of {self.params:.3g} parameters{table} on {self.tokens:.3g} tokens{length}: {self.flops:.3g} FLOPs, "
            f"{self.hours:.4g} GPU-hours, {self.run_hours:.3g} each",
            f"the target of {self.target_params:.3g} parameters on {self.target_tokens:.3g} tokens: {self.target_flops:.3g} FLOPs, "
            f"{self.target_hours:.4g} GPU-hours; the proxies are {100 * self.flops / self.target_flops:.2g}% of it",
            f"by FLOPs = 6 N D (Kaplan et al. 2020; attention and evaluation left out), at {self.mfu:.0%} of {self.peak:.4g} FLOP/s a GPU",
        ]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def price(
    domains: Domains | Iterable[str],
    *,
    target_params: float,
    target_tokens: float,
    gpu_hours: float,
    params: float | None = None,
    tokens: float | None = None,
    runs: int | None = None,
    mfu: float = MFU,
    peak: float = PEAK,
    ratio: float = RATIO,
    embedding: float = 0.0,
    mean_length: float = 1.0,
) -> Price:
    """Propose proxies for a target of N parameters and D tokens within a budget of GPU-hours; what is given is kept.

    3 (k + 1) runs (see ``advised``), then the largest proxies that the hours pay for, at ``ratio`` tokens a parameter, to at most a tenth
    of the target's size and tokens; hours that are left buy more runs, to at most 8 (k + 1). Sizes are rounded down to two digits.
    ``embedding`` are the parameters of the proxy's input embedding (vocabulary x width), which cost no FLOPs. Runs that differ in length
    cost ``mean_length`` times as much as those of ``tokens``.

    Raises:
        InputError: a number that is not > 0, an mfu above 1, or hours that do not pay for what is fixed or for 10,000 parameters.
    """
    names = domains if isinstance(domains, Domains) else Domains(domains)
    _check(
        target_params=target_params,
        target_tokens=target_tokens,
        gpu_hours=gpu_hours,
        params=params,
        tokens=tokens,
        peak=peak,
        ratio=ratio,
        mean_length=mean_length,
    )
    if not 0 < mfu <= 1:
        raise InputError(f"mfu is {mfu}; it is the share of the peak that training reaches, above 0 and at most 1, such as 0.4")
    if runs is not None and (isinstance(runs, bool) or not isinstance(runs, int) or runs < 1):
        raise InputError(f"runs is {runs!r}; it is a whole number >= 1")
    if not 0 <= embedding < (params or math.inf):
        raise InputError(f"the embedding has {embedding:g} parameters; it is >= 0 and less than the proxy's {params or math.inf:g}")
    flops = gpu_hours * HOUR * mfu * peak
    count = advised(names) if runs is None else runs
    size, length = _sizes(flops / count / mean_length, target_params, target_tokens, params, tokens, ratio, embedding)
    cost = 6 * (size - embedding) * length * mean_length
    if runs is None:
        count = min(max(int(flops / cost), 1), max(count, _MOST * (len(names) + 1)))
    if count * cost > flops * (1 + 1e-9):
        fewer = "fewer runs, parameters or tokens" if count > 1 else "fewer parameters or tokens"
        raise InputError(
            f"{_counted(count)} of {size:.3g} parameters on {length:.3g} tokens cost {count * cost / (mfu * peak) / HOUR:.4g} GPU-hours, "
            f"and {gpu_hours:g} are given; give more, or {fewer}"
        )
    if size < _LEAST and params is None:
        raise InputError(
            f"{gpu_hours:g} GPU-hours pay for {_counted(count)} of {size:.3g} parameters on {length:.3g} tokens, which tell nothing of a "
            f"mixture; give more, fewer runs or tokens, or the size that you mean, params"
        )
    made = Price(size, length, count, target_params, target_tokens, mfu, peak, embedding, mean_length)
    return replace(made, notes=_notes(made, names, gpu_hours))


def _sizes(
    flops: float, target_params: float, target_tokens: float, params: float | None, tokens: float | None, ratio: float, embedding: float
) -> tuple[float, float]:
    """Parameters and tokens of a proxy that costs at most so many FLOPs."""
    if params is None:
        # 6 (N - e) D = flops, where D is fixed or ratio N
        size = flops / 6 / tokens + embedding if tokens is not None else (embedding + math.sqrt(embedding**2 + 4 * flops / 6 / ratio)) / 2
        params = _down(min(size, _SHARE * target_params))
    if params <= embedding:
        raise InputError(
            f"the embedding's {embedding:.3g} parameters are more than a proxy may have ({params:.3g}); give a smaller table, or params"
        )
    if tokens is None:
        tokens = _down(min(flops / 6 / (params - embedding), ratio * params, _SHARE * target_tokens))
    return params, tokens


def _notes(made: Price, domains: Domains, gpu_hours: float) -> tuple[str, ...]:
    notes = []
    if made.params < SMALL:
        paid = made.runs * 6 * (SMALL - min(made.embedding, SMALL / 2)) * RATIO * SMALL / (made.mfu * made.peak) / HOUR
        notes.append(
            f"proxies below {SMALL:.3g} parameters ranked mixtures less as large models do in Olmix (arXiv 2602.12237); as many of "
            f"that size on {RATIO:g} tokens a parameter need about {paid:.3g} GPU-hours"
        )
    if made.runs < advised(domains):
        notes.append(
            f"{made.runs} runs are fewer than the {advised(domains)} = 3 (k + 1) that are advised for a law of {len(domains)} domains"
        )
    if made.hours < 0.5 * gpu_hours:
        capped = made.params > 0.9 * _SHARE * made.target_params or made.tokens > 0.9 * _SHARE * made.target_tokens
        than = "a tenth of the target" if capped else "these"
        notes.append(f"{gpu_hours - made.hours:.4g} GPU-hours are left: larger or longer proxies than {than}, or more runs, would use them")
    return tuple(notes)


def _counted(runs: int) -> str:
    return f"{runs} proxies" if runs != 1 else "1 proxy"


def _down(value: float) -> float:
    """The value rounded down to two digits."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.floor(value / unit * (1 + 1e-12)) * unit


def _check(**given: float | None) -> None:
    for name, value in given.items():
        if value is not None and not 0 < value < math.inf:
            raise InputError(f"{name} is {value!r}; it is a finite number > 0")
