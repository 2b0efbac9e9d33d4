"""ScaleBiO: Eq. 2 of the survey as a min-max game of losses, at the cost of three gradients a step."""

from __future__ import annotations

from typing import Literal

from mixopt.errors import InputError
from mixopt.language.domains import Domains
from mixopt.method import Method
from mixopt.solver import Solver

from .doge import validation_problem

Source = Literal["paper", "code", "survey"]


def scalebio(
    domains: Domains,
    targets: Domains | None = None,
    *,
    alpha: float = 10.0,
    rate: float = 1e-2,
    steps: int = 1000,
    stages: int = 1,
    layers: int | None = None,
    name: str = "val",
    faithful_to: Source = "code",
) -> Method:
    r"""min over w and theta, max over u, of l_val(theta) + alpha (w @ l(theta) - w @ l(u)), w = softmax(logits), all moved at once.

    Give the learner the source's optimizer, AdamW (rate 1e-5 for GPT-2 there), which theta and u take; the logits have AdamW of ``rate``.
    ``layers`` is LISA: 2 or 4 blocks trained at a time in the released scripts. The weights are the last softmax.

    "code": constant alpha (10 for GPT-2, 100 for Llama-3-8B and Yi-34B), all rates along a cosine, and AdamW's default decay of 0.01 on
    the logits, which pulls them to uniform. "paper": constant rates, and no decay on the logits. Of ``stages`` each doubles
    alpha and halves all rates. "survey": its section 3.2.2 has F2SA's penalty (S14): one-sided differences of penalty alpha, and projected
    weights in place of logits. Differences from the code: batches hold every domain, where the code divides each domain's weight by how
    often it is in the batch and drops those absent; no warm-up; model gradients are not clipped, unless the learner's optimizer does.

    Raises:
        InputError: ``faithful_to`` is not "paper", "code" or "survey"; layers or stages with "survey".

    Source: Pan et al. 2025, arXiv 2406.19976; code 2003pro/ScaleBiO and research4pan/scalebio.
    """
    from mixopt.solvers import ScaleBiO, ValueFunction

    if faithful_to not in ("paper", "code", "survey"):
        raise InputError(f"faithful_to is {faithful_to!r}; scalebio follows 'paper', 'code' or 'survey'")
    code = faithful_to == "code"
    solver: Solver = ScaleBiO(penalty=alpha, rate=rate, steps=steps, stages=stages, layers=layers, cosine=code, decay=0.01 if code else 0.0)
    if faithful_to == "survey":
        if layers is not None or stages != 1:
            raise InputError("layers and stages are of the paper and its code; leave them out with faithful_to='survey'")
        solver = ValueFunction(differences="one-sided", penalty=alpha, growth=0.0, rate=rate, outer_steps=steps)
    return Method(validation_problem(domains, targets, name=name), solver, "ScaleBiO")
