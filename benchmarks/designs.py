"""Which design finds a good mixture with the same number of runs? On a truth that is fitted to RegMix's 1M runs.

The truth is a law fitted to the 512 training runs for the mean of the 13 targets, boosted trees or the additive power law, and each
run of a design gets its value with noise. Designs of one round (dirichlet, sobol, uniform) have 112 runs; climb has 64, 32 and 16;
bayesian 64 and then twelve rounds of 4. The run that was measured best is taken. Its regret is its true loss less the least of a pool
of draws, as a share of what a random draw of the pool loses; below 0 it is better than the pool.

No timing. Under noise the best of many runs is partly luck, so that its true loss is what counts.

    python benchmarks/designs.py --data ../shared/data/regmix --seeds 5
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import RESULTS, write

import mixopt as mx
from mixopt.designs import Bayesian, Climb, Dirichlet
from mixopt.laws.named import fitter
from mixopt.runs import Runs

Truth = Callable[[np.ndarray], np.ndarray]
_RUNS, _FIRST, _POOL = 112, 64, 20_000
_ROUNDS: dict[str, list[tuple[str, int]]] = {
    "dirichlet": [("dirichlet", _RUNS)],
    "sobol": [("sobol", _RUNS)],
    "uniform": [("uniform", _RUNS)],
    "climb": [("climb", _FIRST), ("climb", 32), ("climb", 16)],
    "bayesian": [("dirichlet", _FIRST), *[("bayesian", 4)] * 12],
}


def truth_of(folder: Path, name: str) -> tuple[mx.Domains, Truth]:
    """The domains with their proportions, and the true loss [R] of mixtures [R, k]."""
    runs = Runs.from_csv(folder / "train_mixture_1m.csv", folder / "train_pile_loss_1m.csv")
    prior = json.loads((folder / "pile_prior.json").read_text())["prior"]
    domains = mx.Domains(runs.domains.names, {n.removeprefix("train_"): v for n, v in prior.items()})
    mean = Runs.from_arrays(domains, runs.mixtures, ["mean"], runs.metrics.mean(axis=1, keepdims=True))
    law = fitter(name)(mean)
    return domains, lambda rows: law.predict(rows)[:, 0]


def searched(domains: mx.Domains, truth: Truth, rounds: list[tuple[str, int]], noise: float, seed: int) -> Runs:
    """The runs of all rounds."""
    rng, runs = np.random.default_rng(seed), None
    kinds = {"climb": Climb(), "bayesian": Bayesian(candidates=2000), "dirichlet": Dirichlet()}
    for turn, (kind, count) in enumerate(rounds):
        design = mx.design(
            domains, runs=count, kind=kinds.get(kind, kind), after=runs, replicates=0, seed=100 * seed + (0 if kind == "climb" else turn)
        )
        found = design.measured(["mean"], (truth(design.mixtures) + noise * rng.standard_normal(count))[:, None])
        runs = found if runs is None else runs.joined(found)
    assert runs is not None
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="RegMix's tables and pile_prior.json")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--truths", nargs="+", default=["lightgbm", "additive-power"])
    parser.add_argument("--noise", type=float, default=0.01, help="standard deviation of a run, nats per token")
    parser.add_argument("--out", type=Path, default=RESULTS / "designs.json")
    given = parser.parse_args()
    rows = []
    for name in given.truths:
        domains, truth = truth_of(given.data, name)
        # draws of two widths, so that the pool has mixtures of few domains and mixtures of many
        pool = np.random.default_rng(0).dirichlet(3 * domains.natural, _POOL // 2)
        pool = np.vstack([pool, np.random.default_rng(1).dirichlet(np.ones(len(domains)), _POOL // 2)])
        losses = truth(pool)
        least, usual = losses.min(), losses.mean()
        for kind, rounds in _ROUNDS.items():
            regrets = []
            for seed in range(given.seeds):
                runs = searched(domains, truth, rounds, given.noise, seed)
                best = runs.mixtures[runs.metrics[:, 0].argmin()]
                regrets.append(float((truth(best[None])[0] - least) / (usual - least)))
            rows.append({"truth": name, "design": kind, "median": float(np.median(regrets)), "each": regrets})
            print(f"{name:>16} {kind:>10}: {np.median(regrets):7.1%} ({min(regrets):.1%} to {max(regrets):.1%})", flush=True)
    settings = {"runs": _RUNS, "seeds": given.seeds, "noise": given.noise}
    write(given.out, "regret of designs with as many runs, on truths fitted to RegMix's 1M runs", settings, rows)


if __name__ == "__main__":
    main()
