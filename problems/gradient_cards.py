"""Cards of the online methods whose weights follow gradients or short probes."""

from __future__ import annotations

from .card import Card

GRADIENT_CARDS = (
    Card(
        name="online_doge",
        title="DoGE online",
        family="online",
        phases=("PT",),
        needs=("training data", "gradients"),
        cost="at each move 1 gradient and 1 forward-mode pass over a batch of every domain; no proxy run",
        formula="w_i <- w_i exp(eta <grad l_i, grad l_target> / mu) / (the sum of these), used at once",
        latex=r"w_i\leftarrow\frac{w_i\,\exp(\eta\,\langle\nabla\ell_i,\sum_j\nabla\ell_{\mathrm{val},j}\rangle/\mu)}"
        r"{\sum_m w_m\,\exp(\eta\,\langle\nabla\ell_m,\sum_j\nabla\ell_{\mathrm{val},j}\rangle/\mu)}",
        source="Fan, Pagliardini and Jaggi 2024, arXiv 2310.15393, Algorithm 1; code Olivia-fsm/DoGE; section 3.2.2 of the survey",
        differences=(
            "The source trains a proxy and returns the mean of its weights; here the weights of the moment train the model "
            "that is wanted, and "
            "schedule.mean is the other.",
            "The code divides the scores by the domains' mean gradient norm and clips them to [0, 5 eta]: faithful_to='code'. "
            "It also clips each "
            "domain's gradient before; in a schedule that is for who measures.",
            "The code's learning rate follows its schedule: tell it as learning_rate, or step_size holds throughout.",
            "A domain that a batch lacks keeps its last score, as in the code, whose old gradient stays.",
            "The code means to leave out a domain's product with itself, but its comparison never matches; rules.DoGE(own=False) does it.",
            "Paper, code and section 3.2.2 sum the targets' gradients; Eq. 2 of the survey, and mixopt without faithful_to, average them.",
        ),
        defined=("mixopt.problems.by_gradients:online_doge", "mixopt.rules.doge:DoGE.move"),
        use="mx.online(mx.problems.online_doge(domains))",
    ),
    Card(
        name="r_and_b",
        title="R&B (balancing)",
        family="online",
        phases=("PT", "SFT"),
        needs=("training data", "gradients"),
        cost="last-layer gradients of the training batches: 0.01 % more in the source",
        formula="w = softmax(rate G p / |G p|),  G_ij = <grad l_i, grad l_j>,  p the shares of the evaluation",
        latex=r"w=\operatorname{softmax}\Big(\lambda\,\frac{G\,p}{\lVert G\,p\rVert_2}\Big)="
        r"\operatorname{argmax}_{w\in\Delta}\;\lambda\,\frac{\langle w,G\,p\rangle}{\lVert G\,p\rVert_2}+H(w)",
        source="Ge et al. 2025, arXiv 2505.00358; not in the survey, and no code was released",
        differences=(
            "The source sums last-layer gradients between two moves and then takes their products. mixopt averages the "
            "products that are told, "
            "or G p itself, whose one forward-mode pass does not grow with the number of domains; summed sketches give the source's.",
            "Regrouping, the other half of R&B, clusters texts by embeddings before training; mixopt takes domains as they are.",
            "rate is tuned by the source for each set of data; mixopt's default of 1 is no recommendation.",
        ),
        defined=("mixopt.problems.by_gradients:r_and_b", "mixopt.rules.r_and_b:RAndB.move"),
        use="mx.online(mx.problems.r_and_b(domains))",
        aliases=("rnb", "regroup and balance"),
    ),
    Card(
        name="grape",
        title="GRAPE",
        family="online",
        phases=("PT",),
        needs=("training data", "validation set", "gradients"),
        cost="at each move the gradients of k domains and n tasks; 15 % more in the source at k = 7, n = 6, every 100 steps",
        formula="z_n <- z_n exp(-task_rate sum_i w_i R_in) / (the sum of these),  R_in = <grad l_i, grad l_n> / l_n\n"
        "w_i <- w_i exp(rate sum_n z_n R_in) / (the sum of these)",
        latex=r"\max_{w\in\Delta}\min_{z\in\Delta}\sum_{i,n}w_i\,z_n\,\langle\nabla\ell_i,\nabla\log\ell_n\rangle,\qquad "
        r"w_i\leftarrow w_i\,e^{\gamma\mu_w\sum_n z_n R_{in}},\quad z_n\leftarrow z_n\,e^{-\gamma\mu_z\sum_i w_i R_{in}}",
        source="Fan, Glarou and Jaggi 2025, arXiv 2505.20380; code Olivia-fsm/GRAPE_data_mixture_with_multi_target; not in the survey",
        differences=(
            "The paper's steps hold the learning rate; the code leaves it out, as here, so that rate and task_rate are its "
            "mu_train and mu_tgt.",
            "The code mixes 0.001 of the uniform ones into the tasks' weights: faithful_to='code', or 'paper' without.",
            "The code estimates sum_n z_n R_in by one batch drawn by z, and sum_i w_i R_in by one drawn by w; mixopt takes the sums.",
            "The code moves the tasks first, at every 100th step, and the domains at every 10th; so do every and task_every here.",
            "Variants of the code with smoothed losses or differences of losses in place of gradients are not here.",
        ),
        defined=("mixopt.problems.by_gradients:grape", "mixopt.rules.grape:GRAPE.move"),
        use='mx.online(mx.problems.grape(domains, mx.Domains(["science", "law"])))',
    ),
    Card(
        name="pike",
        title="PiKE",
        family="online",
        phases=("PT",),
        needs=("training data", "gradients"),
        cost="at each move 2 gradients of half a batch of every domain",
        formula="w_i <- w_i exp(gain |grad L_i|^2 - damping s_i^2 / 2b) / (the sum of these)\n"
        "or exactly: w = argmin over the simplex of sum_i w_i a_i + w_i^2 c_i / 2,\n"
        "a_i = -gain |grad L_i|^2 + damping s_i^2 / 2b,  c_i = curvature |grad L_i|^2",
        latex=r"w_i\leftarrow\frac{w_i\,\exp\big(\zeta_1\lVert\nabla L_i\rVert^2-\zeta_2\,\sigma_i^2/2b\big)}"
        r"{\sum_j w_j\,\exp\big(\zeta_1\lVert\nabla L_j\rVert^2-\zeta_2\,\sigma_j^2/2b\big)}",
        source="Li et al. 2025, arXiv 2502.06244; not in the survey, and no code was released",
        differences=(
            "The balanced variant, by tilted losses, is not here.",
            "How the source estimates the variance is not known; mixopt takes the two halves of a batch, without bias, and an estimated "
            "square below 0 counts as 0.",
            "With a learner of mixopt's the square is that of a batch's gradient, longer by the noise, and the noise term is left out.",
            "The weights accumulate and go to one domain where lengths differ for long; the schedule warns of it.",
        ),
        defined=("mixopt.problems.by_gradients:pike", "mixopt.rules.pike:PiKE.move", "mixopt.rules.pike:least"),
        use="mx.online(mx.problems.pike(domains))",
    ),
    Card(
        name="aioli",
        title="Aioli",
        family="online",
        phases=("PT", "SFT"),
        needs=("training data", "validation set"),
        cost="an evaluation at each probe; 13 to 70 % of the training goes into probes in the released scripts",
        formula="l_j falls by sum_i A_ji w_i in a probe: solved for A from probes on each domain in turn\n"
        "w_i <- w_i exp(rate sum_j A_ji) / (the sum of these)\n"
        "code: A - min(0, its least entry), over the sum of its entries, averaged over rounds; from uniform",
        latex=r"\ell_j^{t+1}=\ell_j^{t}-\sum_i A_{ji}\,w_i,\qquad w_i\leftarrow\frac{w_i\,\exp(\eta\sum_j A_{ji})}{\sum_m "
        r"w_m\,\exp(\eta\sum_j A_{jm})}",
        source="Chen et al. 2024, arXiv 2411.05735, Algorithm 1; code HazyResearch/aioli, trainer/aioli_trainer.py; Table 4 of the survey",
        differences=(
            "The code shifts A to be >= 0 and divides it by its sum, and every released script averages it over the rounds and steps from "
            "uniform each time: faithful_to='code'. Paper and survey step from the last weights by A as it is.",
            "rules.Aioli(normalise=True, decay=None) is the code without its mean.",
            "The survey has A transposed and its sign right (T19).",
            "The code's default factor of 1 probes on one domain alone, and its README advises less; mixopt's default is 0.75, a script's.",
            "The code divides its normalised matrix in place, so that what it saves is not what it learnt; mixopt's memory "
            "has the one used.",
            "mixopt solves with the probes as constraints left them.",
        ),
        defined=("mixopt.problems.by_gradients:aioli", "mixopt.rules.aioli:Aioli.learnt", "mixopt.rules.aioli:Aioli._stepped"),
        use="mx.online(mx.problems.aioli(domains), every=5)",
    ),
    Card(
        name="dograph",
        title="DoGraph (reconstructed)",
        family="online",
        phases=("PT",),
        needs=("training data", "gradients"),
        cost="at each refresh a last-layer gradient of every example of a sample, and a small program",
        formula="clusters i of examples by their gradients: shares n_i, losses l_i, G_ij = <mean gradient i, mean gradient j>\n"
        "constraint: max over w of min_i (G w)_i / l_i - t KL(w || n),  |w_i / n_i - w_j / n_j| <= slack + slope (1 - s_ij)\n"
        "penalty: max over w of w . G n / |G n| - smoothness / 2 sum_ij n_i n_j s_ij (w_i / n_i - w_j / n_j)^2 - t KL(w || last)\n"
        "domain h gets sum_i w_i P(h | i)",
        latex=r"\max_{w\in\Delta}\;\min_i\frac{(G\,w)_i}{\ell_i}-t\,\mathrm{KL}(w\,\Vert\,n),\qquad "
        r"\Big|\frac{w_i}{n_i}-\frac{w_j}{n_j}\Big|\le\varepsilon+c\,(1-s_{ij}),\qquad v_h=\sum_i w_i\,P(h\mid i)",
        source="After Xu et al. 2026, arXiv 2604.07963 (ACL 2026); not in the survey, and its code was not seen",
        differences=(
            "This is a reconstruction. Known of the source: examples are clustered by projected gradients (K-means), the weights of these "
            "domains are optimised to balance progress under a graph, and this is done again during training.",
            "Not known: what an edge is, whether the graph is a constraint or a penalty, the score of progress, the number of "
            "clusters, the "
            "size of the projection, and how often it is refreshed. Both readings are here, form='constraint' and 'penalty'.",
            "The sketches are of last-layer gradients by one sparse map; the source names a random projection.",
            "The program does not know the shares of the last clusters; the penalty form carries the domains' weights over to "
            "the new ones.",
        ),
        defined=(
            "mixopt.problems.dograph:dograph",
            "mixopt.problems.dograph:dograph_c",
            "mixopt.problems.dograph:dograph_p",
            "mixopt.problems.dograph:similarity",
        ),
        use="mx.online(mx.problems.dograph(domains, clusters=8))",
    ),
    Card(
        name="chameleon",
        title="Chameleon",
        family="heuristic",
        phases=("PT", "SFT"),
        needs=("training data",),
        cost="1 proxy run at uniform weights and a forward pass; new domains cost a forward pass each",
        formula="S_i = [K (K + ridge k I)^-1]_ii,  K the centred inner products of the domains' mean embeddings\n"
        "w = softmax(1 / (T S)) for pre-training, softmax(S / T) for fine-tuning",
        latex=r"S_i=\big[K(K+\lambda k I)^{-1}\big]_{ii},\qquad w=\operatorname{softmax}\Big(\frac{1}{T\,S}\Big)"
        r"\;\text{or}\;\operatorname{softmax}\Big(\frac{S}{T}\Big)",
        source="Xie, Tonin and Cevher 2025, arXiv 2505.24844; code LIONS-EPFL/Chameleon; not in the survey",
        differences=(
            "The code divides S by its sum before it inverts it, and has temperatures of 5 and 0.2: faithful_to='code'. The "
            "paper has neither.",
            "The code drops texts whose embeddings are equal, and draws as many of each domain; what is averaged is the caller's here.",
            "No gradient is in it; it is here among the methods that look into the model.",
        ),
        defined=("mixopt.problems.chameleon:chameleon", "mixopt.problems.chameleon:_leverage"),
        use="mx.problems.chameleon(domains, embeddings)",
    ),
)
