"""MixMax: the mixture whose best predictor does as well as any can on the worst of the sources."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from mixopt.errors import InputError, listed
from mixopt.language.atoms import rel_entropy, sum
from mixopt.language.domains import Domains
from mixopt.language.expression import Relation, constant
from mixopt.language.problem import maximize
from mixopt.language.symbols import Mixture
from mixopt.method import Method


def mixmax(domains: Domains, tables: np.ndarray | Sequence, *, subject_to: Iterable[Relation] = ()) -> Method:
    r"""max over w of H(Y | X) of the mixture sum_i w_i P_i, in nats: a concave program.

    ``tables`` [k, X, Y] are the joint distributions P_i(x, y) of inputs and labels of each source, each summing to 1. It is group
    DRO over all functions, min_f max_w sum_i w_i E_{P_i}[-log f(y | x)]: by the minimax theorem the weights may move first,
    and the best f for them is the mixture's own p_w(y | x), whose loss is the conditional entropy. So at the optimum the worst
    source's loss under p_w is the value, and a source with weight has just that loss. With X = 1 it is the centre of the
    largest entropy that the sources' hull has. ``subject_to`` are relations on ``Mixture(domains)``.

    Only cells that some source can produce are kept. Where a model is to be trained instead of a table counted, state the saddle:
    ``minimize(maximize(w @ losses(theta, domains), over=w), over=theta)``; for a table of logits it has the same answer.

    Raises:
        InputError: tables of another shape, negative entries, or a table that does not sum to 1.

    Source: Thudi and Maddison 2024, arXiv 2406.01477 (group DRO over bounded functions; the cross-entropy case).
    """
    from mixopt.solvers import Conic

    joint = _tables(domains, tables)
    k = len(domains)
    inputs = np.broadcast_to(joint.sum(axis=2, keepdims=True), joint.shape).reshape(k, -1).T
    cells = joint.reshape(k, -1).T
    kept = cells.any(axis=1)
    w = Mixture(domains)
    spread = -sum(rel_entropy(constant(cells[kept]) @ w, constant(inputs[kept]) @ w))
    return Method(maximize(spread, over=w, subject_to=subject_to), Conic(), "MixMax")


def _tables(domains: Domains, tables: np.ndarray | Sequence) -> np.ndarray:
    try:
        joint = np.asarray(tables, dtype=float)
    except (TypeError, ValueError):
        raise InputError(
            f"tables are no numbers of shape [{len(domains)}, X, Y]; every source has inputs and labels in the same order"
        ) from None
    if joint.ndim != 3 or len(joint) != len(domains) or not joint.size:
        raise InputError(
            f"tables have shape {list(joint.shape)}; [{len(domains)}, X, Y] is expected, a table for each of {listed(domains)}"
        )
    if not (joint >= 0).all():
        raise InputError("tables have an entry that is negative or NaN; probabilities are >= 0")
    for name, total in zip(domains, joint.sum(axis=(1, 2)), strict=True):
        if not abs(total - 1) <= 1e-6:
            raise InputError(f"the table of {name!r} sums to {total:.6g}; P(x, y) sums to 1, so divide counts by their total")
    return joint
