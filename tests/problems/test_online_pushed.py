"""Online methods in push mode: the same weights as the solver that trains, targets from a scaling law, the traps of the sources."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mixopt as mx
from mixopt.demo.corpus import load
from mixopt.demo.data import prepare
from mixopt.errors import InputError, RefusalError
from mixopt.problems import ado, by_score, group_dro, odm, online_doremi, online_law, sheared_llama, skill_it, stages, velocitune
from mixopt.runtime.gpt import GPT

DOMAINS = mx.Domains(["web", "code", "books"], tokens=[6e9, 3e9, 1e9])
CENTRES = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 0.5]], dtype=torch.float64)
OFF = torch.tensor([0.5, 1.0, 0.2], dtype=torch.float64)
A = np.array([[0.3, 0.1, 0.0], [0.0, 0.4, 0.1], [0.2, 0.0, 0.2]])
TARGETS = [0.6, 1.1, 0.3]
LAW = mx.laws.Online.fit(mx.Runs.from_arrays(DOMAINS, np.eye(3), DOMAINS.names, 1 - A), np.ones(3))
SCORE = mx.losses(mx.model(), DOMAINS) - 0.9 * mx.previous(mx.losses(mx.model(), DOMAINS))
ROWS = {0: [0.6, 0.3, 0.1], 4: [0.2, 0.3, 0.5]}


def learner():
    start = {"x": torch.tensor([0.3, 0.2], dtype=torch.float64)}
    losses = lambda p: OFF + ((p["x"] - CENTRES) ** 2).sum(dim=1)  # noqa: E731
    return mx.FunctionLearner(start, {"train": losses, "val": lambda p: 1.1 * losses(p)})


@pytest.mark.parametrize(
    "method",
    [
        group_dro(DOMAINS, rate=0.3),
        group_dro(DOMAINS, sizes=[100, 10, 1], adjustment=1.0),
        sheared_llama(DOMAINS, TARGETS, every=3),
        sheared_llama(DOMAINS, TARGETS, every=1, faithful_to="paper"),
        velocitune(DOMAINS, TARGETS, every=3),
        velocitune(DOMAINS, TARGETS, [3.0, 5.0, 3.0], every=2),
        skill_it(DOMAINS, A, every=2),
        skill_it(DOMAINS, A, every=2, faithful_to="survey"),
        online_law(DOMAINS, LAW, every=2),
        odm(DOMAINS, warmup=2),
        odm(DOMAINS, faithful_to="code"),
        by_score(DOMAINS, SCORE, rate=0.2),
        by_score(DOMAINS, SCORE, rate=0.2, centre="start"),
        stages(DOMAINS, ROWS, between="linear"),
    ],
    ids=lambda m: f"{m.name} {type(m.solver).__name__}",
)
def test_weights_pushed_by_measurements_are_those_of_the_solver_that_trains(method):
    pulled = mx.solve(method, learner(), budget=mx.Budget(steps=12))
    schedule = mx.online(method)
    moves, rows = getattr(method.solver, "every", 1), []
    for step, losses in enumerate(pulled.trace["losses"]):
        if "val" in schedule.needs and step % moves == 0:
            assert schedule.observe(val=1.1 * losses, step=step + 1)
        elif "val" not in schedule.needs:
            schedule.observe(**({"train": losses} if "train" in schedule.needs else {}))
        rows.append(schedule.w)
    np.testing.assert_allclose(rows, pulled.trace.weights, atol=1e-13)


def test_ados_weights_are_those_of_the_solver_that_trains():
    method = ado(DOMAINS, start=105, skip=2, refit=15, smooth=5, lag=3, curve="squares")
    pulled = mx.solve(method, learner(), budget=mx.Budget(steps=120))
    schedule, rows = mx.online(method), []
    for losses in pulled.trace["losses"]:
        schedule.observe(train=losses)
        rows.append(schedule.w)
    np.testing.assert_allclose(rows, pulled.trace.weights, atol=1e-13)
    assert (rows[-1] != rows[100]).any()


def test_targets_from_a_scaling_law_of_three_sizes():
    """Sheared LLaMA's own: losses of three sizes, each at three budgets, give the targets of a fourth; a domain above its target gains."""
    grid = np.array([(n, d) for n in (7e9, 1.3e10, 7e10) for d in (2e11, 1e12, 2e12)])
    truth = lambda n, d: np.array([1.7, 0.6, 2.0]) + 0.9 * (n / 1e9) ** -0.34 + 0.8 * (d / 1e9) ** -0.28  # noqa: E731
    losses = np.array([truth(n, d) for n, d in grid])
    runs = mx.Runs.from_arrays(DOMAINS, np.full((9, 3), 1 / 3), DOMAINS.names, losses, params=grid[:, 0], tokens=grid[:, 1])
    targets = mx.laws.Chinchilla.fit(runs).predict([1 / 3] * 3, params=2.7e9, tokens=5e10)
    assert targets == pytest.approx(truth(2.7e9, 5e10), abs=1e-3)
    schedule = mx.online(sheared_llama(DOMAINS, targets), start=DOMAINS.natural)
    schedule.observe(val=targets + np.array([0.0, -0.2, 0.3]))
    gained = np.exp([0.0, -0.2, 0.3])
    assert schedule.w == pytest.approx(DOMAINS.natural * gained / (DOMAINS.natural @ gained), abs=1e-4)


