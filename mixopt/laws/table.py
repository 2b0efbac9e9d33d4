"""The laws there are, by the name that the command line and the files use."""

from __future__ import annotations

import os

from mixopt.errors import InputError, listed, nearest

from .ado import ADO
from .apple import AppleAdditive, AppleJoint
from .autoscale import AutoScale
from .bimix import BiMix
from .dcpt import DCPT
from .exponential import Exponential
from .formula import Formula
from .gaussian import GaussianProcess
from .law import Law, kinds, read
from .linear import Linear
from .online import Online
from .power import AdditivePower
from .scaling import Chinchilla
from .trees import LightGBM

LAWS: dict[str, type[Law]] = {
    law.name: law
    for law in (
        Exponential,
        AdditivePower,
        Linear,
        BiMix,
        Formula,
        DCPT,
        AppleAdditive,
        AppleJoint,
        AutoScale,
        Chinchilla,
        ADO,
        Online,
        LightGBM,
        GaussianProcess,
    )
}


def load(path: str | os.PathLike[str]) -> Law:
    """The law of any kind that ``law.save(path)`` wrote.

    Raises:
        InputError: no such file, no saved law, or one of a kind that this version does not know.
    """
    content = read(path)
    name, known = str(content.get("law")), kinds()
    if name not in known:
        raise InputError(f"{path} is a saved law of kind {name!r}; this version knows {listed(known)}{nearest(name, known)}")
    return known[name].from_content(path, content)
