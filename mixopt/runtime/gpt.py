"""A small GPT: the default proxy, written in plain maths so that forward mode, double backward and vmap all work."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (the usual name)

from mixopt.errors import InputError


class Block(nn.Module):
    """One pre-norm layer, causal attention then a GELU MLP of four times the width; no biases and no norm gains.

    The norms need no gain or bias of their own, since the linear map after each has one entry for every channel.
    """

    def __init__(self, width: int, heads: int, draw: torch.Generator, depth: int):
        super().__init__()
        self.heads = heads
        small = 1 / math.sqrt(width)
        out = small / math.sqrt(2 * depth)
        self.qkv = _normal(width, 3 * width, small, draw)
        self.mix = _normal(width, width, out, draw)
        self.up = _normal(width, 4 * width, small, draw)
        self.down = _normal(4 * width, width, out / 2, draw)

    def forward(self, x: Tensor, shape: tuple[int, int], mask: Tensor) -> Tensor:
        """Residual stream [b*t, width] -> [b*t, width], for ``shape`` = (b, t) and an additive mask [t, t]."""
        b, t = shape
        width = x.shape[-1]
        q, k, v = (_norm(x) @ self.qkv).view(b, t, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        scores = (q * (width // self.heads) ** -0.5) @ k.transpose(-1, -2) + mask
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(b * t, width)
        x = x + mixed @ self.mix
        return x + F.gelu(_norm(x) @ self.up) @ self.down


class GPT(nn.Module):
    """A decoder from tokens [b, t] to logits [b, t, vocabulary]: pre-norm, learned positions, tied embeddings, no dropout.

    The parameters are drawn from a generator of their own, so ``seed`` alone fixes them. Attention is matrix products and
    a softmax: ``torch.func.jvp``, double backward and ``vmap`` work on every device.

    Raises:
        InputError: a size below 1, or a width that the heads do not divide; in ``forward``, more tokens than ``context``.
    """

    mask: Tensor

    def __init__(self, vocabulary: int = 256, context: int = 64, width: int = 32, layers: int = 2, heads: int = 2, seed: int = 0):
        super().__init__()
        sizes = {"vocabulary": vocabulary, "context": context, "width": width, "layers": layers, "heads": heads}
        for name, size in sizes.items():
            if size < 1:
                raise InputError(f"{name} is {size}; a GPT needs at least 1")
        if width % heads:
            raise InputError(f"a width of {width} does not divide among {heads} heads; give a multiple of {heads}")
        self.context = context
        draw = torch.Generator().manual_seed(seed)
        self.embedding = _normal(vocabulary, width, 1 / math.sqrt(width), draw)
        self.position = _normal(context, width, 0.5 / math.sqrt(width), draw)
        self.blocks = nn.ModuleList(Block(width, heads, draw, layers) for _ in range(layers))
        self.register_buffer("mask", torch.full((context, context), -torch.inf).triu(1), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [b, t] -> logits [b, t, vocabulary], the logits at a place seeing only it and what came before."""
        b, t = tokens.shape
        if t > self.context:
            raise InputError(f"there are {t} tokens in a row, but the context is {self.context}; cut them or give GPT(context={t})")
        x = (F.embedding(tokens, self.embedding) + self.position[:t]).view(b * t, -1)
        mask = self.mask[:t, :t]
        for block in self.blocks:
            x = block(x, (b, t), mask)
        return (_norm(x) @ self.embedding.T).view(b, t, -1)


def parameter_count(module: nn.Module) -> int:
    """Trainable numbers in a module, a shared one counted once."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def _norm(x: Tensor) -> Tensor:
    """Rows of [n, width] at mean zero and variance one."""
    return F.layer_norm(x, x.shape[-1:])


def _normal(rows: int, columns: int, scale: float, draw: torch.Generator) -> nn.Parameter:
    """A parameter [rows, columns] of normal numbers of the given scale."""
    return nn.Parameter(torch.randn(rows, columns, generator=draw) * scale)
