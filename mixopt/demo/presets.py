"""The demo's two sizes: one that takes a few minutes on two cores, and a quick one."""

from __future__ import annotations

from mixopt.study.models import Models, small_gpts
from mixopt.study.sizes import Sizes

VOCABULARY, CONTEXT = 256, 64
PASSES = 1.5  # how often a target run passes over the training text
_WIDTHS = {"full": (32, 56), "quick": (32, 40)}
_SIZES = {
    "full": {
        "seconds": 400,
        "proxies": 32,
        "proxy_steps": 200,
        "method_steps": 200,
        "outer_steps": 20,
        "audit_steps": 20,
        "target_steps": 350,
    },
    "quick": {
        "seconds": 90,
        "proxies": 24,
        "proxy_steps": 120,
        "method_steps": 80,
        "outer_steps": 8,
        "audit_steps": 10,
        "target_steps": 150,
    },
}
SEEDS = 5


def preset(name: str) -> tuple[Sizes, Models]:
    """The sizes and the models of "full" or "quick"."""
    models = small_gpts(*_WIDTHS[name], VOCABULARY, CONTEXT)
    counted = {"proxy_parameters": models.proxy_parameters, "target_parameters": models.target_parameters}
    return Sizes(**_SIZES[name], **counted, seeds=SEEDS, context=CONTEXT), models


def training_text(sizes: Sizes) -> int:
    """Tokens of training text that a study of these sizes is given."""
    return round(sizes.target_tokens / PASSES)
