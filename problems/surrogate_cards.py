"""Cards of what is learnt from proxy runs without a formula of the mixture: regressors, blends, experts."""

from __future__ import annotations

from .card import Card

SURROGATE_CARDS = (
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
)
