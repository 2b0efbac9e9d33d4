"""Cards of the heuristics, which look at token counts alone."""

from __future__ import annotations

from .card import Card

_SURVEY = "Rethinking Data Mixture for Large Language Models, arXiv 2505.21598"

HEURISTIC_CARDS = (
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
