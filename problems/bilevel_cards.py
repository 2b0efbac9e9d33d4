"""Cards of the bilevel methods: offline, in a single loop, and the problem with any method."""

from __future__ import annotations

from .card import Card

BILEVEL_CARDS = (
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
    Card(
        name="scalebio",
        title="ScaleBiO",
        family="bi-level",
        phases=("SFT",),
        needs=("training data", "validation set", "gradients"),
        cost="1 proxy run of two models: 3 gradients a step",
        formula="min_{w, theta} max_u l_val(theta) + alpha sum_i w_i (l_i(theta) - l_i(u)),  w = softmax(p)\n"
        "u, theta and p move at once, from the old iterates: d/dw_i = alpha (l_i(theta) - l_i(u))",
        latex=r"\min_{w,\theta}\max_u\;\ell_{\mathrm{val}}(\theta)+\alpha\sum_i w_i\,(\ell_i(\theta)-\ell_i(u)),\qquad "
        r"w=\operatorname{softmax}(p)",
        source="Pan et al. 2025, arXiv 2406.19976; code 2003pro/ScaleBiO and research4pan/scalebio; section 3.2.2 of the survey",
        differences=(
            "The code's logits have AdamW's default decay of 0.01, as their optimizer is made before the decay is set: a pull to uniform "
            "weights. faithful_to='code' has it, 'paper' has none.",
            "The code lets all rates fall along a cosine (in version 2 after a warm-up of 3 %); 'code' has the cosine, and no warm-up.",
            "The code divides a domain's weight by its count in the batch, so that a domain counts by how often it is there, and one "
            "that is absent not at all; mixopt's batches hold every domain.",
            "Adam hides alpha in u and in the logits: it sets how lower and upper losses count in theta, and no more. So does mixopt's, "
            "where the learner's optimizer is AdamW; give it the rate (1e-5 for GPT-2).",
            "The code clips model gradients at alpha in its second version; here that is the learner's optimizer's part.",
            "The parameters that come back are u, trained on the mixture; theta has seen the validation set. The source trains afresh.",
            "The survey has F2SA's penalty here, without logits, AdamW or LISA: faithful_to='survey'.",
        ),
        defined=("mixopt.problems.scalebio:scalebio", "mixopt.problems.doge:validation_problem", "mixopt.solvers.scalebio:ScaleBiO.turn"),
        use="mx.solve(mx.problems.scalebio(domains), learner)",
    ),
    Card(
        name="one_step",
        title="One-step approximation",
        family="bi-level",
        phases=(),
        needs=("training data", "validation set", "gradients"),
        cost="none: the weights move in the target run, whose steps cost 1 gradient and 1 forward-mode product more",
        formula="dF/dw_i = -eta <grad l_i, grad l_val>\ntheta <- theta - eta sum_i w_i grad l_i, with the new w",
        latex=r"\frac{\partial F}{\partial w_i}\approx-\eta\,\langle\nabla\ell_i,\nabla\ell_{\mathrm{val}}\rangle,\qquad "
        r"\theta\leftarrow\theta-\eta\sum_i w_i\,\nabla\ell_i",
        source="section B.2.1 of the survey (gradient unrolling, one step); arXiv 2310.15393",
        differences=(
            "The survey unrolls from the model as it stands; the upper gradient is taken there too, first order in eta.",
            "The model's step is the learner's optimizer's; the products leave its preconditioner out.",
            "Curvature is left out: on a ridge problem of 8 domains it rests where the true Frank-Wolfe gap is 0.57, having closed "
            "97.6 % of the distance from uniform weights to the optimum in loss.",
        ),
        defined=("mixopt.problems.bilevel:one_step", "mixopt.solvers.one_step:OneStep._direction"),
        use="mx.solve(mx.problems.one_step(domains), learner)",
    ),
    Card(
        name="bilevel",
        title="Validation problem by any method",
        family="bi-level",
        phases=(),
        needs=("training data", "validation set", "gradients"),
        cost="that of the method given",
        formula="min_{w in simplex} f(l_1(theta*(w)), ..., l_m(theta*(w)))\n"
        "theta*(w) = argmin_theta sum_i w_i l_i(theta) + rho / 2 |theta|^2",
        latex=r"\min_{w\in\Delta}f\big(\ell_1(\theta^*(w)),\dots,\ell_m(\theta^*(w))\big),\qquad "
        r"\theta^*(w)=\operatorname{argmin}_\theta\sum_i w_i\,\ell_i(\theta)+\frac{\rho}{2}\,|\theta|^2",
        source="Eq. 2 of the survey; V-PBGD and G-PBGD arXiv 2302.05185, BOME arXiv 2209.08709, F2SA arXiv 2301.10945 for the penalties",
        differences=(
            "The survey's Eq. 2 has the mean of the targets' losses and no ridge, as are the defaults here.",
            "Penalty methods answer a problem that tends to this one as their penalty grows; their route in the plan says so.",
        ),
        defined=("mixopt.problems.bilevel:bilevel",),
        use="mx.solve(mx.problems.bilevel(domains, solver=mx.solvers.VPBGD()), learner)",
    ),
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
)
