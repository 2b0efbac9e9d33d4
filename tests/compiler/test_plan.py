"""Plans: what is printed, which solver is chosen, and every other one's reason for refusing."""

from __future__ import annotations

import pytest

import mixopt as mx
from mixopt.compiler.plan import biased
from mixopt.forms import Abilities, Provided
from mixopt.solvers import Conic, Projected

torch = pytest.importorskip("torch")

DOMAINS = mx.Domains(["web", "code"], tokens=[3.0, 1.0])
W, THETA = mx.Mixture(DOMAINS), mx.model()
LOSSES = mx.losses(THETA, DOMAINS)
GAME = mx.minimize(mx.maximize(W @ LOSSES, over=W), over=THETA)
BILEVEL = mx.minimize(mx.loss(mx.argmin(W @ LOSSES, over=THETA), "val"), over=W)
BENT = mx.exp(W["web"]) - mx.exp(W["code"])
HOLLOW = (mx.sum_squares(W) >= 0.4).named("hollow")


def learner():
    losses = {"train": lambda p: torch.stack([(p - 1).square().sum(), (p + 1).square().sum()]), "val": lambda p: p.square().sum()}
    return mx.FunctionLearner(torch.zeros(2, dtype=torch.float64), losses=losses)


def test_the_printed_plan_of_a_convex_program():
    problem = mx.maximize(mx.entropy(W), over=W, subject_to=[(W["web"] <= 0.25).named("cap")])
    assert str(mx.plan(problem)) == (
        "Problem\n"
        "  maximize over w\n"
        "    entropy(w)\n"
        "    subject to w[web] <= 0.25   (cap)\n"
        "Form    Program\n"
        "Route   maximise f -> minimise -f\n"
        "        program in 'w': convex objective, 1 constraint beyond the simplex\n"
        "Solver  Conic()\n"
        "        Projected would take it too\n"
        "        Lagrangian refuses: it is for constraints that are not linear, and this problem has none\n"
        "        DescentAscent refuses: it takes saddles, and this is a program\n"
        "        Implicit refuses: it takes bilevel problems, and this is a program\n"
        "        Unrolled refuses: it takes bilevel problems, and this is a program\n"
        "        ValueFunction refuses: it takes bilevel problems, and this is a program"
    )


def test_a_difference_of_convex_functions_goes_to_descent_and_the_refusal_names_the_culprit():
    plan = mx.plan(mx.minimize(mx.kl(W, DOMAINS.natural) + mx.square(BENT), over=W))
    assert isinstance(plan.solver, Projected)
    assert plan.choice.refusals["Conic"] == (
        "'kl(w, [0.75, 0.25]) + square(exp(w[web]) - exp(w[code]))' is neither convex nor concave by the rules, "
        "at 'exp(w[web]) - exp(w[code])': it subtracts the convex 'exp(w[code])' from the convex 'exp(w[web])'",
    )


def test_a_saddle_and_a_bilevel_problem_choose_their_solvers():
    assert type(mx.plan(GAME, learner()).solver).__name__ == "DescentAscent"
    assert type(mx.plan(BILEVEL, learner()).solver).__name__ == "Implicit"
    assert mx.plan(BILEVEL, learner()).choice.also == ("Unrolled", "ValueFunction")
    assert "bilevel: 'w' above, 'theta' below" in str(mx.plan(BILEVEL))
    assert "saddle: 'theta' descends, 'w' ascends a payoff affine in it" in str(mx.plan(GAME))


def test_a_surrogate_is_told_in_the_route():
    payoff = mx.surrogate(mx.pos(LOSSES - 1), gradient=LOSSES)
    text = str(mx.plan(mx.minimize(mx.maximize(W @ payoff, over=W), over=THETA)))
    assert "surrogate: 'w' sees w @ pos(losses(theta, 'train') - 1); 'theta' follows w @ losses(theta, 'train')" in text


def test_a_linear_objective_comes_with_a_warning():
    assert "so the optimum is a corner of the feasible set; add a KL term or caps" in str(mx.plan(mx.minimize(W["web"], over=W)))


