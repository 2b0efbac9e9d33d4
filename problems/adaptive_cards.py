"""Cards of the online methods that are rules and no saddles."""

from __future__ import annotations

from .card import Card

ADAPTIVE_CARDS = (
    Card(
        name="skill_it",
        title="Skill-It (skills graph)",
        family="online",
        phases=("PT", "CPT", "SFT"),
        needs=("training data", "validation set", "proxy runs"),
        cost="1 run on each domain alone for the graph; then an evaluation every so many steps",
        formula="w_i ~ prior_i exp(eta sum_j A_ij (the sum of the last 3 evaluated losses of j))\n"
        "A_ij = (l_j before - l_j after a run on domain i alone) / l_j before",
        latex=r"w_i^{t}\propto\pi_i\exp\Big(\eta\sum_j A_{ij}\sum_{s=t-2}^{t}\ell_j^{s}\Big),\qquad "
        r"A_{ij}=\frac{\ell_j(\theta_0)-\ell_j(\theta_{e_i})}{\ell_j(\theta_0)}",
        source="Chen et al. 2023, arXiv 2307.14430, Algorithm 1; code HazyResearch/skill-it; Table 4 of the survey",
        differences=(
            "The survey's Table 4 counts the loss twice, transposes A and has its sign the wrong way round (misprint T18).",
            "The survey steps from the last weights; the code from the prior each time, so that nothing accumulates: faithful_to='survey' "
            "or 'code'.",
            "The window of 3 counts evaluations, not moves, and the code sums them, so that eta counts threefold; with targets of their "
            "own it takes the mean.",
            "The code reads 0/1 graphs with 0.5 off the diagonal, as here.",
            "The code divides by the losses of the second evaluation where it normalises; mixopt by the first.",
            "No code learns the graph; Aioli's script does it with a run on each domain alone, and laws.Online.fit with any short runs.",
        ),
        defined=("mixopt.problems.adaptive:skill_it", "mixopt.rules.law:LawStep.move", "mixopt.rules.law:LawStep._stepped"),
        use="mx.online(mx.problems.skill_it(domains, effects))",
    ),
    Card(
        name="odm",
        title="Online data mixing (ODM)",
        family="online",
        phases=("PT",),
        needs=("training data",),
        cost="none: the weights move by the training losses",
        formula="w_i = (1 - k e_t) q_i + e_t,  e_t = min(1/k, sqrt(log k / (k t)))\n"
        "paper: q = softmax(e_{t-1} R),  R_i <- alpha R_i + (1 - alpha) l_i / w_i\n"
        "code:  q = R / sum R,           R_i <- alpha R_i + (1 - alpha) exp(l_i)",
        latex=r"w_i=(1-k\varepsilon_t)\,q_i+\varepsilon_t,\qquad\varepsilon_t=\min\Big(\frac1k,\sqrt{\frac{\log k}{k\,t}}\Big),\qquad "
        r"q=\operatorname{softmax}(\varepsilon_{t-1}\hat R)",
        source="Albalak et al. 2023, arXiv 2312.02406, Algorithm 1; code alon-albalak/online-data-mixing; section C.2.1 of the survey",
        differences=(
            "The paper is Exp3 with importance weights; the code's runs took neither the exponential weights nor importance weights: "
            "faithful_to='paper' or 'code'.",
            "In the code rewards begin at 0 after a warm-up of 2,000 steps at the natural mixture, so that the first move forgets it, and "
            "a domain that is not drawn keeps e_t alone.",
            "alpha is 0.9 by default and 0.5 in the runs named for the headline.",
            "A plain Exp3 class in the code divides rewards by 10 and adds them up; no run took it.",
            "The survey has prose and no formula (T21).",
        ),
        defined=("mixopt.problems.adaptive:odm", "mixopt.rules.odm:ODM.move"),
        use="mx.online(mx.problems.odm(domains), start=domains.natural)",
    ),
    Card(
        name="ado",
        title="Adaptive data optimization (ADO)",
        family="online",
        phases=("PT",),
        needs=("training data", "token counts"),
        cost="a fit of one curve a domain every 1,000 steps, in a thread",
        formula="rho_i ~ mu_i sqrt(h_i) max(alpha_i, 0.05) (L_i(n) - epsilon_i) / n,  at least 0.01\n"
        "w = 0.9 (mean of mu and the rho so far) + 0.1 rho\n"
        "L_i(n) = epsilon_i + beta_i / n^alpha_i fitted to the run's own losses",
        latex=r"\rho_i\propto-\mu_i\,\lambda_i\,\frac{\partial\hat\ell_i(n)}{\partial n},\quad\lambda_i=\sqrt{h_i},\qquad "
        r"w=0.9\,\bar\rho+0.1\,\rho,\qquad\hat\ell_i(n)=\varepsilon_i+\beta_i\,n^{-\alpha_i}",
        source="Jiang et al. 2024, arXiv 2410.11820, section 3; code yidingjiang/ado; Eq. 7 of the survey",
        differences=(
            "n counts the samples of all domains in the code, so that 1/n does not matter; the survey's n reads as a domain's own (T20).",
            "The floor 0.01 holds for rho, not for w, so that weights may end below it. The mean is of rho, not of w, and begins at mu.",
            "The released experiments have start 500 and skip 1000, so that the first fit sees one point for three parameters; mixopt "
            "refuses that, and fits first at step 2,000.",
            "The first public commit had sqrt(h (1 - h)) in the place of sqrt(h); it was corrected.",
            "mixopt fits the code's objective from the 8 best of its 512 starts, to 1,000 points at most, each for all that it stands for.",
            "A fit is used lag steps after its data, so that it can run beside the training and a resumed run is the same.",
            "The code's penalties keep floors above 1.65 nats, too high for losses per byte, for code and mathematics; curve='squares' is "
            "the least squares of the losses, and the default of faithful_to='survey', with the mean of the rho before, without floors.",
        ),
        defined=(
            "mixopt.problems.adaptive:ado",
            "mixopt.rules.ado:ADO.move",
            "mixopt.rules.ado:ADO.preference",
            "mixopt.laws.ado:as_in_code",
        ),
        use="mx.online(mx.problems.ado(domains))",
        aliases=("adaptive data optimization",),
    ),
    Card(
        name="by_score",
        title="A score of one's own",
        family="online",
        phases=(),
        needs=("training data",),
        cost="what the score measures",
        formula="w_i <- centre_i exp(rate score_i) / (the sum of these),  the centre being the last weights or the start",
        latex=r"w\leftarrow\operatorname{argmax}_{u\in\Delta}\;\langle s,u\rangle-\frac1\eta\,\mathrm{KL}(u\,\Vert\,\pi)",
        source="the template of section 4 of the survey",
        differences=("The score is an expression of losses, parameters and histories; constraints on the weights hold as in any problem.",),
        defined=("mixopt.problems.adaptive:by_score", "mixopt.problems.adaptive:_observed"),
        use="mx.online(mx.problems.by_score(domains, score))",
    ),
    Card(
        name="stages",
        title="Stages and curricula",
        family="online",
        phases=(),
        needs=(),
        cost="none",
        formula="w(t) = the weights of the last mark reached, or on the straight line to the next",
        latex=r"w(t)=w_s\;\;(t_s\le t<t_{s+1})\quad\text{or}\quad w(t)=\tfrac{t_{s+1}-t}{t_{s+1}-t_s}w_s+\tfrac{t-t_s}{t_{s+1}-t_s}w_{s+1}",
        source="Algorithm 2 of the survey with weights that are known beforehand",
        differences=("One mixture alone is the static schedule of the offline methods.",),
        defined=("mixopt.problems.adaptive:stages", "mixopt.rules.stages:Stages.at"),
        use="mx.online(mx.problems.stages(domains, rows, marks=marks))",
        aliases=("static", "curriculum"),
    ),
)
