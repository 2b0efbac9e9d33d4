"""Apple's law from projected starts against the source's way: random starts and hops between basins, by L-BFGS on the same squares.

Tables are made from the law with noise. Both ways have the same parameters, bounds and gradient, so that only where they begin and
how they descend differ. A turn tells the ratio of the seconds, and of the sums of squares that were reached (>= 1: mixopt's
is no worse).

    python benchmarks/scale_laws.py --tables 10 --hops 20
    python benchmarks/scale_laws.py --tables 5 --hops 20 --joint
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from common import RESULTS, interval, write
from scipy.optimize import basinhopping

from mixopt.laws import AppleAdditive, AppleJoint
from mixopt.laws.apple import AppleCurve
from mixopt.laws.law import At
from mixopt.runs import Runs


def table(k: int, joint: bool, seed: int) -> Runs:
    """25 mixtures of k domains, each at 4 sizes, with a noise of 0.003 nats."""
    rng = np.random.default_rng(seed)
    own = [[1.5, 0.3, 0.35], rng.normal(0, 0.6, k), rng.normal(0, 0.6, k)]
    rest = [np.log(0.4) + rng.normal(0, 0.3, k), [1.3], np.log(0.5) + rng.normal(0, 0.3, k), [1.1]] if joint else [np.log([0.4, 0.5])]
    w = np.repeat(rng.dirichlet(np.ones(k), 25), 4, axis=0)
    at = At(w, params=rng.choice([2e8, 5e8, 1e9, 2e9], 100), tokens=rng.uniform(2e9, 5e10, 100))
    y = AppleCurve(joint).value(np.concatenate(own + rest)[None], at).T + rng.normal(0, 0.003, (100, 1))
    return Runs.from_arrays([f"d{i}" for i in range(k)], w, ["loss"], y, params=at.params, tokens=at.tokens)


def hopped(runs: Runs, joint: bool, hops: int, seed: int) -> float:
    """The sum of squares that basin hopping reaches from one random start."""
    curve, at, y = AppleCurve(joint), At.of(runs), runs.metrics[:, 0]
    low, high = curve.bounds(at, y)
    rng = np.random.default_rng(seed)

    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        gap = curve.value(theta[None], at)[0] - y
        return float(gap @ gap), 2 * curve.jacobian(theta[None], at)[0].T @ gap

    start = np.clip(rng.normal(0, 1, len(low)) + np.r_[1.0, 0.3, 0.3, np.zeros(len(low) - 3)], low, high)
    inner = {"method": "L-BFGS-B", "jac": True, "bounds": list(zip(low, high, strict=True)), "options": {"maxiter": 2000}}
    with np.errstate(all="ignore"):
        return float(basinhopping(objective, start, niter=hops, minimizer_kwargs=inner, seed=seed).fun)


def main() -> None:
    """Fit each table both ways and write the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=10)
    parser.add_argument("--domains", type=int, default=4)
    parser.add_argument("--hops", type=int, default=20)
    parser.add_argument("--joint", action="store_true", help="the joint law, whose exponents >= 1 and < 0 mixopt tries in turn")
    parser.add_argument("--out", type=Path, default=RESULTS / "scale_laws.json")
    given = parser.parse_args()
    rows = []
    for seed in range(given.tables):
        runs = table(given.domains, given.joint, seed)
        begun = time.perf_counter()
        law = (AppleJoint if given.joint else AppleAdditive).fit(runs)
        between = time.perf_counter()
        theirs = hopped(runs, given.joint, given.hops, seed)
        spent = time.perf_counter() - between
        ours = float(len(runs) * law.rmse[0] ** 2)
        rows.append({"seed": seed, "speed": spent / (between - begun), "squares": theirs / ours, "seconds": between - begun})
        print(f"table {seed}: {rows[-1]['speed']:.1f} times as fast, squares {rows[-1]['squares']:.4f} of mixopt's", flush=True)
    for name in ("speed", "squares"):
        print(name, "{:.3g} [{:.3g}, {:.3g}]".format(*interval(np.array([row[name] for row in rows]))))
    settings = {key: value for key, value in vars(given).items() if key != "out"}
    write(given.out, main.__doc__, settings, rows)


if __name__ == "__main__":
    main()
