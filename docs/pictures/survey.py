"""Draws the pictures of the survey's pages: `python docs/pictures/survey.py` writes them beside this file."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure

import mixopt as mx
from mixopt.solvers import DescentAscent, Extragradient, OneStep, SmoothedDescentAscent, Unrolled

SETTINGS = {"svg.hashsalt": "survey", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


def tug_of_war(folder: Path) -> None:
    """The paths of x and w by five solvers on the payoff (w_1 - w_2) x, from x = 1/2."""
    pair = mx.Domains(["up", "down"])
    v, theta = mx.Mixture(pair), mx.model()
    game = mx.minimize(mx.maximize(v @ mx.losses(theta, pair), over=v), over=theta)
    rope = mx.FunctionLearner(torch.tensor([0.5], dtype=torch.float64), {"train": lambda x: torch.cat([x, -x])})
    same = {"rate": 0.2, "model_rate": 0.2, "steps": 200, "average": "last"}
    solvers = {
        "simultaneous": DescentAscent(order="simultaneous", **same),
        "alternating": DescentAscent(**same),
        "optimistic": DescentAscent(order="simultaneous", optimistic=True, **same),
        "smoothed": SmoothedDescentAscent(**same),
        "extragradient": Extragradient(**same),
    }
    figure = Figure(figsize=(11, 2.6), layout="constrained")
    axes = figure.subplots(1, 5, sharex=True, sharey=True)
    for axis, (name, solver) in zip(axes, solvers.items(), strict=True):
        trace = mx.solve(game, rope, solver=solver).trace
        axis.plot(trace["losses"][:, 0], trace.weights[:, 0], color="#2a6f97", linewidth=0.9)
        axis.plot([0], [0.5], "x", color="#c1121f")
        axis.set(title=name, xlabel="x", xlim=(-2.3, 2.3), ylim=(-0.03, 1.03))
    axes[0].set_ylabel("weight of the first domain")
    figure.savefig(folder / "survey-saddles.svg", metadata={"Date": None})


def simplex(folder: Path) -> None:
    """The upper loss of the bilevel toy over the simplex, with the way of one-step weights and the answers of K unrolled steps."""
    c = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    a, u = torch.tensor([1.0, 4.0, 0.5], dtype=torch.float64), torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    goal = u @ c
    losses = {"train": lambda x: a * ((x - c) ** 2).sum(1) / 2, "val": (lambda x: ((x - goal) ** 2).sum()[None] / 2, ["goal"])}
    learner = mx.FunctionLearner(torch.zeros(2, dtype=torch.float64), losses)
    problem = mx.problems.validation_problem(mx.Domains(["web", "code", "books"]), mx.Domains(["goal"]))
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
    rows = np.array([[i, j, 80 - i - j] for i in range(81) for j in range(81 - i)]) / 80
    pulls = rows * a.numpy()
    heights = (((pulls / pulls.sum(1, keepdims=True)) @ c.numpy() - goal.numpy()) ** 2).sum(1) / 2
    figure = Figure(figsize=(5.2, 4.4), layout="constrained")
    axis = figure.subplots()
    axis.tricontour(*(rows @ corners).T, np.sqrt(heights), levels=14, cmap="Blues_r", linewidths=0.7)
    axis.plot(*corners[[0, 1, 2, 0]].T, color="black", linewidth=0.8)
    path = mx.solve(problem, learner, solver=OneStep(step_size=0.01, rate=20, steps=200, average="last")).trace.weights
    axis.plot(*(np.vstack([np.ones(3) / 3, path]) @ corners).T, color="#2a9d8f", linewidth=1.1, label="one step at a time, in one run")
    for steps in (4, 8, 16, 32):
        found = mx.solve(problem, learner, solver=Unrolled(steps=steps, step_size=0.1)).vector @ corners
        axis.plot(*found, "o", color="#c1121f", markersize=4, label="K steps, unrolled" if steps == 4 else None)
        axis.annotate(f"{steps}", found, xytext=(5, 2), textcoords="offset points", color="#c1121f", fontsize=8)
    known = (u / a).numpy()
    axis.plot(*(known / known.sum() @ corners), "x", color="black", label="the known answer")
    for name, at, side in zip(("web", "code", "books"), corners, ("right", "left", "center"), strict=True):
        axis.annotate(name, at, xytext=(0, -12 if at[1] == 0 else 5), textcoords="offset points", ha=side)
    axis.set_aspect("equal")
    axis.axis("off")
    axis.legend(loc="upper left", frameon=False, fontsize=8)
    figure.savefig(folder / "survey-simplex.svg", metadata={"Date": None})


def slices(folder: Path) -> None:
    """The truth and three laws along a line through the simplex, for two targets of the letter model."""
    texts = {
        "web": "buy now and save: free shipping on all orders, click here to see more offers near you",
        "code": "for i in range(n): x[i] = x[i] + y[i]; return x",
        "books": "it was a dark night, and the old man sat alone by the fire and thought of her",
    }
    held_out = {
        "web": "sign up here for news and free offers on all you need",
        "code": "while i < n: total = total + y[i]; i = i + 1",
        "books": "she read the letter by the window and said not a word",
    }
    letters = sorted(set("".join([*texts.values(), *held_out.values()])))
    q, r = (np.array([[t.count(x) + more for x in letters] for t in some.values()]) for some, more in ((texts, 0.05), (held_out, 0)))
    q, r = q / q.sum(1, keepdims=True), r / r.sum(1, keepdims=True)
    rng = np.random.default_rng(0)
    mixtures = rng.dirichlet(np.ones(3), 40)
    runs = mx.Runs.from_arrays(list(texts), mixtures, list(held_out), -np.log(mixtures @ q) @ r.T)
    share = np.linspace(0.03, 0.75, 60)
    line = np.stack([(1 - share) * 0.3, share, (1 - share) * 0.7], axis=1)
    fits = {"linear": mx.laws.Linear, "BiMix": mx.laws.BiMix, "DML": mx.laws.Exponential}
    figure = Figure(figsize=(8.5, 3.1), layout="constrained")
    axes = figure.subplots(1, 2, sharex=True)
    for axis, target in zip(axes, (1, 2), strict=True):
        axis.plot(share, (-np.log(line @ q) @ r.T)[:, target], color="black", linewidth=2.2, label="the truth")
        for (name, law), colour in zip(fits.items(), ("#2a9d8f", "#e9a03b", "#c1121f"), strict=True):
            axis.plot(share, law.fit(runs).predict(line)[:, target], color=colour, linewidth=1.1, label=name)
        axis.set(title=f"loss on {list(held_out)[target]}", xlabel="weight of code; of the rest 30 % web, 70 % books")
    axes[0].set_ylabel("nats per letter")
    axes[0].legend(frameon=False)
    figure.savefig(folder / "survey-laws.svg", metadata={"Date": None})


def draw(folder: Path) -> None:
    """All of them, into a folder."""
    with matplotlib.rc_context(SETTINGS):
        for picture in (tug_of_war, simplex, slices):
            picture(folder)


if __name__ == "__main__":
    matplotlib.use("svg")
    draw(Path(__file__).parent)