def test_dynamic_batch_loading_collapses_from_its_shipped_start_while_gaps_stay():
    """The trap of the notes: 20 updates at frozen gaps bring one domain to 0.7 and others to the floor, unless weights are kept up."""
    start = np.array([0.2192, 0.0002, 0.0791, 0.0064, 0.0096, 0.001, 0.6845])
    domains = mx.Domains([f"d{i}" for i in range(7)])
    gaps = np.array([0.05, 0.1, 0.0, -0.1, -0.05, -0.15, 0.05])
    method = sheared_llama(domains, np.full(7, 2.0))
    loose, kept = mx.online(method, start=start / start.sum()), mx.online(method, start=start / start.sum(), smoothing=0.1)
    for _ in range(60):
        loose.observe(val=2 + gaps)
        kept.observe(val=2 + gaps)
    assert loose.w.max() > 0.7
    assert (loose.w < 1e-3).sum() >= 3
    assert kept.w.min() >= 0.1 / 7 - 1e-12


def test_a_domain_absent_from_the_first_batch_of_doremis_code_takes_nearly_all():
    """Scores begin at the logarithm of the vocabulary's size: absent="carry" with it does what the code does, and is warned of."""
    carrying = mx.solvers.DescentAscent(rate=1.0, smoothing=1e-3, average="last", absent="carry", unseen=float(np.log(50257)))
    schedule = mx.online(online_doremi(DOMAINS).problem, carrying)
    with pytest.warns(UserWarning, match="collapsing on 'books'"):
        schedule.observe(excess={"web": 0.5, "code": 0.2}, counts={"excess": {"web": 64, "code": 64}})
    assert schedule.weights["books"] == pytest.approx(0.9993, abs=2e-4)
    calm = mx.online(online_doremi(DOMAINS))
    calm.observe(excess={"web": 0.5, "code": 0.2}, counts={"excess": {"web": 64, "code": 64}})
    assert max(calm.weights.values()) < 0.5


def test_a_target_that_is_not_below_the_first_loss_is_refused_or_scores_nothing():
    with pytest.raises(InputError, match="not above their targets"):
        velocitune(DOMAINS, TARGETS, [3.0, 1.0, 3.0])
    schedule = mx.online(velocitune(DOMAINS, TARGETS))
    schedule.observe(val=[3.0, 1.0, 3.0])  # the first: code begins below its target
    assert schedule.w == pytest.approx(np.array([np.e, 1, np.e]) / (2 * np.e + 1))


def test_restarts_of_a_saddle_are_refused_in_push_mode():
    method = group_dro(DOMAINS)
    with pytest.raises(RefusalError, match="leave restart out"):
        mx.online(method.problem, mx.solvers.DescentAscent(restart=5))


@pytest.fixture(scope="module")
def corpus():
    """The embedded text with a model of 20,000 parameters."""
    data = prepare(load(), 60_000)
    names = data.domains.names
    streams = {"train": data.train, "val": {n: data.validation.part(n).numpy() for n in names}}
    made = lambda: mx.TorchLearner(  # noqa: E731
        GPT(256, 64, 16, 1, 2, seed=0),
        streams,
        context=64,
        per_domain=2,
        evaluation=8,
        sampling="weights",
        optimizer=lambda p: torch.optim.AdamW(p, lr=1e-2),
    )
    return data.domains, names, made


@pytest.mark.parametrize("name", ["skill_it", "skill_it survey", "online_law", "odm paper", "odm code", "ado", "stages", "score"])
def test_a_short_run_on_the_embedded_corpus_trains_with_weights_on_the_simplex(name, corpus):
    """Trained by mixopt's own learner, windows drawn by the weights; no collapse without a word."""
    domains, names, made = corpus
    k = len(domains)
    effects = 0.1 + 0.2 * np.eye(k)
    law = mx.laws.Online.fit(mx.Runs.from_arrays(domains, np.eye(k), names, 5.5 * (1 - effects)), np.full(k, 5.5))
    method = {
        "skill_it": lambda: skill_it(domains, effects, every=10),
        "skill_it survey": lambda: skill_it(domains, effects, every=10, rate=0.05, faithful_to="survey"),
        "online_law": lambda: online_law(domains, law, every=10, rate=0.05),
        "odm paper": lambda: odm(domains),
        "odm code": lambda: odm(domains, faithful_to="code"),
        "ado": lambda: ado(domains, start=105, skip=2, refit=15, smooth=5, curve="squares"),
        "stages": lambda: stages(domains, [domains.natural, np.full(k, 1 / k)], marks=[0, 30], between="linear"),
        "score": lambda: by_score(domains, mx.losses(mx.model(), domains) - mx.initial(mx.losses(mx.model(), domains)), rate=0.05),
    }[name]()
    result = mx.solve(method, made(), budget=mx.Budget(steps=125 if name == "ado" else 50))
    weights = result.trace.weights
    assert weights.min() >= 0
    assert weights.sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert weights.max() < 0.98
    losses = result.trace["losses"].mean(axis=1)
    assert losses[-5:].mean() < losses[:5].mean() - 0.5
