"""Conic programs: a plan run again with new numbers against cvxpy built anew and the cone solver itself, and one large problem.

Every run of a plan polishes its answer and certifies it (feasibility, gap, KKT residual), which neither of the others does. The machine may
be shared: the contenders are timed in turns.
"""

from __future__ import annotations

import argparse
import resource
import time
from typing import Any

import cvxpy as cp
import networkx as nx
import numpy as np
from common import RESULTS, interleaved, interval, write
from scipy.spatial import cKDTree

import mixopt as mx
from mixopt.solvers import Conic

LAMBDA, FLOOR, MOST = 0.05, 0.005, 0.5
TIGHT = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10}


class Case:
    """A mixing law over k domains with m targets, pulled to given shares, under caps, a floor and four groups of domains."""

    def __init__(self, k: int, m: int, seed: int):
        self.draw = np.random.default_rng(seed)
        self.k, self.A, self.c = k, self.draw.normal(size=(m, k)), self.draw.uniform(0.5, 1, m)
        names = [f"d{i}" for i in range(k)]
        self.groups = [part.tolist() for part in np.array_split(np.arange(k), 4)]
        w, q, caps = mx.Mixture(names), mx.parameter("q", k, nonneg=True), mx.parameter("caps", k, nonneg=True)
        law = mx.constant(self.c) @ mx.exp(mx.constant(-self.A) @ w)
        limits = [(w <= caps).named("caps"), (w >= FLOOR).named("floor")]
        limits += [(mx.sum(w[group]) <= MOST).named(f"group {i}") for i, group in enumerate(self.groups)]
        self.plan = mx.plan(mx.minimize(law + LAMBDA * mx.sum_squares(w - q), over=w, subject_to=limits), solver=Conic())
        self.data: Any = None

    def numbers(self) -> dict[str, Any]:
        """New numbers for a run."""
        return {"q": self.draw.dirichlet(np.ones(self.k)), "caps": self.draw.uniform(0.2, 0.4, self.k)}

    def rerun(self, given: dict[str, Any]) -> mx.Result:
        """The plan, run again; its certificate included."""
        return self.plan.run(given=given)

    def problem(self, given: dict[str, Any]) -> tuple[cp.Problem, cp.Variable]:
        """The cvxpy problem, built anew."""
        w = cp.Variable(self.k, nonneg=True)
        goal = self.c @ cp.exp(-self.A @ w) + LAMBDA * cp.sum_squares(w - given["q"])
        limits = [w <= given["caps"], w >= FLOOR, cp.sum(w) == 1, *(cp.sum(w[group]) <= MOST for group in self.groups)]
        return cp.Problem(cp.Minimize(goal), limits), w

    def anew(self, given: dict[str, Any]) -> np.ndarray:
        """The cvxpy problem built anew and solved to the same tolerances; no certificate."""
        problem, w = self.problem(given)
        problem.solve(solver="CLARABEL", **TIGHT)
        return np.asarray(w.value)

    def ready(self, given: dict[str, Any]) -> None:
        """Have the matrices of these numbers ready."""
        problem, _ = self.problem(given)
        data, chain, _ = problem.get_problem_data("CLARABEL")
        self.data = data, chain

    def direct(self) -> None:
        """CLARABEL on the matrices that are ready."""
        data, chain = self.data
        chain.solver.solve_via_data(data, False, False, dict(TIGHT))


def again(k: int, m: int, pairs: int, seed: int) -> list[dict[str, Any]]:
    """The ratios, with their intervals: against cvxpy anew, the certificate counted and not, and against the cone solver alone."""
    case = Case(k, m, seed)
    given = case.numbers()
    apart = float(np.abs(case.rerun(given).vector - case.anew(given)).max())
    case.ready(given)
    solving: list[float] = []
    theirs, ours = interleaved(lambda: case.anew(case.numbers()), lambda: solving.append(case.rerun(case.numbers()).cost.seconds), pairs)
    alone, same = interleaved(case.direct, lambda: case.rerun(given), pairs)
    figures = {
        "cvxpy built anew / re-run with its certificate": (theirs, ours),
        "cvxpy built anew / the solve in the re-run": (theirs, np.array(solving[1:])),
        "re-run with its certificate / CLARABEL alone": (same, alone),
    }
    return [
        {
            "what": what,
            "k": k,
            "ratio": interval(a / b),
            "ms": [1e3 * float(np.median(a)), 1e3 * float(np.median(b))],
            "weights_apart": apart,
        }
        for what, (a, b) in figures.items()
    ]


def large(k: int, edges: int, seed: int) -> dict[str, Any]:
    """Planning and one solve over a similarity graph: neighbours among random points of the plane."""
    draw = np.random.default_rng(seed)
    _, near = cKDTree(draw.uniform(size=(k, 2))).query(np.random.default_rng(seed).uniform(size=(k, 2)), 2 * edges // k)
    pairs = sorted({(min(i, int(j)), max(i, int(j))) for i, row in enumerate(near) for j in row if int(j) != i})
    graph = nx.Graph()
    names = [f"d{i}" for i in range(k)]
    graph.add_nodes_from(names)
    graph.add_edges_from(
        (names[i], names[j]) for i, j in (pairs[p] for p in draw.choice(len(pairs), min(edges, len(pairs)), replace=False))
    )
    domains = mx.Domains(names, tokens=draw.uniform(1e9, 1e11, k))
    w = mx.Mixture(domains)
    started = time.perf_counter()
    goal = w @ draw.normal(size=k) + mx.graph.smoothness(w, graph) + 0.1 * k * mx.sum_squares(w - domains.natural)
    plan = mx.plan(mx.minimize(goal, over=w, subject_to=[mx.graph.epochs(w, budget=2e14, at_most=16).named("repetition")]), solver=Conic())
    planned = time.perf_counter()
    result = plan.run()
    done = time.perf_counter()
    return {
        "what": "large",
        "k": k,
        "edges": graph.number_of_edges(),
        "plan_s": planned - started,
        "run_s": done - planned,
        "status": result.status.name,
        "check": str(result.check),
        "peak_GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--k", type=int, default=17)
    parser.add_argument("--targets", type=int, default=13)
    parser.add_argument("--domains", type=int, default=10_000)
    parser.add_argument("--edges", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=0)
    settings = vars(parser.parse_args())
    rows = again(settings["k"], settings["targets"], settings["pairs"], settings["seed"])
    for row in rows:
        middle, low, high = row["ratio"]
        print(f"{row['what']}: {middle:.2f} [{low:.2f}, {high:.2f}]  ({row['ms'][0]:.2f} ms / {row['ms'][1]:.2f} ms)", flush=True)
    rows.append(large(settings["domains"], settings["edges"], settings["seed"]))
    print({name: value for name, value in rows[-1].items() if name != "what"})
    write(RESULTS / "conic.json", "ratios of seconds, and seconds of one large problem", settings, rows)


if __name__ == "__main__":
    main()
