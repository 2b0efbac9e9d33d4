"""What a report says of laws: those that were compared, what the law leaves unexplained, and the objective over the mixtures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .blocks import Block, Picture, Prose, Row, figure, short, table
from .report import Compared, Outcome, Report


def compared(found: Compared | None) -> Iterator[Block]:
    """The laws side by side, as a table and a picture, and why one was taken."""
    if found is None:
        return
    if found.taken:
        yield Prose(found.taken)
    rows: list[Row] = []
    for law, figures in found.figures.items():
        spans = [f"{figure(v, 3)} [{figure(low, 3)}, {figure(high, 3)}]" for v, low, high in (figures["rmse"], figures["spearman"])]
        regrets = (f"{100 * figures['regret'][0]:.1f}", f"{100 * found.expected[law]:.1f}")
        rows.append([law, *spans, *regrets, short(found.seconds[law])])
    notes = [
        "In brackets the 90 % interval over the runs. The expected regret is a mean over decisions that these runs could have asked for."
    ]
    head = ["law", "error", "rank correlation", "regret, %", "expected regret, %", "seconds"]
    yield table("Laws compared on the objective, on the same folds", head, rows, [*notes, *found.left_out])
    words = f"Error, rank correlation and regret of {len(found.figures)} laws with their 90 % intervals. The numbers are in the table."
    yield Picture("laws", words, lambda: _drawn_laws(found))


def outcome(report: Report) -> Iterator[Block]:
    """What the law leaves unexplained of the objective, and the objective over the mixtures."""
    found = report.outcome
    if found is None:
        return
    words = f"Measured minus predicted {found.name} of each run against its prediction, with the 90 % intervals shaded."
    yield Picture("residuals", words, lambda: _drawn_residuals(found))
    if found.grid is not None:
        yield Picture(
            "map", f"The predicted {found.name} over all mixtures of three domains, with the runs.", lambda: _drawn_map(report, found)
        )
    elif len(report.recommended) > 1:
        words = (
            f"The weights of each run as a line over the domains, coloured by its measured {found.name}; the recommended mixture in bold."
        )
        yield Picture("runs", words, lambda: _drawn_runs(report, found))


def _drawn_laws(found: Compared) -> Any:
    from . import plots_laws

    return plots_laws.laws(found.figures, title="")


def _drawn_residuals(found: Outcome) -> Any:
    from . import plots_laws

    spans = np.stack([found.predicted - found.half, found.predicted + found.half], axis=1)
    return plots_laws.residuals(found.predicted, found.measured, intervals=spans, unit=found.unit, title="")


def _drawn_map(report: Report, found: Outcome) -> Any:
    from . import plots_laws

    assert found.grid is not None
    assert found.values is not None
    best = np.array(list(report.recommended.values()))
    names, label = list(report.recommended), f"predicted {found.name}"
    return plots_laws.ternary(
        found.values, found.grid, names, runs=found.mixtures, best=best, label=label, maximised=found.maximised, title=""
    )


def _drawn_runs(report: Report, found: Outcome) -> Any:
    from . import plots_laws

    names, label = list(report.recommended), f"measured {found.name}"
    return plots_laws.parallel(
        found.mixtures, found.measured, names, best=report.recommended, label=label, maximised=found.maximised, title=""
    )
