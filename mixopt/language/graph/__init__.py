"""Relations and penalties from the sizes of domains, and from a networkx graph, tree or taxonomy whose nodes are domains.

>>> import mixopt as mx
>>> import networkx as nx
>>> w = mx.Mixture(mx.Domains(["web", "code", "books"], tokens=[8e11, 1.5e11, 5e10]))
>>> alike = nx.Graph([("web", "books"), ("books", "code")])
>>> limit = mx.graph.differences(w, alike, at_most=0.1)
>>> best = mx.solve(mx.maximize(w["code"], over=w, subject_to=[limit]))
>>> {name: round(weight, 3) for name, weight in best.weights.items()}
{'web': 0.233, 'code': 0.433, 'books': 0.333}
"""

from .bounds import differences as differences
from .bounds import each as each
from .bounds import order as order
from .bounds import ratios as ratios
from .branches import conditional_caps as conditional_caps
from .branches import frozen as frozen
from .branches import level_kl as level_kl
from .branches import tree_sums as tree_sums
from .caps import epochs as epochs
from .curricula import cumulative_order as cumulative_order
from .flows import Flow as Flow
from .flows import flow as flow
from .flows import transport as transport
from .flows import wasserstein as wasserstein
from .matrices import from_matrix as from_matrix
from .penalties import edge_norm as edge_norm
from .penalties import signed_smoothness as signed_smoothness
from .penalties import smoothness as smoothness
from .penalties import total_variation as total_variation
from .priors import diffused as diffused
from .read import GraphWarning as GraphWarning
from .supports import Choice as Choice
from .supports import start_order as start_order
from .supports import support_order as support_order
from .trees import Tree as Tree
from .trees import tree as tree

__all__ = [
    "Choice",
    "Flow",
    "GraphWarning",
    "Tree",
    "conditional_caps",
    "cumulative_order",
    "differences",
    "diffused",
    "each",
    "edge_norm",
    "epochs",
    "flow",
    "from_matrix",
    "frozen",
    "level_kl",
    "order",
    "ratios",
    "signed_smoothness",
    "smoothness",
    "start_order",
    "support_order",
    "total_variation",
    "transport",
    "tree",
    "tree_sums",
    "wasserstein",
]
