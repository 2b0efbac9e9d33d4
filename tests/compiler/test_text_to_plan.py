"""From text to plan: a thousand random problems, typed as formulas, are planned, printed, written and saved without a crash."""

from __future__ import annotations

import numpy as np

import mixopt as mx

W = mx.Mixture(["web", "code", "books"])
NAMES = {"w": W, "A": np.arange(9.0).reshape(3, 3) / 4 - 1, "c": np.array([0.5, 1.0, 2.0]), "p": mx.parameter("p", 3, nonneg=True)}
EACH = [
    "exp({})",
    "log(0.5 + pos({}))",
    "abs({})",
    "({})^2",
    "(1 + square({}))^-0.5",
    "softplus({})",
    "huber({}, 0.5)",
    "clip({}, -1, 1)",
    "-({})",
]
PAIRS = [
    "{} + {}",
    "({}) - ({})",
    "({})*({})",
    "maximum({}, {})",
    "minimum({}, {})",
    "({})/(1 + square({}))",
    "rel_entropy(1 + abs({}), 1 + square({}))",
]
FOLDS = [
    "sum({})",
    "mean({})",
    "max({})",
    "min({})",
    "norm({})",
    "norm({}, inf)",
    "sum_squares({})",
    "logsumexp({}, 0.5)",
    "tail({}, 0.5)",
    "c @ ({})",
]
ENDS = ["", " + 0.1*kl(w, [0.25, 0.25, 0.5])", " - entropy(w)", " + w[code]", " + w[0]*w[books]", " - 2*norm(w - 0.3, 1)"]
LIMITS = ["w[web]", "sum(w[web, code])", "norm(w)", "entropy(w)", "max(w - p)"]


def random_vector(rng: np.random.Generator, depth: int) -> str:
    """The text of a random expression [3]."""
    if depth == 0 or rng.random() < 0.2:
        return str(rng.choice(["w", "A @ w", "w - 0.25", "p*w", "c*w", "1.5"])) if depth < 2 else "A @ w"
    if rng.random() < 0.5:
        return str(rng.choice(EACH)).format(random_vector(rng, depth - 1))
    return str(rng.choice(PAIRS)).format(random_vector(rng, depth - 1), random_vector(rng, depth - 1))


def random_problem(rng: np.random.Generator) -> mx.Problem:
    """A random program, its objective and its constraints read from text."""
    inside = f"({random_vector(rng, int(rng.integers(1, 4)))}) + 0*w"
    objective = mx.formula(str(rng.choice(FOLDS)).format(inside) + str(rng.choice(ENDS)), NAMES)
    bounds = [mx.formula(str(text), NAMES) <= 0.6 for text in rng.choice(LIMITS, size=rng.integers(0, 3), replace=False)]
    make = mx.minimize if rng.random() < 0.7 else mx.maximize
    return make(objective, over=W, subject_to=bounds)


def test_a_thousand_random_problems_are_planned_printed_written_and_saved():
    rng, forms = np.random.default_rng(0), []
    for _ in range(1000):
        problem = random_problem(rng)
        plan = mx.plan(problem)
        forms.append("none takes it" if plan.solver is None else type(plan.solver).__name__)
        assert str(problem) in str(plan).replace("\n  ", "\n")
        assert problem.latex().count("{") == problem.latex().count("}")
        assert mx.from_json(mx.to_json(problem)) == problem
    assert set(forms) >= {"Conic"}
    assert forms.count("Conic") > 50, "some of them are convex"
    assert len(set(forms)) > 1, "and some are not"
