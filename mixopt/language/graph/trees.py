"""Domains as the leaves of a tree: from names with "/", from a networkx tree, or from prefix codes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

from mixopt.errors import InputError, listed, unknown
from mixopt.language.domains import Domains
from mixopt.language.expression import Expr

from .read import names_of, refuse_unless_graph

Path = tuple[str, ...]


@final
@dataclass(frozen=True)
class Node:
    """A branch of a tree or a domain: its depth below the root (``level``), its parent's position, the positions of its domains."""

    name: str
    level: int
    parent: int
    leaves: tuple[int, ...]
    domain: bool


@final
@dataclass(frozen=True)
class Tree:
    """A tree whose leaves are the domains ``names``; ``paths`` has the branches above each, from the highest to the lowest.

    >>> made = tree(Domains(["web/news", "web/forum", "code"]))
    >>> made.branches, made.depth
    (('web',), 2)
    >>> [node.name for node in made.cut(1)]
    ['web', 'code']
    """

    names: tuple[str, ...]
    paths: tuple[Path, ...]

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The root, then the branches and domains, each behind its parent."""
        nodes = [Node("", 0, 0, tuple(range(len(self.names))), False)]
        at: dict[Path, int] = {(): 0}
        members: dict[Path, list[int]] = {}
        for i, path in enumerate(self.paths):
            for depth in range(1, len(path) + 1):
                members.setdefault(path[:depth], []).append(i)
        for path, leaves in members.items():
            at[path] = len(nodes)
            nodes.append(Node(path[-1], len(path), at[path[:-1]], tuple(leaves), False))
        ends = enumerate(zip(self.names, self.paths, strict=True))
        nodes += [Node(name, len(path) + 1, at[path], (i,), True) for i, (name, path) in ends]
        return tuple(nodes)

    @property
    def branches(self) -> Path:
        """The names of the branches, the root not among them."""
        return tuple(node.name for node in self.nodes[1:] if not node.domain)

    @property
    def depth(self) -> int:
        """The level of the deepest domain; children of the root are at level 1."""
        return max(len(path) for path in self.paths) + 1

    def cut(self, level: int) -> tuple[Node, ...]:
        """The nodes at a level, with the domains that end above it: together they hold every domain once.

        Raises:
            InputError: the tree has no such level.
        """
        if not 1 <= level <= self.depth:
            raise InputError(f"the tree has the levels 1 to {self.depth}, and no level {level}")
        return _ordered(node for node in self.nodes if node.level == level or (node.domain and node.level < level))

    def at(self, level: int) -> tuple[Node, ...]:
        """The nodes at a level."""
        return _ordered(node for node in self.nodes if node.level == level)

    def find(self, branch: str) -> int:
        """The position of a branch among the nodes; "" is the root. Raises with the nearest name suggested."""
        found = next((i for i, node in enumerate(self.nodes) if node.name == branch and not node.domain), None)
        if found is None:
            raise unknown("branch", branch, self.branches)
        return found

    def children(self, branch: str) -> tuple[Node, ...]:
        """The branches and domains directly below a branch."""
        parent = self.find(branch)
        return _ordered(node for node in self.nodes[1:] if node.parent == parent)


Source = Tree | Mapping[str, Sequence[object]] | Any | None


def tree(domains: Domains | Expr, source: Source = None) -> Tree:
    """The tree over the domains (or the domains of a mixture).

    ``source`` is None for names with "/" (``web/news`` lies below ``web``); a mapping from each domain's name to its prefix code,
    highest level first, such as HERMES' (12, 7, 3), whose branches are then called "12" and "12/7"; a networkx DiGraph with one
    root, edges from parent to child, and the domains as leaves; or a Tree.

    Raises:
        InputError: a source over other names; a graph that is no tree, or has leaves that are no domains.
    """
    names = domains.names if isinstance(domains, Domains) else names_of(domains)
    if isinstance(source, Tree):
        if source.names != names:
            raise InputError(f"the tree is over {listed(source.names)}, not over {listed(names)}")
        return source
    if source is None:
        return Tree(names, _above([tuple(name.split("/")) for name in names]))
    if isinstance(source, Mapping):
        return Tree(names, _above(_codes(names, source)))
    return Tree(names, _from_graph(names, source))


def _ordered(nodes: Iterable[Node]) -> tuple[Node, ...]:
    """Nodes in the order of their first domains."""
    return tuple(sorted(nodes, key=lambda node: node.leaves))


def _codes(names: tuple[str, ...], source: Mapping[str, Sequence[object]]) -> list[Path]:
    for name in source:
        if name not in names:
            raise unknown("domain", name, names)
    missing = [name for name in names if name not in source]
    if missing:
        raise InputError(f"prefix codes are missing for {listed(missing)}")
    for name in names:
        if isinstance(source[name], (str, bytes)) or not isinstance(source[name], Sequence) or not len(source[name]):
            raise InputError(f"the prefix code of {name!r} is {source[name]!r}; it is a list of its levels, such as (12, 7, 3)")
    return [tuple(str(part) for part in source[name]) for name in names]


def _above(codes: list[Path]) -> tuple[Path, ...]:
    """The branches above each domain: the proper prefixes of its code, and the code itself where others share or extend it."""
    count: dict[Path, int] = {}
    for code in codes:
        for n in range(1, len(code) + 1):
            count[code[:n]] = count.get(code[:n], 0) + 1
    last = [len(code) + 1 if count[code] > 1 else len(code) for code in codes]
    return tuple(tuple("/".join(code[:n]) for n in range(1, end)) for code, end in zip(codes, last, strict=True))


def _from_graph(names: tuple[str, ...], graph: Any) -> tuple[Path, ...]:
    refuse_unless_graph(graph)
    if not graph.is_directed():
        raise InputError("the tree has no direction; give a networkx.DiGraph with edges from parent to child")
    roots = [node for node, degree in graph.in_degree() if degree == 0]
    if len(roots) != 1:
        raise InputError(f"a tree has one root, but {len(roots)} nodes have no parent: {listed(roots)}; add a root above them")
    several = [node for node, degree in graph.in_degree() if degree > 1]
    if several:
        parents = list(graph.predecessors(several[0]))
        raise InputError(f"{several[0]!r} has the parents {listed(parents)}, and in a tree each node has one; for several parents use flow")
    leaves = [node for node, degree in graph.out_degree() if degree == 0]
    known = set(names)
    for leaf in leaves:
        if leaf not in known:
            raise unknown("domain", leaf, names)
    missing = [name for name in names if name not in graph or graph.out_degree(name) > 0]
    if missing:
        raise InputError(f"the tree does not have the domains {listed(missing)} as leaves; each domain is one")
    return tuple(_upwards(graph, name, roots[0], len(graph)) for name in names)


def _upwards(graph: Any, name: str, root: object, most: int) -> Path:
    path: list[str] = []
    node = next(iter(graph.predecessors(name)), root)
    while node != root and len(path) <= most:
        path.append(str(node))
        node = next(iter(graph.predecessors(node)))
    return tuple(reversed(path))
