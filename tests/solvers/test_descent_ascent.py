"""DescentAscent against published update rules, steps by hand, and saddles with known answers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import mixopt as mx
from mixopt.errors import InputError, RefusalError
from mixopt.forms import Abilities, Provided
from mixopt.problems import doremi
from mixopt.runtime.learner import FunctionLearner, Learner
from mixopt.runtime.tree import copied
from mixopt.solvers import DescentAscent, Normalised


@pytest.fixture(scope="module")
def vector(shared):
    """A function from an id to that conformance vector."""
    rows = json.loads(shared("cases/vectors.json").read_text(encoding="utf-8"))
    found = {row["id"]: row for row in rows}
    return lambda name: (found[name]["inputs"], found[name]["expected"], found[name]["tol"])


def constant_game(values, tail=None):
    """A saddle whose losses are the given numbers, with a model at rest at 0: what the weights do is all there is."""
    domains = [f"d{i}" for i in range(len(values))]
    w, theta = mx.Mixture(domains), mx.model()
    payoff = w @ mx.losses(theta, domains)
    payoff = payoff if tail is None else payoff + tail(w)
    numbers = torch.tensor(values, dtype=torch.float64)
    learner = FunctionLearner(torch.zeros(1, dtype=torch.float64), losses={"train": lambda p: numbers + (p * p).sum() / 2})
    return mx.minimize(mx.maximize(payoff, over=w), over=theta), learner


def points(centres, constraints=()):
    """min over x of max over w of sum w_i (x - c_i)^2 / 2 with plain gradient steps."""
    domains = [f"d{i}" for i in range(len(centres))]
    w, theta = mx.Mixture(domains), mx.model()
    game = mx.maximize(w @ mx.losses(theta, domains), over=w, subject_to=[c(w) for c in constraints])
    c = torch.tensor(centres, dtype=torch.float64)
    learner = FunctionLearner(
        torch.zeros(1, dtype=torch.float64), losses={"train": lambda x: (x - c) ** 2 / 2}, optimizer=lambda p: torch.optim.SGD(p, lr=0.1)
    )
    return mx.minimize(game, over=theta), learner


@pytest.mark.parametrize("name", ["survey-eg-1", "survey-eg-3"])
def test_exponentiated_gradient_of_the_survey(vector, name):
    given, expected, tolerance = vector(name)
    game, learner = constant_game(given["V"])
    result = mx.solve(game, learner, solver=DescentAscent(rate=given["zeta"], average="last", steps=1), start=given["w"])
    assert result.vector == pytest.approx(expected["w_new"], abs=10 * tolerance)


def test_group_dro(vector):
    given, expected, tolerance = vector("groupdro-1")
    game, learner = constant_game(given["group_losses"])
    result = mx.solve(game, learner, solver=DescentAscent(rate=given["step_size"], average="last", steps=1), start=given["q"])
    assert result.vector == pytest.approx(expected["q_new"], abs=tolerance)
    assert result.vector @ np.array(given["group_losses"]) == pytest.approx(expected["robust_loss"], abs=tolerance)


def test_kl_regularised_maximum_as_a_fixed_point_of_the_temperature(vector):
    """A KL term to a prior is one to uniform plus tau log prior in the payoff."""
    given, expected, _ = vector("kl-dro-1")
    tau, prior = given["tau"], np.array(given["prior"])
    game, learner = constant_game(given["losses"], lambda w: w @ mx.constant(tau * np.log(prior)))
    result = mx.solve(game, learner, solver=DescentAscent(rate=1.0, temperature=tau, average="last", steps=200))
    assert result.vector == pytest.approx(expected["w"], abs=1e-10)


def test_kl_regularised_maximum_written_in_the_payoff(vector):
    given, expected, _ = vector("kl-dro-1")
    game, learner = constant_game(given["losses"], lambda w: -given["tau"] * mx.kl(w, given["prior"]))
    result = mx.solve(game, learner, solver=DescentAscent(rate=0.5, average="last", steps=300))
    assert result.vector == pytest.approx(expected["w"], abs=1e-6)
    assert result.value == pytest.approx(expected["value"], abs=1e-10)
    assert result.status is mx.Status.STATIONARY


class Tokens(Learner):
    """Token losses are the parameters themselves [k, n]; a reference model is another such table."""

    abilities = Abilities({"train": Provided(("a", "b", "c"), 3, tokens=True)}, exact=False)
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


@pytest.mark.parametrize("source", ["paper", "code"])
def test_one_step_of_doremi_is_the_released_code_s(vector, source):
    """The excess is clipped per token before the domain means; rows of three tokens, domain 0 having five of them."""
    given, expected, tolerance = vector("doremi-official-1")
    rows = [[] for _ in given["w"]]
    for losses, mask, domain in zip(given["excess_loss_per_token"], given["token_mask"], given["domain_ids"], strict=True):
        rows[domain] += [loss for loss, real in zip(losses, mask, strict=True) if real]
    width = int(np.lcm.reduce([len(row) for row in rows]))  # repeated to one length, which leaves the means as they are
    excess = np.array([np.repeat(row, width // len(row)) for row in rows])
    reference = np.full_like(excess, 2.0)
    method = doremi(mx.Domains(["a", "b", "c"]), rate=given["eta"], smoothing=given["smoothing_c"], steps=1, faithful_to=source)
    result = mx.solve(method, Tokens(reference + excess), given={"reference": reference}, start=given["w"])
    new = np.array(expected["w_new"])
    assert result.trace.weights[0] == pytest.approx(new, abs=tolerance)
    assert result.vector == pytest.approx(new if source == "paper" else expected["running_average_incl_initial"], abs=tolerance)
    assert result.trace["value"][0] == pytest.approx(np.dot(given["w"], expected["domain_scores"]))
    slope = (reference + excess) - result.parameters.numpy()
    assert slope == pytest.approx(np.repeat(new[:, None] / width, width, axis=1), abs=tolerance)  # the plain loss, new weights


def test_the_first_step_by_hand():
    """w' ~ w exp(rate l), smoothed; then x moves by 0.1 sum w'_i (c_i - x)."""
    game, learner = points([1.0, -2.0, 3.0])
    solver = DescentAscent(rate=0.5, smoothing=0.1, average="last", steps=1)
    result = mx.solve(game, learner, solver=solver)
    raised = np.exp(0.5 * np.array([0.5, 2.0, 4.5]))
    w = 0.9 * raised / raised.sum() + 0.1 / 3
    assert result.vector == pytest.approx(w, abs=1e-12)
    assert result.parameters.item() == pytest.approx(0.1 * w @ [1.0, -2.0, 3.0])
    assert learner.start()[0].item() == 0


@pytest.mark.parametrize("geometry", ["entropic", "euclidean"])
def test_a_convex_saddle_converges_to_the_middle_of_the_outermost_points(geometry):
    game, learner = points([-1.0, 0.5, 3.0])
    result = mx.solve(game, learner, solver=DescentAscent(rate=0.05, geometry=geometry, average="last", steps=4000))
    assert result.status is mx.Status.STATIONARY
    assert result.parameters.item() == pytest.approx(1.0, abs=1e-6)
    assert result.vector == pytest.approx([0.5, 0.0, 0.5], abs=1e-4)
    assert result.value == pytest.approx(2.0, abs=1e-6)
    assert result.check.gap < 1e-6
    assert "best response" in result.check.oracle


def test_a_box_holds_at_every_step_and_moves_the_saddle():
    """With w_2 <= 0.3 the model sits at the mean of 0.7 and 0.3."""
    for geometry in ("entropic", "euclidean"):
        game, learner = points([-1.0, 3.0], [lambda w: (w["d1"] <= 0.3).named("cap")])
        result = mx.solve(game, learner, solver=DescentAscent(rate=0.05, geometry=geometry, average="last", steps=2000))
        assert result.trace.weights[:, 1].max() <= 0.3 + 1e-12
        assert result.trace.weights.sum(axis=1) == pytest.approx(1, abs=1e-12)
        assert result.vector == pytest.approx([0.7, 0.3], abs=1e-6)
        assert result.parameters.item() == pytest.approx(0.2, abs=1e-5)
        assert result.duals["cap"] == pytest.approx((3 - 0.2) ** 2 / 2 - 1.2**2 / 2, abs=1e-4)


@pytest.mark.parametrize("geometry", ["entropic", "euclidean"])
def test_a_weight_that_is_fixed_stays_fixed_at_every_step(geometry):
    """With w_2 = 0.3 the model sits at the mean of 0.7 and 0.3, and the multiplier is the difference of the two losses there."""
    game, learner = points([-1.0, 3.0], [lambda w: mx.equal(w["d1"], 0.3).named("fixed")])
    result = mx.solve(game, learner, solver=DescentAscent(rate=0.05, geometry=geometry, average="last", steps=2000))
    assert result.trace.weights[:, 1] == pytest.approx(0.3, abs=1e-12)
    assert result.parameters.item() == pytest.approx(0.2, abs=1e-5)
    assert result.duals["fixed"] == pytest.approx((3 - 0.2) ** 2 / 2 - 1.2**2 / 2, abs=1e-4)


@pytest.mark.parametrize("geometry", ["entropic", "euclidean"])
def test_a_group_limit_holds_at_every_step(geometry):
    game, learner = points([-1.0, 3.0, 4.0], [lambda w: (mx.mass(w, ["d1", "d2"]) <= 0.4).named("group")])
    result = mx.solve(game, learner, solver=DescentAscent(rate=0.05, geometry=geometry, average="last", steps=2000))
    assert result.vector == pytest.approx([0.6, 0.0, 0.4], abs=1e-5)
    assert result.trace.weights[:, 1:].sum(axis=1).max() <= 0.4 + 1e-9


def test_a_temperature_keeps_the_weights_from_collapsing():
    game, learner = constant_game([1.0, 2.0, 0.5])
    alone = mx.solve(game, learner, solver=DescentAscent(average="last", steps=100))
    warm = mx.solve(game, learner, solver=DescentAscent(temperature=0.5, average="last", steps=100))
    assert alone.vector.max() > 0.999
    assert warm.vector == pytest.approx(np.exp([2, 4, 1]) / np.exp([2, 4, 1]).sum(), abs=1e-8)
    assert warm.trace.entropy[-1] > alone.trace.entropy[-1] + 0.3


@pytest.mark.parametrize(
    ("constraint", "expected"),
    [
        (lambda w: w["d0"] <= 0.42, [0.394, 0.303, 0.303]),  # (0.42, 0.29, 0.29), smoothed
        (lambda w: mx.mass(w, ["d0", "d1"]) <= 0.5, [0.425, 0.075, 0.5]),  # (0.5, 0, 0.5) -> (0.45, 0.1, 0.45) -> over by 0.05
    ],
    ids=["one weight", "two weights tied"],
)
def test_smoothing_is_followed_by_a_projection_into_the_constraints(constraint, expected):
    """From (1/3, 1/3, 1/3) a long step towards a corner, then 0.7 u + 0.1, then the nearest point under the constraint."""
    game, learner = constant_game([1.0, 0.0, 0.0])
    w = game.objective.over[0]
    game = mx.minimize(mx.maximize(game.objective.objective, over=w, subject_to=[constraint(w)]), over=game.over)
    solver = DescentAscent(rate=100.0, geometry="euclidean", smoothing=0.3, average="last", steps=1)
    assert mx.solve(game, learner, solver=solver).vector == pytest.approx(expected, abs=1e-12)


def test_smoothing_keeps_every_domain_above_its_floor():
    game, learner = constant_game([1.0, 9.0, 0.5])
    result = mx.solve(game, learner, solver=DescentAscent(smoothing=0.06, average="last", steps=50))
    assert result.trace.weights.min() >= 0.02
    assert result.vector.min() == pytest.approx(0.02, abs=1e-4)


def test_averages_are_those_of_the_trace():
    answers = {}
    for average in ("last", "mean", "mean with start"):
        game, learner = points([1.0, -2.0, 3.0])
        result = mx.solve(game, learner, solver=DescentAscent(rate=0.1, average=average, steps=7))
        answers[average] = result.vector
        assert len(result.trace) == 7
    w = result.trace.weights
    assert answers["last"] == pytest.approx(w[-1])
    assert answers["mean"] == pytest.approx(w.mean(axis=0))
    assert answers["mean with start"] == pytest.approx((w.sum(axis=0) + 1 / 3) / 8)


def test_a_normalised_rate_does_not_see_the_scale_of_the_losses():
    weights = []
    for scale in (1.0, 1000.0):
        game, learner = constant_game([scale * v for v in (1.0, 2.0, 0.5)])
        weights.append(mx.solve(game, learner, solver=DescentAscent(rate=Normalised(0.1), average="last", steps=5)).vector)
    assert weights[0] == pytest.approx(weights[1], rel=1e-10)


def test_payoffs_that_are_not_concave_and_settings_that_clash_are_refused():
    w, theta = mx.Mixture(["a", "b"]), mx.model()
    bent = mx.minimize(mx.maximize(w @ mx.losses(theta, ["a", "b"]) + mx.sum_squares(w), over=w), over=theta)
    learner = FunctionLearner(torch.zeros(1), losses={"train": lambda p: torch.stack([p[0], -p[0]])})
    with pytest.raises(RefusalError, match="payoff is convex in the weights"):
        mx.solve(bent, learner, solver=DescentAscent())
    game, learner = points([0.0, 1.0])
    with pytest.raises(RefusalError, match="a temperature goes with entropic steps"):
        mx.solve(game, learner, solver=DescentAscent(geometry="euclidean", temperature=1.0))
    with pytest.raises(InputError, match="the temperature is -1"):
        DescentAscent(temperature=-1)


def test_a_maximising_model_is_the_mirror_image():
    w, theta = mx.Mixture(["a", "b"]), mx.model()
    mirrored = mx.maximize(mx.minimize(w @ -mx.losses(theta, ["a", "b"]), over=w), over=theta)
    _, learner = points([-1.0, 3.0])
    renamed = FunctionLearner(
        torch.zeros(1, dtype=torch.float64),
        losses={"train": lambda p: learner.losses((p,), "train", None)},
        optimizer=lambda p: torch.optim.SGD(p, lr=0.1),
    )
    result = mx.solve(mirrored, renamed, solver=DescentAscent(rate=0.05, average="last", steps=2000))
    assert result.vector == pytest.approx([0.5, 0.5], abs=1e-5)
    assert result.value == pytest.approx(-2.0, abs=1e-5)


def test_the_plan_takes_entropic_steps_where_a_constraint_ties_weights_too():
    w, theta = mx.Mixture(["a", "b", "c"]), mx.model()
    game = mx.maximize(w @ mx.losses(theta, ["a", "b", "c"]), over=w, subject_to=[w["a"] + w["b"] <= 0.5])
    assert mx.plan(mx.minimize(game, over=theta)).solver == DescentAscent()
