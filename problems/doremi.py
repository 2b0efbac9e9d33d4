"""DoReMi: the mixture under which the excess loss over a reference model is worst."""

from __future__ import annotations

from typing import Literal

from mixopt.errors import InputError
from mixopt.language.atoms import pos
from mixopt.language.domains import Domains
from mixopt.language.problem import maximize, minimize
from mixopt.language.symbols import Mixture, domain_mean, model, surrogate, tokens
from mixopt.method import Method

Source = Literal["paper", "code"]


def doremi(domains: Domains, *, rate: float = 1.0, smoothing: float = 1e-3, steps: int = 1000, faithful_to: Source = "paper") -> Method:
    r"""min_theta max_{w in simplex} sum_i w_i (l_i(theta) - l_i(reference)), Eq. 1 of the survey.

    The weights ascend the excess clipped at zero *per token*; the model descends the plain loss (the reference is a
    constant to it). Give the reference model's parameters at run time, ``given={"reference": parameters}``: it is
    evaluated on the same batches. The learner must provide token losses (``TorchLearner``).

    "paper": the result is the mean of w_1 ... w_T. "code": the released code counts the uniform start w_0 in the mean.
    Both take the default step 1 and smoothing 1e-3 of the Pile runs. Differences from the released code in either mode:
    batches here hold every domain, so its carried score of an absent domain does not arise, and the model's loss is the
    paper's weighted mean of domain means, not the code's mean over weighted tokens; with batches of equal token counts a
    domain, as here, the two are equal.

    Raises:
        InputError: ``faithful_to`` is neither "paper" nor "code".

    Source: Xie et al. 2023, arXiv 2305.10429, Algorithm 1; code sangmichaelxie/doremi.
    """
    from mixopt.solvers import DescentAscent

    if faithful_to not in ("paper", "code"):
        raise InputError(f"faithful_to is {faithful_to!r}; doremi follows 'paper' or 'code'")
    w, theta = Mixture(domains), model()
    excess = tokens(theta) - tokens(model("reference"))
    payoff = surrogate(domain_mean(pos(excess), domains), gradient=domain_mean(excess, domains))
    game = minimize(maximize(w @ payoff, over=w), over=theta)
    average: Literal["mean", "mean with start"] = "mean" if faithful_to == "paper" else "mean with start"
    return Method(game, DescentAscent(rate=rate, smoothing=smoothing, average=average, steps=steps), "DoReMi")
