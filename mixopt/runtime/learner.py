"""Learners: how a solver sees what is trained, and the exact one built from plain functions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from mixopt.errors import InputError, LearnerError, listed
from mixopt.forms import Abilities, Provided
from mixopt.language.domains import Domains

from .tree import Leaves, copied, flatten, unflatten

Batch = Any
Optimizer = Callable[[list[Tensor]], torch.optim.Optimizer]


class Learner(ABC):
    """What is trained: a start, losses by name as functions of the parameters, and how its batches are drawn.

    Parameters travel as a flat tuple of leaves. A batch is whatever ``draw`` returns; an exact learner has none.
    """

    @property
    @abstractmethod
    def abilities(self) -> Abilities:
        """What it provides and what it can do."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where its parameters lie."""

    @abstractmethod
    def start(self) -> Leaves:
        """A fresh copy of the parameters to start from."""

    @abstractmethod
    def leaves(self, given: Any) -> Leaves:
        """Parameters given by a user, as leaves; raises where they do not fit."""

    @abstractmethod
    def tree(self, leaves: Leaves) -> Any:
        """Leaves as the user keeps them: a tree, or a state dict."""

    @abstractmethod
    def store(self, leaves: Leaves) -> None:
        """Write the leaves into the user's own parameters (``inplace=True``)."""

    @abstractmethod
    def draw(self, generator: torch.Generator) -> Batch:
        """The next batch, stratified over the domains."""

    def draw_by(self, weights: Mapping[str, Tensor], generator: torch.Generator) -> Batch:
        """The next batch of a training step at the weights [k] of the losses under each name.

        It is stratified, unless the learner samples: the losses of a batch drawn by shares p are estimates, without bias where
        p > 0, such that p @ losses is the plain mean over the batch. Only their sums with weights mean anything.
        """
        return self.draw(generator)

    def present(self, batch: Batch, name: str) -> Tensor | None:
        """Which domains [k] a batch holds under a name, in the order of its losses; None where it holds all of them, as most do.

        The loss of a domain that is not there is to be 0, without a gradient; what it counts for the weights is the solver's ``absent``.
        """
        return None

    @abstractmethod
    def evaluation(self) -> Batch:
        """The one fixed sample that checks and comparisons use."""

    @abstractmethod
    def losses(self, leaves: Leaves, name: str, batch: Batch) -> Tensor:
        """Losses under a name: a vector [k] or a scalar, in nats per token."""

    @abstractmethod
    def tokens(self, leaves: Leaves, name: str, batch: Batch) -> Tensor:
        """Token losses [k, n] under a name, in nats."""

    @abstractmethod
    def gauss_newton(self, leaves: Leaves, name: str, batch: Batch, coefficients: Tensor) -> Callable[[Leaves], Leaves]:
        """The Gauss-Newton product v -> sum_i c_i J_i' H_i J_i v of the losses under a name."""

    @abstractmethod
    def optimizer(self, leaves: Leaves) -> torch.optim.Optimizer:
        """A new optimizer of the leaves, for training steps; raises LearnerError where its steps search along a line."""

    def searching(self, leaves: Leaves) -> torch.optim.Optimizer:
        """The same for steps that are given a closure: an optimizer may search along a line."""
        return self.optimizer(leaves)

    @abstractmethod
    def second_order(self) -> AbstractContextManager[Any]:
        """Within it, forward passes allow forward mode and double backward, and draw no random numbers of their own."""

    @abstractmethod
    def tokens_of(self, batch: Batch, name: str) -> int:
        """How many tokens one forward pass reads of the batch under a name; 0 for an exact learner."""


