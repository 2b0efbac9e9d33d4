"""What every mixing law is: predictions by target, expressions of a mixture, how well it was fitted, and a file."""

from __future__ import annotations

import json
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Self, final

import numpy as np
from numpy.typing import ArrayLike

from mixopt.errors import InputError, cause, listed
from mixopt.files import write
from mixopt.language.domains import Domains
from mixopt.language.expression import Expr, constant
from mixopt.runs import SCALES, Runs, Targets

from .extent import ExtrapolationWarning, far

FORMAT = "mixopt law 1"


@final
@dataclass(frozen=True, eq=False)
class At:
    """Where a law is evaluated: mixtures [R, k], with parameters N, tokens D and steps s [R] each where it is known.

    ``weights`` [R] are how much each run counts in a fit; None is 1 each.
    """

    mixtures: np.ndarray
    params: np.ndarray | None = None
    tokens: np.ndarray | None = None
    steps: np.ndarray | None = None
    weights: np.ndarray | None = None

    @classmethod
    def of(cls, runs: Runs) -> At:
        """Where the runs were made."""
        return cls(**{part.name: getattr(runs, part.name) for part in fields(cls)})

    def rows(self, mask: np.ndarray) -> At:
        """Only these rows."""
        kept: dict[str, Any] = {n.name: None if (a := getattr(self, n.name)) is None else a[mask] for n in fields(self)}
        return At(**kept)


@final
@dataclass(frozen=True, eq=False)
class Fit:
    """How a law was fitted: the largest weight of each domain in the runs, ``seen`` [k], and by target [m]: the number of
    ``runs``, the error ``rmse`` on them in the target's unit, whether the least squares ``converged`` by its tolerances, and how
    many of its parameters the runs ``identified`` (the numerical rank of the Jacobian); ``notes`` are sentences for people;
    ``ridge`` [m] is the ridge of each target where the law has one, ``scales`` the least and the largest N, D and steps of the runs of a
    law that depends on them."""

    seen: np.ndarray
    runs: np.ndarray
    rmse: np.ndarray
    converged: np.ndarray
    identified: np.ndarray
    notes: tuple[str, ...] = ()
    ridge: np.ndarray | None = None
    scales: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for entry in fields(self):
            if isinstance(array := getattr(self, entry.name), np.ndarray):
                array.flags.writeable = False


