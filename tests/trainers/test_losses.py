"""Sums by domain: against loops, and the cross-entropies against torch's and Hugging Face's own, gradients included."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812

from mixopt.errors import InputError
from mixopt.trainers import chunked_cross_entropy, cross_entropy, domain_sums

B, T, D, V, K = 3, 7, 5, 11, 4
CPU_DTYPES = (torch.uint8, torch.int32, torch.int64)


def made(seed: int = 0):
    draw = torch.Generator().manual_seed(seed)
    hidden = torch.randn(B, T, D, generator=draw, dtype=torch.float64)
    head = torch.randn(V, D, generator=draw, dtype=torch.float64)
    labels = torch.randint(0, V, (B, T), generator=draw)
    labels[0, 4:] = -100
    segments = torch.randint(-1, K, (B, T), generator=draw)
    return hidden, head, labels, segments


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 6), st.integers(1, 5), st.booleans(), st.sampled_from(CPU_DTYPES))
def test_sums_equal_a_loop(seed, rows, length, k, packed, dtype):
    draw = torch.Generator().manual_seed(seed)
    losses = torch.randn(rows, length, generator=draw)
    counted = torch.rand(rows, length, generator=draw) < 0.7
    least = 0 if dtype == torch.uint8 else -1
    domains = torch.randint(least, k, (rows, length) if packed else (rows,), generator=draw).to(dtype)
    sums, counts = domain_sums(losses, domains, k, counted=counted)
    wanted, number = [0.0] * k, [0] * k
    for b in range(rows):
        for t in range(length):
            d = int(domains[b, t] if packed else domains[b])
            if d >= 0 and counted[b, t]:
                wanted[d] += losses[b, t].item()
                number[d] += 1
    assert sums.tolist() == pytest.approx(wanted, abs=1e-9)
    assert counts.tolist() == number


def test_what_does_not_count_may_be_nan():
    losses = torch.tensor([[1.0, torch.nan]])
    sums, counts = domain_sums(losses, torch.tensor([0]), 2, counted=~losses.isnan())
    assert sums.tolist() == [1.0, 0.0]
    assert counts.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("chunk", [1, 4, 100])
@pytest.mark.parametrize("kind", ["matrix", "module"])
def test_chunked_equals_plain_with_its_gradients(chunk, kind):
    hidden, head, labels, segments = made()
    factors = torch.tensor([0.5, 2.0, 1.0, 0.25], dtype=torch.float64)
    found = []
    for chunked in (False, True):
        h, w = hidden.clone().requires_grad_(), head.clone().requires_grad_()
        if chunked:
            given_head = w if kind == "matrix" else lambda part, w=w: F.linear(part, w)
            loss = chunked_cross_entropy(h, given_head, labels, segments, K, chunk=chunk, factors=factors)
        else:
            loss = cross_entropy(h @ w.T, labels, segments, K, factors=factors)
        loss.total.backward()
        found.append((loss.total.detach(), loss.sums, loss.counts, h.grad, w.grad))
    for plain, other in zip(*found, strict=True):
        torch.testing.assert_close(other, plain, rtol=1e-12, atol=1e-12)
    assert not found[0][1].requires_grad


def test_the_total_is_torch_s_mean_and_the_sums_are_its_parts():
    hidden, head, labels, _ = made(1)
    logits, rows = hidden @ head.T, torch.tensor([2, 0, 2])
    plain = F.cross_entropy(logits[:, :-1].reshape(-1, V), labels[:, 1:].reshape(-1))
    loss = cross_entropy(logits, labels, rows, K)
    assert loss.total.item() == pytest.approx(plain.item(), rel=1e-12)
    assert (loss.sums.sum() / loss.counts.sum()).item() == pytest.approx(plain.item(), rel=1e-12)
    assert loss.counts.tolist() == [6.0, 0.0, 9.0, 0.0]
    alone = F.cross_entropy(logits[1, :-1], labels[1, 1:], reduction="sum")
    assert loss.sums[0].item() == pytest.approx(alone.item(), rel=1e-12)
    in_place = cross_entropy(logits, labels, rows, K, shift=False)
    assert in_place.total.item() == pytest.approx(F.cross_entropy(logits.reshape(-1, V), labels.reshape(-1)).item(), rel=1e-12)


def test_a_packed_token_belongs_to_the_domain_of_its_label():
    logits = torch.randn(1, 4, V, generator=torch.Generator().manual_seed(2))
    labels, segments = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[0, 0, 1, 1]])
    loss = cross_entropy(logits, labels, segments, 2)
    each = F.cross_entropy(logits[0, :-1], labels[0, 1:], reduction="none")
    assert loss.counts.tolist() == [1.0, 2.0]
    assert loss.sums.tolist() == pytest.approx([each[0].item(), each[1:].sum().item()])


def test_factors_weigh_the_total_only():
    """With factors w/q the total is the w-weighted loss over tokens drawn by q."""
    hidden, head, labels, _ = made(3)
    rows, factors = torch.tensor([0, 1, 1]), [3.0, 0.5, 1.0, 1.0]
    plain = cross_entropy(hidden @ head.T, labels, rows, K)
    loss = cross_entropy(hidden @ head.T, labels, rows, K, factors=factors)
    assert torch.equal(loss.sums, plain.sums)
    wanted = (3.0 * plain.sums[0] + 0.5 * plain.sums[1]) / plain.counts.sum()
    assert loss.total.item() == pytest.approx(wanted.item(), rel=1e-12)


def test_as_hugging_face_computes_it():
    loss_utils = pytest.importorskip("transformers.loss.loss_utils")
    hidden, head, labels, segments = made(4)
    logits = (hidden @ head.T).float()
    for items in (None, 40):
        wanted = loss_utils.ForCausalLMLoss(logits, labels, V, num_items_in_batch=items)
        assert cross_entropy(logits, labels, segments, K, items=items).total.item() == pytest.approx(wanted.item(), rel=1e-6)


def test_half_precision_is_widened():
    hidden, head, labels, segments = made(5)
    half = (hidden @ head.T).bfloat16()
    assert cross_entropy(half, labels, segments, K).total.item() == cross_entropy(half.float(), labels, segments, K).total.item()


@pytest.mark.parametrize(
    ("domains", "message"),
    [
        (torch.zeros(B), "give the position"),
        (torch.zeros(B + 1, dtype=torch.long), r"one for each row \[3\]"),
        (torch.tensor([0, 9, 5]), r"names domains \(5, 9\), and there are 4"),
    ],
)
def test_domains_that_do_not_fit(domains, message):
    hidden, head, labels, _ = made()
    with pytest.raises(InputError, match=message):
        cross_entropy(hidden @ head.T, labels, domains, K)


def test_other_bad_input():
    hidden, head, labels, segments = made()
    with pytest.raises(InputError, match="labels have shape"):
        cross_entropy(hidden @ head.T, labels[:, :-1], segments, K)
    with pytest.raises(InputError, match="one for each of the 4 domains"):
        cross_entropy(hidden @ head.T, labels, segments, K, factors=[1.0])
    with pytest.raises(InputError, match="at least 1"):
        chunked_cross_entropy(hidden, head, labels, segments, K, chunk=0)


@pytest.mark.gpu
def test_on_a_gpu():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    hidden, head, labels, segments = (x.cuda() for x in made())
    plain = cross_entropy(hidden.cpu() @ head.cpu().T, labels.cpu(), segments.cpu(), K)
    loss = chunked_cross_entropy(hidden, head, labels, segments, K, chunk=4)
    torch.testing.assert_close(loss.total.cpu(), plain.total)
    torch.testing.assert_close(loss.sums.cpu(), plain.sums)
