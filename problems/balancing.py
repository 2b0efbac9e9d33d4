"""Gradient balancing: training in which every step has a direction that suits all domains, Equation 6 of the survey."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from mixopt.balancing import FAMO, IMTLG, IMTLL, MGDA, CAGrad, CoBa, PCGrad, Static
from mixopt.balancing.rule import Rule
from mixopt.errors import InputError
from mixopt.language.atoms import log
from mixopt.language.domains import Domains
from mixopt.language.expression import Expr, Relation
from mixopt.language.history import initial, previous
from mixopt.language.problem import maximize, minimize
from mixopt.language.symbols import Mixture, losses, model, surrogate
from mixopt.method import Method


def mgda(
    domains: Domains, *, normalise: Literal["none", "norm"] = "none", steps: int = 1000, subject_to: Iterable[Relation] = ()
) -> Method:
    r"""min_theta max_{w in simplex} sum_i w_i (l_i(theta) - l_i(theta before)), step by step: w = argmin |sum_i w_i grad l_i|^2.

    The step along that direction improves the worst domain most, to first order, for its length. The survey prints Eq. 6 with the
    other sign and index (misprint T15), which minimises the best improvement. The minimum is exact here; the released solvers stop
    at 0.001 from a corner (code of Sener and Koltun) or after 100 steps of Frank-Wolfe (TorchJD). ``subject_to`` are relations on
    ``Mixture(domains)``. ``normalise="norm"`` takes gradients of length 1.

    Source: Désidéri 2012; Sener and Koltun 2018, arXiv 1810.04650; section C.1.1 of the survey.
    """
    return _method("MGDA", domains, MGDA(normalise), steps, subject_to=subject_to)


def cagrad(
    domains: Domains,
    *,
    c: float = 0.4,
    steps: int = 1000,
    faithful_to: Literal["paper", "code"] = "paper",
    subject_to: Iterable[Relation] = (),
) -> Method:
    r"""max over d of min_i <grad l_i, d> within c |g_0| of the mean gradient g_0, at each step of Eq. 6.

    "paper": d as it is. "code": divided by 1 + c^2 and multiplied by k, as the released benchmarks do. The weights are those of the
    inner problem, min over w of <g_w, g_0> + c |g_0| |g_w|; the trace has the coefficients of d. ``subject_to`` constrains w.

    Raises:
        InputError: ``faithful_to`` is neither "paper" nor "code", or c < 0.

    Source: Liu et al. 2021, arXiv 2110.14048, Algorithm 1; code Cranial-XIX/CAGrad; section C.1.1 of the survey.
    """
    _faithful("cagrad", faithful_to, "paper", "code")
    rule = CAGrad(c) if faithful_to == "paper" else CAGrad(c, rescale=1, summed=True)
    return _method("CAGrad", domains, rule, steps, subject_to=subject_to)


def pcgrad(domains: Domains, *, steps: int = 1000, faithful_to: Literal["paper", "code"] = "paper") -> Method:
    r"""The sum of the gradients, each without what points against the others, at each step of Eq. 6.

    An update rule: it solves no problem over w, and the weights are the mixture that has its direction. "paper": a random order of
    projections for each gradient. "code": the authors' release shuffles a copy and drops it, so the order is that of the domains.

    Raises:
        InputError: ``faithful_to`` is neither "paper" nor "code".

    Source: Yu et al. 2020, arXiv 2001.06782, Algorithm 1; code tianheyu927/PCGrad; section C.1.1 of the survey.
    """
    _faithful("pcgrad", faithful_to, "paper", "code")
    return _method("PCGrad", domains, PCGrad("shuffled" if faithful_to == "paper" else "natural"), steps)


def imtl_g(domains: Domains, *, steps: int = 1000) -> Method:
    r"""The weights with sum 1 under which the step has the same projection on every domain's unit gradient, at each step of Eq. 6.

    Some may be negative: then no mixture has the direction, the weights are the nearest one, and the result says so.

    Source: Liu et al. 2021, Towards impartial multi-task learning, ICLR 2021, Eq. 6; section C.1.1 of the survey.
    """
    return _method("IMTL-G", domains, IMTLG(), steps)


def imtl_l(domains: Domains, *, rate: float | None = 0.1, steps: int = 1000) -> Method:
    r"""min over theta and s of sum_i exp(s_i) l_i(theta) - s_i: losses scaled to one size.

    The weights are exp(s_i) over their sum. ``rate`` is that of the scales, which the source trains with the model's own
    optimizer; None takes the stationary scales exp(s_i) = 1 / l_i at once.

    Source: Liu et al. 2021, ICLR 2021, section 3.2; code median-research-group/LibMTL.
    """
    return _method("IMTL-L", domains, IMTLL(rate), steps)


def famo(
    domains: Domains,
    *,
    rate: float = 0.025,
    gamma: float | None = None,
    name: str = "train",
    steps: int = 1000,
    faithful_to: Literal["paper", "code", "survey"] = "paper",
) -> Method:
    r"""min_theta max_{w in simplex} sum_i w_i (log l_i(theta) - log l_i(theta before)): the smallest relative improvement.

    The weights are a softmax whose logits follow, by Adam, the fall of the log losses of one batch; the model moves by
    sum_i (w_i / l_i) grad l_i over the sum of w_i / l_i. ``name`` are the losses whose fall counts: others than "train" make it
    MFTCoder as the survey has it. "paper": decay ``gamma`` 1e-3, that of its runs. "code": 0.01, the default of the released class.
    "survey": the relative fall (l - l') / l in place of the logarithms', with index and sign put right (misprint T16).

    Raises:
        InputError: ``faithful_to`` is none of "paper", "code" and "survey".

    Source: Liu et al. 2023, arXiv 2306.03792, Algorithm 1; code Cranial-XIX/FAMO; section C.1.1 of the survey.
    """
    _faithful("famo", faithful_to, "paper", "code", "survey")
    decay = gamma if gamma is not None else {"paper": 1e-3, "code": 0.01, "survey": 1e-3}[faithful_to]
    relative = faithful_to == "survey"
    rule = FAMO(rate=rate, gamma=decay, watch=None if name == "train" else name, fall="relative" if relative else "log")
    return _method("FAMO", domains, rule, steps, lambda theta: _fall(losses(theta, domains, name=name), relative))


def coba(
    domains: Domains,
    *,
    warmup: int = 100,
    history: int = 200,
    tau: float = 5.0,
    name: str = "val",
    steps: int = 1000,
    faithful_to: Literal["paper", "code"] = "paper",
) -> Method:
    r"""Weights from the slopes of the validation losses ``name``: less for what converges fast or diverges. A rule, and no problem over w.

    "paper": absolute scores over the last ``history`` slopes. "code": over history - warmup + 1 of them, as its slicing has it.
    The learner must provide losses ``name`` over the same domains.

    Raises:
        InputError: ``faithful_to`` is neither "paper" nor "code", or a history shorter than the warm-up.

    Source: Gong et al. 2024, arXiv 2410.06741, section 3; code codefuse-ai/MFTCoder.
    """
    _faithful("coba", faithful_to, "paper", "code")
    rule = CoBa(warmup, history, tau, slopes=faithful_to, watch=name)

    def shown(theta: Expr) -> Expr:
        watched = losses(theta, domains, name=name)
        return watched / initial(watched)

    return _method("CoBa", domains, rule, steps, shown)


def mftcoder(
    domains: Domains,
    *,
    weights: Sequence[float] | None = None,
    name: str = "val",
    steps: int = 1000,
    faithful_to: Literal["survey", "code"] = "survey",
) -> Method:
    r"""MFTCoder: as the survey has it, FAMO by validation losses; as released, fixed ``weights`` of the tasks' token means.

    "survey": ``famo`` with the losses ``name``. "code": sum_i v_i l_i over sum_i v_i with v of 1 each, or ``weights`` (case 3, the default
    of the release, which has no FAMO; ``mixopt.balancing.mftcoder_weights`` has all four cases for batches that are not alike).

    Raises:
        InputError: ``faithful_to`` is neither "survey" nor "code", or weights with "survey".

    Source: Liu et al. 2023, arXiv 2311.02303, section 3.1; code codefuse-ai/MFTCoder; section 4.1 of the survey.
    """
    _faithful("mftcoder", faithful_to, "survey", "code")
    if faithful_to == "code":
        return _method("MFTCoder", domains, Static(weights), steps)
    if weights is not None:
        raise InputError("fixed weights go with faithful_to='code'; the survey's MFTCoder finds its own")
    found = famo(domains, name=name, steps=steps)
    return Method(found.problem, found.solver, "MFTCoder")


def _method(
    name: str,
    domains: Domains,
    rule: Rule,
    steps: int,
    signal: Callable[[Expr], Expr] | None = None,
    subject_to: Iterable[Relation] = (),
) -> Method:
    """Equation 6 with a rule; where a rule has a ``signal`` of its own, the weights see that, and the model descends the losses."""
    from mixopt.solvers import Balanced

    w, theta = Mixture(domains), model()
    own = losses(theta, domains)
    payoff = w @ (own - previous(own)) if signal is None else surrogate(w @ signal(theta), gradient=w @ own)
    game = minimize(maximize(payoff, over=w, subject_to=subject_to), over=theta)
    return Method(game, Balanced(rule, steps=steps), name)


def _fall(watched: Expr, relative: bool) -> Expr:
    """How much losses rose since the last step, in relation to what they were."""
    before = previous(watched)
    return (watched - before) / before if relative else log(watched) - log(before)


def _faithful(name: str, found: str, *known: str) -> None:
    if found not in known:
        raise InputError(f"faithful_to is {found!r}; {name} follows {' or '.join(map(repr, known))}")
