"""DoGraph's reconstruction: its programs against their conditions, clusters against what was planted, and a refresh in a loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

import mixopt as mx
from mixopt.problems import dograph, dograph_c, dograph_p
from mixopt.problems.dograph import similarity
from mixopt.runtime.gpt import GPT

DRAW = np.random.default_rng(0)


def world(c=5, d=7, seed=0):
    draw = np.random.default_rng(seed)
    means = draw.normal(size=(c, d)) + 0.7
    shares = draw.dirichlet(np.ones(c) * 5)
    return shares, means @ means.T, draw.uniform(1, 4, c)


def test_the_constraint_form_keeps_its_bounds_and_is_optimal():
    shares, gram, losses = world()
    result = mx.solve(dograph_c(shares, gram, losses, slack=0.05, slope=0.3, temperature=0.0))
    w, s = result.vector, similarity(gram)
    density = w / shares
    assert (np.abs(density[:, None] - density) <= 0.05 + 0.3 * (1 - s) + 1e-7).all()
    assert result.value == pytest.approx((gram @ w / losses).min())
    draws = np.random.default_rng(1).dirichlet(np.ones(5), 4000)
    draws = 0.2 * draws + 0.8 * shares  # near the shares, where the bounds hold
    spread = draws / shares
    fits = (np.abs(spread[:, :, None] - spread[:, None]) <= 0.05 + 0.3 * (1 - s)).all((1, 2))
    assert fits.sum() > 20
    assert (draws[fits] @ gram / losses).min(1).max() <= result.value + 1e-9


def test_without_bounds_it_is_a_matrix_game_of_progress():
    shares, gram, losses = world(3, 12, 2)
    result = mx.solve(dograph_c(shares, gram, losses, slack=100.0, temperature=0.0))
    rows = np.hstack([-gram / losses[:, None], np.ones((3, 1))])
    best = linprog([0, 0, 0, -1], A_ub=rows, b_ub=np.zeros(3), A_eq=[[1, 1, 1, 0]], b_eq=[1], bounds=[(0, 1)] * 3 + [(None, None)])
    assert result.value == pytest.approx(-best.fun)
    assert (gram @ result.vector / losses).min() == pytest.approx(-best.fun)


def test_the_shares_are_where_nothing_may_move():
    shares, gram, losses = world(3, 12, 2)
    cold = mx.solve(dograph_c(shares, gram, losses, slack=0.0, slope=0.0)).vector
    assert cold == pytest.approx(shares, abs=1e-5)
    warm = mx.solve(dograph_c(shares, gram, losses, slack=100.0, temperature=1e4)).vector
    assert warm == pytest.approx(shares, abs=1e-3)


def test_the_penalty_form_without_its_graph_is_a_softmax_about_the_last_weights():
    shares, gram, losses = world()
    last = np.random.default_rng(3).dirichlet(np.ones(5))
    w = mx.solve(dograph_p(shares, gram, losses, last=last, smoothness=0.0, temperature=0.5)).vector
    score = gram @ shares / np.linalg.norm(gram @ shares)
    expected = last * np.exp(score / 0.5)
    assert w == pytest.approx(expected / expected.sum(), abs=1e-5)
    stiff = mx.solve(dograph_p(shares, gram, losses, last=last, smoothness=1e5, temperature=0.5)).vector
    assert stiff / shares == pytest.approx(np.ones(5), abs=1e-2)


def test_similarity_is_that_of_the_mean_gradients():
    means = np.random.default_rng(0).normal(size=(4, 3))
    squares = ((means[:, None] - means) ** 2).sum(2)
    expected = np.exp(-squares / np.median(squares[np.triu_indices(4, 1)]))
    assert similarity(means @ means.T) == pytest.approx(expected)
    assert similarity(np.ones((3, 3))) == pytest.approx(1)


def test_clusters_find_what_was_planted():
    draw = np.random.default_rng(0)
    centres = 6 * np.eye(3, 8)
    truth = draw.integers(0, 3, 90)
    rows = centres[truth] + draw.normal(size=(90, 8)) * 0.3
    losses, labels = 1.0 + truth, np.where(truth == 2, 1, 0)
    found = mx.scores.clusters(rows, losses, labels, 3)
    assert all(len(set(truth[found.member == c])) == 1 for c in range(3))
    for c in range(3):
        mine = rows[found.member == c]
        assert found.shares[c] == pytest.approx(len(mine) / 90)
        assert found.gram[c, c] == pytest.approx((mine.mean(0) ** 2).sum())
        kind = truth[found.member == c][0]
        assert found.losses[c] == pytest.approx(1.0 + kind)
        assert found.labels[c].tolist() == ([0.0, 1.0] if kind == 2 else [1.0, 0.0])
    again = mx.scores.clusters(torch.tensor(rows), torch.tensor(losses), labels, 3)
    assert np.array_equal(again.member, found.member)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"count": 7}, "7 clusters of 6 different"),
        ({"labels": [0, 1, 2, 3, 4, -1]}, "positions of domains"),
        ({"losses": [1.0]}, "are expected"),
        ({"domains": 1}, "positions of domains from 0 to 0"),
    ],
)
def test_bad_clusters(change, words):
    given = {"sketches": DRAW.normal(size=(6, 2)), "losses": np.ones(6), "labels": [0, 1, 0, 1, 0, 1], "count": 2, **change}
    with pytest.raises(mx.InputError, match=words):
        mx.scores.clusters(**given)


def test_bad_programs():
    shares, gram, losses = world()
    for bad in ((shares * 2, gram, losses), (shares, gram[:3], losses), (shares, gram, -losses)):
        with pytest.raises(mx.InputError):
            dograph_c(*bad)
    for change in ({"clusters": 0}, {"form": "both"}, {"slack": -1.0}):
        with pytest.raises(mx.InputError):
            dograph(mx.Domains(["a", "b"]), **change)


@pytest.mark.parametrize("form", ["constraint", "penalty"])
def test_refreshes_in_a_loop_of_the_users(form):
    """Sketches of single windows by the last layer, clusters, the program, and weights of the domains on the simplex."""
    domains, draw = mx.Domains(["a", "b", "c"]), torch.Generator().manual_seed(0)
    module = GPT(48, 8, 16, 2, 2)
    w = mx.Mixture(domains)
    schedule = mx.online(dograph(domains, 3, form=form), subject_to=[w["a"] <= 0.5])
    for _ in range(3):
        labels = [i for i in range(3) for _ in range(8)]
        windows = [torch.randint(16 * i, 16 * i + 16, (1, 9), generator=draw) for i in labels]
        sketches = mx.scores.sketches(module, windows, size=64, layers="last")
        with torch.no_grad():
            losses = [float(torch.nn.functional.cross_entropy(module(x[:, :-1])[0], x[0, 1:])) for x in windows]
        schedule.observe(**mx.scores.clusters(sketches, losses, labels, 3, domains=3).content())
        assert schedule.w.min() >= 0
        assert schedule.w.sum() == pytest.approx(1, abs=1e-12)
        assert schedule.w[0] <= 0.5 + 1e-9
    assert schedule.moves == 3


def test_a_learner_of_ours_is_refused():
    domains = mx.Domains(["a", "b"])
    with pytest.raises(mx.RefusalError, match="payoff measures train"):
        mx.plan(dograph(domains))
