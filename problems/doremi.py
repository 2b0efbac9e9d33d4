"""DoReMi: the mixture under which the excess loss over a reference model is worst."""

from __future__ import annotations

from typing import Literal

from mixopt.errors import InputError
from mixopt.language.atoms import pos
from mixopt.language.domains import Domains
from mixopt.language.problem import Problem, maximize, minimize
from mixopt.language.symbols import Mixture, domain_mean, losses, model, surrogate, tokens
from mixopt.method import Method

Source = Literal["paper", "code", "survey"]


def doremi(
    domains: Domains, *, rate: float = 1.0, smoothing: float | None = None, steps: int = 1000, faithful_to: Source = "paper"
) -> Method:
    r"""min_theta max_{w in simplex} sum_i w_i (l_i(theta) - l_i(reference)), Eq. 1 of the survey.

    The weights ascend the excess clipped at zero *per token*; the model descends the plain loss (the reference is a
    constant to it). Give the reference model's parameters at run time, ``given={"reference": parameters}``: it is
    evaluated on the same batches. The learner must provide token losses (``TorchLearner``).

    "paper": the result is the mean of w_1 ... w_T. "code": the released code counts the uniform start w_0 in the mean.
    Both take the default step 1 and smoothing 1e-3 of the Pile runs. "survey": its Table 3, which clips the excess of a whole domain and
    does not smooth; it needs no token losses. Differences from the released code in any mode:
    batches here hold every domain, so its carried score of an absent domain does not arise (a learner of your own whose batches lack
    some takes ``DescentAscent(absent="carry", unseen=log(vocabulary))``), and the model's loss is the
    paper's weighted mean of domain means, not the code's mean over weighted tokens; with batches of equal token counts a
    domain, as here, the two are equal. ``doremi_rounds`` repeats it until the weights settle.

    Raises:
        InputError: ``faithful_to`` is none of "paper", "code" and "survey".

    Source: Xie et al. 2023, arXiv 2305.10429, Algorithm 1; code sangmichaelxie/doremi; Table 3 of the survey.
    """
    from mixopt.solvers import DescentAscent

    if faithful_to not in ("paper", "code", "survey"):
        raise InputError(f"faithful_to is {faithful_to!r}; doremi follows 'paper', 'code' or 'survey'")
    smoothing = (0.0 if faithful_to == "survey" else 1e-3) if smoothing is None else smoothing
    average: Literal["mean", "mean with start"] = "mean with start" if faithful_to == "code" else "mean"
    game = payoff_of(domains, "domain" if faithful_to == "survey" else "token")
    return Method(game, DescentAscent(rate=rate, smoothing=smoothing, average=average, steps=steps), "DoReMi")


def payoff_of(domains: Domains, clipped: Literal["token", "domain"]) -> Problem:
    """The saddle whose weights see the excess over the model "reference", clipped at zero per token or per domain."""
    w, theta = Mixture(domains), model()
    if clipped == "token":
        excess = tokens(theta) - tokens(model("reference"))
        payoff = surrogate(domain_mean(pos(excess), domains), gradient=domain_mean(excess, domains))
    else:
        gap = losses(theta, domains) - losses(model("reference"), domains)
        payoff = surrogate(pos(gap), gradient=gap)
    return minimize(maximize(w @ payoff, over=w), over=theta)
