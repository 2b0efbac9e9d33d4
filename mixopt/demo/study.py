"""The demo from start to end: Python's own text, a study of it, and an honest verdict within a time limit."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import mixopt as mx
from mixopt.runtime.torch_learner import checked_device
from mixopt.study.console import Screen
from mixopt.study.store import Store
from mixopt.study.study import Study, carried_out, introduce, measured

from . import corpus
from .data import prepare
from .presets import preset, training_text


def run(
    out: str | os.PathLike[str],
    *,
    quick: bool = False,
    seconds: float | None = None,
    seed: int = 0,
    fresh: bool = False,
    device: str = "cpu",
    screen: Screen | None = None,
) -> None:
    """Run the demo into a folder; one that was interrupted goes on where it was.

    Raises:
        InputError: a folder that cannot be written or holds another study, a device that is absent.
    """
    screen = screen or Screen()
    clock = time.perf_counter()
    store = Store.open(out)
    checked_device(device)
    if fresh:
        store.clear()
    screen.head("mixopt demo: which mixture of Python's own text trains the better model?")
    screen.say("  reading the text and measuring this machine ...", "dim")
    text = corpus.load()
    name = "quick" if quick else "full"
    identity = {"preset": name, "seed": seed, "corpus": text.fingerprint[:12], "mixopt": mx.__version__}
    before = store.sizes(identity)
    sizes, models = preset(name)
    wanted = before or replace(sizes, seconds=seconds or sizes.seconds)
    origins = {"the text of this Python": text.fingerprint}
    study = Study(prepare(text, training_text(wanted), device), models, wanted, store, screen, identity, origins, seed)
    study = measured(study, before is not None, time.perf_counter() - clock)
    study = replace(study, data=prepare(text, training_text(study.sizes), device))
    introduce(study, before is not None)
    for domain, why in text.missing.items():
        screen.say(f"  left out     {domain}: {why}", "yellow")
    carried_out(study, clock, f"mixopt demo --out {out}{' --quick' if quick else ''} --seed {seed}")
