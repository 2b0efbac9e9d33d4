"""Bad input: what a user sees, before any long work. Each line is an input, the error's kind and its words."""

from __future__ import annotations

import math

import pytest

import mixopt as mx
from mixopt.solvers import Conic, DescentAscent, Implicit, Projected

torch = pytest.importorskip("torch")
pytest.importorskip("cvxpy")

DOMAINS = mx.Domains(["web", "code", "books"], tokens=[8e11, 1.5e11, 5e10])
W, THETA = mx.Mixture(DOMAINS), mx.model()
SPREAD = mx.minimize(mx.sum_squares(W), over=W)
EXCESS = mx.losses(THETA, DOMAINS) - mx.parameter("reference", 3)
GAME = mx.minimize(mx.maximize(W @ EXCESS, over=W), over=THETA)
BILEVEL = mx.minimize(mx.loss(mx.argmin(W @ mx.losses(THETA, DOMAINS), over=THETA), "val"), over=W)
REFERENCE = {"reference": [0.0, 0.0, 0.0]}


def learner(*, start=0.0, broken=math.inf, **losses):
    """Quadratic losses of two parameters; code's becomes NaN where a parameter passes ``broken``."""

    def train(p):
        rows = torch.stack([(p - 1).square().sum(), (p + 1).square().sum(), p.square().sum()])
        return torch.where(torch.tensor([False, True, False]) & (p.abs().max() > broken), torch.nan, rows)

    given = {"train": train, "val": lambda p: (p - 0.5).square().sum()} | losses
    return mx.FunctionLearner(torch.full((2,), start, dtype=torch.float64), losses=given)


