"""The ``mixopt`` command."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

import mixopt
from mixopt.errors import MixoptError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Data mixtures for language models: stated, compiled, solved and judged."
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mixopt {mixopt.__version__}")
        raise typer.Exit


@app.callback()
def main(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False) -> None:
    """Data mixtures for language models: stated, compiled, solved and judged."""


@app.command()
def demo(
    out: Annotated[str, typer.Option(help="Folder for weights, runs, the verdict and pictures.")] = "out/demo",
    quick: Annotated[bool, typer.Option("--quick", help="Smaller models: under two minutes instead of under eight.")] = False,
    seconds: Annotated[float | None, typer.Option(help="The time to fit into, if not the preset's.", min=10)] = None,
    seed: Annotated[int, typer.Option(help="Seed of the proxies, their mixtures and the methods.")] = 0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew in a folder that holds an earlier study.")] = False,
    device: Annotated[str, typer.Option(help="Where models are trained: cpu, cuda, cuda:1.")] = "cpu",
) -> None:
    """Find mixtures of Python's own text by a law, DoReMi, DoGE and the implicit method, and judge whether they were worth it."""
    # Threads that spin long while they wait starve each other when the machine has other work: 8 times slower than so, measured.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    from mixopt.demo.study import run

    try:
        run(out, quick=quick, seconds=seconds, seed=seed, fresh=fresh, device=device)
    except MixoptError as error:
        typer.echo(f"mixopt: {error}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        sys.exit(130)
