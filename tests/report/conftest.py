"""Two made-up reports: one with everything, over seventeen domains, and one of two domains that knows little else."""

from __future__ import annotations

import numpy as np
import pytest

import mixopt as mx
from mixopt.language.latex import latex
from mixopt.report.report import Bound, Compared, Fit, Judged, Outcome, Prediction, Provenance, Ranges, Report

PILE = [
    "Pile-CC",
    "PubMed_Central",
    "Books3",
    "ArXiv",
    "GitHub",
    "FreeLaw",
    "StackExchange",
    "USPTO_Backgrounds",
    "PubMed_Abstracts",
    "Gutenberg_(PG-19)",
    "Wikipedia_(en)",
    "DM_Mathematics",
    "Ubuntu_IRC",
    "EuroParl",
    "HackerNews",
    "PhilPapers",
    "NIH_ExPorter",
]


def made_up(names: list[str], title: str = "Mixture for the 1B run", seed: int = 0) -> Report:
    """A report with every section, its numbers drawn at random."""
    draw = np.random.default_rng(seed)
    k = len(names)
    tokens = dict(zip(names, ((draw.pareto(1.2, k) + 0.05) * 4e9).tolist(), strict=True))
    domains = mx.Domains(names, tokens=tokens)
    own, best = draw.dirichlet(0.4 * np.ones(k)), draw.dirichlet(np.ones(k))
    mixtures = {
        "recommended": own,
        "natural": domains.natural,
        "uniform": np.full(k, 1 / k),
        "UniMax": draw.dirichlet(3 * np.ones(k)),
        "best run": best,
    }
    named = {name: dict(zip(names, map(float, w), strict=True)) for name, w in mixtures.items()}
    targets = ["Pile-CC", "StackExchange", "Wikipedia_(en)", "HellaSwag"]
    measured = 3 + draw.random((64, 4))
    law = mx.constant(draw.random(13)) + mx.exp(mx.constant(draw.normal(size=(13, k))) @ (w := mx.Mixture(domains)))
    problem = mx.minimize(
        mx.mean(law) + 0.05 * mx.kl(w, domains.natural),
        over=w,
        subject_to=[mx.graph.epochs(w, 25e9, 4).named("at most 4 epochs"), (mx.mass(w, names[:2]) <= 0.4).named("web cap")],
    )
    return Report(
        title=title,
        recommendation=f"Give {names[0]} {100 * own[0]:.0f} % and {names[-1]} {100 * own[-1]:.0f} %: the law predicts 2.913 ± 0.008 nats "
        "per token on the mean of 13 targets, against 2.951 for the natural proportions.",
        mixtures=named,
        doubts=(
            f"{names[-1]} gets more than any of the 512 runs gave it: there the law extrapolates.",
            "The best measured run is within the law's error of the recommendation.",
        ),
        formula=latex(problem),
        problem=str(problem),
        tokens=tokens,
        budget=25e9,
        cap=4.0,
        predictions=[
            *(
                Prediction(t, "nats per token", "min", {n: 2.9 + 0.1 * float(draw.random()) for n in mixtures}, 1 / 3, "web")
                for t in targets[:3]
            ),
            Prediction(targets[3], "accuracy", "max", {"recommended": 0.312, "natural": 0.305}, 1.0, "QA"),
        ],
        fit=Fit(
            "exponential",
            tuple(targets),
            ("nats per token",) * 3 + ("accuracy",),
            5,
            np.array([0.0123, 0.0456, 0.0789, 0.01]),
            np.array([0.98, 0.951, 0.87, np.nan]),
            np.array([0.96, 0.9, 0.75, 0.5]),
            np.array([0.02, 0.0, 0.11, np.nan]),
            measured + 0.03 * draw.normal(size=(64, 4)),
            measured,
        ),
        compared=Compared(
            {
                n: {"rmse": (0.03, 0.02, 0.04), "spearman": (0.97, 0.95, 0.98), "regret": (0.05, 0.0, 0.2)}
                for n in ("linear", "exponential")
            },
            {"linear": 0.06, "exponential": 0.04},
            {"linear": 0.01, "exponential": 0.2},
            "The law is exponential, for it decides best on runs that it has not seen.",
            ("lightgbm was left out: its package is not installed.",),
        ),
        outcome=Outcome(
            "mean loss",
            "nats per token",
            draw.dirichlet(np.ones(k), 64),
            measured.mean(1),
            measured.mean(1) + 0.02 * draw.normal(size=64),
            np.full(64, 0.04),
        ),
        bounds=[
            Bound("at most 4 epochs", "w <= <17 numbers>", {n: 0.02 * (i % 5 == 0) for i, n in enumerate(names)}, "0.0012 nats per token"),
            Bound("web cap", "sum(w[Pile-CC, PubMed_Central]) <= 0.4", {"": 0.0}),
        ],
        ranges=Ranges(
            {n: 0.6 * x for n, x in named["recommended"].items()},
            {n: min(1.0, 1.3 * x + 0.01) for n, x in named["recommended"].items()},
            0.0081,
            "the standard error of the law's cross-validated mean prediction",
        ),
        trajectories={"DoReMi": draw.dirichlet(np.ones(k), 40), "DoGE": draw.dirichlet(np.ones(k), 12)},
        verdicts=[
            Judged(
                "Mean of the domains, nats per token, three seeds",
                ("mixture", "loss", "± 95 %", "against uniform"),
                (("recommended", "2.808", "0.016", "−0.008"), ("uniform", "2.816", "0.009", "0"), ("natural", "2.901", "0.014", "+0.085")),
                ("The recommendation and uniform are a tie.",),
            )
        ],
        certificate="off the simplex by 0.0e+00; gap 1.2e-09; by the exact gradient in float64",
        cost=["512 proxy runs of 1M parameters, 1B tokens each", "0.4 s to fit, 1.9 s to solve"],
        notes=["The column 'index' was taken to be the run."],
        provenance=Provenance(
            "mixopt fit --mixtures mixtures.csv --losses losses.csv",
            {"python": "3.11.7", "mixopt": "0.1.0", "numpy": "2.4.0"},
            7,
            {"mixtures.csv": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "losses.csv": "60303ae22b99" + 52 * "8"},
            "2026-01-31T12:00:00+00:00",
        ),
    )


@pytest.fixture(scope="session")
def rich() -> Report:
    """A report with every section, over seventeen domains."""
    return made_up(PILE)


@pytest.fixture
def small() -> Report:
    """A report of two domains, with nothing but weights."""
    even = {"web": 0.5, "<b>code</b>": 0.5}
    return Report("Two domains", "Take three parts web to one of code.", {"law": {"web": 0.75, "<b>code</b>": 0.25}, "uniform": even})
