"""Small modules that other processes can import."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import torch
from torch import Tensor, nn

from mixopt.runtime.gpt import GPT

VOCABULARY, CONTEXT = 8, 6


def tiny(seed: int) -> nn.Module:
    return GPT(vocabulary=VOCABULARY, context=CONTEXT, width=8, layers=1, heads=2, seed=seed)


def wide(seed: int) -> nn.Module:
    return GPT(vocabulary=VOCABULARY, context=CONTEXT, width=16, layers=1, heads=2, seed=seed)


def unlike(seed: int) -> nn.Module:
    return tiny(seed) if seed % 2 else wide(seed)


def dies_once(seed: int) -> nn.Module:
    """A model whose making kills the process, the first time that it is asked for the seed 2."""
    mark = Path(os.environ["MIXOPT_TEST_MARK"])
    if seed == 2 and not mark.exists() and os.environ["MIXOPT_TEST_PID"] != str(os.getpid()):
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return tiny(seed)


class Normed(nn.Module):
    """A model with what an ensemble cannot share: running statistics, or units dropped at random."""

    def __init__(self, seed: int, drop: float = 0.0, norm: bool = True):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embed = nn.Embedding(VOCABULARY, 8)
            self.norm = nn.BatchNorm1d(8) if norm else nn.Identity()
            self.drop = nn.Dropout(drop)
            self.head = nn.Linear(8, VOCABULARY)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.norm(self.embed(tokens).flatten(0, 1)).view(*tokens.shape, 8)
        return self.head(self.drop(hidden))


def normed(seed: int) -> nn.Module:
    return Normed(seed)


def dropping(seed: int) -> nn.Module:
    return Normed(seed, drop=0.5, norm=False)
