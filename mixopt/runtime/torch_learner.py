"""The learner of a torch module: any module from tokens to logits, trained on streams of domain tokens."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp

from mixopt.errors import InputError, LearnerError, listed, unknown
from mixopt.forms import Abilities, Provided

from .learner import Batch, Learner, Optimizer, differentiable_twice
from .streams import Streams
from .tree import Leaves, copied

Autocast = Literal["bf16"] | None
Sampling = Literal["uniform", "weights"] | Mapping[str, float] | Sequence[float]


class TorchLearner(Learner):
    """A torch module trained on domain streams; its losses are means over a batch drawn from every domain alike.

    ``module`` maps tokens [b, t] to logits [b, t, vocabulary], or to an object with ``.logits`` (a Hugging Face causal
    LM). ``streams`` maps a loss name to the domains it is measured on, as ``Streams`` or as a dict of token arrays [n];
    training and validation may be over different domains. A step reads ``per_domain`` windows of ``context`` tokens from
    each domain of each name; checks use one fixed sample of ``evaluation`` windows.

    ``sampling`` says how a step of training on ``w @ losses`` runs (survey, appendix A). "uniform": loss weighting, every domain drawn
    alike. "weights": the windows are drawn by w and the plain mean of their losses is descended, as a trainer does. Shares q of the
    domains, [k] or a dict: drawn by q, each window weighted by w / q. All three have the gradient of ``w @ losses`` as their mean, and
    read as many windows. What moves the weights is measured on batches that hold every domain alike.

    ``optimizer`` takes a list of tensors and returns a torch optimizer (AdamW at rate 1e-3 without one);
    ``device`` and ``dtype`` move a copy of the module, ``autocast="bf16"`` runs its forward passes in bfloat16 with
    losses in float32. The module itself is left unchanged unless a solve is told ``inplace=True``.

    Raises:
        InputError: no stream, an unknown device, cuda asked for and absent, a setting out of range, or tokens outside the vocabulary.
        LearnerError: a module that fails on a window of zeros, or returns no logits.
    """

    def __init__(
        self,
        module: nn.Module,
        streams: Mapping[str, Streams | Mapping[str, Any]],
        *,
        context: int = 64,
        per_domain: int = 4,
        evaluation: int = 32,
        optimizer: Optimizer | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        autocast: Autocast = None,
        sampling: Sampling = "uniform",
    ):
        _check(module, per_domain, dtype, autocast)
        self._device = checked_device(device, module)
        self._user = module
        self._module = copy.deepcopy(module).to(self._device, dtype)
        if not streams:
            raise InputError("TorchLearner needs streams={'train': {...domain: tokens...}}; the dict is empty")
        self._streams = {n: s.on(self._device) if isinstance(s, Streams) else Streams(s, context, self._device) for n, s in streams.items()}
        self._names = tuple(name for name, p in self._module.named_parameters() if p.requires_grad)
        self._rest = {name: p.detach() for name, p in self._module.named_parameters() if not p.requires_grad}
        if not self._names:
            raise InputError("the module has no trainable parameter; set requires_grad on those that are to be trained")
        self._per_domain, self._autocast = per_domain, autocast
        self._optimizer: Optimizer = optimizer or (lambda tensors: torch.optim.AdamW(tensors, lr=1e-3))
        self._fixed = {name: stream.fixed(evaluation) for name, stream in self._streams.items()}
        self._shares = _shares(sampling, self._streams)
        _check_optimizer(self._optimizer(list(self.start())))
        self._try()
        twice, forward, fused = self._orders()
        self._abilities = Abilities(
            provides={n: Provided(s.names, len(s.names), tokens=True) for n, s in self._streams.items()},
            exact=False,
            double_backward=twice,
            gauss_newton=forward,
            sampling=sampling if isinstance(sampling, str) else "shares",
            sampled=tuple(self._streams) if isinstance(sampling, str) else tuple(self._shares),
            fused=fused,
            repeated=_repeated(self._streams, self._fixed),
        )

    @property
    def abilities(self) -> Abilities:
        return self._abilities

    @property
    def device(self) -> torch.device:
        return self._device

    def start(self) -> Leaves:
        named = dict(self._module.named_parameters())
        return copied(tuple(named[n] for n in self._names))

    def leaves(self, given: Any) -> Leaves:
        named = dict(given.named_parameters()) if isinstance(given, nn.Module) else given
        if not isinstance(named, Mapping):
            raise InputError(f"parameters of a torch module are given as a module or a dict of tensors, not a {type(given).__name__}")
        found = []
        for name, mine in zip(self._names, self.start(), strict=True):
            if name not in named:
                raise InputError(f"the given parameters lack {name!r}; they have {listed(named)}")
            if named[name].shape != mine.shape:
                raise InputError(f"parameter {name!r} has shape {list(named[name].shape)}, but the module's is {list(mine.shape)}")
            found.append(named[name].to(mine))
        return copied(tuple(found))

    def tree(self, leaves: Leaves) -> dict[str, Tensor]:
        return dict(zip(self._names, copied(leaves), strict=True))

    def store(self, leaves: Leaves) -> None:
        with torch.no_grad():
            for module in (self._user, self._module):
                named = dict(module.named_parameters())
                for name, leaf in zip(self._names, leaves, strict=True):
                    named[name].copy_(leaf)

    def draw(self, generator: torch.Generator) -> Batch:
        return {name: stream.draw(self._per_domain, generator) for name, stream in self._streams.items()}

    def draw_by(self, weights: Mapping[str, Tensor], generator: torch.Generator) -> Batch:
        batch = dict(self.draw(generator))
        if self._abilities.sampling == "uniform":
            return batch
        for name, w in weights.items():
            stream, shares = self._streams[name], self._shares.get(name, w)
            windows, domains = stream.draw_by(shares, self._per_domain * len(stream), generator)
            own = domains == torch.arange(len(stream), device=domains.device)[:, None]
            batch[name] = _Drawn(windows, torch.where(own & (shares[:, None] > 0), 1 / shares[:, None], 0.0))
        return batch

    def evaluation(self) -> Batch:
        return self._fixed

    def losses(self, leaves: Leaves, name: str, batch: Batch) -> Tensor:
        return self.tokens(leaves, name, batch).mean(dim=-1)

    def tokens(self, leaves: Leaves, name: str, batch: Batch) -> Tensor:
        windows = batch[name]
        if isinstance(windows, _Drawn):
            return windows.spread(cross_entropy(self._logits(leaves, windows.windows[:, :-1]), windows.windows[:, 1:]))
        flat = windows.flatten(0, 1)
        with self._still() if batch is self._fixed else nullcontext():
            return cross_entropy(self._logits(leaves, flat[:, :-1]), flat[:, 1:]).view(len(windows), -1)

    def gauss_newton(self, leaves: Leaves, name: str, batch: Batch, coefficients: Tensor) -> Callable[[Leaves], Leaves]:
        flat = batch[name].flatten(0, 1)[:, :-1]
        share = coefficients.detach().repeat_interleave(len(flat) // len(coefficients)) * len(coefficients) / (len(flat) * flat.shape[1])

        def outputs(*parts: Tensor) -> Tensor:
            return self._logits(parts, flat)

        base = tuple(leaf.detach() for leaf in leaves)
        live = tuple(leaf.detach().requires_grad_() for leaf in leaves)
        logits = outputs(*live)  # plain autograd pulls back under autocast too, where torch.func.vjp of fused attention does not
        chances = logits.detach().softmax(dim=-1)

        def product(v: Leaves) -> Leaves:
            _, push = jvp(outputs, base, v)  # type: ignore[misc]
            weighted = chances * push
            bent = weighted - chances * weighted.sum(dim=-1, keepdim=True)
            weight = bent * share.to(bent.dtype)[:, None, None]
            return torch.autograd.grad(logits, live, weight, retain_graph=True, materialize_grads=True)

        return product

    def optimizer(self, leaves: Leaves) -> torch.optim.Optimizer:
        return self._optimizer(list(leaves))

    @contextmanager
    def second_order(self) -> Iterator[None]:
        """Dropout off and attention by plain maths: the fused kernels have neither forward mode nor double backward."""
        from torch.nn.attention import SDPBackend, sdpa_kernel

        with self._still(), sdpa_kernel(SDPBackend.MATH):
            yield

    @contextmanager
    def _still(self) -> Iterator[None]:
        """Dropout and the like off; on the fixed sample too, so that a check does not change from one call to the next."""
        noisy = [part for part in self._module.modules() if part.training]
        for part in noisy:
            part.training = False
        try:
            yield
        finally:
            for part in noisy:
                part.training = True

    def tokens_of(self, batch: Batch, name: str) -> int:
        windows = batch[name].windows if isinstance(batch[name], _Drawn) else batch[name].flatten(0, 1)
        return windows.shape[0] * (windows.shape[1] - 1)

    def _logits(self, leaves: Leaves, tokens: Tensor) -> Tensor:
        named = {**self._rest, **dict(zip(self._names, leaves, strict=True))}
        with self._precision():
            out = functional_call(self._module, named, (tokens,))
        logits = out if isinstance(out, Tensor) else getattr(out, "logits", None)
        if logits is None:
            raise LearnerError(
                f"the module returns a {type(out).__name__}; logits [b, t, vocabulary], or an object with .logits, are expected"
            )
        return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits

    def _precision(self) -> AbstractContextManager[Any]:
        return torch.autocast(self._device.type, dtype=torch.bfloat16) if self._autocast == "bf16" else nullcontext()

    def _try(self) -> None:
        """One small forward pass, so that a module or a token that does not fit is told before any work starts."""
        for name, stream in self._streams.items():
            tokens = torch.zeros(1, stream.context, dtype=torch.long, device=self._device)
            try:
                logits = self._logits(copied(self.start(), trainable=True), tokens)
            except (RuntimeError, IndexError, ValueError, TypeError) as error:
                raise LearnerError(
                    f"the module fails on tokens {list(tokens.shape)}, a window of zeros: {error}. It takes tokens [b, t], with t the "
                    f"context, here {stream.context}; is that longer than the module allows?"
                ) from error
            if logits.dim() != 3 or logits.shape[:2] != tokens.shape:
                raise LearnerError(
                    f"the module maps tokens {list(tokens.shape)} to {list(logits.shape)}; logits [b, t, vocabulary] are expected"
                )
            if not logits.requires_grad:
                raise LearnerError("the module's logits carry no gradient of its parameters: does it run under no_grad, or detach them?")
            if stream.vocabulary > logits.shape[-1]:
                raise InputError(f"{name!r} holds token {stream.vocabulary - 1}, but the module's vocabulary is {logits.shape[-1]}")

    def _orders(self) -> tuple[bool, bool, bool]:
        """Whether the module's operations have a double backward and a forward mode, tried on two tokens at most, and whether the
        first needs attention's math kernel.
        """
        length = min(2, *(stream.context for stream in self._streams.values()))
        tokens = torch.zeros(1, length, dtype=torch.long, device=self._device)
        leaves = copied(self.start(), trainable=True)
        with self._still():
            fused = not differentiable_twice(cross_entropy(self._logits(leaves, tokens), tokens), leaves)
        with self.second_order():
            twice = differentiable_twice(cross_entropy(self._logits(leaves, tokens), tokens), leaves)
            still = copied(leaves)
            try:
                jvp(lambda *parts: self._logits(parts, tokens), still, still)
            except RuntimeError:
                return twice, False, fused
        return twice, True, fused


@final
@dataclass(frozen=True)
class _Drawn:
    """Windows [b, context+1] of a batch that is not stratified, and by domain [k, b] 1 / share of it for its own windows, 0 for others."""

    windows: Tensor
    inverse: Tensor

    def spread(self, tokens: Tensor) -> Tensor:
        """Token losses [b, t] as [k, b t], whose means are the estimates of the losses by domain (Horvitz and Thompson 1952)."""
        return (self.inverse.to(tokens.dtype)[:, :, None] * tokens).flatten(1)


def _shares(sampling: Any, streams: Mapping[str, Streams]) -> dict[str, Tensor]:
    """The shares q [k] by loss name that windows are drawn by: of the streams over the domains that they are given for."""
    if isinstance(sampling, str):
        if sampling not in ("uniform", "weights"):
            raise InputError(f"sampling is {sampling!r}; it is 'uniform', 'weights', or the shares [k] of the domains")
        return {}
    known = set(sampling) if isinstance(sampling, Mapping) else None
    fit = {n: s for n, s in streams.items() if (len(s) == len(sampling) if known is None else set(s.names) == known)}
    if not fit:
        have = "; ".join(f"{n!r} over {listed(s.names)}" for n, s in streams.items())
        raise InputError(f"the sampling shares {sampling!r} are not over the domains of any stream: {have}")
    shares = {n: torch.as_tensor(s.domains.weights(sampling), dtype=torch.float64, device=s.device) for n, s in fit.items()}
    if any(bool((q <= 0).any()) for q in shares.values()):
        raise InputError(f"the sampling shares are {sampling!r}; a domain that is never drawn has no loss to weight, so each is > 0")
    return shares


def _repeated(streams: Mapping[str, Streams], fixed: Mapping[str, Tensor]) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """Pairs of streams with the domains, by the second's names, whose size and fixed windows are the same in both."""
    marks = {
        name: {(stream.sizes[domain], row.numpy().tobytes()): domain for domain, row in zip(stream.names, fixed[name].cpu(), strict=True)}
        for name, stream in streams.items()
    }
    pairs = ((a, b, tuple(marks[b][m] for m in marks[b] if m in marks[a])) for a, b in combinations(marks, 2))
    return tuple(pair for pair in pairs if pair[2])


