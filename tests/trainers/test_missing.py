"""Without its package a callback says which extra brings it."""

from __future__ import annotations

import importlib.util

import pytest

from mixopt.errors import MissingExtraError
from mixopt.trainers import LightningCallback


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) for name in ("lightning", "pytorch_lightning")), reason="lightning is installed here"
)
def test_lightning_is_missing(make_schedule):
    with pytest.raises(MissingExtraError, match=r"pip install 'mixopt\[lightning\]'"):
        LightningCallback(make_schedule())
