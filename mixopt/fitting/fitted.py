"""What a fit leaves behind: the law, the objective, the limits, the noise and the recommended weights, saved and read back."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np

from mixopt import laws
from mixopt.errors import InputError, cause
from mixopt.files import write
from mixopt.language.domains import Domains
from mixopt.language.expression import Expr
from mixopt.language.problem import Problem, maximize, minimize
from mixopt.runs import Targets

from .limits import Limits
from .objective import Objective
from .own import Own

_FORMAT = "mixopt fit 1"
LAW, FIT = "law.json", "fit.json"


@final
@dataclass(frozen=True, eq=False)
class Noise:
    """What difference of the objective the runs could show: its value, in the objective's unit, and a sentence on where it is from."""

    value: float
    how: str


@final
@dataclass(frozen=True, eq=False)
class Question:
    """A law with what is asked of a mixture; from it the problem is stated, and any mixture judged."""

    law: laws.Law
    objective: Objective
    limits: Limits

    def whole(self, w: Expr) -> Expr:
        """What is minimised [], the objective's loss plus the KL term, as an expression of a mixture."""
        loss, penalty = self.objective.expression(self.law, w), self.limits.penalty(w)
        return loss if penalty is None else loss + penalty

    def problem(self, w: Expr) -> Problem:
        """The problem of the best mixture; where every target is to be maximised, it maximises."""
        relations = self.limits.relations(w)
        if self.objective.maximised:
            return maximize(-self.whole(w), over=w, subject_to=relations)
        return minimize(self.whole(w), over=w, subject_to=relations)

    def loss(self, weights: np.ndarray) -> float:
        """The predicted loss at weights [k]: the value of the objective with the sign that makes less better, without the KL term."""
        return float(self.objective.loss(self.law.predicted(weights)))

    def total(self, weights: np.ndarray) -> float:
        """What is minimised, at weights [k]."""
        return self.loss(weights) + self.limits.divergence(weights)

    def value(self, weights: np.ndarray) -> float:
        """The predicted value that people read, at weights [k]."""
        return self.objective.shown(self.loss(weights))


@final
@dataclass(frozen=True, eq=False)
class Fitted:
    """A question with its answer, the recommended weights, and the noise of the runs: enough to score any mixture.

    ``columns`` maps a column of the table to the domain that it became, so that mixtures may use the names of either.
    """

    question: Question
    noise: Noise
    weights: Mapping[str, float]
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def vector(self) -> np.ndarray:
        """The recommended weights [k]."""
        return np.array(list(self.weights.values()))

    def save(self, folder: str | os.PathLike[str]) -> tuple[Path, Path]:
        """Write law.json and fit.json into a folder; ``load`` reads them back."""
        place = Path(folder)
        self.question.law.save(place / LAW)
        write(place / FIT, json.dumps(self._content(), indent=1) + "\n")
        return place / LAW, place / FIT

    def _content(self) -> dict[str, Any]:
        goal, limits = self.question.objective, self.question.limits
        return {
            "format": _FORMAT,
            "objective": {
                "kind": goal.kind,
                "own": None if goal.own is None else _text(goal.own),
                "groups": goal.groups,
                "shares": goal.shares.tolist(),
                "weights": goal.weights.tolist(),
                "best": None if goal.best is None else goal.best.tolist(),
            },
            "limits": {
                "tokens": limits.domains.tokens,
                "natural": None if limits.natural is None else limits.natural.tolist(),
                **{n: getattr(limits, n) for n in ("kl", "budget", "cap")},
                **{n: dict(getattr(limits, n)) for n in ("at_least", "at_most", "fixed")},
            },
            "noise": {"value": self.noise.value, "how": self.noise.how},
            "weights": dict(self.weights),
            "columns": dict(self.columns),
        }

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Fitted:
        """What ``save`` wrote into a folder.

        Raises:
            InputError: the folder holds no fit, or its files were changed.
        """
        path = Path(folder) / FIT
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{folder} holds no fit that can be read ({cause(error)}); give the --out folder of mixopt fit") from None
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise InputError(f"{path} is not as mixopt fit writes it; give the --out folder of mixopt fit")
        law = laws.load(Path(folder) / LAW)
        try:
            return cls(
                Question(law, _objective(content["objective"], law.targets), _limits(content["limits"], law.domains)),
                Noise(**content["noise"]),
                dict(zip(law.domains, law.domains.weights(content["weights"]).tolist(), strict=True)),
                dict(content["columns"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} was changed or is cut: {error}; fit again") from None


def _text(own: Own) -> str:
    if own.saved is None:
        raise InputError(f"an objective given as a function ({own.text}) cannot be saved; write it as a formula of the targets")
    return own.saved


def _objective(content: Mapping[str, Any], targets: Targets) -> Objective:
    best = content["best"]
    shares, weights = np.array(content["shares"], dtype=float), np.array(content["weights"], dtype=float)
    groups = tuple(content["groups"])
    if content.get("own") is not None:
        return Objective.of(targets, content["own"])
    if shares.shape != (len(groups), len(targets)) or weights.shape != (len(groups),):
        raise ValueError(f"shares have shape {shares.shape} for {len(groups)} groups of {len(targets)} targets")
    return Objective(targets, content["kind"], groups, shares, weights, None if best is None else np.array(best, dtype=float))


def _limits(content: Mapping[str, Any], domains: Domains) -> Limits:
    natural = content["natural"]
    own = dict(content) | {"natural": None if natural is None else np.array(natural, dtype=float)}
    return Limits(Domains(domains.names, own.pop("tokens")), **own)
