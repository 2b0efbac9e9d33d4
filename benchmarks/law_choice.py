"""Does "auto" decide as well as the best of the laws that it is made of? On RegMix's 1M runs.

For each number of training runs, subsets of the training runs are drawn; on each the four laws are cross-validated and fitted. By the
held-out predictions they are blended, for every single target and for the mean of all 13 ("auto"; ``mixopt.laws.stacking``), and one is
picked ("picked"; ``mixopt.laws.choose``). Each picks the run that it predicts best in a pool of runs that no fit has seen. The regret is
what that run loses against the best of the pool, as a share of what a random run loses.

The rule of the blend was settled with training runs as the pool (``--design``, other subsets), and the test runs were read once, after
that. The tolerance of "picked" was settled with test figures in view. For a change of law, rule or settings use ``--design``, which
never reads the test files. ``--keep`` holds the predictions of every subset, so that a run that was stopped goes on.

    python benchmarks/law_choice.py --data ../shared/data/regmix --subsets 20 --keep out/law_choice
    python benchmarks/law_choice.py --data ../shared/data/regmix --design --runs 34 64 128 --subsets 12
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import RESULTS, write

from mixopt.laws.accuracy import expected_regret, figures
from mixopt.laws.comparison import USUAL, Entry, LawComparison
from mixopt.laws.named import fitter
from mixopt.laws.stacking import shares_of
from mixopt.laws.validation import cross_validate, folds_of, judged
from mixopt.runs import Runs

Loss = Callable[[np.ndarray], np.ndarray]
Told = dict[str, dict[str, dict[str, float]]]
_POOL, _FOLDS, _REPEATS, _FAR = 256, 5, 2, 1000


def table(folder: Path, part: str) -> Runs:
    """One part of RegMix's 1M runs."""
    return Runs.from_csv(folder / f"{part}_mixture_1m.csv", folder / f"{part}_pile_loss_1m.csv")


def objectives(m: int) -> dict[str, Loss]:
    """Each target alone, and their mean."""
    single: dict[str, Loss] = {f"target {j}": (lambda metrics, j=j: metrics[..., j]) for j in range(m)}  # type: ignore[misc]
    return {**single, "mean": lambda metrics: metrics.mean(axis=-1)}


def predictions(train: Runs, pool: Runs, kept: Path | None) -> dict[str, np.ndarray]:
    """Of each law its held-out predictions [2, n, m] of the training runs, and those of the pool [q, m] ("... pool"), fitted once."""
    if kept is not None and kept.exists():
        with np.load(kept) as held:
            return dict(held)
    found = {}
    for name in USUAL:
        fit = fitter(name)
        found[name] = np.array([cross_validate(train, _FOLDS, r, law=fit).predicted for r in range(_REPEATS)])
        found[f"{name} pool"] = fit(train).predict(pool.mixtures)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(".part.npz")
        np.savez(part, **found)
        part.rename(kept)
    return found


def judge(train: Runs, pool: Runs, kept: Path | None) -> Told:
    """Regret, expected regret and Spearman on the pool: objective -> law (and "auto", "picked") -> figure."""
    given = predictions(train, pool, kept)
    folds = [folds_of(len(train), _FOLDS, r) for r in range(_REPEATS)]
    held = {n: tuple(judged(train, p, f) for p, f in zip(given[n], folds, strict=True)) for n in USUAL}
    found: Told = {}
    for name, loss in objectives(len(train.targets)).items():
        picks = {law: loss(given[f"{law} pool"]) for law in USUAL}
        entries = tuple(Entry(law, fitter(law), loss, held[law], math.nan) for law in USUAL)
        best = LawComparison(train.targets, entries, len(train), _FOLDS, _REPEATS).best.name
        shares = shares_of(np.array([[loss(p) for p in given[law]] for law in USUAL]), loss(train.metrics))
        blend = loss(sum(a * given[f"{law} pool"] for a, law in zip(shares, USUAL, strict=True) if a))
        found[name] = {law: told(values, loss(pool.metrics)) for law, values in picks.items()}
        found[name]["picked"] = dict(found[name][best])
        found[name]["auto"] = told(blend, loss(pool.metrics)) | {f"share {law}": float(a) for law, a in zip(USUAL, shares, strict=True)}
    return found


