"""Cards of the methods that fit a law to proxy runs and optimise it."""

from __future__ import annotations

from .card import Card

LAW_CARDS = (
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
    Card(
        name="dml",
        title="Data mixing laws",
        family="mixing law",
        phases=("PT", "CPT"),
        needs=("proxy runs",),
        cost="20 to 40 small runs, then milliseconds",
        formula="min_{w in simplex} sum_j v_j (c_j + exp(sum_i A_ji w_i)),  v the shares of the target's text",
        latex=r"\min_{w\in\Delta}\sum_j v_j\Big(c_j+\exp\Big(\sum_i A_{ji}\,w_i\Big)\Big)",
        source="Ye et al. 2024, arXiv 2403.16952, Eq. 7; code yegcjs/mixinglaws; Table 2 of the survey",
        differences=(
            "The code predicts by AdaBoost over laws whose shares v are learnt too, which is not convex, and takes the best point of a "
            "halving grid under caps; mixopt takes v as given and solves the convex program.",
            "The code carries losses of small models and short runs to the target by power laws in steps and in size first; "
            "laws.Chinchilla is of that shape.",
            "The factor before exp is left out, for it is not told apart from the slopes on the simplex.",
        ),
        defined=("mixopt.problems.dml:dml", "mixopt.laws.exponential:ExponentialCurve.expression"),
        use="mx.solve(mx.problems.dml(runs))",
        aliases=("ye",),
    ),
    Card(
        name="olmix",
        title="Olmix",
        family="mixing law",
        phases=("PT",),
        needs=("proxy runs", "token counts"),
        cost="3 (k + 1) runs of 15M parameters or more, then milliseconds",
        formula="min_{w in simplex} sum_j v_j (c_j + exp(sum_i A_ji w_i)) + lambda KL(w || natural),  w_i <= r N_i / R\n"
        "mixture reuse: w_F = rho p_F for the domains F that stay",
        latex=r"\min_{w\in\Delta}\sum_j v_j\Big(c_j+\exp\Big(\sum_i A_{ji}\,w_i\Big)\Big)+\lambda\,\mathrm{KL}(w\,\Vert\,w_{\mathrm{nat}}),"
        r"\qquad w_i\le\frac{r\,N_i}{R},\qquad w_F=\rho\,p_F",
        source="Chen et al. 2026, arXiv 2602.12237; code allenai/olmix",
        differences=(
            "The code fits by 300 starts of L-BFGS on Huber of width 0.02; mixopt by projected starts, and squares by default "
            "(laws.Exponential.olmix for Huber).",
            "The code leaves c out of the objective, which moves no optimum; the values that mixopt reports have it.",
            "Target weights are 1/m when they are left out and raw when they are given, there and here, so that lambda has two meanings.",
            "The default lambda is 0.05 in the function, 0.1 in the docs' example, and none in the YAML, which fails.",
            "For reuse the code puts one domain in the place of all that stay; merged and unmerged do that here, and reuse is the same as "
            "a constraint on all domains.",
        ),
        defined=(
            "mixopt.problems.olmix:olmix",
            "mixopt.problems.reuse:reuse",
            "mixopt.problems.reuse:merged",
            "mixopt.problems.reuse:unmerged",
        ),
        use="mx.solve(mx.problems.olmix(runs, tokens, budget=1e12))",
        aliases=("log-linear", "mixture reuse"),
    ),
    Card(
        name="online_law",
        title="Online mixing law",
        family="mixing law",
        phases=("PT", "CPT", "SFT"),
        needs=("proxy runs", "validation set"),
        cost="k short runs from the model's state, or more; then milliseconds",
        formula="L_j(w) = c_j + b_j sigma(-sum_i A_ij w_i) after one round, sigma the identity or exp\n"
        "w_i <- w_i exp(zeta sum_j b_j sigma' A_ij) / (the sum of these)",
        latex=r"L_j^{t+1}(w)=c_j+b_j\,\sigma\Big(-\sum_i A_{ij}w_i\Big),\quad\sigma\in\{\mathrm{id},\exp\},\qquad "
        r"w_i\leftarrow\frac{w_i\,e^{\zeta\sum_j b_j\sigma'A_{ij}}}{\sum_l w_l\,e^{\zeta\sum_j b_j\sigma'A_{lj}}}",
        source="Section 4.2 of the survey; Chen et al. 2023, arXiv 2307.14430 (Skill-It); Chen et al. 2024, arXiv 2411.05735 (Aioli)",
        differences=(
            "The survey leaves c and b open. Under the identity mixopt takes c = b = the losses now (Skill-It) or b = 1 (Aioli); under exp "
            "the c are fitted floors and b = the losses now less c. Without losses it is the static law of one round.",
            "The survey prints -A here and +A in the static laws of its Table 2 (misprint T17); A > 0 is a benefit here.",
            "The survey writes the law's inner weight w^t inside a law declared in w (misprint T19).",
        ),
        defined=(
            "mixopt.problems.adaptive:online_law",
            "mixopt.laws.online:Online.fit",
            "mixopt.laws.online:OnlineCurve.value",
            "mixopt.laws.online:score_of",
        ),
        use="mx.online(mx.problems.online_law(domains, law))",
    ),
    Card(
        name="bimix",
        title="BiMix",
        family="mixing law",
        phases=("PT",),
        needs=("proxy runs",),
        cost="4 mixtures, evaluated while they train, then milliseconds",
        formula="L_i(w_i, s) = (A_i / w_i^alpha_i) (B_i / s^beta_i + C_i),  s the training steps\nmin_{w in simplex} sum_i L_i(w_i, s)",
        latex=r"\min_{w\in\Delta}\sum_i\frac{A_i}{w_i^{\alpha_i}}\Big(\frac{B_i}{s^{\beta_i}}+C_i\Big)",
        source="Ge et al. 2024, arXiv 2405.14908v4, Eq. 3; Table 2 of the survey",
        differences=(
            "The source counts five parameters a domain; A is a factor of B and C, and mixopt leaves it out.",
            "The source names neither the loss of the fit nor starts and bounds; mixopt takes least squares from a projected start, all "
            "parameters >= 0.",
            "Each target belongs to one domain; Olmix's regressor of this name, sum_i F_i w_i^-alpha_i, is another law.",
        ),
        defined=("mixopt.problems.bimix:bimix", "mixopt.laws.bimix:BiMixCurve.value", "mixopt.laws.bimix:BiMix.fit"),
        use="mx.solve(mx.problems.bimix(runs, steps=50_000))",
    ),
    Card(
        name="autoscale",
        title="AutoScale",
        family="mixing law",
        phases=("PT",),
        needs=("proxy runs",),
        cost="2k + 1 proxy runs at each of two scales, then milliseconds",
        formula="min_{n >= 0, sum_i n_i = N} sum_i (a_i + n_i)^-b_i + l_i,  n_i tokens of domain i\n"
        "N3_i = N2_i^2 / N1_i for the amounts that are best at the next scale",
        latex=r"\min_{n\ge 0,\,\sum_i n_i=N}\;\sum_i(a_i+n_i)^{-b_i}+\ell_i,\qquad N^{(3)}_i=\frac{(N^{(2)}_i)^2}{N^{(1)}_i}",
        source="Kang et al. 2024, arXiv 2407.20177; code feiyang-k/AutoScale; Table 2 of the survey, reading T03",
        differences=(
            "The survey prints (D_0^gamma + w_j D)^-gamma_j for each validation domain; the source's N_0 is a number a domain, and its "
            "metric is the perplexity averaged over the domains, relative to the base run.",
            "The text reduces a domain to a third of its amount and the code to a fifth; autoscale_runs takes faithful_to.",
            "The code's third number of each curve, l, follows from the others where the three runs are met exactly; mixopt joins the "
            "curves in the base run, so that the law predicts any amounts.",
            "The code steps along the gradient less its mean, pins a domain that turns negative at 0.2 and runs again; mixopt solves the "
            "program, with a floor if one is given.",
            "What comes out at the third scale is its budget too; it cannot be asked for.",
        ),
        defined=(
            "mixopt.problems.autoscale:autoscale",
            "mixopt.problems.autoscale:autoscale_runs",
            "mixopt.problems.autoscale:next_scale",
            "mixopt.laws.autoscale:AutoScaleCurve.value",
            "mixopt.laws.autoscale:AutoScale.fit",
        ),
        use="mx.solve(mx.problems.autoscale(runs, tokens=1.2e9))",
        aliases=("ddo",),
    ),
    Card(
        name="dcpt",
        title="D-CPT law",
        family="mixing law",
        phases=("CPT",),
        needs=("proxy runs",),
        cost="about 9 ratios at two or three sizes, a point each thousand steps",
        formula="L(r, N, D) = E + A / N^alpha + B r^eta / D^beta + C / (r + epsilon)^gamma,  r the share of the loss's own domain\n"
        "min_r L_domain(r) such that (L_general(1 - r) - base) / base <= T",
        latex=r"L(r,N,D)=E+\frac{A}{N^{\alpha}}+\frac{B\,r^{\eta}}{D^{\beta}}+\frac{C}{(r+\epsilon)^{\gamma}},\qquad "
        r"\min_r L_{\mathrm{domain}}(r)\ \text{ s.t. }\ \frac{L_{\mathrm{general}}(1-r)-L^0}{L^0}\le T",
        source="Que et al. 2024, arXiv 2406.01375; Eq. 5 and section B.3.1 of the survey, readings T07 and T08",
        differences=(
            "The survey prints the last term as C / w', without gamma and epsilon, and the ratio as < T.",
            "The source leaves eta free; mixopt keeps eta >= 1, without which neither is the law convex in r nor does its loss fall from "
            "r = 0 on (convex=False leaves it free).",
            "The source minimises Huber by L-BFGS from a grid of starts that is not published; mixopt projects the linear numbers out.",
            "The source's law across domains, with a term F / K^mu, is not there.",
        ),
        defined=("mixopt.problems.dcpt:dcpt", "mixopt.laws.dcpt:DCPTCurve.expression", "mixopt.laws.dcpt:DCPT.fit"),
        use='mx.solve(mx.problems.dcpt(runs, domain="code", general="web", base=2.2, params=7e9, tokens=1e11))',
    ),
    Card(
        name="apple",
        title="Apple's scaling laws for mixtures",
        family="mixing law",
        phases=("PT",),
        needs=("proxy runs",),
        cost="10 to 20 mixtures at a few sizes, then seconds",
        formula="L(w, N, D) = E + 1 / sum_i C_i w_i^gamma_i + A / N^alpha + B / D^beta  (additive)\n"
        "A = (sum_i CA_i w_i)^gamma_A, B = (sum_i CB_i w_i)^gamma_B  (joint)",
        latex=r"L(w,N,D)=E+\frac{1}{\sum_i C_i\,w_i^{\gamma_i}}+\frac{A}{N^{\alpha}}+\frac{B}{D^{\beta}},\qquad "
        r"A=\Big(\sum_i C^A_i w_i\Big)^{\gamma_A},\quad B=\Big(\sum_i C^B_i w_i\Big)^{\gamma_B}",
        source="Shukor et al. 2025, arXiv 2507.09404; code apple/ml-scalefit",
        differences=(
            "The source fits Huber of width 1e-3 from random starts by hopping between basins; mixopt projects twice and carries the "
            "best four of 512 starts to their ends.",
            "mixopt keeps gamma_i <= 1, and gamma_A, gamma_B >= 1 or < 0, so that the law is convex (convex=False leaves them free).",
            "The source finds the mixture by mirror descent, as mixopt does, with a proof that it is the optimum.",
        ),
        defined=(
            "mixopt.problems.apple:apple",
            "mixopt.laws.apple:AppleCurve.value",
            "mixopt.laws.apple:AppleAdditive.fit",
            "mixopt.laws.apple:AppleJoint.fit",
        ),
        use="mx.solve(mx.problems.apple(runs, params=7e9, tokens=1e12))",
        aliases=("scalefit",),
    ),
    Card(
        name="additive-power",
        title="Additive power law",
        family="mixing law",
        phases=("PT",),
        needs=("proxy runs",),
        cost="3 (k + 2) proxy runs or more, then milliseconds",
        formula="L_j(w) = E_j + (sum_i C_ji w_i)^-g_j, fitted to runs\nmin_{w in simplex} g(L_1(w), ..., L_m(w)) under constraints",
        latex=r"L_j(w)=E_j+\Big(\sum_i C_{ji}\,w_i\Big)^{-g_j},\qquad \min_{w\in\Delta}g(L_1(w),\dots,L_m(w))",
        source="Shukor et al. 2025, arXiv 2507.09404, the mixture's part of Eq. 3 with one exponent for the sum; not in the survey",
        differences=("The source has an exponent for each domain, and terms of N and D: laws.AppleAdditive is that law.",),
        defined=("mixopt.laws.power:AdditivePowerCurve.expression", "mixopt.laws.power:AdditivePower.fit"),
        use="mx.solve(mx.minimize(mx.mean(mx.laws.AdditivePower.fit(runs)(w)), over=w))",
    ),
    Card(
        name="linear",
        title="Linear law",
        family="mixing law",
        phases=("PT",),
        needs=("proxy runs",),
        cost="k + 1 proxy runs or more, then milliseconds",
        formula="L_j(w) = sum_i A_ji w_i, fitted to runs by least squares with a ridge\nmin_{w in simplex} L_j(w) under caps",
        latex=r"L_j(w)=\sum_i A_{ji}\,w_i,\qquad \min_{w\in\Delta}L_j(w)",
        source="Liu et al. 2024, arXiv 2407.01492 (RegMix, linear); Table 2 of the survey, reading T06",
        differences=(
            "The source adds a constant, which is the same as one number added to every slope where weights sum to 1.",
            "Its optimum is a corner unless caps or a KL term hold it; the source looks for it among random mixtures.",
        ),
        defined=("mixopt.laws.linear:Linear.fit",),
        use="mx.laws.Linear.fit(runs)",
        aliases=("ridge",),
    ),
    Card(
        name="formula",
        title="A law of one's own",
        family="mixing law",
        phases=(),
        needs=("proxy runs",),
        cost="more runs than parameters, then seconds",
        formula="any formula of the weights w, N, D and s, all other names being parameters: c + b*exp(A @ w) / D^beta",
        latex=r"L_j(w,N,D,s)=f(w,N,D,s;\theta_j)",
        source="Eq. 3 of the survey: f_j fitted to pairs of weights and losses",
        differences=("No source: the parameters are found in the text, and fitted from random starts where none are told.",),
        defined=("mixopt.laws.formula:Formula.fit",),
        use='mx.laws.Formula.fit(runs, "c + b*exp(A @ w)")',
        aliases=("own law",),
    ),
    Card(
        name="chinchilla",
        title="Scale law",
        family="mixing law",
        phases=("PT",),
        needs=("proxy runs",),
        cost="6 runs or more at one mixture",
        formula="L(N, D) = E + A / N^alpha + B / D^beta",
        latex=r"L(N,D)=E+\frac{A}{N^{\alpha}}+\frac{B}{D^{\beta}}",
        source="Hoffmann et al. 2022, arXiv 2203.15556; Xia et al. 2024, arXiv 2310.06694 (reference losses of Sheared LLaMA)",
        differences=(
            "It knows no mixture: it predicts reference losses at the mixture of its runs.",
            "The source minimises Huber of width 1e-3 on log losses from a grid of starts; mixopt squares of losses by default, the "
            "linear numbers projected out.",
        ),
        defined=("mixopt.laws.scaling:ScaleCurve.value", "mixopt.laws.scaling:Chinchilla.fit"),
        use="mx.laws.Chinchilla.fit(runs)",
        aliases=("reference losses",),
    ),
    Card(
        name="ado_law",
        title="ADO's law",
        family="mixing law",
        phases=("PT",),
        needs=("training data",),
        cost="none beyond the run whose curves it fits",
        formula="L_i(n) = epsilon_i + beta_i n^-alpha_i,  n the tokens that the run has seen in all",
        latex=r"L_i(n)=\varepsilon_i+\beta_i\,n^{-\alpha_i}",
        source="Jiang et al. 2024, arXiv 2410.11820; code yidingjiang/ado; section C.2.2 of the survey",
        differences=(
            "n is the samples of all domains in the code (its default), where the survey may be read as those of domain i.",
            "The code fits Huber of width 1e-3 on log losses with penalties that keep epsilon above exp(0.5) nats: faithful_to='code'.",
            "The policy that turns slopes into weights while a run goes on is problems.ado.",
        ),
        defined=("mixopt.laws.ado:ADO.fit", "mixopt.laws.ado:ADO.slopes"),
        use="mx.laws.ADO.fit(checkpoints)",
    ),
)
