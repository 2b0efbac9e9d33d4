"""mixopt: state a data mixture as a problem over the simplex, compile it, and solve it with a certificate.

>>> import mixopt as mx
>>> domains = mx.Domains(["web", "code", "books"], tokens=[8e11, 1.5e11, 5e10])
>>> w = mx.Mixture(domains)
>>> problem = mx.minimize(mx.kl(w, domains.natural), over=w, subject_to=[(w["web"] <= 0.5).named("web cap")])
>>> result = mx.solve(problem)
>>> {name: round(weight, 3) for name, weight in result.weights.items()}
{'web': 0.5, 'code': 0.375, 'books': 0.125}
>>> result.status.name, round(result.duals["web cap"], 3)
('OPTIMAL', 1.386)
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from mixopt.api import audit as audit
from mixopt.api import compare as compare
from mixopt.api import hypergradient as hypergradient
from mixopt.api import plan as plan
from mixopt.api import solve as solve
from mixopt.compiler.derivation import Derivation as Derivation
from mixopt.compiler.derive import derive as derive
from mixopt.errors import InputError as InputError
from mixopt.errors import LearnerError as LearnerError
from mixopt.errors import MixoptError as MixoptError
from mixopt.errors import ProblemError as ProblemError
from mixopt.errors import RefusalError as RefusalError
from mixopt.hypergradients import check_hypergradient as check_hypergradient
from mixopt.language import graph as graph
from mixopt.language.atoms import abs as abs
from mixopt.language.atoms import clip as clip
from mixopt.language.atoms import entropy as entropy
from mixopt.language.atoms import exp as exp
from mixopt.language.atoms import huber as huber
from mixopt.language.atoms import kl as kl
from mixopt.language.atoms import log as log
from mixopt.language.atoms import logsumexp as logsumexp
from mixopt.language.atoms import max as max
from mixopt.language.atoms import maximum as maximum
from mixopt.language.atoms import mean as mean
from mixopt.language.atoms import min as min
from mixopt.language.atoms import minimum as minimum
from mixopt.language.atoms import norm as norm
from mixopt.language.atoms import pos as pos
from mixopt.language.atoms import power as power
from mixopt.language.atoms import quad_form as quad_form
from mixopt.language.atoms import rel_entropy as rel_entropy
from mixopt.language.atoms import softplus as softplus
from mixopt.language.atoms import sqrt as sqrt
from mixopt.language.atoms import square as square
from mixopt.language.atoms import stack as stack
from mixopt.language.atoms import sum as sum
from mixopt.language.atoms import sum_squares as sum_squares
from mixopt.language.atoms import tail as tail
from mixopt.language.culprit import Culprit as Culprit
from mixopt.language.culprit import culprit as culprit
from mixopt.language.curvature import curvature as curvature
from mixopt.language.curvature import sign as sign
from mixopt.language.domains import Domains as Domains
from mixopt.language.expression import Expr as Expr
from mixopt.language.expression import Relation as Relation
from mixopt.language.expression import constant as constant
from mixopt.language.expression import equal as equal
from mixopt.language.formula import formula as formula
from mixopt.language.history import ema as ema
from mixopt.language.history import initial as initial
from mixopt.language.history import previous as previous
from mixopt.language.opaque import opaque as opaque
from mixopt.language.problem import Problem as Problem
from mixopt.language.problem import argmin as argmin
from mixopt.language.problem import maximize as maximize
from mixopt.language.problem import minimize as minimize
from mixopt.language.problem import trained as trained
from mixopt.language.serial import from_json as from_json
from mixopt.language.serial import load_problem as load_problem
from mixopt.language.serial import save_problem as save_problem
from mixopt.language.serial import to_json as to_json
from mixopt.language.support import cardinality as cardinality
from mixopt.language.support import used as used
from mixopt.language.symbols import Mixture as Mixture
from mixopt.language.symbols import domain_mean as domain_mean
from mixopt.language.symbols import gram as gram
from mixopt.language.symbols import loss as loss
from mixopt.language.symbols import losses as losses
from mixopt.language.symbols import mass as mass
from mixopt.language.symbols import model as model
from mixopt.language.symbols import parameter as parameter
from mixopt.language.symbols import surrogate as surrogate
from mixopt.language.symbols import tokens as tokens
from mixopt.language.symbols import variable as variable
from mixopt.method import Method as Method
from mixopt.planned import Plan as Plan
from mixopt.report.audit import Audit as Audit
from mixopt.report.hypergradients import HypergradientCheck as HypergradientCheck
from mixopt.report.result import Check as Check
from mixopt.report.result import Result as Result
from mixopt.report.result import Status as Status
from mixopt.runs import Likelihoods as Likelihoods
from mixopt.runs import Runs as Runs
from mixopt.solver import Budget as Budget
from mixopt.training import Training as Training
from mixopt.training import train as train

if TYPE_CHECKING:
    from mixopt import balancing as balancing
    from mixopt import data as data
    from mixopt import designs as designs
    from mixopt import export as export
    from mixopt import fitting as fitting
    from mixopt import laws as laws
    from mixopt import loading as loading
    from mixopt import problems as problems
    from mixopt import rules as rules
    from mixopt import scores as scores
    from mixopt import solvers as solvers
    from mixopt import sweeps as sweeps
    from mixopt import trainers as trainers
    from mixopt.designs import Design as Design
    from mixopt.designs import design as design
    from mixopt.designs import price as price
    from mixopt.runtime.learner import FunctionLearner as FunctionLearner
    from mixopt.runtime.torch_learner import TorchLearner as TorchLearner
    from mixopt.schedules import Every as Every
    from mixopt.schedules import Schedule as Schedule
    from mixopt.schedules import online as online
    from mixopt.solvers.neighbour import to_cvxpy as to_cvxpy
    from mixopt.sweeps import sweep as sweep

try:
    __version__ = version("mixopt")
except PackageNotFoundError:  # a bare checkout
    __version__ = "0.1.0"

_LATER = {
    "balancing": ("mixopt.balancing", None),
    "data": ("mixopt.data", None),
    "Design": ("mixopt.designs", "Design"),
    "design": ("mixopt.designs", "design"),
    "designs": ("mixopt.designs", None),
    "Every": ("mixopt.schedules", "Every"),
    "export": ("mixopt.export", None),
    "fitting": ("mixopt.fitting", None),
    "FunctionLearner": ("mixopt.runtime.learner", "FunctionLearner"),
    "TorchLearner": ("mixopt.runtime.torch_learner", "TorchLearner"),
    "laws": ("mixopt.laws", None),
    "loading": ("mixopt.loading", None),
    "online": ("mixopt.schedules", "online"),
    "price": ("mixopt.designs", "price"),
    "problems": ("mixopt.problems", None),
    "rules": ("mixopt.rules", None),
    "Schedule": ("mixopt.schedules", "Schedule"),
    "scores": ("mixopt.scores", None),
    "solvers": ("mixopt.solvers", None),
    "sweep": ("mixopt.sweeps", "sweep"),
    "sweeps": ("mixopt.sweeps", None),
    "to_cvxpy": ("mixopt.solvers.neighbour", "to_cvxpy"),
    "trainers": ("mixopt.trainers", None),
}
"""Public names that are imported when first used, because torch or scipy comes with them."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'mixopt' has no attribute {name!r}")
    module, attribute = _LATER[name]
    found = importlib.import_module(module)
    return found if attribute is None else getattr(found, attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "Audit",
    "Budget",
    "Check",
    "Culprit",
    "Derivation",
    "Design",
    "Domains",
    "Every",
    "Expr",
    "FunctionLearner",
    "HypergradientCheck",
    "InputError",
    "LearnerError",
    "Likelihoods",
    "Method",
    "MixoptError",
    "Mixture",
    "Plan",
    "Problem",
    "ProblemError",
    "RefusalError",
    "Relation",
    "Result",
    "Runs",
    "Schedule",
    "Status",
    "TorchLearner",
    "Training",
    "abs",
    "argmin",
    "audit",
    "balancing",
    "cardinality",
    "check_hypergradient",
    "clip",
    "compare",
    "constant",
    "culprit",
    "curvature",
    "data",
    "derive",
    "design",
    "designs",
    "domain_mean",
    "ema",
    "entropy",
    "equal",
    "exp",
    "export",
    "fitting",
    "formula",
    "from_json",
    "gram",
    "graph",
    "huber",
    "hypergradient",
    "initial",
    "kl",
    "laws",
    "load_problem",
    "loading",
    "log",
    "logsumexp",
    "loss",
    "losses",
    "mass",
    "max",
    "maximize",
    "maximum",
    "mean",
    "min",
    "minimize",
    "minimum",
    "model",
    "norm",
    "online",
    "opaque",
    "parameter",
    "plan",
    "pos",
    "power",
    "previous",
    "price",
    "problems",
    "quad_form",
    "rel_entropy",
    "rules",
    "save_problem",
    "scores",
    "sign",
    "softplus",
    "solve",
    "solvers",
    "sqrt",
    "square",
    "stack",
    "sum",
    "sum_squares",
    "surrogate",
    "sweep",
    "sweeps",
    "tail",
    "to_cvxpy",
    "to_json",
    "tokens",
    "train",
    "trained",
    "trainers",
    "used",
    "variable",
]
