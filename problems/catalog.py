"""The methods that mixopt has, one record each: family, phase, data needs, cost, formula, source, and the lines that define it.

>>> from mixopt.problems import catalog
>>> [card.name for card in catalog.methods(family="min-max")][:3]
['doremi', 'group_dro', 'online_doremi']
>>> catalog.find("doge").formula.splitlines()[0]
'w_i <- w_i exp(eta <grad l_i, grad l_val> / mu) / (the sum of these)'
"""

from __future__ import annotations

from typing import get_args

from mixopt.errors import unknown

from .adaptive_cards import ADAPTIVE_CARDS
from .balancing_cards import BALANCING_CARDS
from .bilevel_cards import BILEVEL_CARDS
from .card import HEAD as HEAD
from .card import Card as Card
from .card import Catalog as Catalog
from .card import Family, Phase
from .gradient_cards import GRADIENT_CARDS
from .heuristic_cards import HEURISTIC_CARDS
from .law_cards import LAW_CARDS
from .saddle_cards import SADDLE_CARDS
from .surrogate_cards import SURROGATE_CARDS


def methods(*, family: str | None = None, phase: str | None = None) -> Catalog:
    """The methods there are, of one family or usable in one phase where that is given.

    Raises:
        InputError: no such family ("min-max", "bi-level", "gradient balancing", "mixing law", "online", "heuristic") or phase ("PT",
            "CPT", "SFT").
    """
    for kind, wanted, known in (("family", family, get_args(Family)), ("phase", phase, get_args(Phase))):
        if wanted is not None and wanted not in known:
            raise unknown(kind, wanted, known)
    fits = (c for c in METHODS if family in (None, c.family) and (phase is None or not c.phases or phase in c.phases))
    return Catalog(tuple(fits))


def find(name: str) -> Card:
    """The card of a method, by its name, title or another name it goes by; case and punctuation do not count.

    Raises:
        InputError: no such method; the nearest name is suggested.
    """
    names = {_plain(called): card for card in METHODS for called in (card.name, card.title, *card.aliases)}
    if _plain(name) in names:
        return names[_plain(name)]
    raise unknown("method", name, [*(c.name for c in METHODS), *(alias for c in METHODS for alias in c.aliases)])


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


_CARDS = (
    *SADDLE_CARDS,
    *BILEVEL_CARDS,
    *BALANCING_CARDS,
    *LAW_CARDS,
    *GRADIENT_CARDS,
    *ADAPTIVE_CARDS,
    *SURROGATE_CARDS,
    *HEURISTIC_CARDS,
)

METHODS = tuple(sorted(_CARDS, key=lambda card: get_args(Family).index(card.family)))
"""Every method, by family; a test holds the list against the public names of ``mixopt.problems``."""
