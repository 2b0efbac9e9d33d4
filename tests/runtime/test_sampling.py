"""Sampling: whether the weights of w @ losses weight the losses of a batch or draw it, which is the learner's affair."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mixopt as mx
from mixopt.compiler.binding import bind_losses
from mixopt.compiler.classify import classify
from mixopt.compiler.sampling import drawn
from mixopt.errors import InputError, LearnerError
from mixopt.problems import doremi
from mixopt.runtime.gpt import GPT
from mixopt.runtime.modelled import Modelled
from mixopt.runtime.streams import Streams
from mixopt.runtime.tree import copied, vector
from mixopt.solvers import ConjugateGradients, DescentAscent, Implicit, Unrolled

NAMES = ("a", "b", "c")
Q = {"a": 0.5, "b": 0.3, "c": 0.2}


def tokens(seed=0, names=NAMES):
    draw = np.random.default_rng(seed)
    return {name: draw.choice(8, 40, p=draw.dirichlet(np.ones(8))) for name in names}


def made(sampling="uniform", per_domain=2, train=NAMES, **options):
    gpt = GPT(vocabulary=8, context=8, width=4, layers=1, heads=1, seed=0)
    streams = {"train": tokens(0, train), "val": tokens(1, ("x", "y"))}
    return mx.TorchLearner(gpt, streams, context=8, per_domain=per_domain, evaluation=4, dtype=torch.float64, sampling=sampling, **options)


def saddle(payoff=None, domains=NAMES):
    w, theta = mx.Mixture(domains), mx.model()
    payoff = w @ mx.losses(theta, domains) if payoff is None else payoff(w, theta)
    return mx.minimize(mx.maximize(payoff, over=w), over=theta)


def bilevel(lower=None):
    w, theta = mx.Mixture(NAMES), mx.model()
    trained = mx.argmin(w @ mx.losses(theta, NAMES) if lower is None else lower(w, theta), over=theta)
    return mx.minimize(mx.mean(mx.losses(trained, ("x", "y"), name="val")), over=w)


def modelled(learner, problem):
    form = classify(problem)
    return Modelled(form, learner, bind_losses(form, learner.abilities), {}, {}, drawn(form, learner.abilities))


def slope(model, w, leaves, batch):
    return vector(torch.autograd.grad(model.lower(w, leaves, batch), leaves)).numpy()


@pytest.mark.parametrize("sampling", ["weights", Q, [0.2, 0.3, 0.5]])
@pytest.mark.parametrize("domains", [NAMES, ("c", "a")])
def test_the_mean_gradient_of_drawn_batches_is_that_of_w_at_losses(sampling, domains):
    """Against the gradient over every window there is: within five standard errors of the mean of 400 draws, and those are small."""
    model = modelled(made(sampling, per_domain=1), saddle(domains=domains))
    w = torch.tensor([0.7, 0.1, 0.2] if len(domains) == 3 else [0.3, 0.7], dtype=torch.float64)
    leaves, generator = copied(model.learner.start(), trainable=True), torch.Generator().manual_seed(0)
    streams = Streams(tokens(), 8)
    every = torch.stack([streams.part(n).unfold(0, 9, 1) for n in NAMES])
    exact = slope(model, w, leaves, {"train": every})
    seen = np.array([slope(model, w, leaves, model.draw(w, generator)) for _ in range(400)])
    error = seen.std(axis=0, ddof=1) / np.sqrt(len(seen))
    assert (np.abs(seen.mean(axis=0) - exact) <= 5 * error + 1e-12).all()
    assert np.linalg.norm(error) < 0.2 * np.linalg.norm(exact)


def test_by_weights_a_step_descends_the_plain_mean_of_the_windows_drawn():
    model = modelled(made("weights"), saddle())
    w, leaves = torch.tensor([0.5, 0.0, 0.5], dtype=torch.float64), model.learner.start()
    batch = model.draw(w, torch.Generator().manual_seed(1))["train"]
    one = model.learner.tokens(leaves, "train", {"train": batch.windows[:, None]})
    assert float(model.lower(w, leaves, {"train": batch})) == pytest.approx(float(one.mean()), abs=1e-12)
    assert len(batch.windows) == 6
    assert model.learner.tokens_of({"train": batch}, "train") == 6 * 8
    counts = (batch.inverse > 0).sum(1).tolist()
    assert counts == [3, 0, 3]


def test_a_domain_of_weight_zero_is_never_drawn_and_yet_its_score_is_measured():
    learner = made("weights")
    start = {"a": 0.6, "b": 0.0, "c": 0.4}
    result = mx.solve(saddle(), learner, solver=DescentAscent(rate=0.5, geometry="euclidean", steps=3), start=start)
    assert np.isfinite(result.trace["losses"]).all()
    assert (result.trace["losses"][:, 1] > 0).all()
    batch = learner.draw_by({"train": torch.tensor([0.6, 0.0, 0.4], dtype=torch.float64)}, torch.Generator().manual_seed(0))
    assert not (batch["train"].inverse[1] > 0).any()


@pytest.mark.parametrize("sampling", ["weights", Q])
@pytest.mark.parametrize(
    ("problem", "solver"),
    [
        (saddle(), DescentAscent(steps=4)),
        (bilevel(), Unrolled(outer_steps=3, train=2, warmup=2)),
        (
            bilevel(),
            Implicit(curvature="gauss-newton", system=ConjugateGradients(steps=3, damping=0.1), outer_steps=3, train=2, warmup=2),
        ),
    ],
)
def test_a_run_that_draws_by_weights_is_told_by_its_seed(problem, solver, sampling):
    runs = [mx.solve(problem, made(sampling), solver=solver, seed=seed) for seed in (3, 3, 4)]
    assert np.array_equal(runs[0].trace.weights, runs[1].trace.weights)
    assert not np.array_equal(runs[0].trace.weights, runs[2].trace.weights)
    assert all(torch.equal(p, q) for p, q in zip(runs[0].parameters.values(), runs[1].parameters.values(), strict=True))
    plain = mx.solve(problem, made(), solver=solver, seed=3)
    assert not all(torch.equal(p, q) for p, q in zip(runs[0].parameters.values(), plain.parameters.values(), strict=True))
    assert np.isfinite(runs[0].trace["losses"]).all()
    assert (runs[0].trace["losses"] > 0.5).all()  # stratified ones, not estimates that are 0 where nothing was drawn


def test_both_ways_train_alike_in_the_mean():
    """Two hundred steps at fixed weights: what is descended agrees over all windows, and lies well below the start's."""
    ends, w = [], torch.tensor([0.8, 0.1, 0.1], dtype=torch.float64)
    streams = Streams(tokens(), 8)
    every = {"train": torch.stack([streams.part(n).unfold(0, 9, 1) for n in NAMES])}
    for sampling in ("uniform", "weights"):
        learner = made(sampling, per_domain=12, optimizer=lambda tensors: torch.optim.SGD(tensors, lr=0.1))
        model = modelled(learner, saddle())
        leaves, generator = copied(learner.start(), trainable=True), torch.Generator().manual_seed(0)
        optimizer = learner.optimizer(leaves)
        for _ in range(200):
            optimizer.zero_grad()
            model.lower(w, leaves, model.draw(w, generator)).backward()
            optimizer.step()
        ends.append(float(model.lower(w, leaves, every).detach()))
    assert ends[0] == pytest.approx(ends[1], abs=0.1)
    assert ends[1] < float(model.lower(w, learner.start(), every)) - 0.3