def told(predicted: np.ndarray, measured: np.ndarray) -> dict[str, float]:
    """The figures of one decision, and the regret expected of pools drawn again from this one."""
    own = figures(predicted, measured)
    return {"regret": own["regret"], "spearman": own["spearman"], "expected": expected_regret(predicted, measured)}


def subset(train: Runs, test: Runs | None, size: int, seed: int) -> tuple[Runs, Runs]:
    """Runs to fit, and the pool to decide among: the test runs, or training runs outside the subset (which are then other subsets)."""
    order = np.random.default_rng([size, seed if test is not None else seed + _FAR]).permutation(len(train))
    own, rest = train.subset(np.sort(order[:size])), order[size : size + _POOL]
    return own, train.subset(np.sort(rest)) if test is None else test


def summary(size: int, found: list[Told]) -> list[dict[str, object]]:
    """Rows: for single targets (mean over them) and for the mean of all, the median over subsets of each law's figures."""
    rows: list[dict[str, object]] = []
    for group, names in {"single targets": [n for n in found[0] if n != "mean"], "mean of 13": ["mean"]}.items():
        for law in found[0]["mean"]:
            each = {f: [np.mean([one[n][law][f] for n in names]) for one in found] for f in found[0]["mean"][law]}
            row = {"runs": size, "subsets": len(found), "objective": group, "law": law}
            row |= {f: float(np.median(each.pop(f))) for f in ("regret", "spearman", "expected")} | {
                "mean_regret": _mean(found, names, law)
            }
            rows.append(row | {f: float(np.mean(v)) for f, v in each.items()})
    return rows


def _mean(found: list[Told], names: list[str], law: str) -> float:
    return float(np.mean([one[n][law]["regret"] for one in found for n in names]))


def show(rows: list[dict[str, object]]) -> None:
    """The rows as text."""
    for r in rows:
        share = f"{100 * r['regret']:6.1f} % (mean {100 * r['mean_regret']:5.1f}, expected {100 * r['expected']:5.1f})"  # type: ignore[operator]
        shares = ", ".join(f"{n[6:]} {v:.2f}" for n, v in r.items() if n.startswith("share"))
        print(f"{r['runs']:>4}  {r['objective']:<15} {r['law']:<15} regret {share}  Spearman {r['spearman']:.3f}  {shares}", flush=True)


def main() -> None:
    """Draw the subsets, choose, judge, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder with RegMix's CSV files")
    parser.add_argument("--runs", type=int, nargs="+", default=[34, 64, 128, 512])
    parser.add_argument("--subsets", type=int, default=20)
    parser.add_argument("--design", action="store_true", help="judge on training runs outside the subset; the test files are not read")
    parser.add_argument("--keep", type=Path, help="a folder for the predictions of every subset")
    parser.add_argument("--only-kept", action="store_true", help="judge the subsets that are kept, and fit no more")
    parser.add_argument("--out", type=Path, default=RESULTS / "law_choice.json")
    given = parser.parse_args()
    train, test = table(given.data, "train"), None if given.design else table(given.data, "test")
    rows: list[dict[str, object]] = []
    for size in given.runs:
        found = []
        for seed in range(1 if size == len(train) else given.subsets):
            kept = None if given.keep is None else given.keep / f"{size}_{seed}.npz"
            if given.only_kept and not (kept and kept.exists()):
                continue
            found.append(judge(*subset(train, test, size, seed), kept))
        rows += (own := summary(size, found)) if found else []
        show(own if found else [])
    settings = {"runs": given.runs, "subsets": given.subsets, "design": given.design, "laws": list(USUAL)}
    write(given.out, __doc__, settings, rows)


if __name__ == "__main__":
    main()
