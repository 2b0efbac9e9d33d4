"""The methods that mixopt has, one record each: family, phase, data needs, cost, formula, source, and the lines that define it.

>>> from mixopt.problems import catalog
>>> [card.name for card in catalog.methods(family="min-max")][:3]
['doremi', 'group_dro', 'online_doremi']
>>> catalog.find("doge").formula.splitlines()[0]
'w_i <- w_i exp(eta <grad l_i, grad l_val> / mu) / (the sum of these)'
"""

from __future__ import annotations

from typing import get_args

from mixopt.errors import unknown

from .adaptive_cards import ADAPTIVE_CARDS
from .balancing_cards import BALANCING_CARDS
from .bilevel_cards import BILEVEL_CARDS
from .card import HEAD as HEAD
from .card import Card as Card
from .card import Catalog as Catalog
from .card import Family, Phase
from .gradient_cards import GRADIENT_CARDS
from .law_cards import LAW_CARDS
from .saddle_cards import SADDLE_CARDS


def methods(*, family: str | None = None, phase: str | None = None) -> Catalog:
    """The methods there are, of one family or usable in one phase where that is given.

    Raises:
        InputError: no such family ("min-max", "bi-level", "gradient balancing", "mixing law", "online", "heuristic") or phase ("PT",
            "CPT", "SFT").
    """
    for kind, wanted, known in (("family", family, get_args(Family)), ("phase", phase, get_args(Phase))):
        if wanted is not None and wanted not in known:
            raise unknown(kind, wanted, known)
    fits = (c for c in METHODS if family in (None, c.family) and (phase is None or not c.phases or phase in c.phases))
    return Catalog(tuple(fits))


def find(name: str) -> Card:
    """The card of a method, by its name, title or another name it goes by; case and punctuation do not count.

    Raises:
        InputError: no such method; the nearest name is suggested.
    """
    names = {_plain(called): card for card in METHODS for called in (card.name, card.title, *card.aliases)}
    if _plain(name) in names:
        return names[_plain(name)]
    raise unknown("method", name, [*(c.name for c in METHODS), *(alias for c in METHODS for alias in c.aliases)])


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


_SURVEY = "Rethinking Data Mixture for Large Language Models, arXiv 2505.21598"

