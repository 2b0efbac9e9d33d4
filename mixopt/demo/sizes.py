"""How large the demo is: two presets, and what is dropped where the machine is too slow for the time it has."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

LAYERS, CONTEXT, VOCABULARY = 2, 64, 256
FEWEST_STEPS = 60
PASSES = 1.5  # how often a target run passes over the training text


@dataclass(frozen=True)
class Sizes:
    """The sizes of one study; ``seconds`` is the time that it means to take."""

    seconds: float
    proxies: int
    proxy_width: int
    proxy_steps: int
    method_steps: int
    outer_steps: int
    audit_steps: int
    target_width: int
    target_steps: int
    seeds: int
    batch: int = 16
    per_domain: int = 4
    test_windows: int = 96

    @property
    def target_tokens(self) -> int:
        """Tokens that one target model is trained on."""
        return self.target_steps * self.batch * CONTEXT

    @property
    def training_text(self) -> int:
        """Tokens of training text that the study is given."""
        return round(self.target_tokens / PASSES)

    @property
    def proxy_tokens(self) -> int:
        """Tokens that one proxy is trained on."""
        return self.proxy_steps * self.batch * CONTEXT

    def asdict(self) -> dict[str, float]:
        """The sizes by name, as they are written to the study's folder."""
        return asdict(self)


FULL = Sizes(400, 32, 32, 200, 200, 20, 20, 56, 350, 5)
QUICK = Sizes(90, 24, 32, 120, 80, 8, 10, 40, 150, 5)


def parameters(width: int) -> int:
    """Parameters of the demo's GPT of a width."""
    return (VOCABULARY + CONTEXT) * width + LAYERS * 12 * width * width


def work(tokens: float, width: int) -> float:
    """Floating-point operations of training on so many tokens: 6 a parameter and token."""
    return 6.0 * parameters(width) * tokens


def search_work(sizes: Sizes, domains: int) -> float:
    """Operations of the search: the proxies, DoReMi with its reference, DoGE and the implicit method for two targets.

    The factors say what a method's step costs in training steps on its batch; they are rough.
    """
    batch = domains * sizes.per_domain * CONTEXT
    doremi = 2.4 * sizes.method_steps
    doge = 2 * 2.0 * sizes.method_steps
    implicit = 2 * (0.5 * sizes.method_steps + sizes.outer_steps * (10 + 2.5 * 10))
    audits = 4 * 3 * 2 * domains * sizes.audit_steps
    return work(sizes.proxies * sizes.proxy_tokens, sizes.proxy_width) + work(
        (doremi + doge + implicit + audits) * batch, sizes.proxy_width
    )


def verdict_work(sizes: Sizes, mixtures: int) -> float:
    """Operations of the verdict: every mixture at every seed."""
    return mixtures * sizes.seeds * work(sizes.target_tokens, sizes.target_width)


def fitted(sizes: Sizes, speed: float, seconds: float, domains: int, mixtures: int) -> tuple[Sizes, tuple[str, ...]]:
    """The sizes cut to fit into so many seconds at a speed in operations a second, and what was dropped, in words.

    The target models' steps go first, then the proxies; seeds are never dropped, since the intervals rest on them.
    """

    def time(s: Sizes) -> float:
        return (search_work(s, domains) + verdict_work(s, mixtures)) / speed

    dropped = []
    least = max(FEWEST_STEPS, round(1.25 * sizes.proxy_steps))
    spare = seconds - search_work(sizes, domains) / speed
    share = spare / max(verdict_work(sizes, mixtures) / speed, 1e-9)
    if share < 1:
        steps = max(least, int(share * sizes.target_steps))
        dropped.append(f"target models are trained for {steps} steps instead of {sizes.target_steps}")
        sizes = replace(sizes, target_steps=steps)
    if time(sizes) > seconds:
        share = max(0.3, seconds / time(sizes))
        small = replace(
            sizes,
            proxies=max(12, int(share * sizes.proxies)),
            proxy_steps=max(FEWEST_STEPS, int(share * sizes.proxy_steps)),
            method_steps=max(40, int(share * sizes.method_steps)),
            outer_steps=max(4, int(share * sizes.outer_steps)),
            target_steps=max(FEWEST_STEPS + 15, int(share * sizes.target_steps)),
        )
        dropped = [
            f"{small.proxies} proxies of {small.proxy_steps} steps instead of {sizes.proxies} of {sizes.proxy_steps}",
            f"{small.method_steps} steps a method, and target models of {small.target_steps} steps",
        ]
        sizes = small
    return sizes, tuple(dropped)
