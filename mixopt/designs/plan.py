"""A design: the mixtures to run, how each was chosen, and the files and pictures of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import ArrayLike

from mixopt.errors import InputError, unknown
from mixopt.files import write
from mixopt.language.domains import Domains
from mixopt.language.expression import Relation
from mixopt.notebook import table
from mixopt.runs import Runs, Targets
from mixopt.runs.files import Path, check_ids, join_key, weight_columns
from mixopt.runs.oddities import alike
from mixopt.runs.sources import read

from .space import Space

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LAYOUTS = ("mixopt", "regmix", "olmix")
"""The layouts that a design is written in; ``Runs.from_csv`` reads each as the table of mixtures."""


@final
@dataclass(frozen=True, eq=False)
class Design:
    """R mixtures [R, k] to train proxies on, replicates among them; make one by ``mx.design``, or ``from_csv``.

    ``ids`` name the runs and ``origins`` say where each mixture is from; ``seeds`` [R] are training seeds, which differ, so that
    replicates do; ``tokens`` [R] are training tokens where the design sets them. ``kind`` and ``seed`` are how it was made, and
    ``notes`` are sentences for people.
    """

    domains: Domains
    mixtures: np.ndarray
    ids: tuple[str, ...]
    origins: tuple[str, ...]
    seeds: np.ndarray
    kind: str
    seed: int = 0
    tokens: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_ids(self.ids, "the design")
        for array in (self.mixtures, self.seeds, self.tokens):
            if array is not None:
                array.flags.writeable = False

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def weights(self) -> dict[str, dict[str, float]]:
        """Run -> domain -> weight."""
        return {i: dict(zip(self.domains, row, strict=True)) for i, row in zip(self.ids, self.mixtures.tolist(), strict=True)}

    def check(self, where: Any, subject_to: Iterable[Relation] = (), given: Mapping[str, Any] | None = None) -> None:
        """Refuse a design, such as a table of your own, that breaks a constraint; the arguments are those of ``mx.design``.

        Raises:
            InputError: other domains, or a mixture that breaks a constraint, with its run and by how much.
        """
        space = Space.of(where, subject_to, given)
        if space.domains.names != self.domains.names:
            raise InputError(f"the design is over {self.domains}, and the constraints are on {space.domains}; the order counts too")
        space.check(self.mixtures, self.ids)

    def replicates(self) -> tuple[tuple[int, ...], ...]:
        """The positions of runs with the same mixture and tokens: groups of two or more."""
        return alike(self.mixtures, self.tokens)

    def measured(self, targets: Targets | Iterable[str], metrics: ArrayLike, **scales: Any) -> Runs:
        """The ``Runs`` of this design once their metrics [R, m] are known; ``scales`` give params, tokens or steps."""
        known: dict[str, Any] = {"tokens": self.tokens, **scales}
        return Runs.from_arrays(self.domains, self.mixtures, targets, metrics, ids=self.ids, labels=self.origins, seeds=self.seeds, **known)

    def describe(self) -> str:
        """How it was made, what it covers of each domain, its replicates, whether it tells the domains apart, and the notes, as text."""
        mixtures, rank = self.mixtures, int(np.linalg.matrix_rank(self.mixtures, tol=1e-9))
        groups = self.replicates()
        again = sum(map(len, groups))
        apart = len(self) - again + len(groups)
        repeats = f"{again} runs repeat {len(groups)} mixture{'s' if len(groups) > 1 else ''}" if groups else "no replicates"
        lines = [
            f"{len(self)} runs over {len(self.domains)} domains, {self.kind}, seed {self.seed}: "
            f"{apart} mixture{'s' if apart > 1 else ''}, {repeats}",
            f"  {np.mean(mixtures == 0):.0%} of the weights are exactly 0; the mixtures tell {rank} of {len(self.domains)} domains apart",
            *(f"  note: {note}" for note in self.notes),
        ]
        width = max(map(len, self.domains.names))
        for name, w in zip(self.domains, mixtures.T, strict=True):
            lines.append(f"  domain {name:<{width}}  {w.min():.3f} to {w.max():.3f}, mean {w.mean():.3f}")
        return "\n".join(lines)

    __str__ = describe

    def _repr_html_(self) -> str:
        rows = [(n, f"{w.min():.3f}", f"{w.mean():.3f}", f"{w.max():.3f}") for n, w in zip(self.domains, self.mixtures.T, strict=True)]
        caption = f"{len(self)} runs, {self.kind}, seed {self.seed}"
        return table(["domain", "least weight", "mean", "most"], rows, caption=caption, notes=self.notes)

    def picture(self, ax: Axes | None = None, title: str = "What the design covers") -> Axes:
        """A row of marks for each domain, its weight in every run, and a dot at the mean.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from mixopt.report.plots import coverage

        blank = self.measured(["-"], np.full((len(self), 1), np.nan))
        mean = self.mixtures.mean(axis=0)
        return coverage(blank, dict(zip(self.domains, mean / mean.sum(), strict=True)), ax=ax, title=title, dot="the mean")

    def to_csv(self, path: Path, layout: str = "mixopt") -> None:
        """Write the table of mixtures, whole or not at all, in a layout that ``Runs.from_csv`` reads beside a table of metrics.

        "mixopt": run, name, seed, tokens where known, ``w/<domain>``; "regmix": index and ``train_<domain>``; "olmix": run, name,
        index and the domains' own names.

        Raises:
            InputError: another layout.
        """
        if layout not in LAYOUTS:
            raise unknown("layout", layout, LAYOUTS)
        whose: dict[str, Sequence[Any]] = {"run": self.ids, "name": self.origins}
        prefix = {"regmix": "train_", "olmix": "", "mixopt": "w/"}[layout]
        if layout == "regmix":
            whose = {"index": self.ids}
        elif layout == "olmix":
            whose["index"] = range(len(self))
        else:
            whose |= {"seed": self.seeds.tolist()} | ({} if self.tokens is None else {"tokens": self.tokens.tolist()})
        text = io.StringIO(newline="")
        head = [*whose, *(f"{prefix}{n}" for n in self.domains)]
        csv.writer(text).writerows([head, *zip(*whose.values(), *self.mixtures.T.tolist(), strict=True)])
        write(path, text.getvalue())

    @classmethod
    def from_csv(cls, path: Path, domains: Domains | None = None) -> Design:
        """A design from a table of mixtures: one that ``to_csv`` wrote, in any layout, or your own.

        ``domains`` puts the columns in their order, and brings the domains' tokens.

        Raises:
            InputError: a file that cannot be read, a cell that is no number, repeated runs, a row that is no mixture, or other domains.
        """
        told = read(path)
        key = join_key(told, told, None)
        rows = told.by(key)
        columns = {name: column for column, name in weight_columns(told, paired=True).items()}
        if domains is not None and set(columns) != set(domains):
            raise InputError(f"{path} has the domains {Domains(columns)}, and the design is over {domains}")
        names = domains or Domains(columns)
        places = list(rows.values())
        extra = {n: told.numbers([n], places)[:, 0] for n in ("seed", "tokens") if n in told.header}
        origins = told.texts("name", places) if "name" in told.header else ["given"] * len(places)
        table = told.numbers([columns[n] for n in names], places)
        return made(names, table, tuple(rows), origins, "given", 0, seeds=extra.get("seed"), tokens=extra.get("tokens"))


def made(
    domains: Domains,
    mixtures: np.ndarray,
    ids: Sequence[str],
    origins: Sequence[str],
    kind: str,
    seed: int,
    *,
    seeds: np.ndarray | None = None,
    tokens: np.ndarray | None = None,
    notes: tuple[str, ...] = (),
) -> Design:
    """A design whose rows are checked as those of ``Runs`` are; training seeds count up from ``seed`` where they are not given."""
    numbers = np.arange(seed, seed + len(ids)) if seeds is None else seeds
    checked = Runs.from_arrays(domains, mixtures, ["-"], np.zeros((len(ids), 1)), ids=ids, tokens=tokens, seeds=numbers)
    assert checked.seeds is not None
    rescaled = tuple(note for note in checked.notes if "sum" in note)
    return Design(domains, checked.mixtures, checked.ids, tuple(origins), checked.seeds, kind, seed, checked.tokens, (*rescaled, *notes))
