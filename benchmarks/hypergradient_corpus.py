"""Hypergradients of a small GPT on the embedded corpus against what retraining does: cosine and sign agreement of every engine.

For each seed a GPT is trained at uniform weights for ``--steps`` steps, and each engine is asked there for the slope of the mean validation
loss, on ``--batches`` large batches, averaged. Two slopes are measured by central differences over the weights, towards each domain in
turn, all runs of a seed on the same batches: "retraining", from the start, all the steps again; and "further", ``--horizon`` steps on from
the trained model. Each is measured on ``--draws`` sets of batches, whose agreement is in the first row. Slopes are compared along the
simplex, their means taken off: by cosine, and by the share of domains whose signs agree. Methods of one loop give their direction after
``--turns`` turns at weights that stay, the mean of the later half. No timing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, write

import mixopt as mx
from mixopt.api import bilevel_task
from mixopt.demo.corpus import VOCABULARY, load
from mixopt.errors import RefusalError
from mixopt.runtime.audit import agreement, cosine, outcome_slopes
from mixopt.runtime.gpt import GPT
from mixopt.runtime.tree import Leaves, copied
from mixopt.solver import Task
from mixopt.solvers import (
    BOME,
    GPBGD,
    VPBGD,
    ConjugateGradients,
    Implicit,
    MinRes,
    Neumann,
    Nystroem,
    OneStep,
    ScaleBiO,
    Unrolled,
    ValueFunction,
)
from mixopt.solvers.bilevel import BilevelSolver
from mixopt.solvers.implicit import NETWORKS
from mixopt.solvers.single_loop import Loop, SingleLoop

SELF = "measured, by other batches"
TRUTHS = ("retraining", "further")
TEN = ConjugateGradients(steps=10, tolerance=1e-2, damping=0.3)
LEAST = ConjugateGradients(steps=50, tolerance=1e-3, damping=0.01)
ENGINES: dict[str, BilevelSolver | SingleLoop] = {
    "Implicit, Gauss-Newton, damping 0.3": Implicit(curvature="gauss-newton", system=TEN),
    "Implicit, Gauss-Newton, damping 0.03, 20 products": Implicit(curvature="gauss-newton", system=NETWORKS),
    "Implicit, Gauss-Newton, damping 0.01, 50 products": Implicit(curvature="gauss-newton", system=LEAST),
    "Implicit, Gauss-Newton, Nystroem 20": Implicit(curvature="gauss-newton", system=Nystroem(rank=20, damping=0.1)),
    "Implicit, Gauss-Newton, Neumann 20": Implicit(curvature="gauss-newton", system=Neumann(steps=20, damping=0.3)),
    "Implicit, Hessian, damping 0.3": Implicit(system=TEN),
    "Implicit, Hessian by differences, damping 0.3": Implicit(system=TEN, products="differences"),
    "Implicit, Hessian, MINRES 50, damping 0.01": Implicit(system=MinRes(steps=50, tolerance=1e-3, damping=0.01)),
    "Unrolled, 1 step": Unrolled(steps=1),
    "Unrolled, 20 steps of 0.1": Unrolled(steps=20),
    "Unrolled, 20 steps, the last 5": Unrolled(steps=20, last=5),
    "Unrolled, 20 steps of the optimizer": Unrolled(steps=20, rule="optimizer"),
    "ValueFunction": ValueFunction(),
    "ValueFunction, one-sided": ValueFunction(differences="one-sided"),
    "ValueFunction, penalty 10": ValueFunction(penalty=10),
    "OneStep": OneStep(rate=1e-9),
    "VPBGD": VPBGD(rate=1e-9),
    "GPBGD": GPBGD(rate=1e-9),
    "BOME": BOME(rate=1e-9),
    "ScaleBiO": ScaleBiO(rate=1e-9),
}
"""Every engine as it is by default for a sampled learner, and its variants; the rates of loops are too small to move the weights."""


def made(seed: int, given: argparse.Namespace, windows: int) -> tuple[mx.Problem, mx.TorchLearner]:
    """The mean validation loss of all domains over their weights, and a fresh GPT on their bytes."""
    corpus = load()
    streams = {"train": dict(corpus.tokens["train"]), "val": dict(corpus.tokens["validation"])}
    module = GPT(VOCABULARY, 64, width=given.width, layers=2, heads=2, seed=seed)
    learner = mx.TorchLearner(module, streams, context=64, per_domain=windows, evaluation=given.evaluation)
    w, theta = mx.Mixture(corpus.domains), mx.model()
    trained = mx.argmin(w @ mx.losses(theta, corpus.domains), over=theta)
    return mx.minimize(mx.mean(mx.losses(trained, corpus.domains, name="val")), over=w), learner


def trained_at(task: Task, w: np.ndarray, leaves: Leaves, steps: int, seed: int) -> Leaves:
    """The parameters after so many optimizer steps at the weights [k]."""
    model = task.model
    assert model is not None
    at, draw = copied(leaves, trainable=True), model.generator(seed)
    optimizer = model.learner.optimizer(at)
    for _ in range(steps):
        optimizer.zero_grad()
        model.lower(model.weights(w), at, model.learner.draw(draw)).backward()
        optimizer.step()
    return copied(at)


def directions(solver: BilevelSolver | SingleLoop, task: Task, w: np.ndarray, leaves: Leaves, given: argparse.Namespace) -> np.ndarray:
    """Slopes [n, k] by an engine at trained parameters: one a batch, or one a loop."""
    model = task.model
    assert model is not None
    weights, found, draw = model.weights(w), [], model.generator(given.turns)
    if isinstance(solver, BilevelSolver):
        for _ in range(given.batches):
            batch = model.learner.draw(draw)
            with model.learner.second_order():
                found.append(solver.slope(model, weights, leaves, batch, None).gradient)
        return torch.stack(found).detach().double().cpu().numpy()
    loop: Loop = solver.begin(task).memory
    for _ in range(given.turns):
        turn = solver.turn(task, loop, weights, model.learner.draw(draw))
        loop = loop if turn.moved is None else turn.moved[1]
        loop = replace(loop, taken=loop.taken + 1, follower=loop.follower if turn.follower is None else turn.follower)
        found.append(turn.gradient)
    return torch.stack(found[given.turns // 2 :]).mean(0, keepdim=True).detach().double().cpu().numpy()


def signs(g: np.ndarray, h: np.ndarray) -> float:
    """The share of domains on whose sign two slopes agree, their means taken off."""
    return float(np.mean(np.sign(g - g.mean()) == np.sign(h - h.mean())))


def one_seed(seed: int, given: argparse.Namespace, known: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows of one seed that are not known: the measured slopes held against themselves, then every engine's against both."""
    problem, learner = made(seed, given, given.windows)
    _, task, w = bilevel_task(problem, learner, None, Unrolled(), None)
    assert task.model is not None
    fresh = learner.start()
    leaves = trained_at(task, w, fresh, given.steps, seed)
    learner.store(leaves)  # where loops begin
    if SELF not in known:
        draws = [1000 + 10 * seed + j for j in range(given.draws)]
        known = known | {SELF: {"seed": seed, "engine": SELF}}
        for name, start, steps in (("retraining", fresh, given.steps), ("further", leaves, given.horizon)):
            slopes = outcome_slopes(task.model, w, start, steps=steps, epsilon=given.epsilon, seeds=draws)
            pairs = list(combinations(slopes, 2))
            known[SELF] |= {f"cosine, {name}": agreement(slopes), f"signs, {name}": float(np.mean([signs(*pair) for pair in pairs]))}
            known[SELF] |= {f"slopes, {name}": slopes.tolist()}
        yield known[SELF]
    truths = {name: np.mean(known[SELF][f"slopes, {name}"], axis=0) for name in TRUTHS}
    _, large, _ = bilevel_task(problem, made(seed, given, given.engine_windows)[1], None, Unrolled(), None)
    for name, solver in ((name, solver) for name, solver in ENGINES.items() if given.engines in name):
        refused = solver.refuses(task.form, learner.abilities)
        if refused:
            raise RefusalError(f"{name}: {'; '.join(refused)}", {name: refused})
        if name not in known:
            found = directions(solver, large if isinstance(solver, BilevelSolver) else task, w, leaves, given)
            row = {"seed": seed, "engine": name, "slopes": found.tolist()}
            yield row | {f"{of.__name__}, {t}": of(found.mean(0), x) for t, x in truths.items() for of in (cosine, signs)}


