"""Schedules inside trainers: losses by domain from the trainer's own forward pass, callbacks, several processes, and restarts."""

from __future__ import annotations

from .losses import DomainLoss as DomainLoss
from .losses import chunked_cross_entropy as chunked_cross_entropy
from .losses import cross_entropy as cross_entropy
from .losses import domain_sums as domain_sums
from .ranks import check_ranks as check_ranks
from .ranks import reduce_sums as reduce_sums

__all__ = ["DomainLoss", "check_ranks", "chunked_cross_entropy", "cross_entropy", "domain_sums", "reduce_sums"]