def test_doremi_draws_its_model_s_batches_by_the_weights():
    learner = made("weights")
    method = doremi(mx.Domains(NAMES), steps=3)
    assert drawn(mx.plan(method, learner).form, learner.abilities)
    result = mx.solve(method, learner, given={"reference": learner.tree(learner.start())})
    assert sum(result.weights.values()) == pytest.approx(1.0)


def test_the_plan_says_which_of_the_ways_runs():
    notes = [mx.plan(saddle(), made(s)).choice.notes[-1] for s in ("uniform", "weights", Q)]
    assert notes == [
        "'w' weights the losses of 'theta': each batch holds every domain alike",
        "the windows that 'theta' is trained on are drawn by 'w', and their plain mean is descended; "
        "what moves 'w' is measured on batches that hold every domain alike",
        "the windows that 'theta' is trained on are drawn by given shares q, and weighted by w / q; "
        "what moves 'w' is measured on batches that hold every domain alike",
    ]


@pytest.mark.parametrize(
    "lower",
    [
        lambda w, t: w @ mx.losses(t, NAMES) + 0.1 * mx.sum_squares(t),
        lambda w, t: w @ (mx.losses(t, NAMES) - 1.0) + 0.3 * mx.mean(mx.losses(t, ("x", "y"), name="val")),
        lambda w, t: w @ mx.domain_mean(mx.tokens(t) - 0.5, NAMES) + mx.sum_squares(w),
    ],
)
def test_terms_without_the_weights_may_stand_beside(lower):
    mx.solve(bilevel(lower), made("weights"), solver=Unrolled(outer_steps=1, train=2))


