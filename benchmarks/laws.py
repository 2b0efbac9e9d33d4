"""Fitting mixing laws: the exponential law against L-BFGS from 300 starts as Olmix fits it, one start, curve_fit and LightGBM; and growth.

Every contender fits the same targets of the same runs, timed in turns. That mixopt's objective is no worse is asserted: of all
targets but those where Huber's has several optima, of which random starts may find one that is lower by a few thousandths. The
runs are RegMix's (512 of 17 domains, 13 targets) where they are beside the project, and else made of a known law in that shape.

``--growth`` leaves the contenders out: seconds and peak memory with 100 to 100,000 runs, 10 to 10,000 domains and 1 to 1,000 targets,
and of a Gaussian process.
"""

from __future__ import annotations

import argparse
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, interleaved, interval, seconds, write
from scipy.optimize import curve_fit, minimize

import mixopt as mx
from mixopt.laws import AdditivePower, Exponential, GaussianProcess, Linear

REGMIX = Path(__file__).parents[2] / "shared/data/regmix"
DELTA = 0.02


def made(runs: int, domains: int, targets: int, seed: int = 0, noise: float = 0.01) -> mx.Runs:
    """Runs of an exponential law with noise."""
    draw = np.random.default_rng(seed)
    w = draw.dirichlet(np.full(domains, 0.5), runs)
    y = draw.uniform(1, 3, targets) + np.exp(w @ draw.normal(size=(targets, domains)).T) + noise * draw.normal(size=(runs, targets))
    return mx.Runs.from_arrays([f"d{i}" for i in range(domains)], w, [f"t{j}" for j in range(targets)], y)


def regmix() -> mx.Runs:
    """RegMix's training runs, or runs of their shape."""
    if not REGMIX.exists():
        return made(512, 17, 13)
    return mx.Runs.from_csv(REGMIX / "train_mixture_1m.csv", REGMIX / "train_pile_loss_1m.csv")