CASES = {
    "unknown domain": (
        lambda: mx.minimize(W["cod"], over=W),
        mx.InputError,
        "no domain 'cod' in (web, code, books); did you mean 'code'?",
    ),
    "unknown domain in weights": (
        lambda: mx.solve(SPREAD, start={"web": 0.5, "code": 0.25, "boks": 0.25}),
        mx.InputError,
        "no domain 'boks' in (web, code, books); did you mean 'books'?",
    ),
    "duplicate names": (
        lambda: mx.Domains(["web", "code", "web"]),
        mx.InputError,
        "domain names must differ, but (web) occurs more than once",
    ),
    "an empty name": (lambda: mx.Domains(["web", " "]), mx.InputError, "a domain has the name ' '; every name is a text that is not empty"),
    "a name that is a number": (
        lambda: mx.Domains(["web", 3]),
        mx.InputError,
        "a domain has the name 3; every name is a text that is not empty",
    ),
    "no names": (lambda: mx.Domains([]), mx.InputError, "there are no domains; give at least one name"),
    "one text for names": (
        lambda: mx.Domains("web"),
        mx.InputError,
        "domains are a list of names, not the single text 'web'; write ['web']",
    ),
    "sizes of another length": (
        lambda: mx.Domains(["web", "code"], tokens=[1]),
        mx.InputError,
        "there are 2 domains (web, code) but 1 token counts",
    ),
    "a size for an unknown domain": (
        lambda: mx.Domains(["web", "code"], tokens={"web": 1, "cod": 2}),
        mx.InputError,
        "no domain 'cod' in (web, code); did you mean 'code'?",
    ),
    "a size that is missing": (lambda: mx.Domains(["web", "code"], tokens={"web": 1}), mx.InputError, "tokens are missing for (code)"),
    "a negative size": (
        lambda: mx.Domains(["web", "code"], tokens=[1, -2]),
        mx.InputError,
        "domain 'code' has -2.0 tokens; a size is a finite number >= 0",
    ),
    "nothing but empty domains": (
        lambda: mx.Domains(["web"], tokens=[0]),
        mx.InputError,
        "every domain has 0 tokens; at least one needs some",
    ),
    "an empty domain in a divergence": (
        lambda: mx.kl(mx.Mixture(["web", "code"]), mx.Domains(["web", "code"], tokens=[1, 0]).natural),
        mx.ProblemError,
        "kl(p, q) needs q > 0 everywhere, but entry 1 of q is 0; leave that domain out or give it a floor",
    ),
    "a negative weight": (
        lambda: mx.solve(SPREAD, start=[0.5, -0.1, 0.6]),
        mx.InputError,
        "the weight of 'code' is -0.1; weights are finite and >= 0",
    ),
    "a weight that is NaN": (
        lambda: mx.solve(SPREAD, start=[0.5, math.nan, 0.5]),
        mx.InputError,
        "the weight of 'code' is nan; weights are finite and >= 0",
    ),
    "weights that sum to more": (
        lambda: mx.solve(SPREAD, start=[0.5, 0.5, 0.5]),
        mx.InputError,
        "the weights sum to 1.5, not 1; divide them by their sum if that is meant",
    ),
    "weights of another length": (
        lambda: mx.hypergradient(BILEVEL, learner(), at=[0.5, 0.5]),
        mx.InputError,
        "weights have shape (2,), but there are 3 domains (web, code, books)",
    ),
    "a weight that is missing": (
        lambda: mx.solve(SPREAD, start={"web": 1.0}),
        mx.InputError,
        "weights are missing for (code, books); give every domain one, 0 included",
    ),
    "weights that are no numbers": (
        lambda: mx.solve(SPREAD, start=["a", "b", "c"]),
        mx.InputError,
        "weights are numbers, one for each of (web, code, books), not ['a', 'b', 'c']",
    ),
    "neither form": (
        lambda: mx.plan(mx.minimize(W @ mx.losses(THETA, DOMAINS), over=(W, THETA))),
        mx.ProblemError,
        "minimize over both a mixture and a model is neither min-max, bilevel nor a program: "
        "the weights would favour whatever is easy to learn.",
    ),
    "losses that nothing trains": (
        lambda: mx.plan(mx.minimize(mx.loss(THETA, "val") + W["web"], over=W)),
        mx.ProblemError,
        "the objective has losses of (theta), which nothing trains: neither min-max, bilevel nor a program.",
    ),
    "no problem at all": (lambda: mx.solve(mx.sum_squares(W)), mx.ProblemError, "is no problem; write mx.minimize(..., over=...)"),
    "a vector objective": (
        lambda: mx.minimize(mx.losses(THETA, DOMAINS), over=THETA),
        mx.ProblemError,
        "the objective 'losses(theta, 'train')' [3] over (web, code, books) is a vector, and minimize needs one number; "
        "fold it: mean(...) for the average, max(...) for the worst, or weights @ (...)",
    ),
    "over a text": (
        lambda: mx.minimize(mx.sum_squares(W), over="w"),
        mx.ProblemError,
        "minimize is over a symbol that Mixture(domains), variable(name) or model() made, not over 'w'",
    ),
    "over an expression": (
        lambda: mx.minimize(mx.sum_squares(W), over=2 * W),
        mx.ProblemError,
        "minimize is over a symbol that Mixture(domains), variable(name) or model() made, not over '2*w', which is an expression",
    ),
    "shapes that do not fit": (
        lambda: W @ [1.0, 2.0],
        mx.ProblemError,
        "shapes do not fit in 'w @ [1, 2]': 'w' [3] over (web, code, books) and '[1, 2]' [2]",
    ),
    "given is missing": (lambda: mx.solve(GAME, learner()), mx.InputError, "given={...} lacks (reference), which the problem uses"),
    "given is left over": (
        lambda: mx.solve(GAME, learner(), given=REFERENCE | {"refrence": 1}),
        mx.InputError,
        "given={...} has (refrence), which the problem does not use; did you mean 'reference'?",
    ),
    "given has another shape": (
        lambda: mx.solve(GAME, learner(), given={"reference": [1.0, 2.0]}),
        mx.InputError,
        "parameter 'reference' has shape [3], but the given value has shape [2]",
    ),
    "given is NaN": (
        lambda: mx.solve(GAME, learner(), given={"reference": [1.0, 2.0, math.nan]}),
        mx.InputError,
        "the given value of 'reference' is NaN or infinite",
    ),
    "given is no number": (
        lambda: mx.solve(GAME, learner(), given={"reference": "low"}),
        mx.InputError,
        "the given value of 'reference' is 'low', which is not numbers of shape [3]",
    ),
    "given is negative": (
        lambda: mx.solve(mx.minimize(W["web"] * mx.parameter("p", nonneg=True), over=W), given={"p": -1}),
        mx.InputError,
        "parameter 'p' is declared nonneg, but the given value is -1",
    ),
    "two parameters of one name": (
        lambda: mx.solve(mx.minimize(W @ mx.parameter("p", 3) + mx.parameter("p"), over=W), given={"p": 1}),
        mx.InputError,
        "two different symbols are named (p), so given={...} cannot tell them apart; rename one",
    ),
    "no learner": (
        lambda: mx.solve(BILEVEL),
        mx.LearnerError,
        "of a model, so it needs a learner; give a FunctionLearner or a TorchLearner as the second argument",
    ),
    "no learner for a model without losses": (
        lambda: mx.solve(mx.minimize(mx.maximize(W["web"] * mx.sum_squares(THETA), over=W), over=THETA)),
        mx.LearnerError,
        "the problem trains a model, so it needs a learner; give a FunctionLearner or a TorchLearner as the second argument",
    ),
    "a loss that the learner lacks": (
        lambda: mx.solve(mx.minimize(mx.loss(mx.argmin(W @ mx.losses(THETA, DOMAINS), over=THETA), "vall"), over=W), learner()),
        mx.LearnerError,
        "the problem needs loss 'vall', but the learner provides (train, val); did you mean 'val'?",
    ),
    "a vector for a scalar": (
        lambda: mx.plan(mx.minimize(mx.loss(mx.argmin(W @ mx.losses(THETA, DOMAINS), over=THETA), "train"), over=W), learner()),
        mx.LearnerError,
        "loss(theta, 'train') is a scalar, but the learner's 'train' is a vector [3]; write losses(theta, domains, name='train')",
    ),
    "a domain that the learner lacks": (
        lambda: mx.plan(GAME, learner(train=(lambda p: p, ["web", "cod"]))),
        mx.LearnerError,
        "the learner's 'train' has no domain 'code', only (web, cod); did you mean 'cod'?",
    ),
    "a loss that is NaN at the start": (
        lambda: learner(start=2.0, broken=1.0),
        mx.LearnerError,
        "loss 'train' is [2.0, nan, 8.0] at the start; losses must be finite",
    ),
    "a loss that is a matrix": (
        lambda: learner(val=lambda p: torch.zeros(2, 2)),
        mx.LearnerError,
        "loss 'val' returns shape [2, 2]; a scalar tensor or a vector [k] is expected",
    ),
    "a solver in the learner's place": (
        lambda: mx.solve(BILEVEL, Implicit()),
        mx.InputError,
        "the second argument is a learner, not Implicit(",
    ),
    "a class in a solver's place": (
        lambda: mx.solve(SPREAD, solver=Conic),
        mx.InputError,
        "solver is the class Conic; give an instance of a solver, such as solver=mx.solvers.Conic()",
    ),
    "a solver of another form": (
        lambda: mx.solve(SPREAD, solver=DescentAscent()),
        mx.RefusalError,
        "DescentAscent refuses this program: it takes saddles, and this is a program\n  Conic() or Projected() would take it",
    ),
    "names that are no list": (lambda: mx.Domains(3), mx.InputError, "domains are a list of names, not 3"),
    "sizes that are no numbers": (
        lambda: mx.Domains(["web", "code"], tokens=["many", "few"]),
        mx.InputError,
        "tokens are numbers, one for each of (web, code), not ['many', 'few']",
    ),
    "one size for all": (
        lambda: mx.Domains(["web", "code"], tokens=5),
        mx.InputError,
        "tokens are numbers, one for each of (web, code), not 5",
    ),
    "one name for a group": (
        lambda: mx.mass(W, "code"),
        mx.ProblemError,
        "a group is a list of names, not the single text 'code'; write ['code']",
    ),
    "a group that names a domain twice": (
        lambda: mx.mass(W, ["web", "code", "web"]),
        mx.ProblemError,
        "the group names (web) more than once",
    ),
    "an entry that is no name": (lambda: W[1.5], mx.ProblemError, "'w[1.5]': an entry goes by its name or position"),
    "no objective": (lambda: mx.minimize(None, over=W), mx.ProblemError, "None is neither an expression nor numbers"),
    "no list of constraints": (
        lambda: mx.minimize(W["web"], over=W, subject_to=None),
        mx.ProblemError,
        "subject_to is a list of relations, not None",
    ),
    "losses with model and domains exchanged": (
        lambda: mx.losses(DOMAINS, THETA),
        mx.ProblemError,
        "losses are of a model, but '(web, code, books)' is none",
    ),
    "given is no dict": (
        lambda: mx.solve(GAME, learner(), given=[0.0, 0.0, 0.0]),
        mx.InputError,
        "given is a dict from the names of parameters and models to their values, not a list",
    ),
    "a number for a budget": (lambda: mx.solve(SPREAD, budget=10), mx.InputError, "the budget is 10; give mx.Budget(steps=..."),
    "a text for a limit": (lambda: mx.Budget(seconds="10"), mx.InputError, "the budget of seconds is '10'; a limit is > 0"),
    "a text for a seed": (lambda: mx.solve(SPREAD, seed="a"), mx.InputError, "the seed is 'a'; it is a whole number"),
    "one solver to compare": (lambda: mx.compare(SPREAD, None, Projected()), mx.InputError, "solvers is Projected("),
    "no solver to compare": (lambda: mx.compare(SPREAD, None, []), mx.InputError, "there are no solvers to compare; give one or more"),
    "one seed to compare": (
        lambda: mx.compare(SPREAD, None, [Projected()], seeds=2),
        mx.InputError,
        "seeds is 2; give a list of them, such as [2]",
    ),
    "a solver that was not compared": (
        lambda: mx.compare(SPREAD, None, [Projected()]).spread("Projectd()"),
        mx.InputError,
        "no solver with weights 'Projectd()' in (Projected()); did you mean 'Projected()'?",
    ),
    "an empty budget": (lambda: mx.Budget(steps=0), mx.InputError, "the budget of steps is 0; a limit is > 0, or None for no limit"),
    "a rate of zero": (lambda: DescentAscent(rate=0.0), mx.InputError, "the rate is 0.0; it is a finite number > 0"),
    "inplace without a model": (
        lambda: mx.plan(SPREAD).run(inplace=True),
        mx.InputError,
        "inplace=True writes trained parameters back, but this problem trains no model",
    ),
}


