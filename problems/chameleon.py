"""Chameleon: weights in closed form from how much each domain's embedding stands apart from the others'."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from mixopt.errors import InputError, listed
from mixopt.language.domains import Domains

HEAVY = 0.98


def chameleon(
    domains: Domains,
    embeddings: Any,
    *,
    stage: Literal["pretraining", "fine-tuning"] = "pretraining",
    ridge: float = 10.0,
    temperature: float | None = None,
    faithful_to: Literal["code", "paper"] = "code",
) -> dict[str, float]:
    """w = softmax(1 / (T S)) for pre-training, softmax(S / T) for fine-tuning, S_i = [K (K + ridge k I)^-1]_ii of the embeddings.

    ``embeddings`` [k, d], or a mapping from the domains, are the mean embeddings of a proxy's middle layer, as of
    ``mx.scores.embeddings``; K is their centred Gram matrix. S, the ridge leverage, is large where a domain is unlike the others:
    pre-training favours what is common, fine-tuning what is special. Nothing is trained for it, so new or changed domains cost one
    forward pass each.

    "code": S is divided by its sum, and the ``temperature`` T is 5 in pre-training and 0.2 in fine-tuning. "paper": S as it is, and T = 1;
    1 / S is then in the tens or more, and differences in it collapse on one domain, which is warned of.

    Raises:
        InputError: embeddings that are no finite vectors for each domain or all alike, a ridge or temperature that is not > 0.

    Source: Xie, Tonin and Cevher 2025, arXiv 2505.24844; code LIONS-EPFL/Chameleon, compute_chameleon_weights.py and utils.py.
    """
    if stage not in ("pretraining", "fine-tuning") or faithful_to not in ("code", "paper"):
        raise InputError(
            f"the stage is {stage!r} ('pretraining' or 'fine-tuning'), and faithful_to {faithful_to!r}: chameleon follows 'code' or 'paper'"
        )
    for name, value in (("ridge", ridge), ("temperature", 1.0 if temperature is None else temperature)):
        if not (isinstance(value, (int, float)) and 0 < value < math.inf):
            raise InputError(f"the {name} is {value!r}; it is a finite number > 0")
    leverage = _leverage(_table(domains, embeddings), ridge)
    if faithful_to == "code":
        leverage = leverage / leverage.sum()
    before = stage == "pretraining"
    heat = temperature or ((5.0 if before else 0.2) if faithful_to == "code" else 1.0)
    logits = 1 / (leverage * heat) if before else leverage / heat
    w = np.exp(logits - logits.max())
    w /= w.sum()
    if len(w) > 1 and w.max() > HEAVY:
        warnings.warn(f"the weights collapse on {domains.names[int(w.argmax())]!r} ({w.max():.3g}); raise the temperature", stacklevel=2)
    return dict(zip(domains.names, w.tolist(), strict=True))


def _leverage(rows: np.ndarray, ridge: float) -> np.ndarray:
    """The ridge leverage [k] of centred rows [k, d]: the diagonal of K (K + ridge k I)^-1."""
    k = len(rows)
    centred = rows - rows.mean(axis=0)
    gram = centred @ centred.T
    found = np.diag(np.linalg.solve(gram + ridge * k * np.eye(k), gram))
    if not found.min() > 0:
        raise InputError("an embedding is the mean of all, so its leverage is 0 and says nothing; take another layer or more text")
    return found


def _table(domains: Domains, given: Any) -> np.ndarray:
    """Embeddings [k, d] in the order of the domains."""
    if isinstance(given, Mapping):
        if set(given) != set(domains.names):
            raise InputError(f"there are embeddings of {listed(given)}, and one for each of {listed(domains)} is expected")
        given = [given[name] for name in domains.names]
    if isinstance(given, (list, tuple)):
        given = [row.detach().cpu().numpy() if hasattr(row, "detach") else row for row in given]
    found = np.asarray(given.detach().cpu().numpy() if hasattr(given, "detach") else given, dtype=float)
    if found.ndim != 2 or len(found) != len(domains) or not np.isfinite(found).all():
        raise InputError(f"the embeddings have the shape {list(found.shape)}; finite vectors [{len(domains)}, d] are expected")
    return found
