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

# by panel, what a user may type, and the command that it names: its help ends with it
_COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    "To see it all": {"demo --quick --out out/demo": demo},
    "Proxy runs and their laws": {
        "design --tokens sizes.json --gpu-hours 500 --target-params 7e9 --target-tokens 2e12 --cap 4": design,
        "cut /data --run-tokens 6.2e9 --target-tokens 2e12 --out proxydata": cut,
        "collect proxies proxies2 --metric 'val/*' --out runs": collect,
        "sweep --data text --runs 128 --tokens 2e6 --executor ensemble --out runs": sweep,
        "fit --mixtures mixtures.csv --losses losses.csv --tokens sizes.json --kl 0.05": fit,
        "score planned.yaml --study out/fit": score,
    },
    "Your own text": {"count text --budget 1e5": count, "run --data text --out out/run --minutes 5": run},
    "Into your trainer": {
        "export out/fit/mixture.json --to megatron --root /data": export,
        'next --init "group_dro(rate=0.5)" --domains web,code,books --state schedule.json': next_stage,
    },
    "Problems that you write": {"solve mix.py:problem": solve, "compare mix.py --quiet": compare_solvers},
    "The methods of the literature": {"list --family heuristic": list_methods, "explain temperature": explain},
}

app = application()
for panel, commands in _COMMANDS.items():
    for example, function in commands.items():
        app.command(example.split()[0], rich_help_panel=panel, epilog=f"Example: mixopt {example}")(function)

__all__ = ["app"]
