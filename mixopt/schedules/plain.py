"""States as plain data: tensors and numbers for ``torch.save``, or texts and numbers for a JSON file, and back without a bit lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mixopt.errors import InputError


def as_tensors(value: Any) -> Any:
    """Arrays as tensors of their dtype; numbers, texts, lists and dicts as they are."""
    if isinstance(value, np.ndarray):
        import torch

        return torch.tensor(value)
    return _through(value, as_tensors)


def as_lists(value: Any) -> Any:
    """Arrays as dicts of their dtype, shape and numbers, which JSON holds exactly."""
    if isinstance(value, np.ndarray):
        return {"dtype": str(value.dtype), "shape": list(value.shape), "numbers": value.ravel().tolist()}
    return _through(value, as_lists)


def as_arrays(value: Any) -> Any:
    """The state again from either."""
    if hasattr(value, "detach"):
        return value.detach().cpu().numpy().copy()
    if isinstance(value, Mapping) and set(value) == {"dtype", "shape", "numbers"}:
        return np.array(value["numbers"], dtype=value["dtype"]).reshape(value["shape"])
    return _through(value, as_arrays)


def _through(value: Any, one: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): one(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [one(entry) for entry in value]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise InputError(f"a schedule's memory holds arrays, numbers and texts; this is a {type(value).__name__}")
