"""Cards of gradient balancing."""

from __future__ import annotations

from .card import Card

_STEP = r"\min_\theta\max_{w\in\Delta}\sum_i w_i\,(\ell_i(\theta)-\ell_i(\theta^{t}))"
_SIGN = "The survey's Eq. 6 has the index and the sign the wrong way round (misprint T15): as printed it minimises the best improvement."

BALANCING_CARDS = (
    Card(
        name="mgda",
        title="MGDA",
        family="gradient balancing",
        phases=(),
        needs=("training data", "gradients"),
        cost="k + 1 gradients a step of the target run",
        formula="min_theta max_{w in simplex} sum_i w_i (l_i(theta) - l_i(theta before)), step by step\n"
        "w = argmin |sum_i w_i grad l_i|^2,  theta <- theta - eta sum_i w_i grad l_i",
        latex=rf"\begin{{split}}&{_STEP}\\&w=\operatorname{{argmin}}_{{w\in\Delta}}\lVert\sum_i w_i\nabla\ell_i\rVert^2,\qquad"
        r"\theta\leftarrow\theta-\eta\sum_i w_i\nabla\ell_i\end{split}",
        source="Désidéri 2012; Sener and Koltun 2018, arXiv 1810.04650; Eq. 6 and section C.1.1 of the survey",
        differences=(
            _SIGN,
            "Sener and Koltun's code returns 0.999 and 0.001 at a corner and, from three tasks on, never counts its iterations; "
            "TorchJD stops after 100 steps of Frank-Wolfe. mixopt is exact.",
            "Repositories normalise gradients by their lengths, by losses or not at all; mixopt has no normalisation or that by lengths.",
            "It follows the shortest gradient: a domain that has nearly converged decides the step.",
        ),
        defined=("mixopt.problems.balancing:mgda", "mixopt.balancing.mgda:MGDA.direction", "mixopt.balancing.nearest:min_norm"),
        use="mx.solve(mx.problems.mgda(domains), learner)",
        aliases=("multiple gradient descent", "min-norm"),
    ),
    Card(
        name="cagrad",
        title="CAGrad",
        family="gradient balancing",
        phases=(),
        needs=("training data", "gradients"),
        cost="k + 1 gradients a step of the target run",
        formula="max over d of min_i <grad l_i, d>,  |d - g_0| <= c |g_0|,  g_0 the mean gradient\n"
        "d = g_0 + c |g_0| g_w / |g_w|,  w = argmin <g_w, g_0> + c |g_0| |g_w|",
        latex=r"\max_{\lVert d-g_0\rVert\le c\lVert g_0\rVert}\min_i\langle\nabla\ell_i,d\rangle:\quad "
        r"d=g_0+\frac{c\lVert g_0\rVert}{\lVert g_w\rVert}\,g_w,\quad "
        r"w=\operatorname{argmin}_{w\in\Delta}\langle g_w,g_0\rangle+c\lVert g_0\rVert\lVert g_w\rVert",
        source="Liu et al. 2021, arXiv 2110.14048, Algorithm 1; code Cranial-XIX/CAGrad; section C.1.1 of the survey",
        differences=(
            "The code divides d by 1 + c^2 and multiplies it by the number of tasks; faithful_to='paper' or 'code' chooses.",
            "The code's solver is off by about 2e-4; mixopt solves the inner problem to 1e-10.",
            "Where a mixture of the gradients is 0, mixopt and TorchJD make no step; the code adds 1e-4 to lengths and steps.",
            _SIGN,
        ),
        defined=("mixopt.problems.balancing:cagrad", "mixopt.balancing.cagrad:CAGrad.direction", "mixopt.balancing.cagrad:_inner"),
        use="mx.solve(mx.problems.cagrad(domains), learner)",
        aliases=("conflict-averse",),
    ),
    Card(
        name="pcgrad",
        title="PCGrad",
        family="gradient balancing",
        phases=(),
        needs=("training data", "gradients"),
        cost="k + 1 gradients a step of the target run",
        formula="g_i <- g_i - min(<g_i, g_j>, 0) / |g_j|^2 g_j  over all j other than i in turn,  d = sum_i g_i",
        latex=r"g_i\leftarrow g_i-\frac{\min(\langle g_i,g_j\rangle,0)}{\lVert g_j\rVert^2}\,g_j\quad(j\ne i),\qquad "
        r"d=\sum_i g_i",
        source="Yu et al. 2020, arXiv 2001.06782, Algorithm 1; code tianheyu927/PCGrad; section C.1.1 of the survey",
        differences=(
            "The paper draws an order of projections; the released code shuffles a copy and drops it, so that its order is fixed. "
            "faithful_to='paper' or 'code' chooses.",
            "It solves no problem over weights, though the survey has it among min-max methods; mixopt reports the mixture that has "
            "its direction.",
        ),
        defined=("mixopt.problems.balancing:pcgrad", "mixopt.balancing.pcgrad:PCGrad.projected"),
        use="mx.solve(mx.problems.pcgrad(domains), learner)",
        aliases=("gradient surgery",),
    ),
    Card(
        name="imtl_g",
        title="Impartial gradients (IMTL-G)",
        family="gradient balancing",
        phases=(),
        needs=("training data", "gradients"),
        cost="k + 1 gradients a step of the target run",
        formula="<d, grad l_i> / |grad l_i| equal for all i,  d = sum_i a_i grad l_i,  sum_i a_i = 1",
        latex=r"\frac{\langle d,g_i\rangle}{\lVert g_i\rVert}=\frac{\langle d,g_j\rangle}{\lVert g_j\rVert},\quad g_i=\nabla\ell_i,\quad "
        r"d=\sum_i\alpha_i\nabla\ell_i,\quad\sum_i\alpha_i=1",
        source="Liu et al. 2021, Towards impartial multi-task learning, ICLR 2021, Eq. 6; section C.1.1 of the survey",
        differences=(
            "The coefficients may be negative, and then no mixture has the direction, though the survey puts them on the simplex; mixopt "
            "follows them, reports the nearest mixture and says so.",
            "LibMTL's IMTL is IMTL-L inside IMTL-G; here they are two methods.",
        ),
        defined=("mixopt.problems.balancing:imtl_g", "mixopt.balancing.imtl:IMTLG.direction"),
        use="mx.solve(mx.problems.imtl_g(domains), learner)",
        aliases=("imtl",),
    ),
    Card(
        name="imtl_l",
        title="Impartial losses (IMTL-L)",
        family="gradient balancing",
        phases=(),
        needs=("training data",),
        cost="nothing",
        formula="min over theta and s of sum_i exp(s_i) l_i(theta) - s_i",
        latex=r"\min_{\theta,\,s}\;\sum_i e^{s_i}\,\ell_i(\theta)-s_i",
        source="Liu et al. 2021, ICLR 2021, section 3.2; code median-research-group/LibMTL",
        differences=(
            "The source trains the scales with the model's optimizer; mixopt by gradient steps of their own rate, or sets them to 1 / l_i.",
        ),
        defined=("mixopt.problems.balancing:imtl_l", "mixopt.balancing.imtl:IMTLL.direction"),
        use="mx.solve(mx.problems.imtl_l(domains), learner)",
    ),
    Card(
        name="famo",
        title="FAMO",
        family="gradient balancing",
        phases=(),
        needs=("training data",),
        cost="one more forward pass a step of the target run",
        formula="min_theta max_{w in simplex} sum_i w_i (log l_i(theta) - log l_i(theta before)), step by step\n"
        "theta <- theta - eta sum_i (w_i / l_i) grad l_i / sum_j (w_j / l_j),  w = softmax(xi)\n"
        "xi <- Adam step along J' (log l before - log l after) + gamma xi",
        latex=r"\begin{split}&\min_\theta\max_{w\in\Delta}\sum_i w_i\,(\log\ell_i(\theta)-\log\ell_i(\theta^{t})),\qquad "
        r"w=\operatorname{softmax}(\xi)\\"
        r"&\theta\leftarrow\theta-\eta\,\frac{\sum_i(w_i/\ell_i)\nabla\ell_i}{\sum_j w_j/\ell_j},\qquad "
        r"\xi\leftarrow\operatorname{Adam}\big(\xi,\;J^{\top}(\log\ell^{t}-\log\ell^{t+1})+\gamma\,\xi\big)\end{split}",
        source="Liu et al. 2023, arXiv 2306.03792, Algorithm 1; code Cranial-XIX/FAMO; section C.1.1 of the survey",
        differences=(
            "The decay gamma is 0.01 in the released class, 1e-5 in its benchmark class, and 1e-3 in the runs shipped, TorchJD and LibMTL. "
            "faithful_to='code' takes the first, 'paper' the last.",
            "The survey has relative differences for those of logarithms, and index and sign the wrong way round (misprint T16); "
            "faithful_to='survey' takes the differences, put right.",
            "One of the released scripts multiplies by the sum of w_j / l_j where the class divides; mixopt divides.",
            "The code's scalar loss may be 0 or negative where losses straddle 1; mixopt reports the payoff instead.",
        ),
        defined=("mixopt.problems.balancing:famo", "mixopt.balancing.famo:FAMO.direction", "mixopt.balancing.famo:FAMO.after"),
        use="mx.solve(mx.problems.famo(domains), learner)",
    ),
    Card(
        name="coba",
        title="CoBa",
        family="gradient balancing",
        phases=("SFT",),
        needs=("training data", "validation set"),
        cost="a forward pass on validation data a step of the target run",
        formula="w = softmax(k (DF RCS + (1 - DF) ACS)),  s_i the slope of validation loss i\n"
        "RCS_i ~ exp(k s_i / sum_j |s_j|),  ACS_i ~ exp(-n s_i(t) / sum_u |s_i(u)|)",
        latex=r"w=\operatorname{softmax}\big(k\,(\mathrm{DF}\cdot\mathrm{RCS}+(1-\mathrm{DF})\,\mathrm{ACS})\big),\quad "
        r"\mathrm{RCS}_i\propto e^{k s_i/\sum_j|s_j|},\quad\mathrm{ACS}_i\propto e^{-n s_i(t)/\sum_u|s_i(u)|}",
        source="Gong et al. 2024, arXiv 2410.06741, section 3; code codefuse-ai/MFTCoder; not in the survey",
        differences=(
            "In the code the absolute score looks at history - warmup + 1 slopes, not at history of them; "
            "faithful_to='paper' or 'code' chooses.",
            "The code fails where the history is shorter than the warm-up; mixopt refuses that.",
            "It is a rule for weights and no optimisation over them.",
        ),
        defined=("mixopt.problems.balancing:coba", "mixopt.balancing.coba:CoBa.weighed"),
        use="mx.solve(mx.problems.coba(domains), learner)",
    ),
    Card(
        name="mftcoder",
        title="MFTCoder",
        family="gradient balancing",
        phases=("SFT",),
        needs=("training data", "validation set"),
        cost="two forward passes on validation data a step of the target run",
        formula="FAMO by the losses of the validation sets\nas released: sum_i v_i l_i / sum_i v_i over the tasks in a batch, v_i = 1",
        latex=r"\min_\theta\max_{w\in\Delta}\sum_i w_i\,(\log\ell^{\mathrm{val}}_i(\theta)-\log\ell^{\mathrm{val}}_i(\theta^{t}))",
        source="Liu et al. 2023, arXiv 2311.02303; code codefuse-ai/MFTCoder; section 4.1 of the survey",
        differences=(
            "The survey says that MFTCoder is FAMO with validation losses; the public code has no FAMO, and weights tasks alike. "
            "faithful_to='survey' or 'code' chooses.",
            "The code has four normalisations of a batch: all tokens, sample means, and tasks by token or by sample means. "
            "mixopt's batches have as many tokens of every domain, so that all four are one; balancing.mftcoder_weights has them apart.",
        ),
        defined=("mixopt.problems.balancing:mftcoder", "mixopt.balancing.mftcoder:mftcoder_weights"),
        use="mx.solve(mx.problems.mftcoder(domains), learner)",
    ),
)