@dataclass(frozen=True, eq=False)
class Law(ABC):
    """A prediction of each target's metric from a mixture, and from N, D or s where the law ``needs`` them.

    Inside, a target to be maximised counts by its negative: ``losses`` has the sign that makes less better.
    """

    domains: Domains
    targets: Targets
    fitted: Fit

    name: ClassVar[str]
    """What the command line and the files call it."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Which of params, tokens and steps it cannot do without."""

    @property
    def requires(self) -> tuple[str, ...]:
        """Which of params, tokens and steps this law needs: ``needs``, and what the runs or its text made it depend on."""
        return self.needs

    @abstractmethod
    def _losses_at(self, at: At) -> np.ndarray:
        """Predicted losses [R, m], less being better."""

    @abstractmethod
    def losses(self, w: Expr, **scale: float) -> Expr:
        """s_j L_j(w) as an expression [m] with the targets' names as index: metrics with the sign that makes less better."""

    @abstractmethod
    def content(self) -> dict[str, Any]:
        """What a file needs beyond domains, targets and fit to make the law again, as JSON holds it."""

    @classmethod
    @abstractmethod
    def restored(cls, domains: Domains, targets: Targets, fitted: Fit, content: Mapping[str, Any]) -> Self:
        """The law that ``content`` tells of; raises KeyError, TypeError or ValueError where it was changed."""

    @property
    def sign(self) -> np.ndarray:
        """1 for a target to be minimised, -1 for one to be maximised [m]."""
        return signs(self.targets)

    @property
    def seen(self) -> np.ndarray:
        """The largest weight of each domain in the runs [k]."""
        return self.fitted.seen

    @property
    def rmse(self) -> np.ndarray:
        """The error on the runs that it was fitted to [m], in the targets' units."""
        return self.fitted.rmse

    @property
    def converged(self) -> np.ndarray:
        """Whether each target's fit ended by its tolerances [m]."""
        return self.fitted.converged

    def predict(
        self,
        mixtures: ArrayLike,
        *,
        params: ArrayLike | None = None,
        tokens: ArrayLike | None = None,
        steps: ArrayLike | None = None,
    ) -> np.ndarray:
        """Predicted metrics [R, m] of mixtures [R, k], or [m] of one mixture [k]; rows are taken as they are.

        Warns (``ExtrapolationWarning``) where a quarter of a mixture's data is weight that no run gave to its domain, or N, D or
        the steps are ten times outside those of the runs.

        Raises:
            InputError: mixtures of another width, or a law that needs N, D or s which are not given.
        """
        found = self.predicted(mixtures, params=params, tokens=tokens, steps=steps)
        told = far(self, np.asarray(mixtures, dtype=float), self.scale(params=params, tokens=tokens, steps=steps))
        if told:
            warnings.warn(told, ExtrapolationWarning, stacklevel=2)
        return found

    def predicted(self, mixtures: ArrayLike, **given: ArrayLike | None) -> np.ndarray:
        """As ``predict``, without a word on what is far from the runs: for callers that say so themselves."""
        rows = np.asarray(mixtures, dtype=float)
        if rows.ndim not in (1, 2) or rows.shape[-1] != len(self.domains):
            raise InputError(f"mixtures have shape {rows.shape}, but the law is over {len(self.domains)} domains {listed(self.domains)}")
        table = np.atleast_2d(rows)
        scale = self.scale(**given)
        at = At(table, **{n: np.broadcast_to(np.asarray(v, dtype=float), (len(table),)) for n, v in scale.items()})
        with np.errstate(over="ignore", divide="ignore"):  # far from the runs a law may well say infinity
            found = self.sign * self._losses_at(at)
        return np.asarray(found[0] if rows.ndim == 1 else found)

    def __call__(self, w: Expr, **scale: float) -> Expr:
        """The metrics of a mixture expression [k] as an expression [m], its entries named by target; domains are bound by name.

        ``scale`` gives params, tokens or steps to a law that needs them. Where directions differ, write problems with
        ``losses`` or ``law[target]``: of a convex law the former is convex.
        """
        loss = self.losses(w, **scale)
        if (self.sign == 1).all():
            return loss
        return -loss if (self.sign == -1).all() else constant(self.sign, index=self.targets.names) * loss

    def __getitem__(self, target: str) -> TargetLaw:
        """The law of one target; raises with the nearest name suggested."""
        return TargetLaw(self, target, self.targets.index(target))

    def loss_of(self, j: int, w: Expr, **scale: float) -> Expr:
        """One target's entry of ``losses`` as a scalar expression []."""
        return self.losses(w, **scale)[self.targets.names[j]]

    def beyond(self, weights: Mapping[str, float] | Sequence[float]) -> dict[str, float]:
        """The domains whose weight [k] exceeds the largest in any run, and by how much: there the law extrapolates."""
        excess = self.domains.weights(weights) - self.seen
        return {name: float(e) for name, e in zip(self.domains, excess, strict=True) if e > 1e-9}

    def scale(self, **given: ArrayLike | None) -> dict[str, ArrayLike]:
        """The scales that are given, checked: all that the law needs, and each > 0.

        Raises:
            InputError: one that is missing, unknown, or not > 0.
        """
        known = {n: v for n, v in given.items() if v is not None}
        for name, values in known.items():
            if name not in SCALES:
                raise InputError(f"{name!r} is no scale of a law; the scales are {listed(SCALES)}")
            if not (np.isfinite(np.asarray(values, dtype=float)) & (np.asarray(values, dtype=float) > 0)).all():
                raise InputError(f"{name} ({SCALES[name]}) must be finite and > 0")
        lacking = [n for n in self.requires if n not in known]
        if lacking:
            raise InputError(
                f"the {self.name} law depends on {listed(SCALES[n] for n in lacking)}; give {', '.join(f'{n}=...' for n in lacking)}"
            )
        return known

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the law as JSON; ``load`` reads it back equal."""
        content = {
            "format": FORMAT,
            "law": self.name,
            "domains": {"names": self.domains.names, "tokens": self.domains.tokens},
            "targets": {"names": self.targets.names, "directions": self.targets.directions, "units": self.targets.units},
            "fit": fit_content(self.fitted),
            **self.content(),
        }
        write(path, json.dumps(content, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The law of this kind that ``save`` wrote.

        Raises:
            InputError: no such file, no saved law, or one of another kind.
        """
        content = read(path)
        if content.get("law") != cls.name:
            raise InputError(f"{path} is a saved law of kind {content.get('law')!r}, not {cls.name!r}; mx.laws.load reads any kind")
        return cls.from_content(path, content)

    @classmethod
    def from_content(cls, path: str | os.PathLike[str], content: Mapping[str, Any]) -> Self:
        """The law that a file's content tells of."""
        try:
            named = content["targets"]
            ways, units = (dict(zip(named["names"], named[part], strict=True)) for part in ("directions", "units"))
            domains, targets = Domains(**content["domains"]), Targets(named["names"], ways, units)
            return cls.restored(domains, targets, fit_of(content["fit"], len(domains), len(targets)), content)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} is a saved law that was changed or cut: {error!r}; fit again") from None

    def __str__(self) -> str:
        width = max(len("target"), *map(len, self.targets.names))
        rows = [f"{self.name} law", f"{'target':<{width}}  {'rmse':>8}  {'runs':>5}  best vertex"]
        for j, name in enumerate(self.targets.names):
            ended = "" if self.converged[j] else "  (not converged)"
            rows.append(f"{name:<{width}}  {self.rmse[j]:8.2g}  {self.fitted.runs[j]:5d}  {self._vertex(j)}{ended}")
        return "\n".join([*rows, *self.fitted.notes])

    def report(self) -> str:
        """How each target was fitted: error, runs, ridge, how many parameters the runs tell apart, and whether it converged; the notes."""
        names, fit = self.targets.names, self.fitted
        width = max(len("target"), *map(len, names))
        lines = [f"{self.name} law", f"{'target':<{width}}  {'rmse':>8}  {'runs':>5}  {'ridge':>8}  {'told apart':>10}  converged"]
        for j, name in enumerate(names):
            ridge = "-" if fit.ridge is None or not fit.ridge[j] else f"{fit.ridge[j]:.2g}"
            ended = "yes" if fit.converged[j] else "no"
            lines.append(f"{name:<{width}}  {fit.rmse[j]:8.2g}  {fit.runs[j]:5d}  {ridge:>8}  {fit.identified[j]:10d}  {ended}")
        return "\n".join([*lines, *fit.notes])

    def _vertex(self, j: int) -> str:
        return "" if self.requires else self[self.targets.names[j]].vertex


