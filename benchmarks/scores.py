"""What the scores of domains by gradients cost, each way, beside the training step of the same model.

A step is a forward pass, a backward pass and AdamW on ``--rows`` windows. Scores are of the same windows, cut evenly by domain, so that a
score that needed no more than the step itself does would cost 1. ``every`` 10 makes a tenth of it the overhead. The ways are
taken in turns with the step; reported are medians of their ratios with 95 % intervals, and how far each is off k backward
passes, as a share of |g_i| |g|.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, in_turns, interval, write

import mixopt as mx
from mixopt.runtime.gpt import GPT, parameter_count
from mixopt.runtime.torch_learner import cross_entropy


def main() -> None:
    """Measure, print a table, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--domains", type=int, default=8)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--context", type=int, default=64)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=RESULTS / "scores.json")
    given = parser.parse_args()
    module = GPT(256, given.context, given.width, given.layers, max(1, given.width // 32)).to(given.device)
    optimizer = torch.optim.AdamW(module.parameters(), 1e-3)
    draw = torch.Generator().manual_seed(0)
    windows = torch.randint(0, 256, (given.domains, given.rows // given.domains, given.context + 1), generator=draw).to(given.device)
    flat = windows.flatten(0, 1)
    wait = torch.cuda.synchronize if given.device != "cpu" else lambda: None

    def step() -> None:
        loss = cross_entropy(module(flat[:, :-1]), flat[:, 1:]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        wait()

    for _ in range(3):
        step()
    own = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    ways = _ways(module, windows, own)
    exact = {}
    for layers in ("all", "last"):
        exact[layers] = mx.scores.alignment(module, windows, by="backward", layers=layers)
    size = {layers: float(mx.scores.norms(module, windows, layers=layers).max()) ** 2 for layers in exact}
    found = {name: way() for name, (way, _) in ways.items()}

    def timed(way: Callable[[], Any]) -> Callable[[], None]:
        return lambda: (way(), wait())[1]

    times = in_turns([step, *(timed(way) for way, _ in ways.values())], given.rounds)
    rows = []
    print(f"{parameter_count(module) / 1e6:.2f}M parameters, {given.domains} domains, {flat.shape[0]} x {given.context} tokens a step")
    for i, (name, (_, layers)) in enumerate(ways.items(), start=1):
        middle, low, high = interval(times[:, i] / times[:, 0])
        same = layers in exact and found[name].shape == exact[layers].shape and "own" not in name
        off = float((found[name] - exact[layers]).abs().max()) / size[layers] if same else None
        rows.append({"way": name, "of_a_step": middle, "low": low, "high": high, "off": off})
        told = "" if off is None else f"off by {off:.1e}"
        print(f"{name:44s} {middle:6.3f} [{low:.3f}, {high:.3f}] of a step, {middle * 10:5.1f} % at every=10  {told}")
    settings = {
        "parameters": parameter_count(module),
        "domains": given.domains,
        "tokens": flat.shape[0] * given.context,
        "device": given.device,
    }
    write(given.out, __doc__, settings, rows)


def _ways(module: GPT, windows: torch.Tensor, own: dict[str, torch.Tensor]) -> dict[str, tuple[Callable[[], torch.Tensor], str]]:
    """The ways by name, each with the layers whose gradients it takes."""
    score = mx.scores.alignment
    return {
        "jvp": (lambda: score(module, windows), "all"),
        "difference": (lambda: score(module, windows, by="difference"), "all"),
        "backward, domain by domain": (lambda: score(module, windows, by="backward"), "all"),
        "jvp, the step's own gradient": (lambda: score(module, windows, gradient=own), "all"),
        "difference, the step's own gradient": (lambda: score(module, windows, gradient=own, by="difference"), "all"),
        "last layer, jvp": (lambda: score(module, windows, layers="last"), "last"),
        "last layer, backward": (lambda: score(module, windows, layers="last", by="backward"), "last"),
        "last layer, backward, half the windows": (lambda: score(module, windows[:, ::2], layers="last", by="backward"), "half"),
        "jvp, own gradient, half the windows": (lambda: score(module, windows[:, ::2], gradient=own), "half"),
        "last layer, Gram matrix": (lambda: mx.scores.products(module, windows, layers="last"), "last"),
        "Gram matrix": (lambda: mx.scores.products(module, windows), "all"),
        "signal and noise": (lambda: mx.scores.signal_and_noise(module, list(windows))[0], "noise"),
    }


if __name__ == "__main__":
    main()
