"""How often do 90 % intervals of unseen runs hold them? On RegMix's 1M runs, with the exponential law.

For each number of training runs, subsets of the training runs are drawn and fitted. The intervals are those of ``laws.laplace`` and of
``laws.jackknife``, which ``recommend`` takes, for every single target and for the mean of all 13. They are looked at on training runs
outside the subset (256 at most), by which their rule was settled, and on the 256 test runs, whose figures settled nothing. ``gain`` is
half the 90 % interval of the gain, by the law, of the best test run over uniform.

    python benchmarks/intervals.py --data ../shared/data/regmix
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from common import RESULTS, write
from law_choice import subset, table

from mixopt.laws import Exponential, Posterior, jackknife, laplace
from mixopt.runs import Runs

_LEVEL, _DRAWS = 0.9, 100
_LINE = "{runs:>4} runs  {by:<9}  {pool:<13}  single targets {single:.3f}, mean {mean:.3f} (median width {width:.3f}), gain +- {gain:.3f}"


def mean(metrics: np.ndarray) -> np.ndarray:
    """The mean of the targets."""
    return np.asarray(metrics.mean(axis=-1))


def covered(posterior: Posterior, pool: Runs) -> dict[str, float]:
    """The shares of the pool's runs inside, of single targets and of their mean, and the median width of the latter."""
    single, whole = posterior.intervals(pool.mixtures, _LEVEL), posterior.intervals(pool.mixtures, _LEVEL, mean)
    return {
        "single": _inside(single, pool.metrics),
        "mean": _inside(whole, mean(pool.metrics)),
        "width": float(np.median(np.ptp(whole, axis=1))),
    }


def _inside(spans: np.ndarray, truth: np.ndarray) -> float:
    return float(((spans[..., 0] <= truth) & (truth <= spans[..., 1])).mean())


def half_gain(posterior: Posterior, pool: Runs) -> float:
    """Half the interval of the gain of the pool's best run over uniform."""
    low, high = posterior.gain(
        pool.mixtures[mean(pool.metrics).argmin()], np.full(len(pool.domains), 1 / len(pool.domains)), mean
    ).interval(_LEVEL)
    return (high - low) / 2


def rows_of(train: Runs, test: Runs, size: int, subsets: int) -> list[dict[str, object]]:
    """Means over the subsets of one size: a row for each way to doubt and each pool."""
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for seed in range(1 if size == len(train) else subsets):
        runs, pool = subset(train, None, size, seed)
        ways = {"laplace": laplace(Exponential.fit(runs), runs, draws=_DRAWS), "jackknife": jackknife(Exponential.fit, runs)}
        for way, posterior in ways.items():
            for name, unseen in {"training runs": pool, "test": test}.items():
                if len(unseen):
                    told = covered(posterior, unseen) | {"gain": half_gain(posterior, test)}
                    found.setdefault((way, name), []).append(told)
    return [
        {"runs": size, "subsets": len(each), "by": way, "pool": name, **{f: float(np.mean([one[f] for one in each])) for f in each[0]}}
        for (way, name), each in found.items()
    ]


def main() -> None:
    """Draw the subsets, fit, look, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder with RegMix's CSV files")
    parser.add_argument("--runs", type=int, nargs="+", default=[34, 64, 128, 256, 512])
    parser.add_argument("--subsets", type=int, default=6)
    parser.add_argument("--out", type=Path, default=RESULTS / "intervals.json")
    given = parser.parse_args()
    train, test = table(given.data, "train"), table(given.data, "test")
    rows: list[dict[str, object]] = []
    for size in given.runs:
        rows += (own := rows_of(train, test, size, given.subsets))
        for row in own:
            print(_LINE.format(**row), flush=True)
    write(given.out, __doc__, {"runs": given.runs, "subsets": given.subsets, "level": _LEVEL}, rows)


if __name__ == "__main__":
    main()
