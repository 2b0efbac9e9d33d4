"""Cards of the bilevel methods that train one model, or two, in a single loop, and of the problem with any method."""

from __future__ import annotations

from .card import Card

BILEVEL_CARDS = (
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
)
