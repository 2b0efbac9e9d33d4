"""A law of mixture and size at the size of the run that is planned: a law of the mixture alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, final

import numpy as np

from mixopt.errors import InputError
from mixopt.language.domains import Domains
from mixopt.language.expression import Expr
from mixopt.runs import Runs, Targets

from .law import At, Fit, Law, fit_content, fit_of, kinds


@final
@dataclass(frozen=True, eq=False)
class Planned(Law):
    """``law`` at fixed N, D and steps, those of ``size`` that it needs: L_j(w) = law_j(w, N, D, s).

    What takes a law of the mixture alone takes it so: ``recommend``, problems without N and D, pictures.
    """

    law: Law
    size: Mapping[str, float]

    name: ClassVar[str] = "planned"

    @classmethod
    def of(cls, law: Law, *, params: float | None = None, tokens: float | None = None, steps: float | None = None) -> Law:
        """The law at this size; a law of the mixture alone is returned as it is.

        Raises:
            InputError: a size that the law needs and that is not given, or one that is not > 0.
        """
        given = law.scale(params=params, tokens=tokens, steps=steps)
        if not law.requires:
            return law
        size = {n: float(given[n]) for n in law.requires}  # type: ignore[arg-type]
        return cls(law.domains, law.targets, law.fitted, law, size)

    def _losses_at(self, at: At) -> np.ndarray:
        return self.law._losses_at(replace(at, **{n: np.full(len(at.mixtures), v) for n, v in self.size.items()}))

    def losses(self, w: Expr, **scale: float) -> Expr:
        """s_j L_j(w) as an expression [m]: metrics with the sign that makes less better."""
        self._alone(scale)
        return self.law.losses(w, **self.size)

    def loss_of(self, j: int, w: Expr, **scale: float) -> Expr:
        self._alone(scale)
        return self.law.loss_of(j, w, **self.size)

    def report(self) -> str:
        """The report of the law, and its size."""
        return f"{self.law.report()}\ntaken at {self.words}"

    @property
    def words(self) -> str:
        """The size in words, such as "params 1e+09, tokens 2e+10"."""
        return ", ".join(f"{n} {v:.4g}" for n, v in self.size.items())

    def content(self) -> dict[str, Any]:
        own = {"law": self.law.name, "fit": fit_content(self.law.fitted), **self.law.content()}
        return {"of": own, "size": dict(self.size)}

    @classmethod
    def restored(cls, domains: Domains, targets: Targets, fitted: Fit, content: Mapping[str, Any]) -> Planned:
        own = content["of"]
        inner = kinds()[own["law"]].restored(domains, targets, fit_of(own["fit"], len(domains), len(targets)), {**content, **own})
        size = {str(n): float(v) for n, v in content["size"].items()}
        if set(size) != set(inner.requires):
            raise ValueError(f"the law needs {inner.requires} and the size has {tuple(size)}")
        return cls(domains, targets, fitted, inner, size)

    def _alone(self, scale: Mapping[str, float]) -> None:
        if scale:
            raise InputError(f"the law is taken at {self.words}, so {', '.join(scale)} cannot be given; ask the law itself (.law)")


@final
@dataclass(frozen=True)
class Planning:
    """What fits a law and takes it at a size."""

    fit: Callable[[Runs], Law]
    size: tuple[tuple[str, float], ...]

    def __call__(self, runs: Runs) -> Law:
        return Planned.of(self.fit(runs), **dict(self.size))
