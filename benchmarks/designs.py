"""Which design finds a good mixture with the same number of runs? On a truth that is fitted to RegMix's 1M runs.

The truth is a law fitted to the 512 training runs for each of the 13 targets, boosted trees or the additive power law, never above what
the worst run had; each run of a design gets its values with noise, and the loss is their mean. All keep the caps of RegMix's rule, 15
times the natural proportions. Designs of one round (dirichlet, sobol, uniform, d-optimal) have 112 runs; climb has 64, 32 and 16;
bayesian 64 of sobol and then twelve rounds of 4. What comes of them is judged twice: the run that was measured best, and the mixture of
a pool of draws that exponential laws fitted to the runs call best. The regret of a mixture is its true loss less the least of the pool,
as a share of what a random draw of the pool loses; below 0 it is better than the pool. The natural mixture and the one nearest to equal
cost no run.

No timing. Under noise the best of many runs is partly luck, so that its true loss is what counts.

    python benchmarks/designs.py --data ../shared/data/regmix --seeds 5
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, write

import mixopt as mx
from mixopt.designs import Bayesian, Climb, Dirichlet
from mixopt.laws import Law
from mixopt.laws.extent import ExtrapolationWarning
from mixopt.laws.named import fitter
from mixopt.runs import Runs

Truth = Callable[[np.ndarray], np.ndarray]
_RUNS, _FIRST, _POOL = 112, 64, 10_000
_ROUNDS: dict[str, list[tuple[str, int]]] = {
    "dirichlet": [("dirichlet", _RUNS)],
    "sobol": [("sobol", _RUNS)],
    "uniform": [("uniform", _RUNS)],
    "d-optimal": [("d-optimal", _RUNS)],
    "climb": [("climb", _FIRST), ("climb", 32), ("climb", 16)],
    "bayesian": [("sobol", _FIRST), *[("bayesian", 4)] * 12],
}


def truth_of(folder: Path, name: str) -> tuple[mx.Domains, Truth]:
    """The domains with their proportions, and the true losses [R, m] of mixtures [R, k]."""
    runs = Runs.from_csv(folder / "train_mixture_1m.csv", folder / "train_pile_loss_1m.csv")
    prior = json.loads((folder / "pile_prior.json").read_text())["prior"]
    domains = mx.Domains(runs.domains.names, {n.removeprefix("train_"): v for n, v in prior.items()})
    law = fitter(name)(Runs.from_arrays(domains, runs.mixtures, runs.targets, runs.metrics))
    return domains, lambda rows: np.minimum(predicted(law, rows), runs.metrics.max(axis=0))


def caps_of(domains: mx.Domains) -> np.ndarray:
    """RegMix's caps [k], within which the truth has seen runs."""
    return np.minimum(15 * domains.natural, 1)


def predicted(law: Law, rows: np.ndarray) -> np.ndarray:
    """Losses [R, m] of a law, far from its runs too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExtrapolationWarning)
        return law.predict(rows)


def searched(domains: mx.Domains, truth: Truth, rounds: list[tuple[str, int]], noise: float, seed: int) -> Runs:
    """The runs of all rounds."""
    rng, runs = np.random.default_rng(seed), None
    seen = (mx.Mixture(domains) <= mx.constant(caps_of(domains), domains.names)).named("seen")
    kinds = {"climb": Climb(), "bayesian": Bayesian(candidates=2000), "dirichlet": Dirichlet()}
    for turn, (kind, count) in enumerate(rounds):
        design = mx.design(
            domains,
            runs=count,
            kind=kinds.get(kind, kind),
            after=runs,
            replicates=0,
            subject_to=[seen],
            seed=100 * seed + (0 if kind == "climb" else turn),
        )
        values = truth(design.mixtures)
        found = design.measured([f"loss {j}" for j in range(values.shape[1])], values + noise * rng.standard_normal(values.shape))
        runs = found if runs is None else runs.joined(found)
    assert runs is not None
    return runs


def told(truth: str, design: str, found: dict[str, list[float]]) -> dict[str, Any]:
    """A row of the regrets of a design by what was chosen, printed with the median and the range."""
    shown = ";  ".join(f"{by} {np.median(each):7.1%} ({min(each):.1%} to {max(each):.1%})" for by, each in found.items())
    print(f"{truth:>16} {design:>10}: {shown}", flush=True)
    return {"truth": truth, "design": design, "median": {by: float(np.median(each)) for by, each in found.items()}, "each": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="RegMix's tables and pile_prior.json")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--truths", nargs="+", default=["lightgbm", "additive-power"])
    parser.add_argument("--noise", type=float, default=0.03, help="standard deviation of a target of a run, nats per token")
    parser.add_argument("--out", type=Path, default=RESULTS / "designs.json")
    given = parser.parse_args()
    rows = []
    for name in given.truths:
        domains, truth = truth_of(given.data, name)
        k = len(domains)
        pool = np.vstack(
            [np.random.default_rng(0).dirichlet(3 * domains.natural, _POOL), np.random.default_rng(1).dirichlet(np.ones(k), 10 * _POOL)]
        )
        pool = pool[(pool <= caps_of(domains)).all(axis=1)]  # mixtures of few domains, and of many
        losses = truth(pool).mean(axis=1)

        def regret(mixture: np.ndarray, truth: Truth = truth, losses: np.ndarray = losses) -> float:
            return float((truth(mixture[None])[0].mean() - losses.min()) / (losses.mean() - losses.min()))

        equal = pool[np.abs(pool - 1 / k).sum(axis=1).argmin()]
        for kind, mixture in (("natural", domains.natural), ("equal", equal)):
            rows.append(told(name, kind, {"no runs": [regret(mixture)]}))
        for kind, rounds in _ROUNDS.items():
            found: dict[str, list[float]] = {"best run": [], "law": []}
            for seed in range(given.seeds):
                runs = searched(domains, truth, rounds, given.noise, seed)
                found["best run"].append(regret(runs.mixtures[runs.metrics.mean(axis=1).argmin()]))
                found["law"].append(regret(pool[predicted(mx.laws.Exponential.fit(runs), pool).mean(axis=1).argmin()]))
            rows.append(told(name, kind, found))
    settings = {"runs": _RUNS, "seeds": given.seeds, "noise": given.noise}
    write(given.out, "regret of designs with as many runs, on truths fitted to RegMix's 1M runs", settings, rows)


if __name__ == "__main__":
    main()
