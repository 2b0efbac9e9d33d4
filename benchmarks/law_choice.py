"""Does the law that is chosen on held-out runs decide as well as the best of the four would have? On RegMix's 1M runs.

For each number of training runs, subsets of the training runs are drawn; on each the four laws are cross-validated and one is
chosen for every single target and for the mean of all 13, the four are fitted, and each picks the run that it predicts
best in a pool of runs that no fit has seen. The regret is what that run loses against the best of the pool, as a share of what a
random run loses.

The rule (``mixopt.laws.choose``) was found on splits of the training runs, but its tolerance of 0.3 points was settled with test figures in
view, so these are not untouched. For a change of law, rule or settings use ``--design``, which judges on the training runs outside
the subset and never reads the test files, and take the test figures once, at the end.

    python benchmarks/law_choice.py --data ../shared/data/regmix --subsets 20
    python benchmarks/law_choice.py --data ../shared/data/regmix --design --runs 34 64 128 --subsets 12
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import RESULTS, write

from mixopt.laws import compare_laws
from mixopt.laws.accuracy import expected_regret, figures
from mixopt.laws.comparison import USUAL
from mixopt.runs import Runs

Loss = Callable[[np.ndarray], np.ndarray]
_POOL = 256


def table(folder: Path, part: str) -> Runs:
    """One part of RegMix's 1M runs."""
    return Runs.from_csv(folder / f"{part}_mixture_1m.csv", folder / f"{part}_pile_loss_1m.csv")


def objectives(m: int) -> dict[str, Loss]:
    """Each target alone, and their mean."""
    single: dict[str, Loss] = {f"target {j}": (lambda metrics, j=j: metrics[..., j]) for j in range(m)}  # type: ignore[misc]
    return {**single, "mean": lambda metrics: metrics.mean(axis=-1)}


def judge(train: Runs, pool: Runs) -> tuple[dict[str, dict[str, dict[str, float]]], dict[str, float]]:
    """Regret, expected regret and Spearman on the pool: objective -> law (and "auto", "direct") -> figure; and the seconds spent."""
    begun = time.perf_counter()
    compared = compare_laws(train, USUAL, repeats=2)
    spent = {e.name: e.seconds for e in compared.fitted}
    predicted = {e.name: e.fit(train).predict(pool.mixtures) for e in compared.fitted}
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, loss in objectives(len(train.targets)).items():
        found[name] = {law: told(loss(values), loss(pool.metrics)) for law, values in predicted.items()}
        best = compared.judged_by(loss).best.name
        found[name]["auto"] = found[name][best] | {"law": float(list(predicted).index(best))}
    mean = Runs.from_arrays(train.domains, train.mixtures, ["mean"], train.metrics.mean(axis=1, keepdims=True))
    found["mean, averaged before the fit"] = {
        e.name: told(e.fit(mean).predict(pool.mixtures)[:, 0], pool.metrics.mean(axis=1)) for e in compared.fitted
    }
    return found, spent | {"all": time.perf_counter() - begun}


def told(predicted: np.ndarray, measured: np.ndarray) -> dict[str, float]:
    """The figures of one decision, and the regret expected of pools drawn again from this one."""
    own = figures(predicted, measured)
    return {"regret": own["regret"], "spearman": own["spearman"], "expected": expected_regret(predicted, measured)}


def subset(train: Runs, test: Runs | None, size: int, seed: int) -> tuple[Runs, Runs]:
    """Runs to fit, and the pool to decide among: the test runs, or training runs outside the subset."""
    order = np.random.default_rng([size, seed]).permutation(len(train))
    own, rest = train.subset(np.sort(order[:size])), order[size : size + _POOL]
    return own, train.subset(np.sort(rest)) if test is None else test


def summary(size: int, found: list[dict[str, dict[str, dict[str, float]]]]) -> list[dict[str, object]]:
    """Rows: for single targets (mean over them) and for the mean of all, the median over subsets of each law's figures."""
    rows: list[dict[str, object]] = []
    groups = {
        "single targets": [n for n in found[0] if n.startswith("target")],
        "mean of 13": ["mean"],
        "mean of 13, averaged before the fit": ["mean, averaged before the fit"],
    }
    for group, names in groups.items():
        for law in found[0][names[0]]:
            each = {f: [np.mean([one[n][law][f] for n in names]) for one in found] for f in ("regret", "spearman", "expected")}
            row = {"runs": size, "objective": group, "law": law, **{f: float(np.median(v)) for f, v in each.items()}}
            row["mean_regret"] = float(np.mean(each["regret"]))
            if law == "auto":
                row["chosen"] = np.bincount([int(one[n][law]["law"]) for one in found for n in names], minlength=len(USUAL)).tolist()
            rows.append(row)
    return rows


def show(rows: list[dict[str, object]]) -> None:
    """The rows as text."""
    for r in rows:
        share = f"{100 * r['regret']:6.1f} % (mean {100 * r['mean_regret']:5.1f}, expected {100 * r['expected']:5.1f})"
        print(
            f"{r['runs']:>4}  {r['objective']:<36} {r['law']:<15} regret {share}  Spearman {r['spearman']:.3f}  {r.get('chosen', '')}",
            flush=True,
        )


def main() -> None:
    """Draw the subsets, choose, judge, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder with RegMix's CSV files")
    parser.add_argument("--runs", type=int, nargs="+", default=[34, 64, 128, 512])
    parser.add_argument("--subsets", type=int, default=20)
    parser.add_argument("--design", action="store_true", help="judge on training runs outside the subset; the test files are not read")
    parser.add_argument("--out", type=Path, default=RESULTS / "law_choice.json")
    given = parser.parse_args()
    train, test = table(given.data, "train"), None if given.design else table(given.data, "test")
    rows: list[dict[str, object]] = []
    for size in given.runs:
        subsets = 1 if size == len(train) else given.subsets
        found, spent = zip(*(judge(*subset(train, test, size, seed)) for seed in range(subsets)), strict=True)
        rows += (own := summary(size, list(found)))
        show(own)
        print(f"{size:>4}  seconds a subset: " + ", ".join(f"{n} {np.mean([s[n] for s in spent]):.1f}" for n in spent[0]), flush=True)
    settings = {"runs": given.runs, "subsets": given.subsets, "design": given.design, "laws": list(USUAL)}
    write(given.out, __doc__, settings, rows)


if __name__ == "__main__":
    main()
