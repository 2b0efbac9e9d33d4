"""DoReMi's weights on the demo's corpus from several seeds, and how far they lie apart: a property of the method, not a timing.

A seed is that of the reference, of the batches and of the proxy's, as in the demo. Reported are the weights of each, their largest
difference by domain, and the difference of the training mixtures in nats of KL divergence.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path

import numpy as np
from common import RESULTS, write

from mixopt.demo.corpus import load
from mixopt.demo.data import prepare
from mixopt.demo.presets import preset, training_text
from mixopt.study.search import by_doremi


def main() -> None:
    """Run, print a table, and write the weights with what they were found on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--out", type=Path, default=RESULTS / "doremi_seeds.json")
    given = parser.parse_args()
    sizes, models = preset(given.preset)
    data = prepare(load(), training_text(sizes))
    rows = []
    for seed in range(given.seeds):
        found = by_doremi(data, sizes, models, seed, lambda share: None)
        rows.append({"seed": seed, "weights": dict(found.weights), "evidence": list(found.evidence), "seconds": found.seconds})
    weights = np.array([list(row["weights"].values()) for row in rows])
    spread = np.ptp(weights, axis=0)
    divergence = [float((a * np.log(a / b)).sum()) for a, b in combinations(weights, 2)]
    print(f"{'domain':20s} " + " ".join(f"seed {row['seed']}" for row in rows) + "  spread")
    for name, each, apart in zip(data.domains, weights.T, spread, strict=True):
        print(f"{name:20s} " + " ".join(f"{x:6.4f}" for x in each) + f"  {apart:.4f}")
    print(f"largest spread {spread.max():.4f}, KL between seeds {', '.join(f'{d:.1e}' for d in divergence)} nats")
    summary = {"largest_spread": float(spread.max()), "kl_between_seeds": divergence}
    write(given.out, __doc__, {"preset": given.preset, "steps": sizes.method_steps, **summary}, rows)


if __name__ == "__main__":
    main()
