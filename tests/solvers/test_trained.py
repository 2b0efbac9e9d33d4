"""trained(..., steps=K): the K-step outcome as a symbol, and Unrolled through torch's own optimizers, in every mode."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mixopt as mx
from mixopt.errors import InputError, LearnerError, ProblemError, RefusalError
from mixopt.solvers import Implicit, Surrogate, Unrolled, ValueFunction

from .small import Twice

CENTRES = torch.tensor([[0.0, 0.0, 1.0], [2.0, 0.0, -1.0], [0.0, 2.0, 0.5]], dtype=torch.float64)
NAMES = ["a", "b", "c"]
POINT = np.array([0.5, 0.2, 0.3])
STEPS = 7
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.1),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "dampened": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, dampening=0.4),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, betas=(0.8, 0.9)),
    "groups": lambda p: torch.optim.SGD([{"params": p[:1], "lr": 0.2}, {"params": p[1:]}], lr=0.05),
    "one in motion": lambda p: torch.optim.SGD([{"params": p[:1], "momentum": 0.9}, {"params": p[1:]}], lr=0.05, dampening=0.4),
}


def train(p):
    flat = torch.cat([p["x"], p["y"]])
    return ((flat - CENTRES) ** 2).sum(1) + torch.cos(flat.sum()) / 3


def val(p):
    return ((p["x"] - 0.9) ** 2).sum() + torch.sin(p["y"]).sum()


def learner(optimizer):
    start = {"x": torch.tensor([0.1, 0.2], dtype=torch.float64), "y": torch.tensor([0.3], dtype=torch.float64)}
    return mx.FunctionLearner(start, {"train": train, "val": val}, optimizer=optimizer)


def problem(steps=STEPS, more=0):
    w, theta = mx.Mixture(NAMES), mx.model()
    outcome = mx.trained(w @ mx.losses(theta, NAMES), over=theta, steps=steps)
    return mx.minimize(mx.loss(outcome, "val") + more * mx.sum_squares(w), over=w)


def outcome(make, w, steps=STEPS):
    """The validation loss after training by torch itself."""
    p = {"x": torch.tensor([0.1, 0.2], dtype=torch.float64, requires_grad=True), "y": torch.tensor([0.3], dtype=torch.float64)}
    p["y"].requires_grad_()
    optimizer = make([p["x"], p["y"]])
    for _ in range(steps):
        optimizer.zero_grad()
        (torch.as_tensor(w) @ train(p)).backward()
        optimizer.step()
    return float(val(p).detach())


@pytest.mark.parametrize("mode", ["reverse", "checkpointed", "forward"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_gradient_is_that_of_training_by_torch(name, mode):
    make, shift = OPTIMIZERS[name], 1e-5 * np.eye(3)
    slopes = [(outcome(make, POINT + s) - outcome(make, POINT - s)) / 2e-5 for s in shift]
    found = mx.hypergradient(problem(more=0.5), learner(make), at=POINT, solver=Unrolled(mode=mode))
    assert found == pytest.approx(slopes + POINT, rel=1e-7, abs=1e-8)


@pytest.mark.parametrize("last", [1, 3, 6])
def test_truncation_is_the_gradient_with_the_earlier_model_held_still(last):
    make = OPTIMIZERS["sgd"]

    def tail(w):
        at = {"x": torch.tensor([0.1, 0.2], dtype=torch.float64), "y": torch.tensor([0.3], dtype=torch.float64)}
        for t in range(STEPS):
            at = {n: x.detach().requires_grad_() for n, x in at.items()}
            mix = torch.as_tensor(POINT if t < STEPS - last else w)
            slopes = torch.autograd.grad(mix @ train(at), list(at.values()))
            at = {n: x - 0.1 * g for (n, x), g in zip(at.items(), slopes, strict=True)}
        return float(val(at).detach())

    slopes = [(tail(POINT + s) - tail(POINT - s)) / 2e-5 for s in 1e-5 * np.eye(3)]
    for mode in ("reverse", "checkpointed", "forward"):
        found = mx.hypergradient(problem(), learner(make), at=POINT, solver=Unrolled(mode=mode, last=last))
        assert found == pytest.approx(slopes, rel=1e-6, abs=1e-8)


def test_an_argmin_is_unrolled_through_the_optimizer_too():
    w, theta = mx.Mixture(NAMES), mx.model()
    argmin = mx.minimize(mx.loss(mx.argmin(w @ mx.losses(theta, NAMES), over=theta), "val"), over=w)
    one = mx.hypergradient(argmin, learner(OPTIMIZERS["adam"]), at=POINT, solver=Unrolled(steps=STEPS, rule="optimizer"))
    assert one == pytest.approx(mx.hypergradient(problem(), learner(OPTIMIZERS["adam"]), at=POINT), rel=1e-12)


def test_it_is_written_saved_and_read():
    it = problem()
    assert "where theta_7 = 7 training steps of theta on w @ losses(theta, 'train')" in str(it)
    assert r"\theta_{7}(w) = \text{7 training steps of }\theta\text{ on }" in it.latex()
    again = mx.from_json(mx.to_json(it))
    assert again == it
    assert "1 training step of theta" in str(problem(1))
    with pytest.raises(ProblemError, match="a derivation is of an argmin"):
        mx.derive(it)


def test_the_plan_says_what_it_is_and_why_the_others_refuse():
    text = str(mx.plan(problem(), learner(OPTIMIZERS["sgd"])))
    assert "'theta_7': the outcome of 7 training steps from the learner's start, another problem than the argmin" in text
    assert "Solver  Unrolled()" in text
    for name in ("Implicit", "ValueFunction"):
        assert name in text
    assert text.count("its hypergradient is that of an argmin, and 'theta_7' is where 7 training steps lead") >= 2
    assert "graphs of 7 steps in memory" in text
    kept = str(mx.plan(problem(100), learner(OPTIMIZERS["sgd"]), solver=Unrolled(mode="checkpointed")))
    assert "100 of 100 steps differentiated in reverse by checkpoints, 10 states and the graphs of 10 steps in memory" in kept
    assert "3 tangents of the model" in str(mx.plan(problem(), solver=Unrolled(mode="forward")))


def test_the_answer_is_best_for_the_outcome_and_judged_by_it():
    make = OPTIMIZERS["momentum"]
    result = mx.solve(problem(), learner(make))
    assert result.status is mx.Status.STATIONARY
    assert result.check.gap <= 1e-6
    assert result.check.inner is None
    assert result.check.oracle.startswith("7 unrolled steps of the learner's optimizer, exact")
    assert result.value == pytest.approx(outcome(make, result.vector), abs=1e-12)
    best = min(outcome(make, w) for w in np.random.default_rng(0).dirichlet(np.ones(3) / 2, 300))
    assert result.value <= best + 1e-9
    check = mx.check_hypergradient(problem(), learner(make), at=POINT)
    assert [row.verdict.split(":")[0] for row in check.rows] == ["refused", "right", "refused"]
    assert check.target == "the outcome of 7 training steps"


def test_a_surrogate_beside_it_trains_as_many_steps():
    make = OPTIMIZERS["sgd"]
    table = mx.compare(problem(), learner(make), [Unrolled(), Surrogate(design=8), Implicit()])
    unrolled, surrogate = table.results
    assert surrogate.value == pytest.approx(outcome(make, surrogate.vector), abs=1e-9)
    assert surrogate.value >= unrolled.value - 1e-9
    assert "Unrolled is exact for it" in table.rows[2].refusal


def test_a_step_that_diverges_has_its_number():
    result = mx.solve(problem(400), learner(lambda p: torch.optim.SGD(p, lr=40.0)))
    assert result.status is mx.Status.FAILED
    assert "lower the learner's rate (the gradient was no longer finite after" in result.message


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Unrolled(mode="backward"), "'reverse', 'checkpointed' or 'forward'"),
        (lambda: Unrolled(rule="adam"), "'gradient' .* or 'optimizer'"),
        (lambda: Unrolled(last=0), "last of Unrolled is 0"),
    ],
)
def test_settings_outside_their_range_are_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()


def test_what_does_not_fit_is_refused_in_words():
    with pytest.raises(ProblemError, match=r"steps=0; it is a whole number >= 1"):
        problem(0)
    with pytest.raises(ProblemError, match="nothing trains it"):
        mx.trained(mx.sum_squares(mx.Mixture(NAMES)), over=mx.model(), steps=3)
    with pytest.raises(RefusalError, match="this unrolls 3; leave steps out"):
        mx.solve(problem(), learner(OPTIMIZERS["sgd"]), solver=Unrolled(steps=3))
    with pytest.raises(RefusalError, match="warmup and train do nothing"):
        mx.solve(problem(), learner(OPTIMIZERS["sgd"]), solver=Unrolled(warmup=3))
    with pytest.raises(RefusalError, match="that of an argmin"):
        mx.solve(problem(), learner(OPTIMIZERS["sgd"]), solver=ValueFunction())
    for make, words in (
        (lambda p: torch.optim.RMSprop(p), "the learner's optimizer is RMSprop"),
        (lambda p: torch.optim.Adam(p, amsgrad=True), "amsgrad=True"),
    ):
        with pytest.raises(LearnerError, match=words):
            mx.solve(problem(), learner(make))


def test_losses_without_a_forward_mode_are_told():
    start = torch.zeros(3, dtype=torch.float64)
    weak = mx.FunctionLearner(start, {"train": lambda p: Twice.apply(p - CENTRES).sum(1), "val": lambda p: p.sum()})
    with pytest.raises(LearnerError, match=r"no forward mode.*mode='reverse'"):
        mx.hypergradient(problem(), weak, solver=Unrolled(mode="forward"))


def sampled():
    """A bigram model in float64 on two random domains, and a validation set."""
    draw = np.random.default_rng(0)
    tokens = {"a": draw.integers(0, 4, 400), "b": draw.integers(4, 8, 400)}
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Embedding(8, 6), torch.nn.Linear(6, 8))
    made = mx.TorchLearner(
        module, {"train": tokens, "val": tokens}, context=8, dtype=torch.float64, optimizer=lambda p: torch.optim.AdamW(p, lr=0.05)
    )
    w, theta = mx.Mixture(["a", "b"]), mx.model()
    after = mx.trained(w @ mx.losses(theta, ["a", "b"]), over=theta, steps=6)
    return mx.minimize(np.array([0.9, 0.1]) @ mx.losses(after, ["a", "b"], name="val"), over=w), made


def test_a_sampled_learner_s_outcome_is_that_of_the_same_batches():
    """Against torch's AdamW on the batches of seed 0, at two weights on either side."""
    it, made = sampled()
    draw = torch.Generator().manual_seed(0)
    batches = [made.draw(draw) for _ in range(6)]

    def after(w):
        leaves = tuple(leaf.requires_grad_() for leaf in made.start())
        optimizer = made.optimizer(leaves)
        for batch in batches:
            optimizer.zero_grad()
            (torch.as_tensor(w) @ made.losses(leaves, "train", batch)).backward()
            optimizer.step()
        return float((torch.tensor([0.9, 0.1], dtype=torch.float64) @ made.losses(leaves, "val", made.evaluation())).detach())

    at = np.array([0.6, 0.4])
    slopes = [(after(at + s) - after(at - s)) / 2e-5 for s in 1e-5 * np.eye(2)]
    for mode in ("reverse", "checkpointed"):
        assert mx.hypergradient(it, made, at=at, solver=Unrolled(mode=mode)) == pytest.approx(slopes, rel=1e-5, abs=1e-8)


def test_a_sampled_run_trains_anew_at_each_step_and_leaves_for_what_helps():
    it, made = sampled()
    before = made.start()
    result = mx.solve(it, made, solver=Unrolled(outer_steps=8, average="last"), seed=1)
    assert result.weights["a"] > 0.6
    assert sum(result.weights.values()) == 1
    assert "6 unrolled steps of the learner's optimizer, on the evaluation sample" in result.check.oracle
    assert all(torch.equal(a, b) for a, b in zip(before, made.start(), strict=True))
    assert result.trace["losses"].shape == (8, 2)


def test_an_outcome_that_diverges_names_the_learner_s_rate():
    """The learner's rate is 0.1 by default, as step_size is, which plays no part here."""
    steep = {"train": lambda p: 50 * ((torch.cat([p["x"], p["y"]]) - CENTRES) ** 2).sum(1), "val": val}
    plain = learner(None)
    result = mx.solve(problem(steps=500), mx.FunctionLearner(plain.tree(plain.start()), steep))
    assert result.status is mx.Status.FAILED
    assert "diverged; lower the learner's rate" in result.message
