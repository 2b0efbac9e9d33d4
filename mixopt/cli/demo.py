"""``mixopt demo``: the main job on Python's own text."""

from __future__ import annotations

from typing import Annotated

import typer

from .common import seeded


def demo(
    out: Annotated[str, typer.Option(help="Folder for weights, runs, the verdict and pictures.")] = "out/demo",
    quick: Annotated[bool, typer.Option("--quick", help="Smaller models: under two minutes instead of under eight.")] = False,
    seconds: Annotated[float | None, typer.Option(help="The time to fit into, if not the preset's.", min=10)] = None,
    seed: Annotated[int, seeded("Seed of the proxies, their mixtures and the methods.")] = 0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew in a folder that holds an earlier study.")] = False,
    device: Annotated[str, typer.Option(help="Where models are trained: cpu, cuda, cuda:1.")] = "cpu",
) -> None:
    """Find mixtures of Python's own text by a law, DoReMi, DoGE and the implicit method, and judge whether they were worth it."""
    from mixopt.demo.study import run

    run(out, quick=quick, seconds=seconds, seed=seed, fresh=fresh, device=device)
