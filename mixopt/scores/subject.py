"""What a score differentiates: the losses of batches as a function of parameters, with the user's module left as it was."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mixopt.errors import InputError, LearnerError, listed, unknown
from mixopt.runtime.gramian import wide
from mixopt.runtime.torch_learner import cross_entropy
from mixopt.runtime.tree import Leaves, flatten, unflatten

Loss = Callable[[Any, Any], Tensor]
"""(module or parameter tree, batch) -> the batch's loss [], or its losses by domain [k]; nats per token."""

Layers = Literal["all", "last"] | Sequence[str]

TOGETHER = 2**14
"""Forward passes without activations to keep take so many tokens at a time, of several domains."""


class Subject(ABC):
    """Losses of batches as a function of the leaves that gradients are taken by."""

    leaves: Leaves
    names: tuple[str, ...] | None
    """Of the leaves; None of a function's tree."""
    windows: bool = False
    """Whether batches are windows of tokens under the default loss, so that several domains may go through the model together."""

    def grouped(self, own: Sequence[Any]) -> list[tuple[Any, int]]:
        """The batches as they go through the model in turn, each with how many of those given it holds."""
        return together(own) if self.windows else [(batch, 1) for batch in own]

    def apart(self, own: Sequence[Any]) -> list[Any]:
        """The batches one for each domain, where one tensor of windows [k, b, t + 1] holds them all."""
        return list(own[0]) if self.windows and len(own) == 1 and _windows(own[0]) and own[0].dim() == 3 else list(own)

    def given(self, gradient: Any) -> Leaves:
        """A gradient of the user's as leaves: by name, or as the tree of parameters is.

        Raises:
            InputError: missing, or of other shapes.
        """
        if self.names is None:
            found: list[Any] = list(flatten(gradient))
        else:
            if not isinstance(gradient, Mapping) or not set(self.names) <= set(gradient):
                raise InputError(f"a gradient is given as a mapping from {listed(self.names)} to tensors; found {gradient!r:.80}")
            found = [gradient[name] for name in self.names]
        for i, leaf in enumerate(self.leaves):
            if i >= len(found) or not isinstance(found[i], Tensor) or found[i].shape != leaf.shape:
                name = i if self.names is None else self.names[i]
                what = list(getattr(found[i], "shape", ())) if i < len(found) and found[i] is not None else "nothing"
                raise InputError(f"the gradient given for {name!r} is {what}; the parameter has the shape {list(leaf.shape)}")
        return tuple(part.detach().to(wide(part.dtype)) for part in found[: len(self.leaves)])

    @abstractmethod
    def losses(self, leaves: Leaves, items: Sequence[Any]) -> Tensor:
        """The losses [k] of the batches at other leaves."""

    @abstractmethod
    def slope(self, value: Callable[[Tensor], Tensor], item: Any) -> Leaves:
        """The gradient by the leaves of a number made of one batch's losses, in float32 or better."""

    def pooled(self, gradient: Leaves) -> Leaves:
        """A gradient as its mean over the ranks that train the module together."""
        return gradient

    def agreed(self, value: Tensor) -> float:
        """A number that is the same on all ranks which hold shards of the parameters."""
        return float(value)

    @abstractmethod
    def still(self) -> AbstractContextManager[None]:
        """A context: dropout and the like off, the state of random generators kept, and both as they were after it."""


@final
class Functional(Subject):
    """Losses that are called with other parameters: of a function of a tree, or of a module through ``functional_call``."""

    def __init__(
        self,
        leaves: Leaves,
        call: Callable[[Leaves, Any], Tensor],
        module: nn.Module | None = None,
        names: tuple[str, ...] | None = None,
        windows: bool = False,
        group: Any = None,
    ):
        self.windows, self._group = windows, group
        self.leaves, self._call, self._module, self.names = tuple(leaf.detach() for leaf in leaves), call, module, names

    def losses(self, leaves: Leaves, items: Sequence[Any]) -> Tensor:
        return torch.cat([_loss(self._call(leaves, item)) for item in items])

    def slope(self, value: Callable[[Tensor], Tensor], item: Any) -> Leaves:
        live = tuple(leaf.detach().requires_grad_() for leaf in self.leaves)
        with torch.enable_grad():
            parts = torch.autograd.grad(value(_loss(self._call(live, item))), live, materialize_grads=True)
        return tuple(part.to(wide(part.dtype)) for part in parts)

    def pooled(self, gradient: Leaves) -> Leaves:
        if self._group is None:
            return gradient
        for part in gradient:
            torch.distributed.all_reduce(part, group=self._group)
        return tuple(part / torch.distributed.get_world_size(self._group) for part in gradient)

    def still(self) -> AbstractContextManager[None]:
        return still(self._module, self.leaves)


