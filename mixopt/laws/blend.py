"""A blend of laws: the weighted mean of what several laws predict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from mixopt.errors import InputError, listed
from mixopt.language.domains import Domains
from mixopt.language.expression import Expr
from mixopt.language.opaque import opaque
from mixopt.runs import Runs, Targets

from .comparison import USUAL, Entry, LawComparison, compare_laws
from .law import At, Fit, Law, array, bound, fit_content, fit_of, kinds
from .opaque import OpaqueLaw
from .stacking import shares_of
from .validation import Loss, judged


@final
@dataclass(frozen=True, eq=False)
class Blended(Law):
    """L_j(w) = sum_l a_l L_lj(w): what the laws ``parts`` predict, by their ``shares`` a [L] >= 0, which sum to 1.

    Laws err differently, and a mean of them errs less than most: it is what "auto" takes. Where every part is an expression, so is the
    blend, convex if all parts are; with one that is not (trees) it stands in problems as one opaque atom.

    Source: Breiman 1996, Stacked regressions, Machine Learning 24, 49-64; the shares are those of ``stacking.shares_of``.
    """

    parts: tuple[Law, ...]
    shares: np.ndarray

    name: ClassVar[str] = "blend"

    @classmethod
    def fit(
        cls,
        runs: Runs,
        laws: Iterable[str] | Mapping[str, Callable[[Runs], Law]] = USUAL,
        *,
        loss: Loss | None = None,
        folds: int = 5,
        repeats: int = 2,
        seed: int = 0,
    ) -> Law:
        """Cross-validate laws, by default linear, exponential, additive power and LightGBM, and blend them for the objective ``loss``.

        The arguments are those of ``compare_laws``. Where one law has the whole share, it is returned as it is.

        Raises:
            InputError: what ``compare_laws`` refuses.
        """
        return blended(compare_laws(runs, laws, loss=loss, folds=folds, repeats=repeats, seed=seed)).fit(runs)

    @classmethod
    def of(cls, parts: Sequence[Law], shares: Sequence[float] | np.ndarray, runs: Runs) -> Blended:
        """The blend of laws fitted to these runs, by shares [L] that are scaled to sum to 1.

        Raises:
            InputError: shares that are negative, not finite or all 0, not one a law, or laws over other domains or targets.
        """
        given = np.asarray(shares, dtype=float)
        if not parts or given.shape != (len(parts),) or not (np.isfinite(given).all() and (given >= 0).all() and given.sum() > 0):
            raise InputError(f"the shares of {len(parts)} laws are {given.tolist()}; give one number >= 0 a law, one of them > 0")
        for law in parts:
            if law.domains.names != runs.domains.names or law.targets != runs.targets:
                raise InputError(
                    f"the {law.name} law is over {listed(law.domains)} with targets {listed(law.targets.names)}; "
                    "a blend needs laws of the domains and targets of the runs"
                )
        told = [law.fitted for law in parts]
        blank = Fit(
            np.max([one.seen for one in told], axis=0),
            np.min([one.runs for one in told], axis=0),
            np.zeros(len(runs.targets)),
            np.all([one.converged for one in told], axis=0),
            np.min([one.identified for one in told], axis=0),
        )
        whole = cls(runs.domains, runs.targets, blank, tuple(parts), given / given.sum())
        errors = whole.predicted(runs.mixtures, **{n: getattr(runs, n) for n in whole.requires}) - runs.metrics
        notes = (f"a blend of {whole.words}", *dict.fromkeys(f"{law.name}: {note}" for law in parts for note in law.fitted.notes))
        rmse = np.sqrt(np.nanmean(errors**2, axis=0))
        spans = {n: span for one in told for n, span in one.scales.items()}
        fitted = Fit(blank.seen, blank.runs, rmse, blank.converged, blank.identified, notes, scales=spans)
        return cls(runs.domains, runs.targets, fitted, whole.parts, whole.shares)

    @property
    def words(self) -> str:
        """The parts with their shares, the largest first."""
        return worded([law.name for law in self.parts], self.shares)

    @property
    def requires(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for law in self.parts for name in law.requires))

    @property
    def is_opaque(self) -> bool:
        """Whether a part has no expression."""
        return any(isinstance(law, OpaqueLaw) or (isinstance(law, Blended) and law.is_opaque) for law in self.parts)

    def _losses_at(self, at: At) -> np.ndarray:
        found: np.ndarray = sum(a * law._losses_at(at) for a, law in zip(self.shares, self.parts, strict=True))
        return found

    def losses(self, w: Expr, **scale: float) -> Expr:
        """s_j L_j(w) as an expression [m]: metrics with the sign that makes less better."""
        given = tuple((n, float(v)) for n, v in self.scale(**scale).items())  # type: ignore[arg-type]
        if self.is_opaque:
            return opaque(bound(w, self.domains), _Losses(self, given), self.name, self.targets.names)
        return _sum([float(a) * law.losses(w, **dict(given)) for a, law in zip(self.shares, self.parts, strict=True)])

    def loss_of(self, j: int, w: Expr, **scale: float) -> Expr:
        given = tuple((n, float(v)) for n, v in self.scale(**scale).items())  # type: ignore[arg-type]
        if self.is_opaque:
            return opaque(bound(w, self.domains), _Losses(self, given, j), f"{self.name}[{self.targets.names[j]}]")
        return _sum([float(a) * law.loss_of(j, w, **dict(given)) for a, law in zip(self.shares, self.parts, strict=True)])

    def report(self) -> str:
        """The blend's figures, and those of every part."""
        parts = (f"{law.report()}" for law in self.parts)
        return "\n\n".join([super().report(), *parts])

    def content(self) -> dict[str, Any]:
        parts = [{"law": law.name, "fit": fit_content(law.fitted), **law.content()} for law in self.parts]
        return {"shares": self.shares.tolist(), "parts": parts}

    @classmethod
    def restored(cls, domains: Domains, targets: Targets, fitted: Fit, content: Mapping[str, Any]) -> Blended:
        k, m, known = len(domains), len(targets), kinds()
        parts = tuple(
            known[one["law"]].restored(domains, targets, fit_of(one["fit"], k, m), {**content, **one}) for one in content["parts"]
        )
        return cls(domains, targets, fitted, parts, array(content["shares"], (len(parts),)))