def huber(theta: np.ndarray, w: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Sum of Huber losses of one target and its gradient; theta is log c and A, as in Olmix's code."""
    c, risen = np.exp(theta[0]), np.exp(np.clip(w @ theta[1:], -50, 50))
    gap = c + risen - y
    size = np.abs(gap)
    value = np.where(size <= DELTA, gap**2, DELTA * (2 * size - DELTA)).sum()
    pull = 2 * np.clip(gap, -DELTA, DELTA)
    return float(value), np.append(c * pull.sum(), (pull * risen) @ w)


def descents(w: np.ndarray, y: np.ndarray, starts: int, seed: int) -> float:
    """The least Huber loss of one target by L-BFGS from a grid of floors times random slopes; from one start the middle one."""
    draw = np.random.default_rng(seed)
    floors = np.linspace(-2, 1.5, 10) if starts > 1 else np.array([np.log(max(0.5 * y.min(), 1e-3))])
    begins = [np.append(f, draw.normal(0, 0.1, w.shape[1])) for f in floors for _ in range(max(1, starts // len(floors)))]
    return min(minimize(huber, b, (w, y), "L-BFGS-B", jac=True, options={"maxiter": 2000, "maxfun": 4000}).fun for b in begins)


def squares(w: np.ndarray, y: np.ndarray) -> float:
    """The least sum of squares of one target by scipy's curve_fit with its own differences."""
    start = np.append(0.5 * y.min(), np.zeros(w.shape[1]))
    found, _ = curve_fit(lambda x, c, *a: c + np.exp(np.clip(x @ np.array(a), -50, 50)), w, y, start, maxfev=20_000)
    return float(((found[0] + np.exp(w @ found[1:]) - y) ** 2).sum())


def trees(w: np.ndarray, y: np.ndarray) -> None:
    """LightGBM with the settings of RegMix's notebook, without its early stopping on the test runs."""
    import lightgbm

    data = lightgbm.Dataset(w, y, params={"verbosity": -1})
    lightgbm.train({"objective": "regression", "learning_rate": 0.01, "verbosity": -1, "seed": 42, "num_threads": 1}, data, 1000)


def objective(law: mx.laws.Law, runs: mx.Runs, robust: bool) -> np.ndarray:
    """What a fitted law attains of each target [m]."""
    size = np.abs(law.predict(runs.mixtures) - runs.metrics)
    return np.where(size <= DELTA, size**2, DELTA * (2 * size - DELTA)).sum(0) if robust else (size**2).sum(0)


def against(runs: mx.Runs, name: str, theirs: Callable[[np.ndarray], Any], robust: bool, pairs: int) -> dict[str, Any]:
    """The ratio of times of all targets; the objectives are compared where theirs tells one."""
    fit = Exponential.olmix if robust else lambda r: Exponential.fit(r, ridge=0)
    best = [theirs(y) for y in runs.metrics.T]
    attained = None
    if best[0] is not None:
        worse = np.sort(objective(fit(runs), runs, robust) / np.array(best))
        assert np.median(worse) <= 1 + 1e-6, f"{name} attains less: {worse}"
        assert worse[-1] <= (1.005 if robust else 1 + 1e-6), f"{name} attains less: {worse}"
        attained = [float(worse[0]), float(np.median(worse)), float(worse[-1])]
    slow, quick = interleaved(lambda: [theirs(y) for y in runs.metrics.T], lambda: fit(runs), pairs)
    row = {
        "what": name,
        "targets": len(runs.targets),
        "ratio": interval(slow / quick),
        "ms": [1e3 * float(np.median(slow)), 1e3 * float(np.median(quick))],
        "our_objective_over_theirs": attained,
    }
    middle, low, high = row["ratio"]
    print(
        f"{name}: {middle:.1f} [{low:.1f}, {high:.1f}]  ({row['ms'][0]:.1f} ms / {row['ms'][1]:.1f} ms), objective {attained}", flush=True
    )
    return row


def growth(kind: Any, runs: int, domains: int, targets: int, **how: Any) -> dict[str, Any]:
    """Seconds and peak memory of one fit, measured apart, and what it held before in runs."""
    table = made(runs, domains, targets)
    took = seconds(lambda: kind.fit(table, **how))
    tracemalloc.start()
    law = kind.fit(table, **how)
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    row = {
        "what": f"growth of {kind.name}",
        "runs": runs,
        "domains": domains,
        "targets": targets,
        "seconds": took,
        "peak_MB": peak,
        "table_MB": (table.mixtures.nbytes + table.metrics.nbytes) / 1e6,
        "converged": float(law.converged.mean()),
    }
    print({name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()}, flush=True)
    return row


def contests(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The exponential law against the others, in turns, on RegMix's runs."""
    whole, m = regmix(), settings["targets"]
    runs = mx.Runs.from_arrays(whole.domains, whole.mixtures, whole.targets.names[:m], whole.metrics[:, :m])
    w, many, pairs = runs.mixtures, settings["starts"], settings["pairs"]
    rows = [
        against(runs, f"L-BFGS from {many} starts, Huber", lambda y: descents(w, y, many, 0), True, settings["slow_pairs"]),
        against(runs, "L-BFGS from one start, Huber", lambda y: descents(w, y, 1, 0), True, pairs),
        against(runs, "curve_fit, squares", lambda y: squares(w, y), False, pairs),
    ]
    try:
        rows.append(against(runs, "LightGBM, 1000 rounds", lambda y: trees(w, y), False, pairs))
    except ImportError:
        print("LightGBM is not installed")
    return rows


def grown(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The growth with runs, domains and targets, one at a time, and the few runs that have their ridges chosen."""
    rows = [growth(Exponential, c, 17, 1, ridge=0) for c in (100, 1000, 10_000, 100_000) if c <= settings["most_runs"]]
    rows += [growth(Exponential, 500, c, 1, ridge=1e-3) for c in (10, 100, 1000, 10_000) if c <= settings["most_domains"]]
    for count in (c for c in (1, 10, 100, 1000) if c <= settings["most_targets"]):
        rows += [growth(kind, 512, 17, count, ridge=0) for kind in (Exponential, AdditivePower, Linear)]
    return [*rows, growth(Exponential, 34, 17, 13), growth(GaussianProcess, 512, 17, 13)]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--starts", type=int, default=300)
    parser.add_argument("--slow-pairs", type=int, default=1, help="pairs against all starts, which take minutes")
    parser.add_argument("--targets", type=int, default=13)
    parser.add_argument("--most-runs", type=int, default=100_000)
    parser.add_argument("--most-domains", type=int, default=10_000)
    parser.add_argument("--most-targets", type=int, default=1000)
    parser.add_argument("--growth", action="store_true", help="measure the growth alone, without the contenders")
    settings = vars(parser.parse_args())
    if not settings["growth"]:
        write(RESULTS / "laws.json", "ratios of seconds for all targets", settings, contests(settings))
    write(RESULTS / "laws_growth.json", "seconds and peak memory of one fit", settings, grown(settings))


main()
