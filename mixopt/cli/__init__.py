"""The ``mixopt`` command: one module for each subject, put together here."""

from __future__ import annotations

from .collect import collect
from .common import application
from .count import count
from .demo import demo
from .design import design
from .export import export
from .fit import fit, score
from .methods import explain, list_methods
from .next import next_stage
from .problems import compare_solvers, solve
from .run import run
from .sweep import sweep

app = application()
app.command()(demo)
app.command()(count)
app.command("list")(list_methods)
app.command()(explain)
app.command()(solve)
app.command("compare")(compare_solvers)
app.command()(export)
app.command()(design)
app.command()(collect)
app.command("next")(next_stage)
app.command()(fit)
app.command()(score)
app.command()(run)
app.command()(sweep)

__all__ = ["app"]