@final
@dataclass(frozen=True, eq=False)
class TargetLaw:
    """A law's prediction of one target; its call gives a scalar expression."""

    law: Law
    target: str
    j: int

    def __call__(self, w: Expr, **scale: float) -> Expr:
        """The metric of a mixture expression [k] as a scalar expression []."""
        loss = self.law.loss_of(self.j, w, **scale)
        return loss if self.law.sign[self.j] == 1 else -loss

    @property
    def vertex(self) -> str:
        """The domain on which alone the target is predicted best."""
        k = len(self.law.domains)
        with np.errstate(all="ignore"):
            alone = (self.law.sign * self.law.predicted(np.eye(k)))[:, self.j]
        return self.law.domains.names[int(np.nanargmin(alone))]


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of a file that ``save`` wrote.

    Raises:
        InputError: no such file, or no saved law.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a saved law: {cause(error)}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path} is no saved law; give a file written by law.save(path), as mixopt fit writes law.json")
    return content


def kinds() -> dict[str, type[Law]]:
    """All kinds of laws that are imported, by name, also those that are made of others and not fitted by name."""
    found, left = {}, [Law]
    while left:
        kind = left.pop()
        left += kind.__subclasses__()
        if "name" in vars(kind):
            found[kind.name] = kind
    return dict(sorted(found.items()))