@pytest.mark.parametrize(
    ("solver", "problem", "words"),
    [
        (Conic(), GAME, "it takes programs, and this is a saddle"),
        (Conic(), mx.minimize(mx.entropy(W), over=W), r"'entropy\(w\)' is concave, and is minimised: its optima lie at corners"),
        (Conic(), mx.maximize(mx.sum_squares(W), over=W), r"'sum_squares\(w\)' is convex, and is maximised"),
        (Conic(), mx.minimize(BENT, over=W), r"neither convex nor concave by the rules: it subtracts .*\n  Projected\(\) would take it"),
        (
            Conic(),
            mx.minimize(mx.sum_squares(W), over=W, subject_to=[mx.equal(mx.exp(W["web"]), 1.5).named("half")]),
            "the equality 'half' is not affine in the weights",
        ),
        (
            Conic(),
            mx.minimize(mx.sum_squares(W), over=W, subject_to=[(mx.entropy(W) <= 0.5).named("low")]),
            "constraint 'low' is concave where it must be convex",
        ),
        (
            Conic(),
            mx.minimize(mx.sum_squares(W), over=W, subject_to=[(BENT <= 0.5).named("bent")]),
            "constraint 'bent' is neither convex nor concave by the rules where it must be convex",
        ),
        (Projected(), BILEVEL, "it takes programs, and this is a bilevel"),
        (Projected(), mx.minimize(mx.max(mx.exp(W)), over=W), r"a kink at 'max\(exp\(w\)\)'.*\n  Conic\(\) would take it"),
        (Projected(), mx.minimize(mx.sum_squares(W), over=W, subject_to=[HOLLOW]), "constraint 'hollow' is not convex"),
        (
            mx.solvers.DescentAscent(),
            mx.minimize(mx.maximize(W @ LOSSES, over=W, subject_to=[HOLLOW]), over=THETA),
            "constraint 'hollow' is not convex",
        ),
        (
            mx.solvers.DescentAscent(),
            mx.minimize(mx.maximize(W @ LOSSES + mx.sum_squares(W), over=W), over=THETA),
            "the payoff is convex in the weights, so ascent need not find the inner maximum",
        ),
        (mx.solvers.DescentAscent(geometry="euclidean", temperature=1.0), GAME, "a temperature goes with entropic steps"),
        (mx.solvers.DescentAscent(), BILEVEL, "it takes saddles, and this is a bilevel"),
        (mx.solvers.Implicit(), GAME, "it takes bilevel problems, and this is a saddle"),
        (mx.solvers.Unrolled(), mx.minimize(mx.sum(W), over=W), "it takes bilevel problems, and this is a program"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_solver_that_was_asked_for_refuses_with_its_reason(solver, problem, words):
    with pytest.raises(mx.RefusalError, match=f"(?s){type(solver).__name__} refuses this .*{words}") as refusal:
        mx.plan(problem, solver=solver)
    assert list(refusal.value.reasons) == [type(solver).__name__]


def test_where_no_solver_takes_a_problem_the_plan_says_so_and_running_it_raises():
    plan = mx.plan(mx.maximize(mx.max(W), over=W))
    assert plan.solver is None
    assert "Solver  none takes it" in str(plan)
    with pytest.raises(mx.RefusalError, match=r"(?s)no solver takes this problem.*Conic refuses.*Projected refuses") as refusal:
        plan.run()
    assert set(refusal.value.reasons) == {"Conic", "Projected", "Lagrangian", "DescentAscent", "Implicit", "Unrolled", "ValueFunction"}


def test_a_bent_sampled_loss_is_called_biased_and_a_linear_one_is_not():
    sampled = Abilities({"train": Provided(DOMAINS.names, 2), "val": Provided(None, None)}, exact=False)
    bent = mx.plan(mx.minimize(mx.maximize(W @ mx.square(LOSSES), over=W), over=THETA)).form
    assert biased(bent, sampled) == (
        "'square(losses(theta, 'train'))' bends a loss that is estimated on a batch, so its estimate is biased; larger batches reduce it",
    )
    assert biased(bent, Abilities(sampled.provides, exact=True)) == ()
    assert biased(mx.plan(GAME).form, sampled) == ()


def test_a_kink_in_the_upper_objective_is_noted():
    trained = mx.argmin(W @ LOSSES + mx.abs(W["web"] - 0.5) * mx.sum_squares(THETA), over=THETA)
    worst = mx.minimize(mx.max(mx.losses(trained, DOMAINS, name="val")) + mx.abs(mx.parameter("x")), over=W)
    assert mx.plan(worst).choice.notes == (
        "the upper objective has a kink at 'max(losses(theta*, 'val'))', where descent can stall away from the optimum; read the check. "
        "mx.logsumexp(x, t) for mx.max(x) is smooth, and at most t log n above it",
    )
    assert mx.plan(BILEVEL).choice.notes == ()


def test_settings_that_are_not_the_default_are_shown():
    assert str(mx.plan(mx.minimize(mx.sum_squares(W), over=W), solver=Projected(tolerance=1e-4)).solver) == "Projected(tolerance=0.0001)"


def test_a_plan_writes_the_form_that_is_solved():
    w, theta = mx.Mixture(["web", "code"]), mx.model()
    assert r"\min\limits_{w \in \Delta}\quad & -\operatorname{H}(w)" in mx.plan(mx.maximize(mx.entropy(w), over=w)).latex()
    excess = mx.losses(theta, ["web", "code"]) - 1
    game = mx.minimize(mx.maximize(w @ mx.surrogate(mx.pos(excess), gradient=excess), over=w, subject_to=[w <= 0.9]), over=theta)
    assert mx.plan(game).latex() == (
        "\\begin{split}\n\\min\\limits_{\\theta}\\ \\max\\limits_{w \\in \\Delta}\\quad & w^{\\top} "
        "\\left[\\ell_{\\text{train}}(\\theta) - 1\\right]_{+} \\\\\n\\text{subject to}\\quad & w \\le 0.9\n\\end{split}"
    )
    trained = mx.argmin(w @ mx.losses(theta, ["web", "code"]), over=theta)
    bilevel = mx.minimize(mx.loss(trained, "val"), over=w)
    assert mx.plan(bilevel).latex() == bilevel.latex()
    inner = mx.Mixture(["a", "b"], name="u")
    law = mx.formula("exp(A @ w)", A=[[1.0, 2.0], [2.0, 1.0]], w=w)
    assert r"\log" in mx.plan(mx.minimize(mx.maximize(inner @ law + mx.entropy(inner), over=inner), over=w)).latex()
