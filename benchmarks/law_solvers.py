"""Solvers on mixing laws: our own against cvxpy written by hand and against 100,000 draws, by time and by objective; growth with domains.

The law is the mean of m exponential laws over k domains with a KL term to given shares and caps, as mixopt fit poses it, and a sum of
powers of each weight, as BiMix does. Every solve of mixopt is planned anew and certifies its answer; the others do neither. The
contenders are timed in turns, and every objective is evaluated by the same lines of numpy.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import cvxpy as cp
import numpy as np
from common import RESULTS, interleaved, interval, seconds, write
from scipy.special import rel_entr

import mixopt as mx
from mixopt.solvers import Conic, Projected, Simulation, WaterFilling

LAMBDA, CAP, DRAWS, TOP = 0.05, 4.0, 100_000, 128
TIGHT = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10}


class Laws:
    """mean_j (c_j + exp(A_j . w)) + 0.05 KL(w || q) with w <= 4 q, over k domains and m targets."""

    def __init__(self, k: int, m: int, seed: int):
        draw = np.random.default_rng(seed)
        self.k, self.A, self.c = k, draw.normal(-0.5, 0.7, (m, k)), draw.uniform(2, 4, m)
        self.q = draw.dirichlet(np.full(k, 2.0)) + 0.1 / k
        self.q /= self.q.sum()
        self.names = [f"d{i}" for i in range(k)]

    def problem(self) -> mx.Problem:
        """As a user writes it."""
        w = mx.Mixture(self.names)
        law = mx.mean(mx.constant(self.c) + mx.exp(mx.constant(self.A) @ w))
        return mx.minimize(law + LAMBDA * mx.kl(w, self.q), over=w, subject_to=[(w <= CAP * self.q).named("caps")])

    def value(self, w: np.ndarray) -> float:
        """The objective; infinite where a cap is broken by more than 1e-6."""
        if (w > CAP * self.q + 1e-6).any() or abs(w.sum() - 1) > 1e-6 or (w < -1e-6).any():
            return np.inf
        return float((self.c + np.exp(self.A @ w)).mean() + LAMBDA * rel_entr(np.maximum(w, 0), self.q).sum())

    def by(self, solver: mx.solver.Solver) -> Callable[[], np.ndarray]:
        """Planned, solved and certified by one of ours."""
        return lambda: np.asarray(mx.solve(self.problem(), solver=solver).vector)

    def by_hand(self) -> np.ndarray:
        """In cvxpy, by CLARABEL to the same tolerances."""
        w = cp.Variable(self.k, nonneg=True)
        goal = cp.sum(self.c + cp.exp(self.A @ w)) / len(self.c) + LAMBDA * cp.sum(cp.rel_entr(w, self.q))
        cp.Problem(cp.Minimize(goal), [cp.sum(w) == 1, w <= CAP * self.q]).solve(solver="CLARABEL", **TIGHT)
        return np.asarray(w.value)

    def by_draws(self) -> np.ndarray:
        """100,000 draws about the prior in numpy, those beyond the caps left out, the best of them."""
        drawn = np.random.default_rng(0).dirichlet(self.k * self.q, DRAWS)
        drawn = drawn[(drawn <= CAP * self.q).all(axis=1)]
        values = (self.c + np.exp(drawn @ self.A.T)).mean(axis=1) + LAMBDA * rel_entr(drawn, self.q).sum(axis=1)
        return np.asarray(drawn[np.argmin(values)])


class Powers(Laws):
    """sum_i K_i w_i^-a_i, BiMix at a number of steps."""

    def __init__(self, k: int, seed: int):
        draw = np.random.default_rng(seed)
        self.k, self.K, self.a, self.names = k, draw.uniform(0.5, 3, k), draw.uniform(0.02, 0.3, k), [f"d{i}" for i in range(k)]

    def problem(self) -> mx.Problem:
        w = mx.Mixture(self.names)
        return mx.minimize(mx.constant(self.K) @ mx.exp(-self.a * mx.log(w)), over=w)

    def value(self, w: np.ndarray) -> float:
        return float((self.K * np.maximum(w, 1e-300) ** -self.a).sum())

    def by_hand(self) -> np.ndarray:
        w = cp.Variable(self.k, nonneg=True)
        cp.Problem(cp.Minimize(self.K @ cp.exp(cp.multiply(-self.a, cp.log(w)))), [cp.sum(w) == 1]).solve(solver="CLARABEL", **TIGHT)
        return np.asarray(w.value)

    def by_draws(self) -> np.ndarray:
        drawn = np.random.default_rng(0).dirichlet(np.ones(self.k), DRAWS)
        return np.asarray(drawn[np.argmin((drawn[:, :] ** -self.a) @ self.K)])


def against(what: str, case: Laws, own: Callable[[], np.ndarray], other: Callable[[], np.ndarray], pairs: int) -> dict[str, Any]:
    """Other's seconds over ours, with both objectives."""
    ours, theirs = interleaved(own, other, pairs)
    return {
        "what": what,
        "k": case.k,
        "ratio": interval(theirs / ours),
        "ms": [1e3 * float(np.median(ours)), 1e3 * float(np.median(theirs))],
        "objective": [case.value(own()), case.value(other())],
    }


