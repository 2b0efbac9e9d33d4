"""DoGraph, reconstructed: weights of the domains that the model itself sees, by a program with their similarities as a graph."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from mixopt.errors import InputError, ProblemError
from mixopt.language import graph
from mixopt.language.atoms import kl
from mixopt.language.atoms import min as least
from mixopt.language.domains import Domains
from mixopt.language.expression import Relation, constant
from mixopt.language.problem import Problem, maximize, minimize
from mixopt.language.symbols import Mixture, losses, model
from mixopt.method import Method
from mixopt.rules import Need, Rule, Scene, Seen, Standing


def dograph_c(
    shares: np.ndarray, gram: np.ndarray, losses: np.ndarray, *, slack: float = 0.1, slope: float = 1.0, temperature: float = 0.1
) -> Problem:
    """max over w of min_i (G w)_i / l_i - temperature KL(w || n), |w_i / n_i - w_j / n_j| <= slack + slope (1 - s_ij) on all pairs.

    The domains are clusters: n their ``shares`` [c], G [c, c] their mean gradients' inner products, l [c] their losses, so that
    (G w)_i / l_i is the relative progress of cluster i in a step under w; it is even, and like clusters are treated alike.
    s_ij = exp(-|g_i - g_j|^2 / median) is their similarity. A linear program at temperature 0.

    This is a reconstruction: the source names progress, balance and a graph of gradients, and no formula of it is known to us.

    Raises:
        InputError: shapes that do not fit, shares or losses that are not > 0, a negative setting.

    Source: after Xu et al. 2026, arXiv 2604.07963 (DoGraph).
    """
    _refuse(slack=slack, slope=slope, temperature=temperature)
    n, products, now = _checked(shares, gram, losses)
    w = Mixture(Domains([f"cluster {i}" for i in range(len(n))]))
    gain = least(constant(products / now[:, None]) @ w)
    objective = gain - temperature * kl(w, n) if temperature else gain
    limit = slack + slope * (1 - similarity(products))
    pairs = graph.from_matrix(w.index or (), limit=np.maximum(limit, 1e-12)) if len(n) > 1 else None
    bounds = [] if pairs is None else [graph.differences(w, pairs, at_most="limit", natural=n, form="density").named("similarity")]
    return maximize(objective, over=w, subject_to=bounds)


def dograph_p(
    shares: np.ndarray,
    gram: np.ndarray,
    losses: np.ndarray,
    *,
    last: np.ndarray | None = None,
    smoothness: float = 1.0,
    temperature: float = 0.1,
) -> Problem:
    """min over w of -b.w + smoothness / 2 sum_ij n_i n_j s_ij (w_i / n_i - w_j / n_j)^2 + temperature KL(w || last), b = G n / |G n|.

    The graph as a penalty: without it this is R&B's step about ``last`` [c] (n where None). The letters are those of ``dograph_c``; the
    losses are not in it. A reconstruction too.

    Raises:
        InputError: shapes that do not fit, shares or losses that are not > 0, a negative setting.

    Source: after Xu et al. 2026, arXiv 2604.07963 (DoGraph).
    """
    _refuse(smoothness=smoothness, temperature=temperature)
    n, products, _ = _checked(shares, gram, losses)
    w = Mixture(Domains([f"cluster {i}" for i in range(len(n))]))
    score = products @ n
    size = float(np.linalg.norm(score))
    objective = -(constant(score / size if size else score) @ w)
    alike = similarity(products)
    if smoothness and len(n) > 1 and np.triu(alike, 1).any():
        objective = objective + smoothness / 2 * graph.smoothness(w, graph.from_matrix(w.index or (), weight=alike), natural=n)
    if temperature:
        objective = objective + temperature * kl(w, n if last is None else last)
    return minimize(objective, over=w)


def similarity(gram: np.ndarray) -> np.ndarray:
    """exp(-|g_i - g_j|^2 / s) [c, c] of inner products [c, c], s the median over pairs; the squares are those of a mean discrepancy."""
    squares = np.maximum(np.diag(gram)[:, None] + np.diag(gram)[None] - 2 * gram, 0.0)
    pairs = squares[np.triu_indices(len(gram), 1)]
    scale = float(np.median(pairs)) if len(pairs) else 0.0
    return np.exp(-squares / scale) if scale > 0 else np.ones_like(squares)


@final
@dataclass(frozen=True)
class DoGraph(Rule):
    """At each refresh ``dograph_c`` ("constraint") or ``dograph_p`` ("penalty") over the clusters, and v = sum_i w_i P(domain | i).

    It reads what ``mx.scores.clusters`` finds. ``last`` of the penalty are the domains' weights as the new clusters see them.
    """

    clusters: int = 8
    form: Literal["constraint", "penalty"] = "constraint"
    slack: float = 0.1
    slope: float = 1.0
    smoothness: float = 1.0
    temperature: float = 0.1

    def __post_init__(self) -> None:
        if self.form not in ("constraint", "penalty"):
            raise InputError(f"the form is {self.form!r}; it is 'constraint' or 'penalty'")
        if isinstance(self.clusters, bool) or not isinstance(self.clusters, int) or self.clusters < 1:
            raise InputError(f"there are {self.clusters!r} clusters; it is a whole number >= 1")
        _refuse(slack=self.slack, slope=self.slope, smoothness=self.smoothness, temperature=self.temperature)

    def needs(self, domains: Domains) -> tuple[Need, ...]:
        names = tuple(f"cluster {i}" for i in range(self.clusters))
        return (
            Need("shares", "the clusters' shares of the examples", names, each=False),
            Need("gram", "inner products of the clusters' mean gradients", names, names, each=False),
            Need("losses", "the clusters' mean losses, in nats per token", names, each=False),
            Need("labels", "the shares of the domains in each cluster", names, domains.names, each=False),
        )

    def move(self, scene: Scene, at: Standing, seen: Seen) -> Standing:
        from mixopt.api import solve

        shares, labels = seen["shares"], seen["labels"]
        told = shares, seen["gram"], seen["losses"]
        if self.form == "constraint":
            problem = dograph_c(*told, slack=self.slack, slope=self.slope, temperature=self.temperature)
        else:
            mass = labels * shares[:, None]
            before = mass / np.maximum(mass.sum(0), np.finfo(float).tiny) @ at.weights
            before = np.maximum(before, 1e-9)
            problem = dograph_p(*told, last=before / before.sum(), smoothness=self.smoothness, temperature=self.temperature)
        found = solve(problem)
        if not found.status.usable:
            raise ProblemError(f"the program over the clusters has no answer: {found.status.value}; raise slack")
        weights = found.vector @ labels
        return Standing(scene.nearest(weights / weights.sum()), info={"clusters": found.vector})


def dograph(
    domains: Domains,
    clusters: int = 8,
    *,
    form: Literal["constraint", "penalty"] = "constraint",
    slack: float = 0.1,
    slope: float = 1.0,
    smoothness: float = 1.0,
    temperature: float = 0.1,
    every: int = 1,
    steps: int = 1000,
    subject_to: Iterable[Relation] = (),
) -> Method:
    """DoGraph as a schedule, reconstructed: clusters of gradients, a program over them with their graph, and the domains' weights.

    For ``mx.online``; at each refresh, ``schedule.observe(**mx.scores.clusters(sketches, losses, labels, clusters).content())``. A learner
    of ours does not cluster, so ``mx.solve`` refuses it. What is known of the source, and what is not, is on its card.

    Raises:
        InputError: another form, or a number out of range.

    Source: after Xu et al. 2026, arXiv 2604.07963.
    """
    from mixopt.solvers import Online

    rule = DoGraph(clusters, form, slack, slope, smoothness, temperature)
    w, theta = Mixture(domains), model()
    problem = minimize(maximize(w @ losses(theta, domains), over=w, subject_to=subject_to), over=theta)
    return Method(problem, Online(rule, every=every, steps=steps), "DoGraph (reconstructed)")


def _checked(shares: np.ndarray, gram: np.ndarray, losses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n, products, now = (np.asarray(x, dtype=float) for x in (shares, gram, losses))
    if n.ndim != 1 or products.shape != (len(n), len(n)) or now.shape != n.shape:
        raise InputError(f"shares [c], a gram [c, c] and losses [c] are expected; found {[list(x.shape) for x in (n, products, now)]}")
    if not (n.min() > 0 and abs(n.sum() - 1) < 1e-6 and now.min() > 0 and np.isfinite(products).all()):
        raise InputError("the clusters' shares are > 0 and sum to 1, their losses > 0 and their gram finite; these are not")
    return n / n.sum(), (products + products.T) / 2, now


def _refuse(**settings: float) -> None:
    for name, value in settings.items():
        if not (isinstance(value, (int, float)) and 0 <= value < math.inf):
            raise InputError(f"{name} is {value!r}; it is a finite number >= 0")
