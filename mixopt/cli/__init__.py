"""The ``mixopt`` command: one module for each subject, put together here."""

from __future__ import annotations

from .common import application
from .count import count
from .demo import demo
from .export import export
from .fit import fit, score
from .methods import explain, list_methods
from .problems import compare_solvers, solve
from .run import run

app = application()
app.command()(demo)
app.command()(count)
app.command("list")(list_methods)
app.command()(explain)
app.command()(solve)
app.command("compare")(compare_solvers)
app.command()(export)
app.command()(fit)
app.command()(score)
app.command()(run)

__all__ = ["app"]