def rows_of(k: int, m: int, pairs: int, seed: int) -> list[dict[str, Any]]:
    """All contenders on the exponential laws and on the powers."""
    laws, powers = Laws(k, m, seed), Powers(k, seed)
    few = max(pairs // 5, 2)
    prior = dict(zip(laws.names, laws.q.tolist(), strict=True))
    search = Simulation(draws=DRAWS, top=TOP, best="argmin", prior=prior, strength=float(k))
    return [
        against("cvxpy by hand / Conic", laws, laws.by(Conic()), laws.by_hand, pairs),
        against("cvxpy by hand / Projected", laws, laws.by(Projected()), laws.by_hand, pairs),
        against("cvxpy by hand / mirror steps", laws, laws.by(Projected(geometry="entropic")), laws.by_hand, pairs),
        against("100,000 draws / Conic", laws, laws.by(Conic()), laws.by_draws, few),
        against("100,000 draws by hand / Simulation", laws, laws.by(search), laws.by_draws, few),
        against("cvxpy by hand / WaterFilling, powers", powers, powers.by(WaterFilling()), powers.by_hand, pairs),
        against("100,000 draws / WaterFilling, powers", powers, powers.by(WaterFilling()), powers.by_draws, few),
    ]


def growth(m: int, domains: list[int], seed: int) -> list[dict[str, Any]]:
    """Seconds of one solve as the domains grow, its certificate counted."""
    rows = []
    for k in domains:
        laws, powers, row = Laws(k, m, seed), Powers(k, seed), {"what": "growth", "k": k}
        pairs = (("Conic", laws, Conic()), ("Projected", laws, Projected()), ("WaterFilling", powers, WaterFilling()))
        for name, case, solver in pairs:
            row[f"{name}_s"] = seconds(case.by(solver))
        rows.append(row)
        print({n: round(v, 3) if isinstance(v, float) else v for n, v in row.items()}, flush=True)
    return rows


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--k", type=int, default=17)
    parser.add_argument("--targets", type=int, default=13)
    parser.add_argument("--domains", type=int, nargs="+", default=[10, 100, 1000, 10_000])
    parser.add_argument("--seed", type=int, default=0)
    settings = vars(parser.parse_args())
    rows = rows_of(settings["k"], settings["targets"], settings["pairs"], settings["seed"])
    for row in rows:
        middle, low, high = row["ratio"]
        values = " against ".join(f"{v:.6f}" for v in row["objective"])
        print(f"{row['what']}: {middle:.2f} [{low:.2f}, {high:.2f}] ({row['ms'][0]:.1f} ms; {row['ms'][1]:.1f} ms), objective {values}")
    rows += growth(settings["targets"], settings["domains"], settings["seed"])
    write(RESULTS / "law_solvers.json", "ratios of seconds to ours, objectives, and seconds as domains grow", settings, rows)


if __name__ == "__main__":
    main()
