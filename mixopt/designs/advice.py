"""How many runs a law needs: what its fit asks for at least, and what is advised."""

from __future__ import annotations

from mixopt.errors import InputError
from mixopt.language.domains import Domains
from mixopt.laws import LAWS, Formula, GaussianProcess, Law, LightGBM
from mixopt.laws.curve import Curve, CurveLaw
from mixopt.laws.formula import FormulaCurve
from mixopt.laws.gaussian import FEWEST as FEWEST_OF_PROCESS
from mixopt.laws.named import fitter, is_formula
from mixopt.laws.trees import FEWEST as FEWEST_OF_TREES

ADVISED = 3
"""Runs for each domain and one more, below which Olmix saw fits fall off (arXiv 2602.12237)."""

_SHAPE = {"own": [0], "stepped": True, "convex": True, "sigma": "identity", "now": None, "relative": False}
"""What saved laws tell of their curves, where it says nothing of how many parameters there are."""


def advised(domains: Domains) -> int:
    """The runs that are advised for a law of k domains: 3 (k + 1).

    Source: Chen et al. 2026, Olmix, arXiv 2602.12237.
    """
    return ADVISED * (len(domains) + 1)


def curve_of(law: str | Law | type[Law], domains: Domains) -> tuple[Curve | None, tuple[str, ...]]:
    """The curve of a law, None of one that has none, and the scales (params, tokens, steps) that it needs of a run.

    Raises:
        InputError: a name that no law has, or a formula that is given as a class.
    """
    if isinstance(law, str):
        fitter(law)  # refuses a name that no law has
        if is_formula(law):
            curve: Curve = FormulaCurve(law, domains.names)
            return curve, curve.needs
        law = LAWS[law]
    kind = law if isinstance(law, type) else type(law)
    if not issubclass(kind, CurveLaw):
        return None, ()
    if kind is Formula and isinstance(law, type):
        raise InputError("the formula law has no curve before its text is known; give the text, or the law fitted")
    curve = law.curve if isinstance(law, CurveLaw) else kind.shape({"unit": [1.0] * len(domains), **_SHAPE})
    return curve, (*kind.needs, *curve.needs)


def fewest(law: str | Law | type[Law], domains: Domains) -> int:
    """The fewest runs that a law takes for these domains without a ridge: its parameters, and what its fit asks for beyond them.

    ``law`` is a name, a law, or a formula such as "c + b*exp(A @ w)".

    Raises:
        InputError: a name that no law has, or a law of which it is not known before it is fitted.
    """
    curve, _ = curve_of(law, domains)
    if curve is not None:
        return len(curve.parameters(domains)) + curve.spare
    kind = LAWS[law] if isinstance(law, str) else law if isinstance(law, type) else type(law)
    for searched, least in ((LightGBM, FEWEST_OF_TREES), (GaussianProcess, FEWEST_OF_PROCESS)):
        if issubclass(kind, searched):
            return least
    raise InputError(f"how many runs the {kind.name} law needs is not known before it is fitted; give another law")


def warned(law: str | Law | type[Law], domains: Domains, count: int) -> tuple[str, ...]:
    """What to know of fitting this law to so many runs; nothing where they are enough."""
    name = law if isinstance(law, str) else law.name
    least, enough = fewest(law, domains), advised(domains)
    if count < least:
        return (f"{count} runs are fewer than the {least} that the {name} law takes without a ridge; give more, or fit it with one",)
    if count < enough:
        return (f"{count} runs are fewer than the {enough} = 3 (k + 1) that are advised for the {name} law; expect wide intervals",)
    return ()
