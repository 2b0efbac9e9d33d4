"""Cards of the min-max methods."""

from __future__ import annotations

from .card import Card

SADDLE_CARDS = (
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
    Card(
        name="group_dro",
        title="Group DRO (worst domain)",
        family="min-max",
        phases=(),
        needs=("training data", "gradients"),
        cost="none: the weights move in the target run",
        formula="min_theta max_{w in simplex} sum_i w_i (l_i(theta) + C / sqrt(n_i))\n"
        "w_i <- w_i exp(eta (l_i + C / sqrt(n_i))) / (the sum of these)",
        latex=r"\min_\theta\max_{w\in\Delta}\sum_i w_i\Big(\ell_i(\theta)+\frac{C}{\sqrt{n_i}}\Big),\qquad "
        r"w_i\leftarrow\frac{w_i\,e^{\eta(\ell_i+C/\sqrt{n_i})}}{\sum_j w_j\,e^{\eta(\ell_j+C/\sqrt{n_j})}}",
        source="Sagawa et al. 2020, arXiv 1911.08731, Algorithm 1 and section 3.3; code kohpangwei/group_DRO",
        differences=(
            "A group that a batch lacks has loss 0 in the code, so that it loses weight; mixopt's batches hold every domain, and a learner "
            "whose batches do not has the solver's absent='zero', 'carry', 'last loss' or 'batch mean'.",
            "The code applies the adjustment only where it is positive for all groups, and prints a robust loss with it inside, as here.",
            "The code can divide each loss by the sum of all; mixopt does not.",
            "Losses here are means over tokens; in the source over examples.",
        ),
        defined=("mixopt.problems.online:group_dro",),
        use="mx.solve(mx.problems.group_dro(domains), learner)",
    ),
    Card(
        name="online_doremi",
        title="DoReMi online",
        family="min-max",
        phases=("PT",),
        needs=("training data", "reference model", "gradients"),
        cost="1 reference run; the weights move in the target run",
        formula="w_i <- w_i exp(zeta max(l_i(theta) - l_i(reference), 0)) / (the sum of these), used at once",
        latex=r"w_i\leftarrow\frac{w_i\,e^{\zeta\max(\ell_i(\theta)-\ell_i(\mathrm{ref}),0)}}{\sum_j w_j\,"
        r"e^{\zeta\max(\ell_j(\theta)-\ell_j(\mathrm{ref}),0)}}",
        source="Section C.1.2 and Table 3 of the survey; Xie et al. 2023, arXiv 2305.10429",
        differences=(
            "No code was released. faithful_to='paper' clips per token and smooths by 1e-3, as DoReMi does; 'survey' clips per domain and "
            "does not smooth, as its Table 3 prints.",
            "The survey's section C.1.2 leaves the clip out (misprint T10).",
        ),
        defined=("mixopt.problems.online:online_doremi", "mixopt.problems.doremi:payoff_of"),
        use='mx.solve(mx.problems.online_doremi(domains), learner, given={"reference": parameters})',
    ),
    Card(
        name="sheared_llama",
        title="Sheared LLaMA batch loading",
        family="min-max",
        phases=("PT", "CPT"),
        needs=("training data", "validation set", "reference model"),
        cost="an evaluation every 50 to 400 steps; the weights move in the target run",
        formula="w_i <- (1 - c) w_i exp(eta (l_i - target_i)) / (the sum of these) + c/k,  at every m-th step",
        latex=r"w_i\leftarrow(1-c)\,\frac{w_i\,e^{\eta(\ell_i-\ell_i^{\mathrm{target}})}}"
        r"{\sum_j w_j\,e^{\eta(\ell_j-\ell_j^{\mathrm{target}})}}+\frac{c}{k}",
        source="Xia et al. 2024, arXiv 2310.06694, Algorithm 1; code princeton-nlp/LLM-Shearing; section C.1.2 of the survey",
        differences=(
            "The paper, and the survey's Table 3, clip the gap at zero; the code does not, so that a domain below its target loses weight. "
            "faithful_to='paper', 'code' or 'survey' chooses.",
            "The code smooths by c = 1e-4; paper and survey do not.",
            "The survey's section C.1.2 leaves the clip out (misprint T11).",
            "The code evaluates every 50 batches while it prunes and every 400 afterwards: every=50 or 400.",
            "The code's mode 'bandit' takes a softmax of w + gap, without a logarithm, and forgets nearly all; mixopt has no such mode.",
            "The source fits its targets on exactly three sizes, which three parameters meet; laws.Chinchilla fits any number of runs.",
        ),
        defined=("mixopt.problems.online:sheared_llama", "mixopt.problems.online:_online"),
        use="mx.solve(mx.problems.sheared_llama(domains, targets), learner)",
        aliases=("dynamic batch loading",),
    ),
    Card(
        name="velocitune",
        title="Velocitune",
        family="min-max",
        phases=("CPT",),
        needs=("training data", "validation set", "proxy runs"),
        cost="a proxy run on a part of the data for the targets; the weights move in the target run",
        formula="w_i <- w_i exp(eta V_i) / (the sum of these)\nV_i = clip((l_i - target_i) / (first_i - target_i), 0, 1)",
        latex=r"w_i\leftarrow\frac{w_i\,e^{\eta V_i}}{\sum_j w_j\,e^{\eta V_j}},\qquad "
        r"V_i=\operatorname{clip}\Big(\frac{\ell_i-\ell_i^{\mathrm{target}}}{\ell_i^{\mathrm{first}}-\ell_i^{\mathrm{target}}},0,1\Big)",
        source="Luo et al. 2025, arXiv 2411.14318; Table 3 of the survey",
        differences=(
            "No code was released. The clamp is that of the survey's Table 3; its section C.1.2 has none (misprint T12).",
            "V is called a velocity, and is the share of the way that is left: a slow domain has a large one and gains weight.",
            "A first loss at or below its target would turn the sign of V; mixopt refuses the numbers. Where the first losses are measured "
            "in the run, such a domain has V = 0 unless its loss rises above the target.",
        ),
        defined=("mixopt.problems.online:velocitune", "mixopt.problems.online:_online"),
        use="mx.solve(mx.problems.velocitune(domains, targets, first), learner)",
    ),
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
)
