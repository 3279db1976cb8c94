"""The tree of a reduction, by values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefectish.engine.plan.reduction import ReductionTree


def leaves(tree, row):
    if tree.reads_leaves(row):
        return list(tree.reads(row))
    return [leaf for read in tree.reads(row) for leaf in leaves(tree, read)]


def names(tree):
    return [tree.name(row) for row in range(len(tree))]


@given(st.integers(0, 300), st.integers(2, 17), st.randoms())
def test_every_child_is_combined_once_and_in_order(width, fan_in, random):
    tree = ReductionTree(fan_in)
    left = width
    while left:
        count = random.randint(1, left)
        tree.add(count)
        left -= count
    tree.close()
    assert leaves(tree, tree.root) == list(range(width))
    assert all(len(tree.reads(row)) <= fan_in for row in range(len(tree)))
    assert len(set(names(tree))) == len(tree)
    at_once = ReductionTree(fan_in)
    at_once.add(width)
    at_once.close()
    assert (names(tree), tree.root) == (names(at_once), at_once.root)
    assert [tree.reads(row) for row in range(len(tree))] == [at_once.reads(row) for row in range(len(at_once))]


def test_readers_are_known_once_they_are_there():
    tree = ReductionTree(2)
    assert tree.reader_of_leaf(0) is None
    assert tree.add(3) == 1
    assert (tree.reader_of_leaf(1), tree.reader_of_leaf(2), tree.reader(0)) == (0, None, None)
    assert tree.close() == 2
    assert (tree.reader_of_leaf(2), tree.reader(0), tree.reader(1), tree.root) == (1, 2, 2, 2)
    assert tree.full == 1


@pytest.mark.parametrize("width", [0, 1, 2])
def test_small_map_has_one_combine(width):
    tree = ReductionTree(16)
    tree.add(width)
    tree.close()
    assert (names(tree), tree.root) == (["0.0"], 0)