@pytest.mark.parametrize(("act", "kind", "words"), CASES.values(), ids=CASES)
def test_bad_input_is_told_in_plain_words(act, kind, words):
    with pytest.raises(kind) as error:
        act()
    assert words in str(error.value)


def test_lower_bounds_that_sum_above_one_are_a_status():
    result = mx.solve(mx.minimize(mx.sum_squares(W), over=W, subject_to=[W >= 0.4]))
    assert result.status is mx.Status.INFEASIBLE
    assert result.message == "no weights satisfy 'w >= 0.4'; they would if 'w >= 0.4' gave way by 0.06667"


@pytest.mark.parametrize("solver", [Conic(), Projected()], ids=str)
def test_constraints_that_exclude_each_other_are_a_status(solver):
    constraints = [(W["web"] >= 0.6).named("floor"), (mx.mass(W, ["web", "code"]) <= 0.5).named("group cap")]
    result = mx.solve(mx.minimize(mx.sum_squares(W), over=W, subject_to=constraints), solver=solver)
    assert result.status is mx.Status.INFEASIBLE
    assert result.message == (
        "no weights satisfy 'floor' and 'group cap' together; they would if 'floor' gave way by 0.1 or 'group cap' gave way by 0.1"
    )


def test_infeasible_constraints_of_a_saddle_are_a_status_too():
    game = mx.minimize(mx.maximize(W @ mx.losses(THETA, DOMAINS), over=W, subject_to=[W >= 0.4]), over=THETA)
    assert mx.solve(game, learner()).status is mx.Status.INFEASIBLE


