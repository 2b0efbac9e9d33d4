"""What the tests of the language share: a sample of every operation, and random programs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import strategies as st

import mixopt as mx
from mixopt.language.support import count, least_used
from mixopt.language.symbols import variable

DOMAINS = mx.Domains(["web", "code", "books"], tokens=[8e11, 1.5e11, 5e10])
W, THETA, P, S = mx.Mixture(DOMAINS), mx.model(), mx.parameter("p", 3, nonneg=True), mx.parameter("s")
MATRIX = np.array([[0.5, -1.0, 0.25], [1.5, 0.5, -0.5], [-0.75, 0.25, 1.0]])
POSITIVE = W + 0.5

SAMPLES = {
    "constant": mx.constant([0.25, 0.5, 0.25], ["web", "code", "books"]),
    "parameter": P,
    "mixture": W,
    "variable": variable("z", 2, lower=[0.0, -1.0], upper=3.0),
    "stages": mx.Mixture(DOMAINS, name="c", stages=2),
    "model": THETA,
    "argmin": mx.argmin(W @ mx.losses(THETA, DOMAINS) + mx.sum_squares(THETA), over=THETA),
    "trained": mx.trained(W @ mx.losses(THETA, DOMAINS), over=THETA, steps=7),
    "losses": mx.losses(THETA, ["a", "b"], name="val"),
    "loss": mx.loss(THETA, "val"),
    "tokens": mx.tokens(THETA),
    "model_sum_squares": mx.sum_squares(THETA),
    "gram": mx.gram(THETA, DOMAINS, mx.losses(THETA, ["a", "b"], name="val")),
    "previous": mx.previous(mx.losses(THETA, DOMAINS)),
    "initial": mx.initial(mx.loss(THETA, "val")),
    "ema": mx.ema(mx.exp(mx.losses(THETA, DOMAINS) - mx.previous(mx.losses(THETA, DOMAINS))), 0.25),
    "add": W + P,
    "subtract": S - W,
    "negate": -W,
    "multiply": 0.5 * W,
    "divide": W / POSITIVE,
    "matmul": mx.constant(MATRIX) @ W,
    "take": W[["code", "books"]],
    "stack": mx.stack([W["web"], S], ["first", "second"]),
    "sum": mx.sum(W),
    "mean": mx.mean(W),
    "exp": mx.exp(W),
    "log": mx.log(POSITIVE),
    "sqrt": mx.sqrt(POSITIVE),
    "square": mx.square(W),
    "power": POSITIVE**1.5,
    "softplus": mx.softplus(W),
    "logsumexp": mx.logsumexp(W, 0.5),
    "huber": mx.huber(W, 0.25),
    "sum_squares": mx.sum_squares(W),
    "norm": mx.norm(W, math.inf),
    "abs": mx.abs(W - 0.3),
    "pos": mx.pos(W - 0.3),
    "clip": mx.clip(W, 0, 0.5),
    "max": mx.max(W),
    "min": mx.min(W),
    "tail": mx.tail(W, 0.5),
    "maximum": mx.maximum(W, 0.3),
    "minimum": mx.minimum(W, P),
    "entropy": mx.entropy(W),
    "kl": mx.kl(W, DOMAINS.natural),
    "rel_entropy": mx.rel_entropy(W, POSITIVE),
    "quad_form": mx.quad_form(W, MATRIX.T @ MATRIX),
    "domain_mean": mx.domain_mean(mx.pos(mx.tokens(THETA)), DOMAINS),
    "surrogate": mx.surrogate(mx.pos(P), gradient=P),
    "cardinality": count(W),
    "least_used": least_used(W[["web", "code"]]),
    "opaque": mx.opaque(W, lambda rows: np.floor(4 * rows), "steps", DOMAINS.names),
}
"""An example of each operation, by its name."""

EACH = [mx.exp, mx.square, mx.abs, mx.pos, mx.softplus, lambda x: -x, lambda x: mx.huber(x, 0.5), lambda x: mx.clip(x, -1, 0.25)]
FOLDS = [
    lambda x: mx.tail(x, 0.3, [11 - len(x), *[1] * (len(x) - 1)]),
    mx.sum,
    mx.mean,
    mx.max,
    mx.min,
    mx.sum_squares,
    mx.norm,
    mx.logsumexp,
    lambda x: mx.norm(x, 1),
    lambda x: mx.tail(x, 0.5),
]
PAIRS = [lambda x, y: x + y, lambda x, y: x - y, lambda x, y: x * y, mx.maximum, mx.minimum, lambda x, y: x / (mx.square(y) + 1)]


def _larger(parts):
    """Larger vectors from smaller ones."""
    return st.one_of(
        st.builds(lambda x, op: op(x), parts, st.sampled_from(EACH)),
        st.builds(lambda x, y, op: op(x, y), parts, parts, st.sampled_from(PAIRS)),
        st.builds(lambda x, op: x * 0.5 - op(x), parts, st.sampled_from(FOLDS)),
        st.builds(lambda x, y: (x @ y) * x, parts, parts),
        st.builds(lambda x, name: x[name] + x, parts, st.sampled_from([0, 2])),
        st.builds(lambda x: x + mx.entropy(W) + mx.kl(W, [0.25, 0.25, 0.5]), parts),
    )


VECTORS = st.recursive(
    st.sampled_from([W, W - 0.25, 0.5 - W, W * P, mx.constant([0.5, 1.0, 2.0]), mx.constant(MATRIX) @ W]), _larger, max_leaves=6
)


@pytest.fixture(scope="session")
def samples():
    """An example of each operation, by its name."""
    return SAMPLES


@pytest.fixture(scope="session")
def vectors():
    """A strategy of expressions [3] in the mixture ``w`` over web, code and books, and the parameter ``p`` >= 0 [3]."""
    return VECTORS