_FEWEST = {"params": 1e3, "tokens": 1e5}
_FEWEST_TOKENS_A_PARAMETER = 1e-2


def odd_scales(runs: Runs, needs: Sequence[str]) -> tuple[str, ...]:
    """Notes on scales that the law needs: the same in every run, or so small that they may be in millions or billions."""
    found = {n: np.asarray(getattr(runs, n)) for n in needs}
    same = [n for n, values in found.items() if np.ptp(values) == 0]
    small = [n for n, values in found.items() if values.max() < _FEWEST.get(n, 0)]
    if {"params", "tokens"} <= found.keys() and (found["tokens"] < _FEWEST_TOKENS_A_PARAMETER * found["params"]).all():
        small.append("tokens")
    return (
        *(f"{n} are {found[n][0]:.4g} in every run, so nothing is learnt of how the metrics depend on them" for n in same),
        *(
            f"{n} are at most {found[n].max():.4g}: if millions or billions are meant, write them out, for laws take numbers as they are"
            for n in dict.fromkeys(small)
        ),
    )


def signs(targets: Targets) -> np.ndarray:
    """1 for a target to be minimised, -1 for one to be maximised [m]."""
    return np.array([1 if way == "min" else -1 for way in targets.directions])


def bound(w: Expr, domains: Domains) -> Expr:
    """The mixture expression in the law's order of domains.

    Raises:
        InputError: it is none, or over other domains.
    """
    if not isinstance(w, Expr):
        raise InputError(
            f"a law is called with a mixture symbol, and this is a {type(w).__name__}; for numbers write law.predict(mixtures)"
        )
    if w.shape != (len(domains),) or (w.index is not None and set(w.index) != set(domains)):
        found = f"is over {listed(w.index)}" if w.index else f"has shape {w.shape}"
        raise InputError(f"the law is over the domains {domains}, but '{w}' {found}; fit the law on runs over the same domains")
    return w if w.index in (None, domains.names) else w[list(domains)]


def array(values: Any, shape: tuple[int, ...], kind: type = float) -> np.ndarray:
    """A saved array of this shape; raises ValueError where it has another."""
    found: np.ndarray = np.array(values, dtype=kind)
    if found.shape != shape:
        raise ValueError(f"an array has shape {found.shape}, not {shape}")
    found.flags.writeable = False
    return found


def fit_content(fitted: Fit) -> dict[str, Any]:
    """A fit as JSON holds it."""
    told = {entry.name: getattr(fitted, entry.name) for entry in fields(fitted)}
    return {n: v.tolist() if isinstance(v, np.ndarray) else v for n, v in told.items()}


def fit_of(told: Mapping[str, Any], k: int, m: int) -> Fit:
    """The fit of k domains and m targets that ``fit_content`` told; raises KeyError, TypeError or ValueError where it was changed."""
    kinds = {"seen": float, "runs": int, "rmse": float, "converged": bool, "identified": int}
    arrays = {n: array(told[n], (k,) if n == "seen" else (m,), kind) for n, kind in kinds.items()}
    ridge = told.get("ridge")
    scales = {str(n): (float(low), float(high)) for n, (low, high) in told.get("scales", {}).items()}
    return Fit(**arrays, notes=tuple(told["notes"]), ridge=None if ridge is None else array(ridge, (m,)), scales=scales)
