"""The files of a fit: the report, the mixture, the law, and the runs with their out-of-fold predictions."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mixopt.errors import InputError
from mixopt.files import write
from mixopt.laws import suggest
from mixopt.laws.curve import CurveLaw
from mixopt.laws.suggestion import around
from mixopt.runs import Runs

from .limits import by_domain
from .recommend import Recommendation
from .request import Request

if TYPE_CHECKING:
    from mixopt.export import Exported

MIXTURE, RUNS, PREDICTIONS, NEXT = "mixture.json", "runs.csv", "predictions.csv", "next.csv"


def save(
    found: Recommendation, folder: str | os.PathLike[str], *, command: str = "", files: Sequence[str] = (), seed: int | None = None
) -> tuple[Path, ...]:
    """Write the report (.html, .md, .json), mixture.json, law.json, fit.json, runs.csv and predictions.csv; the paths, report first."""
    from mixopt.report import page

    place = Path(folder)
    report = found.report(command=command, files=files, seed=seed)
    found.blend().save(place / MIXTURE)
    found.runs.to_csv(place / RUNS)
    _predictions(found, place / PREDICTIONS)
    kept = found.fitted.save(place)
    return (*page.save(report, place).values(), place / MIXTURE, *kept, place / RUNS, place / PREDICTIONS)


def suggested(found: Recommendation, folder: str | os.PathLike[str], count: int) -> Path:
    """Write next.csv: the mixtures whose outcome would tell most of the law, a row each, with the columns of the runs' mixtures.

    Of the candidates only those that keep the constraints are suggested.

    Raises:
        InputError: no count >= 1, or more than there are candidates.
    """
    runs, limits = found.runs, found.fitted.question.limits
    near = around(runs, np.random.default_rng(0))
    allowed = np.array([row for row in near if not limits.broken(row)])
    if not len(allowed):
        raise InputError("no mixture near the runs keeps the constraints, so there is none to suggest; add runs that keep them")
    law = found.law if isinstance(found.law, CurveLaw) else found.doubt.posterior
    rows = suggest(law, runs, count, candidates=allowed)
    text = io.StringIO(newline="")
    columns = {name: column for column, name in runs.name_map.items() if name in runs.domains}
    csv.writer(text).writerows(
        [["run", *(columns.get(n, n) for n in runs.domains)], *([f"next{i}", *row] for i, row in enumerate(rows.tolist()))]
    )
    write(Path(folder) / NEXT, text.getvalue())
    return Path(folder) / NEXT


def exported(
    found: Recommendation, folder: str | os.PathLike[str], targets: Sequence[str], known: Mapping[str, Any], equal_lengths: bool = False
) -> tuple[Exported, ...]:
    """The recommended mixture in the formats of trainers, written into a folder; ``known`` goes to ``Blend.completed``."""
    from mixopt.export import export

    blend = found.blend().completed(**known)
    return tuple(export(blend, target, folder, equal_lengths=equal_lengths) for target in targets)


def try_exports(runs: Runs, request: Request, targets: Sequence[str], known: Mapping[str, Any], equal_lengths: bool = False) -> None:
    """Refuse what the exports of a mixture would refuse, before the work that finds it.

    Raises:
        InputError: what ``export`` refuses: an unknown target, paths or lengths that it needs and that are not there.
    """
    from mixopt.export import Blend, export

    tokens = None if request.tokens is None else by_domain("the tokens", request.tokens, runs.domains, runs.name_map, whole=True)
    even = Blend(dict.fromkeys(runs.domains, 1 / len(runs.domains)), tokens=tokens, budget=request.budget)
    for target in targets:
        export(even.completed(**known), target, os.curdir, equal_lengths=equal_lengths, dry=True)


def _predictions(found: Recommendation, path: Path) -> None:
    """Each run's fold, and each target measured and predicted by the law fitted to the other folds."""
    checked, names = found.validation, found.law.targets.names
    header = ["run", "fold", *(f"{kind}/{n}" for n in names for kind in ("measured", "predicted"))]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    for run, fold, measured, predicted in zip(found.runs.ids, checked.folds, found.runs.metrics, checked.predicted, strict=True):
        writer.writerow([run, int(fold), *(float(v) for pair in zip(measured, predicted, strict=True) for v in pair)])
    write(path, text.getvalue())
