"""Loss sums by domain out of the forward pass that a training step makes anyway, from token losses, logits or hidden states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  (the usual name)
from torch.utils.checkpoint import checkpoint

from mixopt.errors import InputError, listed

IGNORED = -100


class DomainLoss(NamedTuple):
    """The loss to descend, and what each domain had in it.

    ``total`` is a number, in nats per token; ``sums`` [k] are the domains' summed token losses in nats, without a gradient, and ``counts``
    [k] their tokens, both float64 (float32 where a device has none). They add up over micro-batches and processes.
    """

    total: Tensor
    sums: Tensor
    counts: Tensor


def domain_sums(losses: Tensor, domains: Tensor, k: int, *, counted: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Summed token losses and numbers of tokens by domain, both [k], from token losses [B, T].

    ``domains`` is each row's domain [B] or each token's [B, T], as positions below k; a token whose domain is below 0 belongs to none.
    ``counted`` [B, T] says which tokens count; without it all do. What does not count may be NaN. On a GPU nothing waits for the host, and
    the order of addition is fixed where ``torch.use_deterministic_algorithms(True)`` is.

    >>> sums, counts = domain_sums(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([1, 0]), k=3)
    >>> sums.tolist(), counts.tolist()
    ([7.0, 3.0, 0.0], [2.0, 2.0, 0.0])

    Raises:
        InputError: shapes that do not fit; domains that are no integers or, where the host sees them, not below k.
    """
    check_domains(domains, losses.shape, k)
    exact = torch.float32 if losses.device.type == "mps" else torch.float64
    values = losses.detach().to(exact)
    known = torch.ones_like(values, dtype=torch.bool) if counted is None else counted
    values = torch.where(known, values, 0)
    if domains.dim() < losses.dim():
        values, number = values.sum(-1), known.sum(-1, dtype=exact)
    else:
        number = known.to(exact)
    place = torch.where(domains < 0, k, domains).long().reshape(-1).to(losses.device)
    both = torch.zeros(k + 1, 2, dtype=exact, device=losses.device)  # the last row holds what belongs to no domain
    both.index_add_(0, place, torch.stack([values.reshape(-1), number.reshape(-1)], dim=1))
    return both[:k, 0], both[:k, 1]


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    domains: Tensor,
    k: int,
    *,
    factors: Tensor | Sequence[float] | None = None,
    shift: bool = True,
    ignored: int = IGNORED,
    items: Tensor | float | None = None,
) -> DomainLoss:
    """Mean cross-entropy of logits [B, T, V] against labels [B, T], as Hugging Face's causal models compute it, and its sums by domain.

    ``shift`` compares the logits at a place with the next label, as causal models want it; False compares them in place. ``domains`` is
    [B], or [B, T] for packed sequences, where a token's loss belongs to the domain of the label. Labels equal to ``ignored`` do not count.
    The total is divided by ``items``, or by the number of labels that count. ``factors`` [k] multiply each domain's token losses in the
    total and not in the sums: with w/q, tokens drawn by q are descended by w.

    >>> logits, labels = torch.zeros(2, 3, 7), torch.zeros(2, 3, dtype=torch.long)
    >>> loss = cross_entropy(logits, labels, torch.tensor([0, 1]), k=2)
    >>> round(loss.total.item(), 4), loss.counts.tolist()
    (1.9459, [2.0, 2.0])

    Raises:
        InputError: shapes that do not fit, domains that are no integers below k, or factors of another number.
    """
    check_labels(labels, logits.shape[:-1])
    check_domains(domains, labels.shape, k)
    labels, domains = shifted(labels, domains, ignored) if shift else (labels, domains)
    losses = _token_losses(logits, labels, ignored)
    return _folded(losses, labels != ignored, domains, k, factors, items)


