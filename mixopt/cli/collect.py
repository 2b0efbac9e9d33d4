"""``mixopt collect``: what the runs of a folder reached, as tables that ``mixopt fit`` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import fit_options as o
from .common import Json, Quiet, Voice


def collect(
    folders: Annotated[
        list[str], typer.Argument(metavar="DIR", help="Folders that mixopt design wrote, each with design.csv and its runs.")
    ],
    metric: Annotated[list[str] | None, typer.Option(help="A metric to keep, or a pattern such as 'val/*'. Repeatable; else all.")] = None,
    direction: o.Direction = None,
    unit: o.Unit = None,
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Keep runs that came less far than the others.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for runs.csv, and for the pair mixtures.csv and metrics.csv.")] = Path("out/runs"),
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Read the metrics of a design's runs from JSON lines, CSV, Hugging Face's Trainer or lm-eval, and write them as tables of runs."""
    from mixopt import designs
    from mixopt.fitting.flags import spread

    found = designs.collect(
        *folders,
        only=metric or (),
        direction=spread(direction or (), "--direction") or None,
        unit=spread(unit or (), "--unit") or None,
        unfinished=unfinished,
    )
    files = designs.save(found, out)
    noise, clear = found.noise(), found.signal_to_noise()
    content = {
        "runs": list(found.ids),
        "domains": list(found.domains),
        "targets": {
            name: {"direction": way, "unit": unit, "noise": n, "signal_to_noise": s}
            for name, way, unit, n, s in zip(
                found.targets.names, found.targets.directions, found.targets.units, noise.tolist(), clear.tolist(), strict=True
            )
        },
        "notes": found.notes,
        "files": [str(file) for file in files],
    }
    text = f"{found.describe()}\nwritten: {', '.join(map(str, files))}\nnext: mixopt fit --mixtures {files[0]}"
    Voice(json, quiet).answer(text, content)