@final
@dataclass(frozen=True)
class Blending:
    """What fits a blend again: the fits of its parts, and their shares as they were."""

    fits: tuple[Callable[[Runs], Law], ...]
    shares: tuple[float, ...]

    def __call__(self, runs: Runs) -> Blended:
        return Blended.of([fit(runs) for fit in self.fits], self.shares, runs)


def blended(compared: LawComparison) -> Entry:
    """A blend of the laws that were compared, by ``shares_of`` at the objective, or the one law that has the whole share.

    Its cross-validations blend those of the laws, the runs of a fold by shares that the other folds gave.
    """
    entries = compared.fitted
    every = np.array([[v.predicted for v in e.validations] for e in entries])
    loss, runs = entries[0].loss, entries[0].validations[0].runs
    losses, measured = np.array([[loss(p) for p in each] for each in every]), loss(runs.metrics)
    shares = shares_of(losses, measured)
    if shares.max() == 1:
        return entries[int(shares.argmax())]
    checked = []
    for r, one in enumerate(entries[0].validations):
        predicted = np.empty_like(runs.metrics)
        for f in np.unique(one.folds):
            out = one.folds == f
            own = shares_of(losses[..., ~out], measured[~out])
            used = np.flatnonzero(own)  # a law without a share may have said infinity
            predicted[out] = np.tensordot(own[used], every[used, r][:, out], axes=1)
        checked.append(judged(runs, predicted, one.folds))
    kept = np.flatnonzero(shares)
    name = f"blend ({worded([entries[i].name for i in kept], shares[kept])})"
    fit = Blending(tuple(entries[i].fit for i in kept), tuple(shares[kept].tolist()))
    return Entry(name, fit, loss, tuple(checked), sum(e.seconds for e in entries))


def worded(names: Sequence[str], shares: np.ndarray) -> str:
    """Names with their shares in percent, the largest first.

    >>> worded(["linear", "lightgbm"], np.array([0.25, 0.75]))
    '75 % lightgbm and 25 % linear'
    """
    parts = [f"{100 * shares[i]:.0f} % {names[i]}" for i in np.argsort(-shares, kind="stable")]
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))


@final
@dataclass(frozen=True)
class _Losses:
    """The losses of a blend, or of one of its targets, as a function of mixtures."""

    law: Blended
    scale: tuple[tuple[str, float], ...]
    j: int | None = None

    def __call__(self, mixtures: np.ndarray) -> np.ndarray:
        rows = At(mixtures, **{n: np.full(len(mixtures), v) for n, v in self.scale})
        if self.j is None:
            return self.law._losses_at(rows)
        one = [law.column(self.j, mixtures) if isinstance(law, OpaqueLaw) else law._losses_at(rows)[:, self.j] for law in self.law.parts]
        return np.asarray(self.law.shares @ one)


def _sum(parts: list[Expr]) -> Expr:
    found = parts[0]
    for part in parts[1:]:
        found = found + part
    return found