def chunked_cross_entropy(
    hidden: Tensor,
    head: Tensor | Callable[[Tensor], Tensor],
    labels: Tensor,
    domains: Tensor,
    k: int,
    *,
    chunk: int = 2048,
    factors: Tensor | Sequence[float] | None = None,
    shift: bool = True,
    ignored: int = IGNORED,
    items: Tensor | float | None = None,
) -> DomainLoss:
    """``cross_entropy`` from hidden states [B, T, d], whose logits [B*T, V] are never there at once.

    ``head`` is the output matrix [V, d], or a function from hidden states [n, d] to logits [n, V], such as a model's ``lm_head``. Logits
    are made for ``chunk`` tokens at a time and made again in the backward pass, at the cost of the head's forward pass once more.

    Raises:
        InputError: as for ``cross_entropy``, or a chunk below 1.
    """
    if chunk < 1:
        raise InputError(f"a chunk of {chunk} tokens was given; take at least 1")
    check_labels(labels, hidden.shape[:-1])
    check_domains(domains, labels.shape, k)
    labels, domains = shifted(labels, domains, ignored) if shift else (labels, domains)
    matrix = head if isinstance(head, Tensor) else None

    def losses(part: Tensor, wanted: Tensor) -> Tensor:
        logits = head(part) if matrix is None else part @ matrix.T  # type: ignore[operator]
        return _token_losses(logits, wanted, ignored)

    parts = zip(hidden.flatten(0, -2).split(chunk), labels.reshape(-1).split(chunk), strict=True)
    made = [checkpoint(losses, part, wanted, use_reentrant=False, preserve_rng_state=False) for part, wanted in parts]
    return _folded(torch.cat(made).view(labels.shape), labels != ignored, domains, k, factors, items)


def shifted(labels: Tensor, domains: Tensor, ignored: int = IGNORED) -> tuple[Tensor, Tensor]:
    """Labels [B, T] moved one place to the front, the last place ignored, and the domains of tokens [B, T] with them."""
    moved = F.pad(labels, (0, 1), value=ignored)[..., 1:]
    return moved, domains if domains.dim() < labels.dim() else F.pad(domains, (0, 1), value=-1)[..., 1:]


def check_labels(labels: Tensor, shape: torch.Size) -> None:
    """Raise InputError where labels are not [B, T] like what they are compared with."""
    if labels.dim() != 2 or labels.shape != shape:
        raise InputError(f"labels have shape {list(labels.shape)} and the model's output {list(shape)}; both are rows of tokens [B, T]")


def check_domains(domains: Tensor, shape: torch.Size, k: int) -> None:
    """Raise InputError where domains are not integers [B] or [B, T], or, on the host, are beyond k."""
    if domains.dtype.is_floating_point or domains.dtype == torch.bool:
        raise InputError(f"domains are {domains.dtype}; give the position of each row's or token's domain as an integer")
    if domains.shape not in (shape, shape[:1]):
        raise InputError(
            f"domains have shape {list(domains.shape)}, the tokens {list(shape)}; give one for each row {list(shape[:1])} or for each token"
        )
    if domains.device.type == "cpu" and domains.numel() and int(domains.max()) >= k:
        strange = sorted({int(d) for d in domains[domains >= k].reshape(-1).tolist()})
        raise InputError(f"the batch names domains {listed(strange)}, and there are {k}: 0 to {k - 1}; -1 belongs to none")


def _token_losses(logits: Tensor, labels: Tensor, ignored: int) -> Tensor:
    """Token losses in the shape of the labels, 0 where ignored, from logits in at least float32."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return F.cross_entropy(wide.flatten(0, -2), labels.reshape(-1), ignore_index=ignored, reduction="none").view(labels.shape)


def _folded(losses: Tensor, counted: Tensor, domains: Tensor, k: int, factors: Any, items: Any) -> DomainLoss:
    """The total and the sums by domain of token losses [B, T]."""
    sums, counts = domain_sums(losses, domains, k, counted=counted)
    weighted = losses if factors is None else losses * _of_tokens(factors, domains, k, losses)
    return DomainLoss(weighted.sum() / (counted.sum() if items is None else items), sums, counts)


def _of_tokens(factors: Any, domains: Tensor, k: int, losses: Tensor) -> Tensor:
    """Each token's factor [B, T], or [B, 1] where domains are those of rows; 1 for tokens of no domain."""
    by_domain = torch.as_tensor(factors, dtype=losses.dtype, device=losses.device)
    if by_domain.shape != (k,):
        raise InputError(f"factors have shape {list(by_domain.shape)}; give one for each of the {k} domains")
    by_domain = torch.cat([by_domain, by_domain.new_ones(1)])
    found = by_domain[torch.where(domains < 0, k, domains).long().to(losses.device)]
    return found if domains.dim() == losses.dim() else found[:, None]
