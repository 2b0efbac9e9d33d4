"""How large a study is, what its parts cost, and what is dropped where the machine is too slow for the time it has."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, replace
from typing import final

from mixopt.errors import InputError, nearest

METHODS = ("law", "doremi", "doge", "implicit")
FEWEST_STEPS = 60
EPOCHS = 4.0
"""How often a domain may be read: repetition up to four times costs little (Muennighoff et al. 2023, arXiv 2305.16264)."""


MOST_TOGETHER, MEMORY, BYTES = 6, 2**30, 16  # models in one program; what they may take; parameters, gradients and AdamW's two moments


@final
@dataclass(frozen=True)
class Sizes:
    """The sizes of one study; ``seconds`` is the time that it means to take.

    Proxies and methods train models of ``proxy_parameters``, the verdict models of ``target_parameters``, all on batches of
    ``batch`` windows of ``context`` tokens. ``budget`` are the tokens of the run that the mixture is for, ``cap`` the epochs
    that it may read a domain; without a budget it is the target run's own. ``threads`` of 0 are chosen by measuring.
    """

    seconds: float
    proxies: int
    proxy_parameters: int
    proxy_steps: int
    method_steps: int
    outer_steps: int
    audit_steps: int
    target_parameters: int
    target_steps: int
    seeds: int
    batch: int = 16
    per_domain: int = 4
    context: int = 64
    test_windows: int = 96
    budget: float | None = None
    cap: float = EPOCHS
    threads: int = 0

    @property
    def target_tokens(self) -> int:
        """Tokens that one target model is trained on."""
        return self.target_steps * self.batch * self.context

    @property
    def proxy_tokens(self) -> int:
        """Tokens that one proxy is trained on."""
        return self.proxy_steps * self.batch * self.context

    @property
    def run_tokens(self) -> float:
        """Tokens of the run that the mixture is for: repetition counts against them."""
        return self.budget or float(self.target_tokens)

    def asdict(self) -> dict[str, float]:
        """The sizes by name, as they are written to the study's folder."""
        return asdict(self)


def known_methods(methods: Iterable[str]) -> None:
    """Raises InputError where a study does not take one of these methods."""
    for method in methods:
        if method not in METHODS:
            raise InputError(f"no method {method!r}; a study takes {', '.join(METHODS)}{nearest(method, METHODS)}")


def work(tokens: float, parameters: float) -> float:
    """Floating-point operations of training on so many tokens: 6 a parameter and token."""
    return 6.0 * parameters * tokens


def together(parameters: int) -> int:
    """How many models are trained as one program: a few small ones, and one alone where the models are large and nothing is gained."""
    return max(1, min(MOST_TOGETHER, MEMORY // (BYTES * max(parameters, 1))))


def search_work(sizes: Sizes, domains: int, methods: Collection[str] = METHODS, targets: int = 2) -> float:
    """Operations of the search: the proxies of the law, DoReMi with its reference, DoGE and the implicit method for each target.

    The factors say what a method's step costs in training steps on its batch; they are rough.
    """
    steps = {
        "doremi": 2.4 * sizes.method_steps,
        "doge": targets * 2.0 * sizes.method_steps,
        "implicit": targets * (0.5 * sizes.method_steps + sizes.outer_steps * (10 + 2.5 * 20)),
    }
    audits = targets * 3 * 2 * domains * sizes.audit_steps * len({"doge", "implicit"} & set(methods))
    tokens = (sum(n for m, n in steps.items() if m in methods) + audits) * domains * sizes.per_domain * sizes.context
    proxies = sizes.proxies * sizes.proxy_tokens if "law" in methods else 0
    return work(proxies + tokens, sizes.proxy_parameters)


def verdict_work(sizes: Sizes, mixtures: int) -> float:
    """Operations of the verdict: every mixture at every seed."""
    return mixtures * sizes.seeds * work(sizes.target_tokens, sizes.target_parameters)


def _cut(asked: int, share: float, fewest: int) -> int:
    """A share of what was asked: not below the fewest that tell something, and never above what was asked."""
    return min(asked, max(fewest, int(share * asked)))


def fitted(
    sizes: Sizes, speed: float, seconds: float, domains: int, mixtures: int, methods: Collection[str] = METHODS, targets: int = 2
) -> tuple[Sizes, tuple[str, ...]]:
    """The sizes cut to fit into so many seconds at a speed in operations a second, and what was dropped, in words.

    The target models' steps go first, then the proxies; seeds are never dropped, since the intervals rest on them.
    """

    def time(s: Sizes) -> float:
        return (search_work(s, domains, methods, targets) + verdict_work(s, mixtures)) / speed

    dropped = []
    least = max(FEWEST_STEPS, round(1.25 * sizes.proxy_steps))
    spare = seconds - search_work(sizes, domains, methods, targets) / speed
    share = spare / max(verdict_work(sizes, mixtures) / speed, 1e-9)
    if share < 1:
        steps = _cut(sizes.target_steps, share, least)
        if steps < sizes.target_steps:
            dropped.append(f"target models are trained for {steps} steps instead of {sizes.target_steps}")
        sizes = replace(sizes, target_steps=steps)
    if time(sizes) > seconds:
        share = max(0.3, seconds / time(sizes))
        small = replace(
            sizes,
            proxies=_cut(sizes.proxies, share, 12),
            proxy_steps=_cut(sizes.proxy_steps, share, FEWEST_STEPS),
            method_steps=_cut(sizes.method_steps, share, 40),
            outer_steps=_cut(sizes.outer_steps, share, 4),
            target_steps=_cut(sizes.target_steps, share, FEWEST_STEPS + 15),
        )
        dropped = [
            f"{small.proxies} proxies of {small.proxy_steps} steps instead of {sizes.proxies} of {sizes.proxy_steps}",
            f"{small.method_steps} steps a method, and target models of {small.target_steps} steps",
        ]
        sizes = small
    return sizes, tuple(dropped)