def table(rows: list[dict[str, Any]]) -> str:
    """Medians over the seeds, with the least and the largest cosine."""
    seeds = len({row["seed"] for row in rows})
    lines = [f"median [least, largest] over {seeds} seeds", f"{'':52s}cosine: retraining   further             signs: both"]
    for name in dict.fromkeys(row["engine"] for row in rows):
        mine = [row for row in rows if row["engine"] == name]
        parts = []
        for t in TRUTHS:
            cosines = [row[f"cosine, {t}"] for row in mine]
            parts.append(f"{np.median(cosines):5.2f} [{min(cosines):5.2f}, {max(cosines):5.2f}]")
        parts += [f"{np.median([row[f'signs, {t}'] for row in mine]):5.2f}" for t in TRUTHS]
        lines.append(f"{name:52s}{'  '.join(parts)}")
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, and write the figures with what they were measured on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="rows in the file already are not measured again")
    parser.add_argument("--engines", default="", help="only those whose names have this in them")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--horizon", type=int, default=20)
    parser.add_argument("--epsilon", type=float, default=0.1, help="how far of the way to a domain the weights are moved")
    parser.add_argument("--batches", type=int, default=2)
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--windows", type=int, default=2, help="windows of 64 bytes a domain in a batch of training")
    parser.add_argument("--engine-windows", type=int, default=16, help="the same in a batch that an engine is asked on")
    parser.add_argument("--draws", type=int, default=3, help="sets of batches that slopes are measured on")
    parser.add_argument("--evaluation", type=int, default=32)
    parser.add_argument("--out", type=Path, default=RESULTS / "hypergradient_corpus.json")
    given = parser.parse_args()
    settings = {key: value for key, value in vars(given).items() if key not in ("out", "seeds", "engines")}
    known = json.loads(given.out.read_text()) if given.out.exists() else {}
    rows = known["rows"] if known.get("settings") == settings else []
    for seed in given.seeds:
        for row in one_seed(seed, given, {row["engine"]: row for row in rows if row["seed"] == seed}):
            rows.append(row)
            write(given.out, __doc__, settings, rows)
            print(f"seed {seed}: {row['engine']:50s} {row['cosine, retraining']:6.2f} {row['cosine, further']:6.2f}", flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
