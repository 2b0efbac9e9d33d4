"""Every vector of ../shared/cases/vectors.json that is a step of a saddle's weights, through the public objects, to its own tolerance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mixopt as mx
from mixopt.forms import Abilities, Provided
from mixopt.problems import doremi, group_dro, sheared_llama, velocitune
from mixopt.runtime.learner import Learner
from mixopt.runtime.tree import copied
from mixopt.solvers import BestResponse, DescentAscent, Entropic


def names(k):
    return mx.Domains([f"d{i}" for i in range(k)])


def numbers(**losses):
    """A learner whose losses are the given numbers, with a model at rest at 0."""
    fixed = {name: torch.tensor(v, dtype=torch.float64) for name, v in losses.items()}
    return mx.FunctionLearner(torch.zeros(1, dtype=torch.float64), {n: (lambda p, v=v: v + (p * p).sum() / 2) for n, v in fixed.items()})


def game(k, tail=None):
    """min over theta of max over w of w @ losses, and what the tail adds."""
    domains = names(k)
    w, theta = mx.Mixture(domains), mx.model()
    payoff = w @ mx.losses(theta, domains)
    return mx.minimize(mx.maximize(payoff if tail is None else payoff + tail(w), over=w), over=theta)


@pytest.mark.parametrize("name", ["survey-eg-1", "survey-eg-3"])
def test_exponentiated_gradient_of_the_survey(vector, name):
    given, expected, tolerance = vector(name)
    solver = DescentAscent(rate=given["zeta"], average="last", steps=1)
    result = mx.solve(game(len(given["w"])), numbers(train=given["V"]), solver=solver, start=given["w"])
    assert result.vector == pytest.approx(expected["w_new"], abs=tolerance)


def test_group_dro(vector):
    given, expected, tolerance = vector("groupdro-1")
    method = group_dro(names(3), rate=given["step_size"], steps=1)
    result = mx.solve(method, numbers(train=given["group_losses"]), start=given["q"])
    assert result.vector == pytest.approx(expected["q_new"], abs=tolerance)
    assert result.vector @ np.array(given["group_losses"]) == pytest.approx(expected["robust_loss"], abs=tolerance)


@pytest.mark.parametrize(
    ("name", "source"), [("sheared-llama-official", "code"), ("sheared-llama-paper", "paper"), ("sheared-llama-paper", "survey")]
)
def test_sheared_llama(vector, name, source):
    given, expected, tolerance = vector(name)
    method = sheared_llama(names(len(given["w"])), given["target_loss"], rate=given["eta"], steps=1, faithful_to=source)
    result = mx.solve(method, numbers(train=given["eval_loss"], val=given["eval_loss"]), start=given["w"])
    assert result.vector == pytest.approx(expected["w_new"], abs=tolerance)


def test_velocitune(vector):
    given, expected, tolerance = vector("velocitune-1")
    learner = numbers(train=given["eval_loss"], val=given["eval_loss"])
    result = mx.solve(velocitune(names(4), given["target_loss"], given["initial_loss"], steps=1), learner, start=given["w"])
    assert result.vector == pytest.approx(expected["w_new"], abs=tolerance)
    assert result.trace["value"][0] == pytest.approx(np.dot(given["w"], expected["velocity"]), abs=tolerance)


def test_velocitune_with_first_losses_of_the_run_moves_as_with_the_same_numbers():
    """The losses fall between two moves of the weights; at the first one every V is 1."""
    targets, first = [1.0, 0.5], [3.0, 1.0]
    learner = mx.FunctionLearner(
        torch.ones(2, dtype=torch.float64),
        {
            n: (lambda p: torch.tensor([1.0, 0.5], dtype=torch.float64) + torch.tensor([2.0, 0.5], dtype=torch.float64) * p**2)
            for n in ("train", "val")
        },
    )
    runs = [mx.solve(velocitune(names(2), targets, start, every=2, steps=7), learner) for start in (None, first)]
    assert runs[0].trace.weights == pytest.approx(runs[1].trace.weights, abs=1e-12)
    assert runs[0].trace.weights[:2] == pytest.approx(0.5)  # every V is 1 at the first move, at step 1
    assert (runs[0].trace.weights[3] == runs[0].trace.weights[2]).all()
    assert runs[0].trace.weights[2] != pytest.approx(0.5)


def test_kl_regularised_maximum(vector):
    """As the best response in an entropic ball about a start, as a fixed point of the temperature, and written in the payoff."""
    given, expected, tolerance = vector("kl-dro-1")
    tau, prior = given["tau"], np.array(given["prior"])
    learner = numbers(train=given["losses"])
    ball = mx.solve(game(3), learner, solver=BestResponse(ball=Entropic(tau), steps=1), start=prior)
    assert ball.vector == pytest.approx(expected["w"], abs=tolerance)
    value = ball.vector @ np.array(given["losses"]) - tau * (ball.vector * np.log(ball.vector / prior)).sum()
    assert value == pytest.approx(expected["value"], abs=tolerance)
    to_uniform = game(3, lambda w: w @ mx.constant(tau * np.log(prior)))
    fixed = mx.solve(to_uniform, learner, solver=DescentAscent(rate=1.0, temperature=tau, average="last", steps=200))
    assert fixed.vector == pytest.approx(expected["w"], abs=tolerance)
    written = mx.solve(game(3, lambda w: -tau * mx.kl(w, prior)), learner, solver=DescentAscent(rate=0.5, average="last", tolerance=1e-13))
    assert written.vector == pytest.approx(expected["w"], abs=1e-6)  # the gap is quadratic in the weights
    assert written.value == pytest.approx(expected["value"], abs=tolerance)
    assert written.status is mx.Status.STATIONARY


@pytest.mark.parametrize("name", ["simplex-projection-1", "simplex-projection-3"])
def test_projection_on_the_simplex(vector, name):
    """A Euclidean step of rate 1 from the middle, whose end before the projection is the point to be projected."""
    given, expected, tolerance = vector(name)
    learner = numbers(train=(np.array(given["y"]) - 1 / 3).tolist())
    result = mx.solve(game(3), learner, solver=DescentAscent(rate=1.0, geometry="euclidean", average="last", steps=1))
    assert result.vector == pytest.approx(expected["p"], abs=tolerance)


@pytest.mark.parametrize(("name", "optimistic"), [("gda-simultaneous-bilinear", False), ("ogda-bilinear", True)])
def test_bilinear_games(vector, name, optimistic):
    """f = x y with y = 10 (w_0 - 1/2): payoff w @ (5 x, -5 x), a rate of eta / 50 for w and of eta for x."""
    given, expected, tolerance = vector(name)
    learner = mx.FunctionLearner(torch.tensor([given["x0"]], dtype=torch.float64), {"train": lambda x: torch.cat([5 * x, -5 * x])})
    eta, w0 = given["eta"], 0.5 + given["y0"] / 10
    for steps in range(1, given["steps"] + 1):
        solver = DescentAscent(
            rate=eta / 50, model_rate=eta, geometry="euclidean", average="last", order="simultaneous", optimistic=optimistic, steps=steps
        )
        result = mx.solve(game(2), learner, solver=solver, start=[w0, 1 - w0])
        x, y = expected["iterates"][steps - 1]
        assert result.parameters.item() == pytest.approx(x, abs=tolerance)
        assert 10 * (result.vector[0] - 0.5) == pytest.approx(y, abs=10 * tolerance)  # rounding of w is ten times that of y


class Tokens(Learner):
    """Token losses are the parameters themselves [k, n]; a reference model is another such table."""

    abilities = Abilities({"train": Provided(("d0", "d1", "d2"), 3, tokens=True)}, exact=False)
    device = torch.device("cpu")

    def __init__(self, table):
        self.table = torch.tensor(table, dtype=torch.float64)

    def start(self):
        return (self.table.clone(),)

    def leaves(self, given):
        return copied((torch.as_tensor(given, dtype=torch.float64),))

    def tree(self, leaves):
        return leaves[0].detach().clone()

    def store(self, leaves):
        self.table.copy_(leaves[0])

    def draw(self, generator):
        return None

    def evaluation(self):
        return None

    def losses(self, leaves, name, batch):
        return self.tokens(leaves, name, batch).mean(-1)

    def tokens(self, leaves, name, batch):
        return leaves[0]

    def gauss_newton(self, leaves, name, batch, coefficients):
        raise AssertionError("no curvature is needed here")

    def optimizer(self, leaves):
        return torch.optim.SGD(list(leaves), lr=1.0)

    def second_order(self):
        raise AssertionError("no second order is needed here")

    def tokens_of(self, batch, name):
        return self.table.numel()


def rows_of(given):
    """Token losses by domain, repeated to one length, which leaves their means as they are; the mask's zeros left out."""
    rows = [[] for _ in given["w"]]
    for losses, mask, domain in zip(given["excess_loss_per_token"], given["token_mask"], given["domain_ids"], strict=True):
        rows[domain] += [loss for loss, real in zip(losses, mask, strict=True) if real]
    width = int(np.lcm.reduce([max(len(row), 1) for row in rows]))
    return np.array([np.repeat(row, width // len(row)) if row else np.zeros(width) for row in rows])


@pytest.mark.parametrize("source", ["paper", "code"])
def test_one_step_of_doremi_is_the_released_code_s(vector, source):
    """The excess is clipped per token before the domain means; rows of three tokens, domain 0 having five of them."""
    given, expected, tolerance = vector("doremi-official-1")
    excess = rows_of(given)
    reference = np.full_like(excess, 2.0)
    method = doremi(names(3), rate=given["eta"], smoothing=given["smoothing_c"], steps=1, faithful_to=source)
    result = mx.solve(method, Tokens(reference + excess), given={"reference": reference}, start=given["w"])
    new = np.array(expected["w_new"])
    assert result.trace.weights[0] == pytest.approx(new, abs=tolerance)
    assert result.vector == pytest.approx(new if source == "paper" else expected["running_average_incl_initial"], abs=tolerance)
    assert result.trace["value"][0] == pytest.approx(np.dot(given["w"], expected["domain_scores"]))
    slope = (reference + excess) - result.parameters.numpy()
    width = excess.shape[1]
    assert slope == pytest.approx(np.repeat(new[:, None] / width, width, axis=1), abs=tolerance)  # the plain loss, new weights


class Batches(Tokens):
    """Token losses [k, n] batch by batch, with the domains that each batch holds; the model's own table is added, at rest."""

    def __init__(self, batches):
        super().__init__(np.zeros_like(batches[0][0]))
        self.batches = batches

    def draw(self, generator):
        return self.batches[self.order.pop(0)]

    def start(self):
        self.order = list(range(len(self.batches)))
        return super().start()

    def evaluation(self):
        return self.batches[0]

    def present(self, batch, name):
        return torch.tensor(batch[1])

    def tokens(self, leaves, name, batch):
        return torch.tensor(batch[0]) * torch.tensor(batch[1])[:, None] + 0.0 * leaves[0]


def before(w, scores, rate, smoothing):
    """The weights [k] from which one step on these scores leads to w."""
    unsmoothed = (np.array(w) - smoothing / len(w)) / (1 - smoothing)
    raised = unsmoothed * np.exp(-rate * np.array(scores))
    return raised / raised.sum()


def test_a_domain_absent_from_a_batch_carries_its_score_as_in_doremi_s_code(vector):
    """A first batch has the previous scores and leads to the vector's weights; the second lacks domain 1."""
    given, expected, tolerance = vector("doremi-official-missing-domain")
    second = rows_of(given | {"domain_ids": given["domain_ids"]})
    first = np.repeat(np.array(given["previous_scores"])[:, None], second.shape[1], axis=1)
    learner = Batches([(first, [True] * 3), (second, [True, False, True])])
    start = before(given["w"], given["previous_scores"], given["eta"], given["smoothing_c"])
    w, theta = mx.Mixture(names(3)), mx.model()
    scores = mx.domain_mean(mx.pos(mx.tokens(theta)), names(3))
    problem = mx.minimize(mx.maximize(mx.surrogate(w @ scores, gradient=w @ mx.losses(theta, names(3))), over=w), over=theta)
    solver = DescentAscent(rate=given["eta"], smoothing=given["smoothing_c"], absent="carry", average="last", steps=2)
    result = mx.solve(problem, learner, solver=solver, start=start)
    assert result.trace.weights[0] == pytest.approx(given["w"], abs=1e-12)
    assert result.trace.weights[1] == pytest.approx(expected["w_new"], abs=tolerance)


def test_before_its_first_batch_a_domain_has_the_score_unseen():
    """One absence at the first step, at the code's logarithm of the vocabulary's size, gives the domain nearly all the weight."""
    learner = Batches([(np.full((3, 2), 0.5), [True, False, True])])
    solver = DescentAscent(absent="carry", unseen=float(np.log(50257)), average="last", steps=1)
    result = mx.solve(game(3), learner, solver=solver)
    assert result.vector[1] > 0.999
    assert "collapsing on 'd1'" in result.message


@pytest.mark.parametrize(
    ("absent", "first", "second"),
    [
        ("zero", [1.0, 0.0, 3.0], [0.2, 0.4, 0.0]),
        ("batch mean", [1.0, 2.0, 3.0], [0.2, 0.4, 0.3]),
        ("last loss", [1.0, 2.0, 3.0], [0.2, 0.4, 3.0]),
        ("carry", [1.0, 0.7, 3.0], [0.2, 0.4, 3.0]),
    ],
)
def test_what_an_absent_domain_scores(absent, first, second):
    """Domain 1 is absent from the first batch, where there is nothing to carry yet, and domain 2 from the second."""
    batches = [([1.0, 9.0, 3.0], [True, False, True]), ([0.2, 0.4, 9.0], [True, True, False])]
    learner = Batches([(np.repeat(np.array(losses)[:, None], 2, axis=1), there) for losses, there in batches])
    solver = DescentAscent(absent=absent, unseen=0.7, average="last", steps=2)
    weights = mx.solve(game(3), learner, solver=solver).trace.weights
    w = np.full(3, 1 / 3)
    for scores, found in zip((first, second), weights, strict=True):
        w = w * np.exp(scores) / (w @ np.exp(scores))
        assert found == pytest.approx(w, abs=1e-12)


def test_an_absent_group_of_group_dro_counts_as_loss_zero(vector):
    given, expected, tolerance = vector("groupdro-missing-group")
    table = np.repeat(np.array(given["group_losses"])[:, None], 2, axis=1)
    learner = Batches([(table, [count > 0 for count in given["group_counts_in_batch"]])])
    result = mx.solve(group_dro(names(3), rate=given["step_size"], steps=1), learner, start=given["q"])
    assert result.vector == pytest.approx(expected["q_new"], abs=tolerance)


def test_the_normalisers_of_paper_and_code(vector):
    """w @ domain means, or the weighted tokens' sum over their weighted count: (w * n) @ means / (w @ n)."""
    given, expected, tolerance = vector("doremi-loss-code-vs-paper")
    mask = np.array(given["token_mask"])
    means = (np.array(given["pertoken_loss"]) * mask).sum(1) / mask.sum(1)
    domains = names(3)
    w, theta = mx.Mixture(domains), mx.model()
    losses, counts = mx.losses(theta, domains), mx.constant(mask.sum(1).astype(float), index=domains.names)
    views = {"loss_paper": w @ losses, "loss_official_code": (w * counts) @ losses / (w @ counts)}
    for name, view in views.items():
        done = mx.train(view, numbers(train=means.tolist()), given["w"], budget=mx.Budget(steps=1))
        assert done.trace["value"][0] == pytest.approx(expected[name], abs=tolerance)