def _check(module: object, per_domain: int, dtype: object, autocast: object) -> None:
    """Refuse settings outside their range before anything is copied."""
    if not isinstance(module, nn.Module):
        raise InputError(
            f"TorchLearner trains a torch.nn.Module, not a {type(module).__name__}; losses as functions go into FunctionLearner"
        )
    if per_domain < 1:
        raise InputError(f"a step reads {per_domain} windows of each domain; per_domain is at least 1")
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise InputError(f"the dtype is {dtype!r}; it is a floating one of torch's, such as torch.float32")
    if autocast not in (None, "bf16"):
        raise InputError(f"autocast is {autocast!r}; it is 'bf16', or None for none")


def _check_optimizer(made: object) -> None:
    """Refuse what is no optimizer of torch's, and one whose line search would need the same batch again."""
    if not isinstance(made, torch.optim.Optimizer):
        raise InputError(f"optimizer(tensors) returns a {type(made).__name__}; a torch.optim.Optimizer of the tensors is expected")
    if isinstance(made, torch.optim.LBFGS):
        raise InputError(
            "L-BFGS searches along a line on one batch, and each training step here draws another; give AdamW or the like. For exact "
            "losses there is FunctionLearner with Implicit(inner=Inner(by='lbfgs'))"
        )


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """-log softmax at the targets [b, t], in nats; differentiable twice and in forward mode."""
    return -torch.log_softmax(logits, dim=-1).gather(-1, targets[..., None]).squeeze(-1)


def checked_device(device: str | torch.device | None, module: nn.Module | None = None) -> torch.device:
    """The device asked for, else the module's; raises InputError where it is unknown or absent."""
    if device is None:
        first = None if module is None else next(iter(module.parameters()), None)
        return torch.device("cpu") if first is None else first.device
    try:
        found = torch.device(device)
    except RuntimeError:
        raise unknown("device", device, ["cpu", "cuda", "cuda:0"]) from None
    if found.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {str(device)!r} was asked for, but torch sees no CUDA device here; use device='cpu'")
    return found
