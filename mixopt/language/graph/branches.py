"""Relations and penalties on a tree of domains: group sums, frozen and capped conditionals, divergence level by level."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mixopt.errors import InputError, ProblemError, listed, unknown
from mixopt.language import atoms
from mixopt.language.domains import Domains
from mixopt.language.expression import Expr, Relation, constant, equal

from .penalties import Natural
from .read import at, names_of, shares, summed
from .trees import Node, Source, tree


def tree_sums(w: Expr, source: Source = None, level: int = 1) -> Expr:
    """The total weights [n] of the branches at a level, with the domains that end above it; named by branch, together 1.

    ``tree_sums(w)["web"] <= 0.5`` caps a branch. Trees come from names with "/", prefix codes or networkx: see ``tree``.

    Raises:
        InputError: no such level, or a tree over other domains.
    """
    return _sums(w, tree(w, source).cut(level))


def frozen(w: Expr, branch: str, source: Source = None, natural: Natural = None) -> Relation:
    """Frozen conditionals: inside a branch the shares stay as they are, w_i = r_i W_branch with r_i = q_i / Q_branch.

    ``natural`` is q [k], by default the natural shares; give the last mixture to reuse it while other domains are mixed anew
    (mixture reuse, Olmix, arXiv 2602.12237). The last domain's row follows from the others and is left out [n - 1].

    Raises:
        InputError: no such branch, one with a single domain, or one without any share.
    """
    made = tree(w, source)
    leaves = made.nodes[made.find(branch)].leaves
    if len(leaves) < 2:
        raise InputError(f"the branch {branch!r} has one domain, {made.names[leaves[0]]!r}, so it has no shares to freeze")
    q = _given(w, natural)[list(leaves)]
    if q.sum() <= 0:
        raise InputError(f"every share in the branch {branch!r} is 0, so its conditionals are not known; give natural=[...]")
    rows, named = leaves[:-1], tuple(made.names[i] for i in leaves[:-1])
    total = atoms.sum(w[list(leaves)])
    return equal(at(w, rows, named), constant(q[:-1] / q.sum(), named) * total).named(f"frozen {branch or 'root'}")


def conditional_caps(w: Expr, branch: str, at_most: float | Mapping[str, float], source: Source = None) -> Relation:
    """Caps inside a branch: each child's total is at most a share of the branch's, W_child <= at_most * W_branch [children].

    ``at_most`` is one share for all children, or a mapping from the names of some to theirs. Branch "" is the root.

    Raises:
        InputError: no such branch or child.
        ProblemError: a share outside [0, 1], or shares of all children that sum to less than 1.
    """
    made = tree(w, source)
    children = made.children(branch)
    if isinstance(at_most, Mapping):
        for name in at_most:
            if name not in {child.name for child in children}:
                raise unknown("child", name, [child.name for child in children])
        capped = tuple(child for child in children if child.name in at_most)
        shares_ = np.array([float(at_most[child.name]) for child in capped])
    else:
        capped, shares_ = children, np.full(len(children), float(at_most))
    if not len(shares_) or not ((shares_ >= 0) & (shares_ <= 1)).all():
        raise ProblemError(f"caps inside {branch!r} are shares from 0 to 1 of its total, not {at_most!r}")
    if len(capped) == len(children) and shares_.sum() < 1 - 1e-12:
        raise ProblemError(f"the caps of all children of {branch!r} sum to {shares_.sum():.6g}, below 1: only weight 0 meets them")
    names = tuple(child.name for child in capped)
    total = atoms.sum(w[list(made.nodes[made.find(branch)].leaves)])
    return (_sums(w, capped) <= constant(shares_, names) * total).named(f"caps inside {branch or 'root'}")


def level_kl(w: Expr, strengths: float | Sequence[float], source: Source = None, natural: Natural = None) -> Expr:
    """Divergence from the natural shares, level by level []: the sum over levels of strength * sum_v W_v KL(w_.|v || q_.|v), in nats.

    One strength for each level, the highest first: it says how stiff the choice among the children of that level's branches is.
    Equal strengths give strength * kl(w, natural), by the chain rule. Convex in w, for the leaves' weights are the variables.

    Raises:
        InputError: a tree over other domains, or natural shares that are unknown or 0.
        ProblemError: another number of strengths than there are levels, or a negative one.
    """
    made = tree(w, source)
    levels = [float(s) for s in strengths] if isinstance(strengths, Sequence) else [float(strengths)] * made.depth
    if len(levels) != made.depth:
        raise ProblemError(f"the tree has {made.depth} levels, but there are {len(levels)} strengths")
    if any(not (math.isfinite(s) and s >= 0) for s in levels) or not any(levels):
        raise ProblemError(f"the strengths are {listed(levels)}; they are finite numbers >= 0, and not all 0")
    q = shares(w, natural, "level_kl")
    total: Expr | None = None
    for level, strength in enumerate(levels, 1):
        if strength == 0:
            continue
        nodes = made.at(level)
        masses = np.array([q[list(node.leaves)].sum() for node in nodes])
        if level > 1:
            parents = tuple(dict.fromkeys(made.nodes[node.parent] for node in nodes))
            place = {parent: i for i, parent in enumerate(parents)}
            above = tuple(place[made.nodes[node.parent]] for node in nodes)
            ratio = masses / np.array([q[list(parent.leaves)].sum() for parent in parents])[list(above)]
            names = tuple(node.name for node in nodes)
            centre = constant(ratio, names) * at(_sums(w, parents), above, names)
        else:
            centre = constant(masses, tuple(node.name for node in nodes))
        term = atoms.kl(_sums(w, nodes), centre)
        term = term if strength == 1 else strength * term
        total = term if total is None else total + term
    assert total is not None
    return total


def _given(w: Expr, natural: Natural) -> np.ndarray:
    """Shares that may be 0: given ones, or the domains' own."""
    return shares(w, None, "frozen") if natural is None else Domains(names_of(w)).weights(natural)


def _sums(w: Expr, nodes: tuple[Node, ...]) -> Expr:
    """The total weights [n] of some nodes, named by them."""
    return summed(w, [node.leaves for node in nodes], tuple(node.name for node in nodes))
