"""Draws the pictures of the survey's pages: `python docs/pictures/survey.py` writes them beside this file."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import torch

import mixopt as mx
from mixopt.solvers import DescentAscent, Extragradient, SmoothedDescentAscent

HERE = Path(__file__).parent
SETTINGS = {"svg.hashsalt": "survey", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


def tug_of_war() -> None:
    """The paths of x and w by five solvers on the payoff (w_1 - w_2) x, from x = 1/2."""
    from matplotlib import pyplot as plt

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
    figure, axes = plt.subplots(1, 5, figsize=(11, 2.6), sharex=True, sharey=True, layout="constrained")
    for axis, (name, solver) in zip(axes, solvers.items(), strict=True):
        trace = mx.solve(game, rope, solver=solver).trace
        axis.plot(trace["losses"][:, 0], trace.weights[:, 0], color="#2a6f97", linewidth=0.9)
        axis.plot([0], [0.5], "x", color="#c1121f")
        axis.set(title=name, xlabel="x", xlim=(-2.3, 2.3), ylim=(-0.03, 1.03))
    axes[0].set_ylabel("weight of the first domain")
    figure.savefig(HERE / "survey-saddles.svg", metadata={"Date": None})


if __name__ == "__main__":
    matplotlib.use("svg")
    matplotlib.rcParams.update(SETTINGS)
    tug_of_war()