@pytest.mark.parametrize(
    ("lower", "why"),
    [
        (lambda w, t: w @ mx.square(mx.losses(t, NAMES)), r"its term 'w @ square\(losses\(theta, 'train'\)\)' is not 'w @ losses'"),
        (lambda w, t: (2 * w) @ mx.losses(t, NAMES), "is not 'w @ losses'"),
        (lambda w, t: mx.sum(w * mx.losses(t, NAMES)), "is not 'w @ losses'"),
        (lambda w, t: w @ mx.domain_mean(mx.pos(mx.tokens(t) - 1.0), NAMES), "is not 'w @ losses'"),
        (lambda w, t: w @ mx.losses(t, NAMES) + mx.mean(mx.losses(t, NAMES)), r"the losses \(train\) stand in it with 'w' and without"),
    ],
)
def test_what_is_not_w_at_losses_is_refused_with_the_mend(lower, why):
    with pytest.raises(LearnerError, match=why) as error:
        mx.plan(bilevel(lower), made("weights"))
    assert "give the learner sampling='uniform'" in str(error.value)
    mx.plan(bilevel(lower), made())


@pytest.mark.parametrize(
    ("sampling", "why"),
    [
        ("by weight", "it is 'uniform', 'weights', or the shares"),
        ([0.5, 0.2, 0.2, 0.1], "not over the domains of any stream"),
        ({"a": 0.5, "z": 0.5}, "not over the domains of any stream"),
        ([0.5, 0.5, 0.0], "each is > 0"),
        ([0.5, 0.2, 0.2], "sum"),
    ],
)
def test_shares_that_do_not_fit_are_refused(sampling, why):
    with pytest.raises(InputError, match=why):
        made(sampling)


def test_shares_over_other_domains_than_the_model_s_losses_are_refused():
    with pytest.raises(LearnerError, match=r"not over the domains of \(train\)"):
        mx.plan(saddle(), made({"x": 0.5, "y": 0.5}))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("sampling", ["weights", Q])
def test_batches_are_drawn_on_a_gpu_as_on_the_cpu(sampling):
    """The same windows from the same seed, and the same run but for rounding."""
    results = [mx.solve(saddle(), made(sampling, device=d), solver=DescentAscent(steps=5), seed=1) for d in ("cpu", "cuda")]
    np.testing.assert_allclose(results[0].trace.weights, results[1].trace.weights, atol=1e-8)
    w = torch.tensor([0.5, 0.0, 0.5], dtype=torch.float64)
    drawn_by = [made(sampling, device=d).draw_by({"train": w.to(d)}, torch.Generator().manual_seed(2))["train"] for d in ("cpu", "cuda")]
    assert torch.equal(drawn_by[0].windows, drawn_by[1].windows.cpu())
