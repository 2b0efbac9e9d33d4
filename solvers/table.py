"""The solvers in order of preference: of those made for a form, the first that does not refuse is chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mixopt.forms import Abilities, Bilevel, Form, Program, Saddle, kind, sides
from mixopt.language.opaque import blind
from mixopt.solver import Solver

from .conic import Conic
from .grid import Grid
from .lagrangian import Lagrangian
from .projected import Projected
from .simulation import Simulation
from .water_filling import WaterFilling

KINDS = {Program: "programs", Saddle: "saddles", Bilevel: "bilevel problems"}


@dataclass(frozen=True)
class Entry:
    """A solver's name, the form it is made for, and its default settings for a problem of that form and a learner."""

    name: str
    takes: type[Form]
    make: Callable[[Form, Abilities | None], Solver]
    spare: bool = False
    """Whether it is thought of only where an opaque part leaves no choice, or where its name is given."""

    def reasons(self, form: Form, abilities: Abilities | None) -> tuple[str, ...]:
        """Why the default settings do not take the form; a solver of another form is not even imported."""
        if not isinstance(form, self.takes):
            return (f"it takes {KINDS[self.takes]}, and this is a {kind(form)}",)
        return self.make(form, abilities).refuses(form, abilities)


def _descent_ascent(form: Form, abilities: Abilities | None) -> Solver:
    from .descent_ascent import DescentAscent

    return DescentAscent()


def _balanced(form: Form, abilities: Abilities | None) -> Solver:
    from .balanced import Balanced

    return Balanced()


def _best_response(form: Form, abilities: Abilities | None) -> Solver:
    from .best_response import BestResponse

    return BestResponse()


def _extragradient(form: Form, abilities: Abilities | None) -> Solver:
    from .extragradient import Extragradient

    return Extragradient()


def _smoothed(form: Form, abilities: Abilities | None) -> Solver:
    from .smoothed import SmoothedDescentAscent

    return SmoothedDescentAscent()


def _implicit(form: Form, abilities: Abilities | None) -> Solver:
    from .implicit import NETWORKS, Implicit

    if abilities is None or abilities.exact:
        return Implicit()
    return Implicit(curvature="gauss-newton", system=NETWORKS, warmup=100, outer_steps=50, train=10)


def _unrolled(form: Form, abilities: Abilities | None) -> Solver:
    from .unrolled import Unrolled

    return Unrolled()


def _surrogate(form: Form, abilities: Abilities | None) -> Solver:
    from .surrogate import Surrogate

    return Surrogate()


def _value_function(form: Form, abilities: Abilities | None) -> Solver:
    from .value_function import ValueFunction

    if abilities is None or abilities.exact:
        return ValueFunction()
    return ValueFunction(warmup=100, outer_steps=50, train=10)


def _loop(name: str) -> Callable[[Form, Abilities | None], Solver]:
    """The default settings of a first-order method of one loop."""

    def make(form: Form, abilities: Abilities | None) -> Solver:
        from mixopt import solvers

        made: Solver = getattr(solvers, name)()
        return made

    return make


TABLE = (
    Entry("Conic", Program, lambda form, abilities: Conic()),
    Entry("Projected", Program, lambda form, abilities: Projected()),
    Entry("Lagrangian", Program, lambda form, abilities: Lagrangian()),
    Entry("WaterFilling", Program, lambda form, abilities: WaterFilling(), spare=True),
    Entry("Simulation", Program, lambda form, abilities: Simulation(), spare=True),
    Entry("Grid", Program, lambda form, abilities: Grid(), spare=True),
    Entry("DescentAscent", Saddle, _descent_ascent),
    Entry("Extragradient", Saddle, _extragradient, spare=True),
    Entry("SmoothedDescentAscent", Saddle, _smoothed, spare=True),
    Entry("BestResponse", Saddle, _best_response, spare=True),
    Entry("Balanced", Saddle, _balanced, spare=True),
    Entry("Implicit", Bilevel, _implicit),
    Entry("Unrolled", Bilevel, _unrolled),
    Entry("ValueFunction", Bilevel, _value_function),
    Entry("Surrogate", Bilevel, _surrogate, spare=True),
    *(Entry(name, Bilevel, _loop(name), spare=True) for name in ("VPBGD", "GPBGD", "BOME", "ScaleBiO", "OneStep")),
)


def considered(form: Form, abilities: Abilities | None) -> dict[str, tuple[str, ...]]:
    """Why each solver does not take a form, by name, empty where it does; spare ones only for programs with an opaque part."""
    unseen = isinstance(form, Program) and blind(form.objective, *sides(form)) is not None
    return {e.name: e.reasons(form, abilities) for e in TABLE if not e.spare or (unseen and e.takes is Program)}