@final
class InPlace(Subject):
    """Losses of a module that runs with its own parameters only, sharded ones say: they are overwritten for a pass and put back.

    Gradients are taken by ``backward``, with the module's own set aside for the while.
    """

    def __init__(
        self, names: tuple[str, ...], parameters: Sequence[nn.Parameter], call: Callable[[Any], Tensor], module: nn.Module, windows: bool
    ):
        self.windows = windows
        self._own, self._call, self._module, self.names = tuple(parameters), call, module, names
        self.leaves = tuple(p.detach() for p in parameters)

    @torch.no_grad()
    def losses(self, leaves: Leaves, items: Sequence[Any]) -> Tensor:
        kept = tuple(p.detach().clone() for p in self._own)
        try:
            self._write(leaves)
            return torch.cat([_loss(self._call(item)) for item in items])
        finally:
            self._write(kept)

    def agreed(self, value: Tensor) -> float:
        total = value.detach().double().clone()
        torch.distributed.all_reduce(total)
        return float(total) / torch.distributed.get_world_size()

    def _write(self, leaves: Leaves) -> None:
        """Overwrite the parameters, and see to it that no copy of the old ones is used."""
        for own, leaf in zip(self._own, leaves, strict=True):
            own.copy_(leaf)
        resharded(self._module)

    def slope(self, value: Callable[[Tensor], Tensor], item: Any) -> Leaves:
        everything = list(self._module.parameters())
        kept = [p.grad for p in everything]
        try:
            for p in everything:
                p.grad = None
            with torch.enable_grad():
                value(_loss(self._call(item))).backward()
            return tuple(torch.zeros_like(p) if p.grad is None else p.grad.detach() for p in self._own)
        finally:
            for p, grad in zip(everything, kept, strict=True):
                p.grad = grad

    def still(self) -> AbstractContextManager[None]:
        return still(self._module, self.leaves)


def subject(model: Any, *, loss: Loss | None, at: Any, layers: Layers) -> Subject:
    """What is differentiated, of a module by ``layers`` of it, or of a function of the parameter tree ``at``.

    Raises:
        InputError: neither a module nor a function with ``at``; no trainable parameter; unknown names.
    """
    if not isinstance(model, nn.Module):
        if not callable(model) or at is None:
            raise InputError(f"a torch module, or a function of (parameters, batch) with at=parameters, is expected; found {model!r:.80}")
        return Functional(flatten(at), lambda leaves, batch: model(unflatten(at, leaves), batch))
    module, measure = bare(model), next_tokens if loss is None else loss
    if any(type(part).__name__ == "FullyShardedDataParallel" for part in module.modules()):
        raise LearnerError("flat parameters of FullyShardedDataParallel have no gradients by name; shard the module by fully_shard (FSDP2)")
    resharded(module)
    names = chosen(module, layers)
    named = dict(module.named_parameters(remove_duplicate=False))
    if any(sharded(p) for p in named.values()):
        return InPlace(names, [named[name] for name in names], lambda batch: measure(module, batch), module, loss is None)
    whole, tie = _Measured(module, measure), layers == "all"
    others = {f"module.{n}": p.detach() for n, p in named.items() if not tie and n not in names}  # so that nothing is kept for them

    def call(leaves: Leaves, batch: Any) -> Tensor:
        own = {f"module.{n}": leaf for n, leaf in zip(names, leaves, strict=True)}
        return functional_call(whole, {**others, **own}, (batch,), tie_weights=tie)

    group = model.process_group if isinstance(model, nn.parallel.DistributedDataParallel) else None
    return Functional(tuple(named[name] for name in names), call, module, names, loss is None, group)


@final
class _Measured(nn.Module):
    """A module and the loss of a batch by it, as one module, so that its parameters can be given for a call."""

    def __init__(self, module: nn.Module, loss: Loss):
        super().__init__()
        self.module, self._of = module, loss
        self.training = module.training

    def forward(self, batch: Any) -> Tensor:
        return self._of(self.module, batch)


def chosen(module: nn.Module, layers: Layers) -> tuple[str, ...]:
    """The names of the parameters that gradients are taken by: trainable ones, all or of some layers."""
    able = [name for name, p in module.named_parameters() if p.requires_grad]
    if not able:
        raise InputError("the module has no trainable parameter; set requires_grad on those that scores are taken by")
    if layers == "all":
        return tuple(able)
    if layers == "last":
        return last_layer(module)
    if isinstance(layers, str):
        raise InputError(f"layers is {layers!r}; it is 'all', 'last', or the names of parameters or of modules that hold them")
    every = [name for name, p in module.named_parameters(remove_duplicate=False) if p.requires_grad]
    for layer in layers:
        if not any(name == layer or name.startswith(f"{layer}.") for name in every):
            raise unknown("parameter or module", layer, every)
    return tuple(name for name in every if any(name == layer or name.startswith(f"{layer}.") for layer in layers))