class FunctionLearner(Learner):
    """Losses as differentiable torch functions of a parameter tree; exact, in the dtype and on the device of the tree.

    ``losses`` maps a name to a function ``f(parameters)`` that returns a scalar or a vector in the problem's domain
    order, or to ``(f, domains)`` for a vector in an order of its own. ``optimizer`` takes a list of tensors and returns
    a torch optimizer; without one, training steps are plain gradient descent at rate 0.1.

    Raises:
        InputError: parameters that are no floating tensors, or an empty dict of losses.
        LearnerError: a loss that is no scalar or vector, is NaN or infinite at the start, or carries no gradient.
    """

    def __init__(
        self,
        parameters: Any,
        losses: Mapping[str, Callable[[Any], Tensor] | tuple[Callable[[Any], Tensor], Any]],
        optimizer: Optimizer | None = None,
    ):
        self._given = parameters
        self._like = flatten(parameters)
        if not self._like or not all(leaf.is_floating_point() for leaf in self._like):
            raise InputError("FunctionLearner needs at least one parameter, and all of them floating-point tensors")
        if not isinstance(losses, Mapping) or not losses:
            found = f"this is a {type(losses).__name__}" if losses else "the dict is empty"
            raise InputError(f"FunctionLearner needs losses={{'name': function, ...}}; {found}")
        self._functions: dict[str, Callable[[Any], Tensor]] = {}
        self._twice = True
        provides = {}
        for name, entry in losses.items():
            function, domains = entry if isinstance(entry, tuple) else (entry, None)
            if not callable(function):
                raise InputError(f"loss {name!r} is {function!r}; give a function of the parameters, or (function, domains)")
            self._functions[name] = function
            provides[name] = self._measured(name, function, domains)
        self._abilities = Abilities(provides=provides, exact=True, double_backward=self._twice)
        self._optimizer: Optimizer = optimizer or (lambda tensors: torch.optim.SGD(tensors, lr=0.1))

    def _measured(self, name: str, function: Callable[[Any], Tensor], domains: Any) -> Provided:
        leaves = copied(self._like, trainable=True)
        with torch.enable_grad():
            value = function(unflatten(self._given, leaves))
        if not isinstance(value, Tensor) or value.dim() > 1:
            what = f"shape {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise LearnerError(f"loss {name!r} returns {what}; a scalar tensor or a vector [k] is expected")
        names = None
        if domains is not None:
            names = (domains if isinstance(domains, Domains) else Domains(domains)).names
            if value.shape != (len(names),):
                raise LearnerError(f"loss {name!r} returns shape {list(value.shape)} for the {len(names)} domains {listed(names)}")
        if not bool(torch.isfinite(value).all()):
            bad = [i for i, finite in enumerate(torch.isfinite(value.reshape(-1)).tolist()) if not finite]
            which = f": that of {listed([names[i] if names else f'domain number {i + 1}' for i in bad])}" if value.dim() else ""
            raise LearnerError(f"loss {name!r} is {value.tolist()} at the start; losses must be finite{which}")
        if not value.requires_grad:
            raise LearnerError(f"loss {name!r} carries no gradient of the parameters: was it detached, or computed outside torch?")
        self._twice = self._twice and differentiable_twice(value, leaves)
        return Provided(names, None if value.dim() == 0 else len(value))

    @property
    def abilities(self) -> Abilities:
        return self._abilities

    @property
    def device(self) -> torch.device:
        return self._like[0].device

    def start(self) -> Leaves:
        return copied(self._like)

    def leaves(self, given: Any) -> Leaves:
        found = flatten(given)
        if [leaf.shape for leaf in found] != [leaf.shape for leaf in self._like]:
            shapes = [list(leaf.shape) for leaf in found], [list(leaf.shape) for leaf in self._like]
            raise InputError(f"given parameters have shapes {shapes[0]}, but the learner's are {shapes[1]}")
        return copied(found)

    def tree(self, leaves: Leaves) -> Any:
        return unflatten(self._given, copied(leaves))

    def store(self, leaves: Leaves) -> None:
        with torch.no_grad():
            for mine, new in zip(self._like, leaves, strict=True):
                mine.copy_(new)

    def draw(self, generator: torch.Generator) -> Batch:
        return None

    def evaluation(self) -> Batch:
        return None

    def losses(self, leaves: Leaves, name: str, batch: Batch) -> Tensor:
        return self._functions[name](unflatten(self._given, leaves))

    def tokens(self, leaves: Leaves, name: str, batch: Batch) -> Tensor:
        raise LearnerError(f"a FunctionLearner has no token losses {name!r}; use losses(...), or a TorchLearner")

    def gauss_newton(self, leaves: Leaves, name: str, batch: Batch, coefficients: Tensor) -> Callable[[Leaves], Leaves]:
        raise LearnerError("a FunctionLearner has no outputs apart from its losses, so no Gauss-Newton product; use the Hessian")

    def optimizer(self, leaves: Leaves) -> torch.optim.Optimizer:
        made = self.searching(leaves)
        if isinstance(made, torch.optim.LBFGS):
            raise LearnerError(
                "the learner's optimizer is L-BFGS, which searches along a line, and here training takes single steps; give SGD, Adam "
                "or the like. An argmin is solved by L-BFGS with Implicit(inner=Inner(by='lbfgs'))"
            )
        return made

    def searching(self, leaves: Leaves) -> torch.optim.Optimizer:
        made = self._optimizer(list(leaves))
        if not isinstance(made, torch.optim.Optimizer):
            raise InputError(f"optimizer(tensors) returns a {type(made).__name__}; a torch.optim.Optimizer of the tensors is expected")
        return made

    def second_order(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def tokens_of(self, batch: Batch, name: str) -> int:
        return 0


def differentiable_twice(value: Tensor, leaves: Leaves) -> bool:
    """Whether the gradient of a value by the leaves can itself be differentiated: fused kernels and own functions often cannot.

    A function marked ``once_differentiable`` does not always raise: its node leads nowhere, and second derivatives lack its part. It has
    such a node only where the gradient that comes from above can be differentiated too, which a factor sees to.
    """
    value = value * torch.ones_like(value).requires_grad_()
    try:
        slopes = torch.autograd.grad(value.sum(), leaves, create_graph=True, materialize_grads=True)
        bent = [slope.sum() for slope in slopes if slope.requires_grad]
        if bent:
            torch.autograd.grad(bent, leaves, retain_graph=True, materialize_grads=True)
    except RuntimeError:
        return False
    seen, ahead = set(), [part.grad_fn for part in bent]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        if node.name().endswith("Error"):
            return False
        seen.add(node)
        ahead += [after for after, _ in node.next_functions]
    return True
