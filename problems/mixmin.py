"""MixMin: the mixture under which the target's likelihood is largest, where one model a source takes the place of training."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from functools import reduce

import numpy as np

from mixopt.errors import InputError, listed
from mixopt.language.atoms import log
from mixopt.language.curvature import curvature
from mixopt.language.domains import Domains
from mixopt.language.expression import Expr, Relation, constant
from mixopt.language.problem import minimize
from mixopt.language.symbols import Mixture
from mixopt.method import Method

MOST_CONES = 2000
"""Up to so many different rows an interior-point method solves it; above, projected descent, whose steps cost n k."""

BLOCK = 1000
"""Rows in one summand."""

Table = np.ndarray | Sequence[Sequence[float]]


def mixmin(
    domains: Domains,
    log_likelihoods: Table | None = None,
    *,
    probabilities: Table | None = None,
    lengths: np.ndarray | Sequence[float] | None = None,
    subject_to: Iterable[Relation] = (),
) -> Method:
    r"""min over w of -mean_d (1 / length_d) log sum_i w_i p_i(d), in nats: a convex program.

    Row d of ``log_likelihoods`` [n, k] has log p_i(d), the log-likelihood of one target example under the model trained on
    source i alone; ``probabilities`` [n, k] may be given instead where they do not underflow. An example is a *token* (then
    the program is the feature of MDE, arXiv 2502.15950, and mixes predictions), or a *document* with log-likelihoods summed over
    its tokens; ``lengths`` [n] in tokens, for documents, divide each by its length, as the released code does. Without lengths
    every example counts the same. Mixed by whole documents the weights tend to few sources, since the ratios of
    likelihoods of long documents are huge.

    It is the bilevel problem min over w of the target loss of argmin over models of sum_i w_i loss_i, where models can be any
    function and p(x) is the same in all sources: the trained model is then sum_i w_i p_i(y | x).

    Each row is divided by its largest entry, and equal rows are counted together, so that nothing underflows and repeated rows
    cost nothing. ``subject_to`` are relations on ``Mixture(domains)``. The solver is ``Conic`` up to 2000 different rows,
    ``Projected`` above where the constraints are linear; the source takes at most 100 steps of exponentiated gradient of rate 1
    from uniform weights and stops on max |gradient| < 1e-4, which need not be small at an optimum on the simplex.

    Raises:
        InputError: both or neither of the tables, one of another shape, entries that are NaN, a row that no source can produce,
            or lengths that are not > 0.

    Source: Thudi et al. 2025, arXiv 2502.10510; code Anvith-Thudi/MixMin.
    """
    from mixopt.solvers import Conic, Projected

    rows = _rows(domains, log_likelihoods, probabilities)
    shares = _shares(lengths, len(rows))
    top = rows.max(axis=1)
    different, owner = np.unique(np.exp(rows - top[:, None]), axis=0, return_inverse=True)
    counts = np.bincount(np.ravel(owner), shares, len(different))
    w = Mixture(domains)
    problem = minimize(_entropy(w, different, counts, -float(shares @ top)), over=w, subject_to=subject_to)
    curved = any(curvature(r.gap) != "affine" for r in problem.subject_to)
    return Method(problem, Conic() if len(different) <= MOST_CONES or curved else Projected(), "MixMin")


def _entropy(w: Expr, rows: np.ndarray, counts: np.ndarray, offset: float) -> Expr:
    """-sum_d counts_d log (rows_d @ w) + offset [], in blocks, so that no check needs a square of all the rows."""
    blocks = [slice(i, i + BLOCK) for i in range(0, len(rows), BLOCK)]
    first, *others = (constant(counts[b]) @ log(constant(rows[b]) @ w) for b in blocks)
    return -reduce(operator.add, others, first) + offset


def _rows(domains: Domains, logs: Table | None, probabilities: Table | None) -> np.ndarray:
    """Log-likelihoods [n, k], -inf for a probability of 0."""
    if (logs is None) == (probabilities is None):
        raise InputError("mixmin takes either log_likelihoods [n, k] or probabilities [n, k], one of the two")
    name, table = ("log_likelihoods", logs) if logs is not None else ("probabilities", probabilities)
    try:
        rows = np.asarray(table, dtype=float)
    except (TypeError, ValueError):
        raise InputError(f"{name} are no numbers of shape [n, {len(domains)}]") from None
    if rows.ndim != 2 or rows.shape[1] != len(domains) or not len(rows):
        raise InputError(f"{name} have shape {list(rows.shape)}; a row an example and a column a domain {listed(domains)} are expected")
    if probabilities is not None:
        if not (rows >= 0).all():
            raise InputError("probabilities has an entry that is negative or NaN; likelihoods are >= 0")
        with np.errstate(divide="ignore"):
            rows = np.log(rows)
    if np.isnan(rows).any() or (rows == np.inf).any():
        raise InputError(f"{name} has an entry that is NaN or infinite; give log-likelihoods in nats, or -inf for impossible")
    lost = np.flatnonzero(np.isneginf(rows).all(axis=1))
    if len(lost):
        raise InputError(f"example {lost[0]} has probability 0 under every domain, so no mixture explains it; leave it out")
    return rows


def _shares(lengths: np.ndarray | Sequence[float] | None, n: int) -> np.ndarray:
    """How much each example counts [n]: 1 / (n length)."""
    if lengths is None:
        return np.full(n, 1 / n)
    sizes = np.asarray(lengths, dtype=float)
    if sizes.shape != (n,) or not (np.isfinite(sizes) & (sizes > 0)).all():
        raise InputError(f"lengths [{n}] are the tokens of each document, all > 0; these have shape {list(sizes.shape)}")
    return 1 / (n * sizes)
