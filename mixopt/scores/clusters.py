"""Domains as the model sees them: clusters of single examples by their gradients, with their shares, products, losses and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from mixopt.errors import InputError

STARTS = 4
TURNS = 100


@final
@dataclass(frozen=True)
class Clusters:
    """c clusters of n examples: their ``shares`` [c], ``gram`` [c, c] of their mean gradients, mean ``losses`` [c], ``labels`` [c, k].

    ``labels`` are the shares of the k domains in each cluster, P(domain | cluster); ``member`` [n] says which cluster an example is in.
    """

    shares: np.ndarray
    gram: np.ndarray
    losses: np.ndarray
    labels: np.ndarray
    member: np.ndarray

    def content(self) -> dict[str, np.ndarray]:
        """What a schedule of ``problems.dograph`` observes: ``schedule.observe(**clusters.content())``."""
        return {"shares": self.shares, "gram": self.gram, "losses": self.losses, "labels": self.labels}


def clusters(sketches: Any, losses: Any, labels: Sequence[int] | Any, count: int, *, domains: int | None = None, seed: int = 0) -> Clusters:
    """Examples in ``count`` clusters by K-means on the sketches [n, d] of their gradients.

    ``losses`` [n] and ``labels`` [n], the positions of their domains, are of the same examples; ``domains`` is how many there are, 1 more
    than the largest label if None. Sketches of single examples are ``mx.scores.sketches(module, list_of_single_windows, layers="last")``.
    Of four starts by K-means++ the tightest is kept; the seed fixes them, and clusters are in the order of their first example.

    Raises:
        InputError: shapes that do not fit, or more clusters than different examples.

    Source: step 1 and 2 of DoGraph as read from arXiv 2604.07963; Arthur and Vassilvitskii 2007 for the starts.
    """
    rows, values, tags = (_array(x) for x in (sketches, losses, labels))
    n = len(rows)
    if rows.ndim != 2 or values.shape != (n,) or tags.shape != (n,) or not np.isfinite(rows).all() or not np.isfinite(values).all():
        shapes = [list(x.shape) for x in (rows, values, tags)]
        raise InputError(f"finite sketches [n, d], losses [n] and labels [n] are expected; found {shapes}")
    k = int(tags.max()) + 1 if domains is None else domains
    if (tags != tags.astype(int)).any() or not 0 <= tags.min() <= tags.max() < k:
        raise InputError(f"labels are positions of domains from 0 to {k - 1}; found {tags.min():g} to {tags.max():g}")
    if not 1 <= count <= len(np.unique(rows, axis=0)):
        raise InputError(f"{count} clusters of {len(np.unique(rows, axis=0))} different examples; take fewer, or more examples")
    draw = np.random.default_rng(seed)
    member = min((_lloyd(rows, _starts(rows, count, draw)) for _ in range(STARTS)), key=lambda found: _spread(rows, found, count))
    order = {c: i for i, c in enumerate(dict.fromkeys(member.tolist()))}
    member = np.array([order[c] for c in member.tolist()])
    one = np.eye(count)[member]  # [n, c]
    sizes = one.sum(0)
    means = one.T @ rows / sizes[:, None]
    shares = np.array([np.bincount(tags[member == c].astype(int), minlength=k) for c in range(count)]) / sizes[:, None]
    return Clusters(sizes / n, means @ means.T, one.T @ values / sizes, shares, member)


def _starts(rows: np.ndarray, count: int, draw: np.random.Generator) -> np.ndarray:
    """K-means++: each next centre is an example drawn by its squared distance from those there are."""
    centres = [rows[draw.integers(len(rows))]]
    while len(centres) < count:
        far = np.min([((rows - c) ** 2).sum(1) for c in centres], axis=0)
        centres.append(rows[draw.choice(len(rows), p=far / far.sum())])
    return np.array(centres)


def _lloyd(rows: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The members [n] after Lloyd's iterations; a cluster that empties takes the example farthest from its centre."""
    member = np.full(len(rows), -1)
    for _ in range(TURNS):
        far = ((rows[:, None] - centres[None]) ** 2).sum(2)
        found = far.argmin(1)
        for c in set(range(len(centres))) - set(found.tolist()):
            alone = [i for i in np.argsort(-far[np.arange(len(rows)), found]) if (found == found[i]).sum() > 1]
            found[alone[0]] = c
        if (found == member).all():
            break
        member = found
        centres = np.array([rows[member == c].mean(0) for c in range(len(centres))])
    return member


def _spread(rows: np.ndarray, member: np.ndarray, count: int) -> float:
    return float(sum(((rows[member == c] - rows[member == c].mean(0)) ** 2).sum() for c in range(count)))


def _array(value: Any) -> np.ndarray:
    return np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value, dtype=float)