def test_a_loss_that_turns_nan_names_domain_and_step_and_keeps_the_last_good_weights():
    ascent = DescentAscent(rate=0.01, geometry="euclidean", steps=50, average="last")
    diverging = mx.FunctionLearner(
        torch.full((2,), 0.1, dtype=torch.float64),
        losses={"train": lambda p: torch.stack([p.square().sum(), torch.log(1.4 - p.square().sum()), -3 * p.square().sum()])},
    )
    result = mx.solve(GAME, diverging, solver=ascent, given=REFERENCE)
    assert result.status is mx.Status.FAILED
    assert "the loss of 'code' (nan) is not finite at step" in result.message
    assert "Lower the rate" in result.status.value
    assert sum(result.weights.values()) == pytest.approx(1)
    assert len(result.trace) >= 1


def test_a_checkpoint_of_another_problem_is_refused(tmp_path):
    mx.solve(SPREAD).save(tmp_path / "result.json")
    with pytest.raises(
        mx.InputError, match=r"result.json is a checkpoint of another problem:\nminimize over w\n  sum_squares\(w\)\n.*\nand not of"
    ):
        mx.solve(mx.minimize(mx.kl(W, DOMAINS.natural), over=W), start=tmp_path / "result.json")


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "taken").write_text("a file, not a folder")
    with pytest.raises(mx.InputError, match=r"cannot be written: .*; give another folder"):
        mx.solve(SPREAD).save(tmp_path / "taken" / "result.json")