METHODS = (
    Card(
        name="doremi",
        title="DoReMi",
        family="min-max",
        phases=("PT",),
        needs=("training data", "reference model", "gradients"),
        cost="1 reference run + 1 proxy run",
        formula="min_theta max_{w in simplex} sum_i w_i (l_i(theta) - l_i(reference))\n"
        "w_i <- (1 - c) w_i exp(eta e_i) / sum_j w_j exp(eta e_j) + c/k\n"
        "e_i = mean over the tokens of domain i of max(l(theta) - l(reference), 0)",
        latex=r"\begin{split}&\min_\theta\max_{w\in\Delta}\sum_i w_i\,(\ell_i(\theta)-\ell_i(\mathrm{ref}))\\"
        r"&w_i\leftarrow(1-c)\,\frac{w_i\,e^{\eta e_i}}{\sum_j w_j\,e^{\eta e_j}}+\frac{c}{k},\qquad "
        r"e_i=\operatorname{mean}_{x}\max(\ell(x;\theta)-\ell(x;\mathrm{ref}),0)\end{split}",
        source="Xie et al. 2023, arXiv 2305.10429, Algorithm 1; code sangmichaelxie/doremi; Eq. 1 of the survey",
        differences=(
            "The paper starts from uniform weights; the code starts from the sampling weights of its configuration.",
            "The paper returns the mean of w_1 ... w_T; the code counts w_0 too. faithful_to='paper' or 'code' chooses.",
            "The paper and the Pile script smooth by c = 1e-3; the code's default is 1e-4.",
            "The paper's model loss is the weighted mean of domain means; the code's is the mean over weighted tokens. "
            "mixopt follows the paper; with equal token counts a domain the two are equal.",
            "In the code a domain that is absent from a batch keeps its last score, at first the logarithm of the vocabulary's size. "
            "mixopt's batches hold every domain, so this does not arise.",
            "The survey's section C.1.2 leaves out the clip at zero, which its Table 3 has, and the smoothing. "
            "The clip is per token, before the mean; faithful_to='survey' clips per domain, as that table reads.",
            "The source repeats the two phases until no weight moves by 1e-3; doremi_rounds does.",
        ),
        defined=("mixopt.problems.doremi:doremi", "mixopt.problems.doremi:payoff_of", "mixopt.problems.rounds:doremi_rounds"),
        use='mx.solve(mx.problems.doremi(domains), learner, given={"reference": parameters})',
    ),
    *SADDLE_CARDS,
    Card(
        name="mixmax",
        title="MixMax",
        family="min-max",
        phases=(),
        needs=("proxy runs",),
        cost="1 model of P(x, y) a source, then milliseconds",
        formula="max_{w in simplex} H(Y | X) of sum_i w_i P_i(x, y)\n"
        "= min_f max_{w in simplex} sum_i w_i E_{P_i}[-log f(y | x)], over all functions f",
        latex=r"\max_{w\in\Delta}\;-\sum_{x,y}p_w(x,y)\log\frac{p_w(x,y)}{p_w(x)},\qquad p_w=\sum_i w_i\,P_i",
        source="Thudi and Maddison 2024, arXiv 2406.01477; not in the survey",
        differences=(
            "The paper ascends by entropic mirror steps whose gradients are estimated from samples and proxy models; mixopt takes "
            "tables of probabilities and solves the concave program.",
            "The paper has the squared loss too; here it is the cross-entropy only.",
            "It is group DRO over all functions. With a model that cannot learn the mixture's predictor the saddle in its parameters may "
            "have other weights; DescentAscent finds those.",
        ),
        defined=("mixopt.problems.mixmax:mixmax",),
        use="mx.solve(mx.problems.mixmax(domains, tables))",
    ),
    Card(
        name="doge",
        title="DoGE",
        family="bi-level",
        phases=("PT",),
        needs=("training data", "validation set", "gradients"),
        cost="1 proxy run; a step costs 1 gradient and 1 forward-mode product more",
        formula="w_i <- w_i exp(eta <grad l_i, grad l_val> / mu) / (the sum of these)\n"
        "theta <- theta - eta sum_i w_i grad l_i, with the new w\n"
        "the answer is the mean of the w",
        latex=r"\begin{split}&w_i\leftarrow\frac{w_i\,\exp(\eta\,\langle\nabla\ell_i,\nabla\ell_{\mathrm{val}}\rangle/\mu)}"
        r"{\sum_j w_j\,\exp(\eta\,\langle\nabla\ell_j,\nabla\ell_{\mathrm{val}}\rangle/\mu)}\\"
        r"&\theta\leftarrow\theta-\eta\sum_i w_i\,\nabla\ell_i\end{split}",
        source="Fan, Pagliardini and Jaggi 2024, arXiv 2310.15393, Algorithm 1; code Olivia-fsm/DoGE; section 3.2.2 of the survey",
        differences=(
            "The code divides the scores by the mean gradient norm, clips them to [0, 5 eta], and clips each domain's gradient first: "
            "faithful_to='code'. The paper does none of these, so that a harmful domain loses by more than renormalising.",
            "In the code eta follows the learning-rate schedule; here it is step_size.",
            "Paper, code and the survey's section 3.2.2 sum the gradients of the targets; Eq. 2 of the survey, and mixopt without "
            "faithful_to, take the mean: a factor of m in mu.",
            "In the code a domain that is absent from a batch keeps its old gradient; mixopt's batches hold every domain.",
            "The code means to leave out a domain's product with itself, but its comparison never matches: it stays in, as here.",
            "The survey prints the update without its normaliser, by which the weights leave the simplex; faithful_to='survey' normalises.",
        ),
        defined=("mixopt.problems.doge:doge", "mixopt.problems.doge:validation_problem", "mixopt.solvers.one_step:OneStep._direction"),
        use="mx.solve(mx.problems.doge(domains), learner)",
    ),
    Card(
        name="implicit",
        title="Validation problem by the implicit function theorem",
        family="bi-level",
        phases=(),
        needs=("training data", "validation set", "gradients"),
        cost="1 proxy run; a weight step costs about 10 Hessian products more",
        formula="min_{w in simplex} l_val(theta*(w)),  theta*(w) = argmin_theta sum_i w_i l_i(theta)\n"
        "dF/dw_i = -<grad l_i, q>,  H q = grad l_val,  H = sum_i w_i Hessian of l_i",
        latex=r"\begin{split}&\min_{w\in\Delta}\ell_{\mathrm{val}}(\theta^*(w)),\qquad "
        r"\theta^*(w)=\operatorname{argmin}_\theta\sum_i w_i\,\ell_i(\theta)\\"
        r"&\frac{\partial F}{\partial w_i}=-\langle\nabla\ell_i,H^{-1}\nabla\ell_{\mathrm{val}}\rangle,\qquad "
        r"H=\sum_i w_i\,\nabla^2\ell_i\end{split}",
        source="Eq. 2 and section B.2.1 (implicit function) of the survey; Pedregosa 2016, arXiv 1602.02355",
        differences=(
            "The survey names the family and gives no algorithm for mixtures. One linear system serves all k domains, and their k inner "
            "products are one forward-mode product here.",
            "Pedregosa solves the lower problem and the linear system to tolerances that tighten over the run; mixopt to fixed ones "
            "(Inner, ConjugateGradients).",
            "theta* is the stationary point that the learner reaches from its start. A network in training has not reached one, so the "
            "gradient is an approximation there: read check.inner, and hold it against mx.audit.",
            "For a sampled learner mixopt takes damped Gauss-Newton products instead of the Hessian, which has negative curvature there.",
        ),
        defined=("mixopt.problems.doge:validation_problem", "mixopt.solvers.implicit:Implicit._solved"),
        use="mx.solve(mx.problems.validation_problem(domains), learner, solver=mx.solvers.Implicit())",
        aliases=("validation_problem", "hypergradient"),
    ),
    Card(
        name="unrolled",
        title="Validation problem by unrolling",
        family="bi-level",
        phases=(),
        needs=("training data", "validation set", "gradients"),
        cost="1 proxy run; a weight step costs K training steps and the way back",
        formula="min_{w in simplex} l_val(theta_K(w))\ntheta_{t+1} = theta_t - eta sum_i w_i grad l_i(theta_t)",
        latex=r"\min_{w\in\Delta}\ell_{\mathrm{val}}(\theta_K(w)),\qquad\theta_{t+1}=\theta_t-\eta\sum_i w_i\,\nabla\ell_i(\theta_t)",
        source="Eq. 2 and section B.2.1 (gradient unrolling) of the survey",
        differences=(
            "The outcome after K steps from the learner's start is another problem than the argmin of Eq. 2, for which the survey gives "
            "unrolling: its weights are exact for that outcome, and may be stationary where the argmin's hypergradient is not zero.",
            "The steps that are unrolled are plain gradient steps, whatever optimizer the learner trains with.",
        ),
        defined=(
            "mixopt.problems.doge:validation_problem",
            "mixopt.solvers.unrolled:Unrolled.slope",
            "mixopt.runtime.unrolling:Course.reverse",
        ),
        use="mx.solve(mx.problems.validation_problem(domains), learner, solver=mx.solvers.Unrolled(steps=8))",
    ),
    *BILEVEL_CARDS,
    Card(
        name="mixmin",
        title="MixMin",
        family="bi-level",
        phases=("PT",),
        needs=("proxy runs", "validation set"),
        cost="1 proxy run a domain, then milliseconds",
        formula="min_{w in simplex} -mean_d (1 / length_d) log sum_i w_i p_i(d),  p_i the model trained on domain i alone",
        latex=r"\min_{w\in\Delta}\;-\frac{1}{n}\sum_{d=1}^{n}\frac{1}{\ell_d}\log\sum_i w_i\,p_i(d)",
        source="Thudi et al. 2025, arXiv 2502.10510; code Anvith-Thudi/MixMin; on tokens the feature of MDE (Belenki et al. 2025, "
        "arXiv 2502.15950), survey misprint T05",
        differences=(
            "The code takes at most 100 steps of exponentiated gradient of rate 1 and stops on max |gradient| < 1e-4, which need not "
            "vanish at an optimum on the simplex; mixopt solves the convex program and certifies it.",
            "The code mixes documents' likelihoods and divides each logarithm by the document's length; MDE mixes token by token. Both are "
            "the same program here: rows are documents with lengths, or tokens without.",
            "On whole documents the ratios of likelihoods are huge, so that few domains get weight; nothing is done against that.",
            "The bilevel problem becomes this program where models are expressive and p(x) is the same in all sources; a language model "
            "trained on the mixture does not meet that exactly.",
            "The survey prints MDE as -sum_i w_i log p_i, a linear upper bound whose optimum is a corner; the source averages "
            "probabilities first.",
        ),
        defined=("mixopt.problems.mixmin:mixmin", "mixopt.problems.mixmin:_entropy", "mixopt.problems.experts:mixmin_streamed"),
        use="mx.solve(mx.problems.mixmin(domains, log_likelihoods))",
    ),
    Card(
        name="exponential",
        title="Exponential mixing law",
        family="mixing law",
        phases=("PT", "CPT"),
        needs=("proxy runs",),
        cost="3 (k + 1) proxy runs or more, then milliseconds",
        formula="L_j(w) = c_j + exp(sum_i A_ji w_i), fitted to runs\nmin_{w in simplex} g(L_1(w), ..., L_m(w)) under constraints",
        latex=r"L_j(w)=c_j+\exp\Big(\sum_i A_{ji}\,w_i\Big),\qquad\min_{w\in\Delta}g(L_1(w),\dots,L_m(w))",
        source="Ye et al. 2024, arXiv 2403.16952, Eq. 7 (data mixing laws); Chen et al. 2026, arXiv 2602.12237 (Olmix, log-linear law); "
        "Eq. 3 and Table 2 of the survey",
        differences=(
            "Ye et al. have a factor before exp, c + k exp(t . w). Weights sum to 1, so log k added to every t is the same; "
            "mixopt, like Olmix, leaves it out.",
            "Ye et al.'s code fits by 6000 starts of L-BFGS on a Huber loss and Olmix's by 300; mixopt starts from a variable projection "
            "and takes one least-squares fit, or Huber with loss='huber'.",
            "The released notebook of Ye et al. fits the law on all 26 mixtures and reports errors on 6 of them; "
            "laws.cross_validate predicts each run from the others.",
            "Ye et al.'s code looks for the best mixture on a grid under caps; Olmix by a conic solver with a KL term, as mixopt does.",
            "Olmix leaves c out of its objective, and its target weights are 1/n when they are left out and raw when they are given, "
            "so that its KL factor has two meanings.",
            "The survey's Table 2 has the law with +A in the exponent, and its section 4.2 with -A.",
        ),
        defined=("mixopt.laws.exponential:ExponentialCurve.expression", "mixopt.laws.exponential:Exponential.fit"),
        use="mx.solve(mx.minimize(mx.mean(mx.laws.Exponential.fit(runs)(w)) + 0.05 * mx.kl(w, domains.natural), over=w))",
        aliases=("laws",),
    ),
    *BALANCING_CARDS,
    *LAW_CARDS,
    *GRADIENT_CARDS,
    *ADAPTIVE_CARDS,
    Card(
        name="climb",
        title="CLIMB",
        family="mixing law",
        phases=("PT", "CPT"),
        needs=("proxy runs", "token counts"),
        cost="64 + 32 + 16 proxy runs in the source, then seconds",
        formula="round 0: w drawn from Dirichlet(the token proportions)\n"
        "round r: L_r fitted to all runs so far, w drawn from the n of a pool that L_r calls best",
        latex=r"\begin{split}&w^{0}\sim\text{Dirichlet}(p)\\"
        r"&L_r=\text{fit}(\text{rounds }0,\dots,r-1),"
        r"\qquad w^{r}\sim\text{Uniform}\{\text{the best }n\text{ of a pool by }L_r\}\end{split}",
        source="Diao et al. 2025, arXiv 2504.13161, section 3",
        differences=(
            "The paper does not say how many of the pool are the best; mixopt takes 4 for each mixture of the round.",
            "Trees have depth 4, leaves of 5 runs and early stopping in the paper; mixopt's LightGBM is RegMix's, without early stopping.",
            "The paper returns what its last predictor calls best; mixopt trains the law's optimum too, and returns the best measured.",
            "The domains, about 20 clusters of embedded text, are the user's here.",
        ),
        defined=("mixopt.problems.climb:climb", "mixopt.designs.learning:Climb.better"),
        use='mx.design(domains, runs=32, kind="climb", after=runs)',
    ),
    Card(
        name="regmix",
        title="RegMix",
        family="mixing law",
        phases=("PT",),
        needs=("proxy runs", "token counts"),
        cost="512 proxy runs in the source, then seconds",
        formula="L_j(w) = the sum of boosted regression trees, j one target\n"
        "w = the mean of the best 128 of 100,000 draws from Dirichlet(the token proportions)",
        latex=r"\begin{split}&L_j(w)=\sum_{t}\text{tree}_t(w)\\"
        r"&w^\star=\operatorname{mean}\{\text{the best }n\text{ of }w_1,\dots,w_N\},\qquad w_r\sim\text{Dirichlet}(p)\end{split}",
        source="Liu et al. 2024, arXiv 2407.01492; code sail-sg/regmix; Table 2 of the survey",
        differences=(
            "The paper takes the mean of the best 100 of 1,000,000 draws, the notebook of the best 128 of 100,000. mixopt does as the "
            "notebook, and as the paper with faithful_to='paper'. The mean of a set is not its best point.",
            "The notebook stops its trees early on the runs that it then judges them by; mixopt's default is 1,000 trees and no early "
            "stopping. faithful_to='code' stops on held_out runs.",
            "The notebook fits mixtures that sum to 0.996 to 1.003 as they stand; Runs divides each row by its sum unless rescale=False.",
            "The survey leaves the target open; the source takes Pile-CC for all figures.",
            "Leaves of 20 runs, LightGBM's default, are for hundreds of runs; mixopt takes a tenth of the runs, from 5 to 20.",
            "The paper's other regression is linear, whose optimum is a corner; give laws.Linear.fit(runs).",
        ),
        defined=("mixopt.problems.regmix:regmix", "mixopt.laws.trees:LightGBM.fit"),
        use='mx.solve(mx.problems.regmix(runs, "pile_cc", prior=proportions))',
        aliases=("lightgbm", "boosted trees"),
    ),
    Card(
        name="gaussian-process",
        title="Gaussian-process law",
        family="mixing law",
        phases=("PT",),
        needs=("proxy runs",),
        cost="tens of proxy runs, then seconds",
        formula="L_j(w) = mean_j + sum_r a_jr exp(-|w - w_r|^2 / (2 l_j^2)), w_r the runs, l_j by the marginal likelihood",
        latex=r"L_j(w)=\mu_j+\sum_r a_{jr}\exp\Big(-\frac{\lVert w-w_r\rVert^2}{2\,l_j^2}\Big)",
        source="Rasmussen and Williams 2006; Olmix's regression 'gp', arXiv 2602.12237; MDE's multi-task process, arXiv 2502.15950",
        differences=(
            "Olmix's code gives the process to its own search; here the mean is an expression, so that gradients exist, and Projected "
            "descends it.",
            "MDE's process is one for all tasks, within Google's Vizier; here each target has its own.",
            "The survey names Bayesian optimisation among the ways to an optimum, and gives no formula.",
        ),
        defined=("mixopt.laws.gaussian:GaussianProcess.loss_of", "mixopt.laws.gaussian:GaussianProcess.fit"),
        use='mx.solve(problem, learner, solver=mx.solvers.Surrogate(law="gaussian-process", rounds=20))',
        aliases=("gp", "bayesian optimisation"),
    ),
    Card(
        name="blend",
        title="A blend of laws",
        family="mixing law",
        phases=("PT", "CPT"),
        needs=("proxy runs",),
        cost="tens of proxy runs, then ten fits of each law",
        formula="L_j(w) = sum_l a_l L_lj(w), a >= 0, sum_l a_l = 1: half of a by least squares on held-out runs,\n"
        "half by 1 / (regret_l + 0.01)^2 of the decisions that law l would make on them",
        latex=r"L_j(w)=\sum_l a_l\,L_{lj}(w),\qquad a=\frac12\operatorname{argmin}_{a\in\Delta}\lVert a^{\top}e\rVert^2"
        r"+\frac12\,\frac{(\rho_l+0.01)^{-2}}{\sum_m(\rho_m+0.01)^{-2}}",
        source="Breiman 1996, Machine Learning 24, for the least squares (stacking); the half by decisions is mixopt's",
        differences=(
            "The rule is what 'auto' takes. It was settled on RegMix's training runs; its test runs were read once, at the end.",
            "With trees among the parts the blend has values alone, and its optimum is searched for.",
        ),
        defined=("mixopt.laws.stacking:shares_of", "mixopt.laws.blend:Blended.losses"),
        use='mx.fitting.recommend(runs, law="auto")',
        aliases=("auto", "stacking", "super learner"),
    ),
    Card(
        name="mde",
        title="Mixtures of data experts",
        family="mixing law",
        phases=("PT",),
        needs=("validation set", "proxy runs"),
        cost="1 expert a domain, and a pass of each over the validation sets; proxy runs to calibrate",
        formula="phi_j(w) = -mean over the tokens x of validation set j of log sum_i w_i p_i(x)\n"
        "L_j(w) = sum_l A_jl phi_l(w) + B_j . w with A >= 0, by least squares on runs\nmin_{w in simplex} sum_j v_j L_j(w)",
        latex=r"\begin{split}&\phi_j(w)=-\operatorname{mean}_{x}\log\sum_i w_i\,p_i(x)\\&L_j(w)=\sum_l A_{jl}\,\phi_l(w)+B_j^{\top}w,"
        r"\qquad\min_{w\in\Delta}\sum_j v_j\,L_j(w)\end{split}",
        source="Belenki et al. 2025, arXiv 2502.15950; Table 2 and section 3.3 of the survey",
        differences=(
            "The survey prints the feature as -sum_i w_i log p_i, which is linear in w and has its best mixture at a corner; the source "
            "averages probabilities first. mixopt follows the source.",
            "The source regresses by linear models, boosted trees and a multi-task Gaussian process; mixopt by least squares with A >= 0, "
            "so that the whole is convex and its optimum has a certificate.",
            "The source searches by Vizier; mixopt takes Newton steps, each from sums over all tokens, read block by block from disk.",
            "With no runs the mean of the features is minimised, which is MixMin's objective by token.",
        ),
        defined=("mixopt.problems.experts:mde", "mixopt.problems.experts:expert_features", "mixopt.problems.experts:ExpertMixture"),
        use='mx.problems.mde({"books": mx.Likelihoods.from_files(domains, "likelihoods/books")}, runs)',
        aliases=("data experts",),
    ),
    Card(
        name="uniform",
        title="Uniform",
        family="heuristic",
        phases=(),
        needs=(),
        cost="nothing",
        formula="w_i = 1/k",
        latex=r"w_i=\frac{1}{k}",
        source=f"section B.1 of the survey ({_SURVEY})",
        differences=("None known.",),
        defined=("mixopt.problems.heuristics:uniform",),
        use="mx.problems.uniform(domains)",
    ),
    Card(
        name="proportional",
        title="Proportional",
        family="heuristic",
        phases=(),
        needs=("token counts",),
        cost="nothing",
        formula="w_i = n_i / sum_j n_j,  n_i the tokens of domain i",
        latex=r"w_i=\frac{n_i}{\sum_j n_j}",
        source=f"section B.1 of the survey ({_SURVEY})",
        differences=("None known; sizes are counted in tokens here.",),
        defined=("mixopt.problems.heuristics:proportional",),
        use="mx.problems.proportional(domains)",
        aliases=("natural",),
    ),
    Card(
        name="temperature",
        title="Temperature",
        family="heuristic",
        phases=("PT",),
        needs=("token counts",),
        cost="nothing",
        formula="w_i = n_i^(1/tau) / sum_j n_j^(1/tau)",
        latex=r"w_i=\frac{n_i^{1/\tau}}{\sum_j n_j^{1/\tau}}",
        source="Conneau et al. 2020, arXiv 1911.02116, section 3.1; not in the survey",
        differences=("The source's exponent alpha is 1/tau here.", "A domain without tokens keeps weight 0 at every tau."),
        defined=("mixopt.problems.heuristics:temperature",),
        use="mx.problems.temperature(domains, tau=2)",
    ),
    Card(
        name="unimax",
        title="UniMax",
        family="heuristic",
        phases=("PT",),
        needs=("token counts",),
        cost="nothing",
        formula="w_i = min(N n_i / B, level),  level such that sum_i w_i = 1\nN the most epochs, B the budget in tokens",
        latex=r"w_i=\min\Big(\frac{N\,n_i}{B},\lambda\Big),\qquad\sum_i w_i=1",
        source="Chung et al. 2023, arXiv 2304.09151, Algorithm 1; not in the survey",
        differences=("A budget of more than N epochs of everything is cut silently in the source, and refused here.",),
        defined=("mixopt.problems.heuristics:unimax",),
        use="mx.problems.unimax(domains, budget=1e12, at_most=4)",
    ),
)
"""Every method, by family; a test holds the list against the public names of ``mixopt.problems``."""
