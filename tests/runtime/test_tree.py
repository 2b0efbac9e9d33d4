"""Parameter trees: leaves out, leaves back in, vectors and their parts."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from mixopt.errors import InputError
from mixopt.runtime.tree import copied, flatten, split, unflatten, vector

LEAF = st.lists(st.integers(1, 3), max_size=2).map(lambda shape: torch.randn(shape))
TREES = st.recursive(
    LEAF,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    ),
    max_leaves=6,
)


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[n], other[n]) for n in one)
    return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))


@settings(deadline=None, max_examples=50)
@given(TREES)
def test_unflatten_undoes_flatten(tree):
    assert same(tree, unflatten(tree, flatten(tree)))


@settings(deadline=None, max_examples=50)
@given(TREES.filter(flatten))
def test_split_undoes_vector(tree):
    leaves = flatten(tree)
    assert same(leaves, split(vector(leaves), leaves))


def test_copies_share_nothing_with_the_original():
    leaf = torch.ones(2, requires_grad=True)
    (copy,) = copied((leaf,), trainable=True)
    with torch.no_grad():
        copy.zero_()
    assert leaf.tolist() == [1, 1]
    assert copy.requires_grad
    assert not copied((leaf,))[0].requires_grad


def test_what_is_no_tensor_is_named():
    with pytest.raises(InputError, match="found a float"):
        flatten({"a": 1.0})