def last_layer(module: nn.Module) -> tuple[str, ...]:
    """The parameters of the last layer: the output embedding where a model names one, else the last module that holds a matrix.

    Of a weight that two layers share, the last layer's part alone is meant, so that no gradient goes through the rest of the model.
    """
    named: Any = getattr(module, "get_output_embeddings", None)
    head = None if named is None else named()
    layers = [(name, part) for name, part in module.named_modules() if any(_matrix(p) for p in part.parameters(recurse=False))]
    if head is not None:
        layers = [(name, part) for name, part in layers if part is head] or layers
    if not layers:
        raise InputError("no layer of the module holds a trainable matrix; give layers= the names of the parameters")
    name, part = layers[-1]
    return tuple(f"{name}.{own}" if name else own for own, p in part.named_parameters(recurse=False) if p.requires_grad)


def _matrix(p: Tensor) -> bool:
    return p.requires_grad and p.dim() >= 2


def bare(module: nn.Module) -> nn.Module:
    """The module within ``torch.compile`` and ``DistributedDataParallel``, whose own hooks a score shall not touch."""
    inner: Any = getattr(module, "module" if isinstance(module, nn.parallel.DistributedDataParallel) else "_orig_mod", None)
    return module if inner is None else bare(inner)


def resharded(module: nn.Module) -> None:
    """Let FSDP's gathered copies of parameters go, which it may keep after a forward pass."""
    for part in module.modules():
        reshard: Any = getattr(part, "reshard", None)
        if callable(reshard):
            reshard()


def sharded(p: Tensor) -> bool:
    """Whether a tensor lies on several ranks, as FSDP's parameters do."""
    return hasattr(p, "full_tensor")


@contextmanager
def still(module: nn.Module | None, leaves: Leaves) -> Iterator[None]:
    """Dropout and the like off, random generators kept."""
    noisy = [] if module is None else [part for part in module.modules() if part.training]
    devices = sorted({leaf.device.index for leaf in leaves if leaf.device.type == "cuda"})
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=devices))
        for part in noisy:
            part.training = False
            stack.callback(setattr, part, "training", True)
        yield


def next_tokens(module: Any, batch: Any) -> Tensor:
    """The mean loss [] of the next token: of token windows [b, t + 1], or what a Hugging Face model makes of its batch's labels.

    Of windows [k, b, t + 1], b for each of k domains, the losses [k], by one pass.

    Raises:
        InputError: a batch that is none of these; give ``loss`` then.
    """
    if isinstance(batch, Mapping):
        found = module(**batch).loss
        if found is None:
            raise InputError("the model made no loss of the batch; give it labels, or give loss=")
        return found
    if not _windows(batch):
        raise InputError(f"a batch is windows of tokens [b, t + 1] or a mapping with labels; of a {type(batch).__name__} give loss=")
    flat = batch.reshape(-1, batch.shape[-1])
    out = module(flat[:, :-1])
    tokens = cross_entropy(getattr(out, "logits", out).float(), flat[:, 1:])
    return tokens.mean() if batch.dim() == 2 else tokens.reshape(len(batch), -1).mean(1)


def _windows(batch: Any) -> bool:
    return isinstance(batch, Tensor) and batch.dim() in (2, 3) and not batch.is_floating_point()


def together(own: Sequence[Any]) -> list[tuple[Any, int]]:
    """Batches of windows [b, t + 1] of one shape as fewer [n, b, t + 1] of ``TOGETHER`` tokens at most, each with n; others as they are."""
    if not all(_windows(batch) and batch.dim() == 2 and batch.shape == own[0].shape for batch in own):
        return [(batch, 1) for batch in own]
    most = max(1, TOGETHER // max(1, own[0].numel()))
    pieces = [list(own[i : i + most]) for i in range(0, len(own), most)]
    return [(torch.stack(piece), len(piece)) if len(piece) > 1 else (piece[0], 1) for piece in pieces]


def items(batches: Any) -> tuple[tuple[str, ...] | None, list[Any]]:
    """The names, where there are some, and the batches: of a mapping or a list one each; anything else is one batch.

    Raises:
        InputError: none at all.
    """
    if isinstance(batches, Mapping) and not {"input_ids", "labels"} & set(batches):
        names, found = tuple(batches), list(batches.values())
    else:
        names, found = None, list(batches) if isinstance(batches, list) else [batches]
    if not found:
        raise InputError("there is no batch; give one for each domain")
    return names, found


def _loss(value: Any) -> Tensor:
    if not isinstance(value, Tensor) or value.dim() > 1 or not value.is_floating_point():
        what = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise LearnerError(f"the loss of a batch is a tensor [], or [k] of all domains; found {what}")
    return value.reshape(-1).to(wide(value.dtype))
