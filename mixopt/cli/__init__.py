"""The ``mixopt`` command: one module for each subject, put together here."""

from __future__ import annotations

from collections.abc import Callable

from .collect import collect
from .common import application
from .count import count
from .cut import cut
from .demo import demo
from .design import design
from .export import export
from .fit import fit, score
from .methods import explain, list_methods
from .next import next_stage
from .problems import compare_solvers, solve
from .run import run
from .sweep import sweep

_COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    "To see it all": {"demo": demo},
    "Proxy runs and their laws": {"design": design, "cut": cut, "collect": collect, "sweep": sweep, "fit": fit, "score": score},
    "Your own text": {"count": count, "run": run},
    "Into your trainer": {"export": export, "next": next_stage},
    "Problems that you write": {"solve": solve, "compare": compare_solvers},
    "The methods of the literature": {"list": list_methods, "explain": explain},
}

app = application()
for panel, commands in _COMMANDS.items():
    for name, function in commands.items():
        app.command(name, rich_help_panel=panel)(function)

__all__ = ["app"]
